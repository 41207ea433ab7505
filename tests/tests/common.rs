//! Code that is generic over hypernetworks of every kind.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::hypernetwork::{DynamicHyperNetwork, StaticHyperNetwork};
use hypernn::nn::{AdamW, LayerNorm, Linear, Optimizer};
use hypernn::{GeneratedParams, HyperTarget, Hypernetwork, hypernetwork, seeded};
use hypernn_tests::device;

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(4, 6))]
    fc: Linear,
    #[hyper(layer_norm(6))]
    norm: LayerNorm,
}

hypernetwork! {
    struct Static for Net { embedding: table(7, 3), generator: linear, mode: static }

    struct Dynamic for Net { embedding: encoder(2, [5], tanh, 7, 3), generator: linear, mode: dynamic }

    struct Tasks for Net { embedding: tasks(3, 7, 3), generator: linear, mode: dynamic }

    struct OfInput for Net { embedding: encoder(4, [5], tanh, 7, 3), generator: linear, mode: dynamic }
}

fn ones(dims: &[usize]) -> Result<Tensor> {
    Tensor::ones(dims, DType::F32, device())
}

/// One step of training; the loss before it.
fn step<T: Module, H: Hypernetwork<T>>(hyper: &H, condition: &H::Condition) -> Result<f32> {
    let loss = hyper.generate(condition)?.forward(&ones(&[5, 4])?)?.sqr()?.mean_all()?;
    AdamW::new_lr(hyper.core().trainable(), 0.05)?.backward_step(&loss)?;
    loss.to_scalar()
}

fn flat<T>(params: &GeneratedParams<T>) -> Result<Vec<f32>> {
    params.flat()?.flatten_all()?.to_vec1()
}

/// Trains one hypernetwork, and hands its checkpoint to another.
fn round_trip<T: Module, H: Hypernetwork<T>>(
    build: impl Fn(VarBuilder<'_>) -> Result<H>,
    condition: &H::Condition,
) -> Result<()> {
    let vars = [VarMap::new(), VarMap::new()];
    let builder = |i: usize| seeded::var_builder(&vars[i], i as u64, DType::F32, device());
    let (hyper, other) = (build(builder(0))?, build(builder(1))?);
    let before = flat(&hyper.generate(condition)?)?;
    step(&hyper, condition)?;
    let after = flat(&hyper.generate(condition)?)?;
    assert_ne!(before, after);

    let folder = tempfile::tempdir()?;
    hyper.core().save(folder.path().join("hyper.safetensors"))?;
    other.core().load(folder.path().join("hyper.safetensors"))?;
    assert_eq!(flat(&other.generate(condition)?)?, after);
    hyper
        .core()
        .export_params(&hyper.generate(condition)?, folder.path().join("net.safetensors"))?;
    let exported = candle_core::safetensors::load(folder.path().join("net.safetensors"), device())?;
    assert_eq!(exported.len(), hyper.core().layout().params().len());

    let trained: usize = hyper.core().trainable().iter().map(|var| var.elem_count()).sum();
    assert_eq!(trained, hyper.core().num_params());
    let names: Vec<_> = hyper.core().named_tensors().map(|(name, _)| name).collect();
    assert!(names.len() >= hyper.core().trainable().len(), "{names:?}");
    assert_eq!(hyper.core().chunks().num_params(), hyper.core().layout().num_params());
    let params = hyper.generate(condition)?;
    let audit = hyper.core().audit(&params, &params.forward(&ones(&[5, 4])?)?.sqr()?.sum_all()?)?;
    assert!(audit.to_string().contains("Net"), "{audit}");
    Ok(())
}

#[test]
fn one_loop_trains_all_kinds() -> Result<()> {
    round_trip(|vb| Static::new(vb), &())?;
    round_trip(|vb| Dynamic::new(vb), &ones(&[2])?)?;
    round_trip(|vb| Tasks::new(vb), &Tensor::new(1u32, device())?)
}

#[test]
fn bases_are_not_trained() -> Result<()> {
    let vars = VarMap::new();
    let hyper = Static::new(VarBuilder::from_varmap(&vars, DType::F32, device()))?;
    // Table, weight and bias, without the bases of the norm's weight and bias.
    assert_eq!((Hypernetwork::core(&hyper).trainable().len(), vars.all_vars().len()), (3, 5));
    Ok(())
}

#[test]
fn the_networks_behind_are_hypernetworks_as_well() -> Result<()> {
    fn sizes<T, H: Hypernetwork<T>>(hyper: &H) -> (usize, usize) {
        (hyper.core().num_params(), hyper.core().layout().num_params())
    }

    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device());
    let (first, second) = (Static::new(vb.pp("static"))?, Dynamic::new(vb.pp("dynamic"))?);
    let behind: (&StaticHyperNetwork<Net>, &DynamicHyperNetwork<Net>) = (&first, &second);
    assert_eq!(sizes(behind.0), sizes(&first));
    assert_eq!(sizes(behind.1), sizes(&second));
    assert_eq!(sizes(&first), (Static::NUM_PARAMS, Static::NUM_TARGET_PARAMS));
    Ok(())
}

#[test]
fn a_trait_object_serves_hypernetworks_of_one_kind() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device());
    let all: [Box<dyn Hypernetwork<Net, Condition = Tensor>>; 2] =
        [Box::new(Dynamic::new(vb.pp("a"))?), Box::new(Dynamic::new(vb.pp("b"))?)];
    for hyper in &all {
        let params = hyper.generate(&ones(&[3, 2])?)?;
        assert_eq!(params.num_sets(), Some(3));
        assert_eq!(hyper.core().trainable().len(), 6);
    }
    Ok(())
}

#[test]
fn a_condition_of_several_sets_is_not_exported() -> Result<()> {
    let vars = VarMap::new();
    let hyper = Dynamic::new(VarBuilder::from_varmap(&vars, DType::F32, device()))?;
    let exported = hyper.export(&ones(&[3, 2])?, "never.safetensors");
    let message = exported.err().map(|err| err.to_string()).unwrap_or_default();
    assert!(message.starts_with("a checkpoint holds one set of weights"), "{message}");
    Ok(())
}

#[test]
fn networks_and_parameters_are_modules_where_the_target_is() -> Result<()> {
    fn apply(module: &dyn Module, xs: &Tensor) -> Result<Vec<f32>> {
        module.forward(xs)?.flatten_all()?.to_vec1()
    }

    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device());
    let xs = ones(&[5, 4])?;
    let hyper = Static::new(vb.pp("static"))?;
    let behind: &StaticHyperNetwork<Net> = &hyper;
    let expected = apply(&hyper, &xs)?;
    assert_eq!(apply(behind, &xs)?, expected);
    assert_eq!(apply(&hyper.generate_params()?, &xs)?, expected);

    let hyper = OfInput::new(vb.pp("of_input"))?;
    let behind: &DynamicHyperNetwork<Net> = &hyper;
    let expected = apply(&hyper, &xs)?;
    assert_eq!(apply(behind, &xs)?, expected);
    assert_eq!(apply(&hyper.generate_params(&xs)?, &xs)?, expected);
    Ok(())
}

#[test]
fn what_was_computed_on_the_way_is_cloned_with_any_target() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device());
    let xs = ones(&[5, 4])?;
    let aux = Static::new(vb.pp("static"))?.forward_aux(&xs)?.1;
    assert_eq!(flat(&aux.clone().params)?, flat(&aux.params)?);
    let aux = OfInput::new(vb.pp("of_input"))?.forward_aux(&xs)?.1;
    assert_eq!(flat(&aux.clone().params)?, flat(&aux.params)?);
    Ok(())
}
