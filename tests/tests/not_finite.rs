//! Settings that are no finite numbers are errors that name them; values that are none are found on
//! request.

#![allow(missing_docs)]

use candle_core::{DType, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder, VarMap};
use hypernn::continual::OutputRegularizer;
use hypernn::generated::TargetPlan;
use hypernn::nn::{AdamW, Linear, Optimizer, ParamsAdamW};
use hypernn::target::role::spec::{lora, lora_dropout};
use hypernn::{HyperTarget, Pretrained, hypernetwork};
use hypernn_tests::{device, message, variable, variables};

type Set = fn(&mut ParamsAdamW, f64);

#[test]
fn settings_of_the_optimiser() -> Result<()> {
    let usual = ParamsAdamW::default;
    let cases: [(&str, Set); 5] = [
        ("the learning rate", |params, value| params.lr = value),
        ("the eps", |params, value| params.eps = value),
        ("the weight decay", |params, value| params.weight_decay = value),
        ("beta1", |params, value| params.beta1 = value),
        ("beta2", |params, value| params.beta2 = value),
    ];
    let var = Var::new(&[1f32], device())?;
    let new = |params| AdamW::new(vec![var.clone()], params);
    for (name, set) in cases {
        for (value, shown) in
            [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf"), (-0.5, "-0.5")]
        {
            let mut params = usual();
            set(&mut params, value);
            let expected = if name.starts_with("beta") {
                "at least 0 and less than 1"
            } else {
                "a finite number of at least 0"
            };
            let expected = format!("adam_w: {name} is {shown}, expected {expected}");
            assert_eq!(message(new(params.clone())), expected);
            // Taken later, it is found before any variable moves.
            let mut optimizer = new(usual())?;
            optimizer.set_params(params);
            assert_eq!(message(optimizer.backward_step(&var.sqr()?.sum_all()?)), expected);
            assert_eq!(var.to_vec1::<f32>()?, [1.]);
        }
    }
    let mut optimizer = AdamW::new_lr(vec![var.clone()], 0.)?;
    optimizer.set_learning_rate(f64::NAN);
    assert!(optimizer.backward_step(&var.sqr()?.sum_all()?).is_err());
    assert!(AdamW::new_lr(vec![var], f64::NAN).is_err());
    Ok(())
}

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(2, 3))]
    fc: Linear,
}

#[derive(HyperTarget)]
#[hyper(config = Init)]
struct Bare {
    #[hyper(tensor([3], init = *config))]
    values: Tensor,
}

#[test]
fn settings_of_a_target() -> Result<()> {
    for (alpha, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let plan = TargetPlan::<Net>::new(&())?.with_roles(&[("*.weight", lora(1, alpha))]);
        assert_eq!(
            message(plan.map(|_| ())),
            format!("`fc.weight`: the alpha of its adapter is {shown}, expected a finite number")
        );
    }
    let plan = TargetPlan::<Net>::new(&())?;
    let plan = plan.with_roles(&[("*.weight", lora_dropout(1, 1., f32::NAN))]);
    assert_eq!(
        message(plan.map(|_| ())),
        "`fc.weight`: the dropout of its adapter is NaN, expected at least 0 and less than 1"
    );
    for (init, shown) in [
        (Init::Const(f64::NAN), "Const(NaN)"),
        (Init::Randn { mean: 0., stdev: f64::INFINITY }, "Randn { mean: 0.0, stdev: inf }"),
        (Init::Uniform { lo: f64::NAN, up: 1. }, "Uniform { lo: NaN, up: 1.0 }"),
    ] {
        assert_eq!(
            message(TargetPlan::<Bare>::new(&init)),
            format!("parameter `values` has the init {shown}, expected finite numbers")
        );
    }
    assert_eq!(
        message(OutputRegularizer::new(f64::NAN)),
        "the output regulariser's beta is NaN, expected a number from 0 on"
    );
    let vb = || VarBuilder::zeros(DType::F32, device());
    let expected = "layer_norm: eps is NaN, expected at least 0";
    assert_eq!(message(hypernn::nn::layer_norm(3, f64::NAN, vb())), expected);
    let expected = "batch_norm: eps is infinite, expected at least 0";
    assert_eq!(message(hypernn::nn::batch_norm(3, f64::INFINITY, vb())), expected);
    Ok(())
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(3, 2), generator: linear, mode: static }
}

fn file(weight: f64) -> Result<VarBuilder<'static>> {
    let weight = Tensor::new(&[[0f64, 1.], [weight, 2.], [3., 4.]], device())?;
    let bias = Tensor::zeros(3, DType::F64, device())?;
    let tensors = [("fc.weight".to_owned(), weight), ("fc.bias".to_owned(), bias)];
    Ok(VarBuilder::from_tensors(tensors.into(), DType::F64, device()))
}

#[test]
fn values_of_a_pretrained_network() -> Result<()> {
    for (value, dtype, shown) in [
        (f64::NAN, DType::F64, "F64: 1 of 6 values are not finite, the first at index 2 is NaN"),
        (1e300, DType::F32, "F32: 1 of 6 values are not finite, the first at index 2 is inf"),
    ] {
        let vb = || variables(0, dtype).1;
        assert_eq!(
            message(HyperNet::new_from(vb(), Pretrained::from(file(value)?).check_finite())),
            format!("`fc.weight` of the pretrained network in {shown}")
        );
        HyperNet::new_from(vb(), file(value)?)?;
    }
    HyperNet::new_from(variables(0, DType::F64).1, Pretrained::from(file(1e300)?).check_finite())?;
    Ok(())
}

#[test]
fn values_of_a_checkpoint() -> Result<()> {
    let (vars, vb) = variables(0, DType::F32);
    let hyper = HyperNet::new(vb)?;
    hyper.check_finite()?;
    let bias = Tensor::new(&[0f32, f32::NAN, 0.], device())?;
    variable(&vars, "generator.bias")?.set(&bias)?;
    let path = tempfile::NamedTempFile::new()?.into_temp_path();
    hyper.save(&path)?;
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, device());
    let loaded = HyperNet::new(vb)?;
    loaded.load(&path)?;
    assert_eq!(
        message(loaded.check_finite()),
        "`generator.bias` of HyperNet: 1 of 3 values are not finite, the first at index 1 is NaN"
    );
    assert!(loaded.forward(&Tensor::ones((1, 2), DType::F32, device())?).is_ok());
    Ok(())
}

/// A number of steps that no training has is as good as none: nothing is left of the start at zero.
#[test]
fn a_state_of_any_number_of_steps() -> Result<()> {
    let (vars, var) = (VarMap::new(), Var::new(&[1f32, 2.], device())?);
    if let Ok(mut data) = vars.data().lock() {
        data.insert("v".to_owned(), var.clone());
    }
    let mut optimizer = AdamW::new_lr(vec![var.clone()], 0.1)?;
    for steps in [i32::MAX as u32, 1 << 31, u32::MAX - 1, u32::MAX] {
        let state = std::collections::HashMap::from([
            ("steps".to_owned(), Tensor::new(steps, device())?),
            ("v.first_moment".to_owned(), Tensor::new(&[0.1f32, 0.], device())?),
            ("v.second_moment".to_owned(), Tensor::new(&[0.1f32, 1.], device())?),
        ]);
        optimizer.load_state(&vars, &state)?;
        optimizer.backward_step(&var.sqr()?.sum_all()?)?;
        assert!(var.to_vec1::<f32>()?.iter().all(|value| value.is_finite()), "{steps}");
        optimizer.state(&vars)?;
    }
    for (steps, found) in
        [(Tensor::new(1f32, device())?, "F32 []"), (Tensor::new(&[1u32], device())?, "U32 [1]")]
    {
        let state = [("steps".to_owned(), steps)].into();
        assert_eq!(
            message(optimizer.load_state(&vars, &state)),
            format!("adam_w: `steps` is {found}, expected a scalar of U32")
        );
    }
    Ok(())
}
