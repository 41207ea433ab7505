//! Dynamic hypernetworks against hyper-nn under PyTorch: see `golden/README.md`.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{D, DType, Module, Result, Tensor, Var};
use candle_nn::VarMap;
use hypernn::nn::{GRU, GRUState, Linear, RNN};
use hypernn::{GeneratedParams, HyperTarget, hypernetwork};
use hypernn_tests::golden::Golden;
use hypernn_tests::{relative_error, variable, variables};

/// Our variable and hyper-nn's.
const NAMES: [(&str, &str); 7] = [
    ("embedding.weight", "embedding_module.embedding.weight"),
    ("embedding.cell.weight_ih", "embedding_module.rnn_cell.weight_ih"),
    ("embedding.cell.weight_hh", "embedding_module.rnn_cell.weight_hh"),
    ("embedding.cell.bias_ih", "embedding_module.rnn_cell.bias_ih"),
    ("embedding.cell.bias_hh", "embedding_module.rnn_cell.bias_hh"),
    ("generator.weight", "weight_generator.weight"),
    ("generator.bias", "weight_generator.bias"),
];

fn set_variables(vars: &VarMap, golden: &Golden) -> Result<()> {
    for (ours, theirs) in NAMES {
        let var = variable(vars, ours)?;
        var.set(&golden.as_dtype(&format!("hyper.{theirs}"), var.dtype())?)?;
    }
    Ok(())
}

/// `sum(ys²)` and the gradients of it, those of the hypernetwork checked; returns all.
fn check_gradients(
    golden: &Golden,
    vars: &VarMap,
    ys: &Tensor,
) -> Result<candle_core::backprop::GradStore> {
    let loss = ys.sqr()?.sum_all()?;
    golden.check("loss", &loss)?;
    let grads = loss.backward()?;
    for (ours, theirs) in NAMES {
        let var = variable(vars, ours)?;
        golden.check(&format!("grad.{theirs}"), grads.get(&var).unwrap())?;
    }
    Ok(grads)
}

#[derive(HyperTarget)]
struct Mlp {
    #[hyper(linear(8, 256))]
    first: Linear,
    #[hyper(linear(256, 32))]
    second: Linear,
}

impl Module for Mlp {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(xs)?.relu()?)
    }
}

hypernetwork! {
    struct HyperPolicy for Mlp {
        embedding: rnn(8, 32, 4),
        generator: linear,
        mode: dynamic,
        init: hyper_nn,
    }
}

#[test]
fn ten_conditions_at_once() -> Result<()> {
    let golden = Golden::open("f_dynamic_vmap_b10")?;
    assert_eq!((HyperPolicy::NUM_TARGET_PARAMS, HyperPolicy::CHUNKS.chunk()), (10528, 329));
    for dtype in [DType::F32, DType::F64] {
        let (vars, vb) = variables(0, dtype);
        let hyper = HyperPolicy::new(vb)?;
        assert_eq!(vars.all_vars().len(), NAMES.len());
        set_variables(&vars, &golden)?;
        let xs = Var::from_tensor(&golden.as_dtype("input.x", dtype)?.squeeze(1)?)?;
        let (ys, aux) = hyper.forward_aux(&xs)?;
        golden.check("output", &ys)?;
        golden.check("generated", &aux.params.flat()?)?;
        golden.check("hidden_out", &aux.state.tensors()[0])?;
        let grads = check_gradients(&golden, &vars, &ys)?;
        golden.check("grad.input.x", grads.get(&xs).unwrap())?;
        let unused = grads.get(variable(&vars, "embedding.cell.weight_hh")?.as_tensor()).unwrap();
        assert_eq!(unused.abs()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?, 0.);
    }
    Ok(())
}

/// The gradient of the ten flat vectors.
#[test]
fn ten_flat_vectors_at_once() -> Result<()> {
    let golden = Golden::open("f_dynamic_vmap_b10")?;
    for dtype in [DType::F32, DType::F64] {
        let flat = Var::from_tensor(&golden.as_dtype("generated", dtype)?)?;
        let xs = golden.as_dtype("input.x", dtype)?.squeeze(1)?;
        let ys = GeneratedParams::<Mlp>::from_flat(&(), &flat)?.forward(&xs)?;
        // What was generated is in float32, so no output from it is exact in float64.
        assert!(relative_error(&ys, &golden.get("f64.output")?.squeeze(1)?)? <= 2e-6);
        let grads = ys.sqr()?.sum_all()?.backward()?;
        golden.check("grad.generated", grads.get(&flat).unwrap())?;
    }
    Ok(())
}

#[derive(HyperTarget)]
struct Recurrent {
    #[hyper(gru(15, 16))]
    rnn: GRU,
    #[hyper(linear(16, 24))]
    linear: Linear,
    #[hyper(linear(24, 24))]
    linear2: Linear,
    #[hyper(linear(24, 12))]
    linear3: Linear,
}

impl Recurrent {
    fn step(&self, xs: &Tensor, h: Tensor) -> Result<(Tensor, Tensor)> {
        let h = self.rnn.step(xs, &GRUState { h })?.h;
        let ys = self.linear2.forward(&self.linear.forward(&h)?.relu()?)?.relu()?;
        let ys = self.linear3.forward(&ys)?;
        let sum = ys.exp()?.sum_keepdim(D::Minus1)?;
        Ok((ys.broadcast_sub(&sum.log()?)?, h))
    }
}

hypernetwork! {
    struct HyperRecurrent for Recurrent {
        embedding: rnn(15, 8, 4),
        generator: linear,
        mode: dynamic,
        init: hyper_nn,
    }
}

#[test]
fn states_carried_in_the_embedding_and_in_the_target() -> Result<()> {
    let golden = Golden::open("g_dynamic_grucell")?;
    assert_eq!((HyperRecurrent::NUM_TARGET_PARAMS, HyperRecurrent::CHUNKS.surplus()), (2892, 4));
    for dtype in [DType::F32, DType::F64] {
        let (vars, vb) = variables(0, dtype);
        let hyper = HyperRecurrent::new(vb)?;
        set_variables(&vars, &golden)?;
        let category = Var::from_tensor(&golden.as_dtype("input.category", dtype)?)?;
        let xs = Var::from_tensor(&golden.as_dtype("input.xs", dtype)?)?;
        let repeated = category.broadcast_as((3, 1, 3))?;
        let inputs = Tensor::cat(&[&repeated, &xs], 2)?.transpose(0, 1)?;

        let mut hidden = Vec::new();
        let start = Tensor::zeros((1, 16), dtype, xs.device())?;
        let (ys, state, last) =
            hyper.scan(&inputs, &hyper.zero_state(1)?, start, |net, at, h| {
                let (ys, h) = net.step(&inputs.narrow(1, at, 1)?.squeeze(1)?, h)?;
                hidden.push(h.clone());
                Ok((ys, h))
            })?;
        golden.check("output", &ys)?;
        golden.check("target_hidden", &Tensor::cat(&hidden, 0)?)?;
        assert_eq!(relative_error(&last, &hidden[2])?, 0.);

        check_steps(&golden, &hyper, (&inputs, &state))?;
        let grads = check_gradients(&golden, &vars, &ys)?;
        golden.check("grad.input.category", grads.get(&category).unwrap())?;
        golden.check("grad.input.xs", grads.get(&xs).unwrap())?;
    }
    Ok(())
}

/// What each step generates, and the state after it; surplus values belong to no parameter.
fn check_steps(
    golden: &Golden,
    hyper: &HyperRecurrent,
    (inputs, last): (&Tensor, &hypernn::State),
) -> Result<()> {
    let expected = golden.get("generated")?.narrow(1, 0, HyperRecurrent::NUM_TARGET_PARAMS)?;
    let mut state = hyper.zero_state(1)?;
    let mut states = Vec::new();
    for at in 0..3 {
        let (params, next) = hyper.generate_step(&inputs.narrow(1, at, 1)?.squeeze(1)?, &state)?;
        assert!(relative_error(&params.flat()?, &expected.narrow(0, at, 1)?)? <= 2e-6);
        states.push(next.tensors()[0].clone());
        state = next;
    }
    golden.check("hyper_hidden", &Tensor::cat(&states, 0)?)?;
    assert_eq!(relative_error(&last.tensors()[0], &states[2])?, 0.);
    Ok(())
}
