//! Derivatives of outputs as part of a loss: through every layer, embedding and generator, against finite
//! differences; and an equation solved for all its parameters.
//!
//! candle reads `CANDLE_GRAD_DO_NOT_DETACH` once per thread, so each test runs in a process of its own that
//! has it.

#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;

use candle_core::{DType, Module, ModuleT, Result, Tensor, Var, bail};
use candle_nn::VarMap;
use hypernn::nn::{
    AdamW, AttentionMask, BatchNorm, Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Embedding,
    GRU, GroupNorm, LSTM, LayerNorm, Linear, Optimizer, PReLU, RNN, RmsNorm, Rotary, RotaryConfig,
    RotaryConvention, RotaryScaling, attention, avg_pool2d, cross_entropy, max_pool2d,
};
use hypernn::{GeneratedParams, HyperTarget, derivative, hypernetwork, recompute};
use hypernn_tests::dynamic::{Generator, Sizes, conditions, kinds, network};
use hypernn_tests::{
    device, gradient_error, gradients, input, message, relative_error, values, variables,
    weighted_sum,
};

const VARIABLE: &str = "CANDLE_GRAD_DO_NOT_DETACH";

/// Runs a test where candle keeps the graph of gradients: in a process of its own.
fn keeping_graphs(path: &str, test: impl FnOnce() -> Result<()>) -> Result<()> {
    if std::env::var_os(VARIABLE).is_some() {
        return test();
    }
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["--exact", name]).env(VARIABLE, "1").output()?;
    let report = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !report.contains("1 passed") {
        bail!("{name} with {VARIABLE}=1: {report}");
    }
    Ok(())
}

macro_rules! keeping_graphs {
    ($(#[$doc:meta])* fn $name:ident() $body:block) => {
        $(#[$doc])*
        #[test]
        fn $name() -> Result<()> {
            keeping_graphs(concat!(module_path!(), "::", stringify!($name)), || $body)
        }
    };
}

/// A variable, to differentiate with respect to.
fn xs(dims: &[usize]) -> Result<Var> {
    Var::from_tensor(&input(dims, 7, DType::F64)?)
}

/// A loss of outputs and their derivative. The outputs alone have a derivative that only the weights go
/// into, where they are linear in the input; their sines have one that all goes into.
fn slope_loss(net: &dyn Fn(&Tensor) -> Result<Tensor>, xs: &Var) -> Result<Tensor> {
    let ys = net(xs.as_tensor())?;
    let plain = derivative(&weighted_sum(&ys)?, xs)?;
    let bent = derivative(&weighted_sum(&ys.sin()?)?, xs)?;
    let slopes = (weighted_sum(&plain.sqr()?)? + weighted_sum(&bent)?)?;
    slopes + weighted_sum(&bent.sqr()?)? + weighted_sum(&ys)?
}

/// The gradients of such a loss with respect to variables and input, against finite differences.
fn check(
    name: &str,
    vars: &VarMap,
    net: &dyn Fn(&Tensor) -> Result<Tensor>,
    xs: &Var,
) -> Result<()> {
    vars.data().lock().unwrap().insert("xs".to_owned(), xs.clone());
    let error = gradient_error(vars, &|| slope_loss(net, xs))?;
    assert!(error < 2e-6, "{name}: relative error {error:e}");
    Ok(())
}

/// A target of one layer: with weights of its own, and generated.
macro_rules! layer {
    ($test:ident: $layer:ty = [$($spec:tt)+], $dims:expr, $forward:expr) => {
        mod $test {
            use super::*;

            #[derive(HyperTarget)]
            struct Target {
                #[hyper($($spec)+)]
                layer: $layer,
            }

            impl Module for Target {
                fn forward(&self, xs: &Tensor) -> Result<Tensor> {
                    let forward: fn(&$layer, &Tensor) -> Result<Tensor> = $forward;
                    forward(&self.layer, xs)
                }
            }

            hypernetwork! {
                struct Hyper for Target {
                    embedding: table(2, 3),
                    generator: linear,
                    mode: static,
                }
            }

            hypernetwork! {
                struct Dynamic for Target {
                    embedding: rnn(3, 2, 2),
                    generator: linear,
                    mode: dynamic,
                }
            }

            keeping_graphs! {
                fn is_differentiated_twice() {
                    let dims: &[usize] = &$dims;
                    let (vars, vb) = variables(3, DType::F64);
                    let target = Target::new(vb)?;
                    check("ordinary", &vars, &|xs| target.forward(xs), &xs(dims)?)?;
                    let (vars, vb) = variables(3, DType::F64);
                    let hyper = Hyper::new(vb)?;
                    check("generated", &vars, &|xs| hyper.forward(xs), &xs(dims)?)?;
                    let (vars, vb) = variables(4, DType::F64);
                    let hyper = Dynamic::new(vb)?;
                    let params =
                        || hyper.generate_params(&input(&[2, 3], 5, DType::F64)?);
                    check("sets", &vars, &|xs| params()?.forward(xs), &xs(dims)?)
                }
            }
        }
    };
}

layer!(linear_layer: Linear = [linear(3, 2)], [4, 3], |layer, xs| layer.forward(xs));
layer!(linear_no_bias: Linear = [linear_no_bias(3, 2)], [2, 3], |layer, xs| layer.forward(xs));
layer!(conv1d: Conv1d = [conv1d(2, 4, 3, padding = 1, groups = 2)], [2, 2, 5], |l, xs| l.forward(xs));
layer!(conv2d: Conv2d = [conv2d(2, 3, 2, stride = 2, padding = 1)], [2, 2, 3, 4], |l, xs| l.forward(xs));
layer!(conv_transpose1d: ConvTranspose1d = [conv_transpose1d(2, 2, 3, stride = 2)], [2, 2, 3],
    |layer, xs| layer.forward(xs));
layer!(conv_transpose2d: ConvTranspose2d = [conv_transpose2d(2, 2, 2)], [2, 2, 2, 3],
    |layer, xs| layer.forward(xs));
layer!(layer_norm: LayerNorm = [layer_norm(4, 1e-2)], [4, 4], |layer, xs| layer.forward(xs));
layer!(rms_norm: RmsNorm = [rms_norm(4, 1e-2)], [4, 4], |layer, xs| layer.forward(xs));
layer!(group_norm: GroupNorm = [group_norm(2, 4, 1e-2)], [2, 4, 3], |layer, xs| layer.forward(xs));
layer!(batch_norm: BatchNorm = [batch_norm(3)], [6, 3], |layer, xs| layer.forward_t(xs, true));
layer!(prelu: PReLU = [prelu(Some(3))], [4, 3], |layer, xs| layer.forward(xs));
layer!(embedding: Embedding = [embedding(3, 2)], [2, 2], |layer, xs| {
    let ids = Tensor::new(&[[2u32, 0], [1, 2]], device())?;
    let rows = layer.forward(&ids)?.tanh()?;
    rows.broadcast_mul(&xs.tanh()?.unsqueeze(2)?)
});
layer!(gru: GRU = [gru(2, 2)], [2, 3, 2], |layer, xs| {
    let states = layer.seq(xs)?;
    states.last().map_or_else(|| Ok(xs.clone()), |state| Ok(state.h().clone()))
});
layer!(lstm: LSTM = [lstm(2, 2)], [2, 3, 2], |layer, xs| {
    let states = layer.seq(xs)?;
    states.last().map_or_else(|| Ok(xs.clone()), |state| Ok(state.h().clone()))
});

/// Of every step of a chain, between layers.
macro_rules! chain {
    ($test:ident: [$($step:ident $(($size:expr))?),+]) => {
        mod $test {
            use super::*;

            #[derive(HyperTarget)]
            #[hyper(sequential = [first, $($step $(($size))?),+, out], input = 3)]
            struct Target {
                #[hyper(linear(3, 4))]
                first: Linear,
                #[hyper(linear(4, 2))]
                out: Linear,
            }

            hypernetwork! {
                struct Hyper for Target {
                    embedding: table(13, 3),
                    generator: mlp([4], tanh),
                    mode: static,
                }
            }

            keeping_graphs! {
                fn is_differentiated_twice() {
                    let (vars, vb) = variables(3, DType::F64);
                    let hyper = Hyper::new(vb)?;
                    check(stringify!($test), &vars, &|xs| hyper.forward(xs), &xs(&[3, 3])?)
                }
            }
        }
    };
}

chain!(relu: [relu]);
chain!(tanh: [tanh]);
chain!(silu: [silu]);
chain!(sigmoid: [sigmoid]);
chain!(softmax: [softmax]);
chain!(log_softmax: [log_softmax]);
chain!(reshaped: [reshape([1, 2, 2]), tanh, flatten]);

keeping_graphs! {
    fn pools_are_differentiated_twice() {
        let images = xs(&[1, 2, 5, 4])?;
        let none = VarMap::new();
        check("max", &none, &|xs| max_pool2d(&xs.sqr()?, 2), &images)?;
        check("mean", &none, &|xs| avg_pool2d(&xs.sqr()?, 2), &images)?;
        check("all", &none, &|xs| hypernn::nn::global_avg_pool2d(&xs.sqr()?), &images)
    }
}

/// Turned queries and keys, attention under both masks, and the loss of tokens, of which one is ignored.
fn language_model(xs: &Tensor, convention: RotaryConvention) -> Result<Tensor> {
    let config = RotaryConfig {
        head_dim: 4,
        max_positions: 5,
        theta: 100.,
        scaling: RotaryScaling::None,
        convention,
    };
    let rotary = Rotary::new(&config, xs.dtype(), xs.device())?;
    let keys = Tensor::new(&[[0u8, 1, 1], [1, 1, 0]], xs.device())?;
    let (q, k) = (rotary.apply(xs, 1)?, rotary.apply(&xs.narrow(1, 0, 1)?.sin()?, 1)?);
    let mask = AttentionMask::causal().with_keys(&keys);
    attention(&q, &k, &xs.narrow(1, 1, 1)?, &mask, 0.5)
}

keeping_graphs! {
    fn attention_and_rotary_embeddings_are_differentiated_twice() {
        for convention in [RotaryConvention::Halves, RotaryConvention::Interleaved] {
            let net = |xs: &Tensor| language_model(xs, convention);
            check(&format!("{convention:?}"), &VarMap::new(), &net, &xs(&[2, 2, 3, 4])?)?;
        }
        Ok(())
    }
}

keeping_graphs! {
    fn softmax_and_cross_entropy_are_differentiated_twice() {
        let net = |xs: &Tensor| hypernn::nn::softmax(&xs.sin()?);
        check("softmax", &VarMap::new(), &net, &xs(&[2, 3, 4])?)?;
        for targets in [[1u32, 3, 0], [2, 9, 1]] {
            let targets = Tensor::new(&targets, device())?;
            let net = |xs: &Tensor| cross_entropy(&xs.sin()?, &targets, 9);
            check("cross_entropy", &VarMap::new(), &net, &xs(&[3, 4])?)?;
        }
        Ok(())
    }
}

keeping_graphs! {
    /// What is computed again in the backward otherwise.
    fn blocks_are_differentiated_twice() {
        let (vars, vb) = variables(3, DType::F64);
        let hyper = std::sync::Arc::new(Smooth::new(vb)?);
        let net = |xs: &Tensor| {
            let target = hyper.clone();
            recompute(std::slice::from_ref(xs), move |xs| target.forward(&xs[0]))
        };
        check("block", &vars, &net, &xs(&[3, 2])?)
    }
}

keeping_graphs! {
    /// With weights that have no gradient.
    fn frozen_layers_are_differentiated_twice() {
        let tensor = |dims: &[usize], seed| input(dims, seed, DType::F64);
        let norm = LayerNorm::new(tensor(&[4], 1)?, tensor(&[4], 2)?, 1e-2);
        let net = |xs: &Tensor| norm.forward(&xs.sin()?);
        check("layer_norm", &VarMap::new(), &net, &xs(&[3, 4])?)?;
        let prelu = PReLU::new(tensor(&[4], 1)?, false);
        let net = |xs: &Tensor| prelu.forward(&xs.sin()?);
        check("prelu", &VarMap::new(), &net, &xs(&[3, 4])?)
    }
}

/// candle's own derivative of `gelu_erf` is right to six digits, and is differentiated.
mod gelu {
    use super::*;

    #[derive(HyperTarget)]
    #[hyper(sequential = [first, gelu, out], input = 3)]
    struct Target {
        #[hyper(linear(3, 4))]
        first: Linear,
        #[hyper(linear(4, 2))]
        out: Linear,
    }

    keeping_graphs! {
        fn is_differentiated_twice() {
            let (vars, vb) = variables(3, DType::F64);
            let target = Target::new(vb)?;
            let points = xs(&[3, 3])?;
            let error = gradient_error(&vars, &|| slope_loss(&|xs| target.forward(xs), &points))?;
            assert!(error < 1e-5, "{error:e}");
            Ok(())
        }
    }
}

#[derive(HyperTarget)]
#[hyper(sequential = [hidden, tanh, out], input = 2)]
struct Smooth {
    #[hyper(linear(2, 3))]
    hidden: Linear,
    #[hyper(linear(3, 1))]
    out: Linear,
}

keeping_graphs! {
    /// Every embedding with every generator, for one set and for more.
    fn every_dynamic_network_is_differentiated_twice() {
        // Elsewhere, where each takes seconds, a few.
        let step = if device().is_cpu() { 1 } else { 11 };
        for (embedding, generator) in kinds().into_iter().step_by(step) {
            let one_and_more = if generator == Generator::Linear { &[1, 2][..] } else { &[2] };
            for &sets in one_and_more {
                let sizes = Sizes { width: 2, num_embeddings: 4, embedding_dim: 2 };
                let (vars, vb) = variables(5, DType::F64);
                let hyper = network::<Smooth>((embedding, generator), sizes, vb)?;
                let condition = conditions(embedding, &[sets], 2, DType::F64)?;
                if condition.dtype().is_float() {
                    vars.data().lock().unwrap().insert("condition".to_owned(), condition.clone());
                }
                let net = |xs: &Tensor| hyper.generate_params(&condition)?.forward(xs);
                check(&format!("{embedding:?} {generator:?} {sets}"), &vars, &net, &xs(&[4, 2])?)?;
            }
        }
        Ok(())
    }
}

/// A time and a place.
#[derive(HyperTarget)]
#[hyper(sequential = [hidden, tanh, out], input = 2)]
struct Heat {
    #[hyper(linear(2, 3))]
    hidden: Linear,
    #[hyper(linear(3, 1))]
    out: Linear,
}

hypernetwork! {
    struct HyperHeat for Heat { embedding: table(13, 3), generator: linear, mode: static }
}

keeping_graphs! {
    /// The residual of the heat equation, `u_t = u_xx`: a second derivative in the loss, whose gradient is a
    /// third.
    fn second_derivatives_in_a_loss_have_gradients() {
        let (vars, vb) = variables(5, DType::F64);
        let hyper = HyperHeat::new(vb)?;
        let points = xs(&[4, 2])?;
        vars.data().lock().unwrap().insert("points".to_owned(), points.clone());
        let loss = || {
            let slopes = derivative(&hyper.forward(&points)?, &points)?;
            let along = derivative(&slopes.narrow(1, 1, 1)?, &points)?.narrow(1, 1, 1)?;
            (slopes.narrow(1, 0, 1)? - along)?.sqr()?.mean_all()
        };
        let error = gradient_error(&vars, &loss)?;
        assert!(error < 2e-6, "{error:e}");
        Ok(())
    }
}

hypernetwork! {
    struct Static for Smooth { embedding: table(13, 3), generator: linear, mode: static }
}

hypernetwork! {
    struct Adapted for Smooth {
        roles: [("*.weight", lora(1, 2.)), ("*", train)],
        embedding: table(3, 3),
        generator: linear,
        mode: static,
    }
}

/// Its forward asks for the adapted weight, base and adapter in one.
#[derive(HyperTarget)]
struct Merged {
    #[hyper(linear_no_bias(2, 3))]
    fc: Linear,
}

impl Module for Merged {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs.matmul(&self.fc.weight().t()?)?.tanh()
    }
}

hypernetwork! {
    struct MergedAdapter for Merged {
        roles: [("*", lora(1, 2.))],
        embedding: table(3, 3),
        generator: linear,
        mode: static,
    }
}

keeping_graphs! {
    fn merged_adapters_are_differentiated_twice() {
        let (_, vb) = variables(1, DType::F64);
        Merged::new(vb.clone())?;
        let (vars, of_hyper) = variables(2, DType::F64);
        let hyper = MergedAdapter::new_from(of_hyper, vb)?;
        check("merged", &vars, &|xs| hyper.forward(xs), &xs(&[3, 2])?)
    }
}

hypernetwork! {
    struct PerModule for Merged {
        roles: [("*", generate)],
        embedding: rnn(3, 2, 2),
        generator: per_module(3, [4], tanh),
        mode: dynamic,
    }
}

keeping_graphs! {
    /// Rows that are put together from heads, for one set and for several.
    fn rows_by_module_are_differentiated_twice() {
        let (vars, vb) = variables(2, DType::F64);
        let hyper = PerModule::new(vb)?;
        let params = || hyper.generate_params(&input(&[3], 5, DType::F64)?);
        check("rows", &vars, &|xs| params()?.forward(xs), &xs(&[3, 2])?)
    }
}

keeping_graphs! {
    /// Bases below generated tensors, adapters, and one set taken out of several.
    fn starts_adapters_and_single_sets_are_differentiated_twice() {
        let (_, vb) = variables(1, DType::F64);
        Smooth::new(vb.clone())?;
        let (vars, of_hyper) = variables(2, DType::F64);
        let hyper = Static::new_from(of_hyper, vb.clone())?;
        check("start", &vars, &|xs| hyper.forward(xs), &xs(&[3, 2])?)?;
        let (vars, of_hyper) = variables(2, DType::F64);
        let hyper = Adapted::new_from(of_hyper, vb)?;
        check("adapter", &vars, &|xs| hyper.forward(xs), &xs(&[3, 2])?)?;
        let flat = Var::from_tensor(&input(&[2, Smooth::NUM_PARAMS], 3, DType::F64)?)?;
        let vars = VarMap::new();
        vars.data().lock().unwrap().insert("flat".to_owned(), flat.clone());
        let set = |xs: &Tensor| GeneratedParams::<Smooth>::from_flat(&(), &flat)?.set(1)?.forward(xs);
        check("set", &vars, &set, &xs(&[3, 2])?)
    }
}

keeping_graphs! {
    /// A step of gradient descent on the generated weights, and the loss behind it: the gradient of a
    /// gradient with respect to weights.
    fn a_step_of_descent_is_differentiated() {
        let (vars, vb) = variables(2, DType::F64);
        let hyper = Static::new(vb)?;
        let points = xs(&[3, 2])?;
        let loss = || {
            let flat = hyper.generate_params()?.flat()?;
            let inner = |flat: &Tensor| {
                let ys = GeneratedParams::<Smooth>::from_flat(&(), flat)?.forward(&points)?;
                ys.sqr()?.sum_all()
            };
            // The step's gradient is taken at the same weights, as a variable shifted by zero.
            let shift = Var::zeros(flat.dims(), DType::F64, device())?;
            let slope = derivative(&inner(&(&flat + shift.as_tensor())?)?, &shift)?;
            inner(&(flat - (slope * 0.1)?)?)
        };
        let error = gradient_error(&vars, &loss)?;
        assert!(error < 1e-6, "{error:e}");
        Ok(())
    }
}

keeping_graphs! {
    /// What is generated in bf16, or for tensors in bf16, has second derivatives as well: those of f64, to
    /// its precision.
    fn half_precision_is_differentiated_twice() {
        let run = |dtype: DType, of_target: DType| {
            let (vars, vb) = variables(3, dtype);
            let hyper = Static::new(vb)?.with_target_dtype(of_target)?;
            let points = Var::from_tensor(&input(&[3, 2], 7, of_target)?)?;
            let slope = derivative(&hyper.forward(&points)?, &points)?;
            gradients(&vars, &slope.sqr()?.sum_all()?)
        };
        let expected = run(DType::F64, DType::F64)?;
        for dtype in [DType::BF16, DType::F32] {
            let found = run(dtype, DType::BF16)?;
            for (name, expected) in &expected {
                let error = relative_error(&found[name], expected)?;
                assert!(error < 0.1, "{dtype:?} {name}: {error}");
            }
        }
        Ok(())
    }
}

keeping_graphs! {
    fn a_derivative_of_nothing_is_an_error() {
        let points = xs(&[3, 2])?;
        let elsewhere = xs(&[4])?;
        assert_eq!(
            message(derivative(&points.sqr()?, &elsewhere)),
            "derivative: the output (shape [3, 2]) does not depend on the input (shape [4])"
        );
        assert_eq!(
            message(derivative(&points.sqr()?, &points.sqr()?)),
            "derivative: the input (shape [3, 2]) is no variable, to which candle gives a gradient; make it one by `Var::from_tensor`"
        );
        Ok(())
    }
}

/// Where candle detaches gradients there is an error, and no wrong number.
#[test]
fn a_derivative_without_a_graph_is_an_error() -> Result<()> {
    if std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let points = xs(&[3, 2])?;
    let expected = "derivative: candle detaches gradients on this thread, so that the derivative's own gradient would be wrong; set the environment variable CANDLE_GRAD_DO_NOT_DETACH=1 before the program starts";
    assert_eq!(message(derivative(&points.sqr()?, &points)), expected);
    Ok(())
}

/// Weights that were generated on a thread that detaches gradients are used on one that keeps them.
#[test]
fn a_layer_that_ran_without_a_graph_is_an_error() -> Result<()> {
    if std::env::var_os("HYPERNN_MIXED").is_none() {
        let mut command = Command::new(std::env::current_exe()?);
        let name = "a_layer_that_ran_without_a_graph_is_an_error";
        let output = command
            .args(["--exact", name])
            .env("HYPERNN_MIXED", "1")
            .env_remove(VARIABLE)
            .output()?;
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && report.contains("1 passed"), "{report}");
        return Ok(());
    }
    let (_, vb) = variables(2, DType::F64);
    let points = xs(&[3, 2])?;
    let ys = Static::new(vb)?.forward(&points)?;
    // SAFETY: the process runs this test alone, whose threads wait.
    #[allow(unsafe_code, reason = "to reach what must be refused")]
    unsafe {
        std::env::set_var(VARIABLE, "1");
    }
    let passed = std::thread::spawn(move || message(derivative(&ys, &points))).join();
    assert_eq!(
        passed.unwrap_or_default(),
        "linear: its gradient can't be differentiated again, since it ran where candle detaches gradients; set CANDLE_GRAD_DO_NOT_DETACH=1 before the program starts"
    );
    Ok(())
}

#[derive(HyperTarget)]
#[hyper(sequential = [first, tanh, second, tanh, out], input = 1)]
struct Solution {
    #[hyper(linear(1, 12))]
    first: Linear,
    #[hyper(linear(12, 12))]
    second: Linear,
    #[hyper(linear(12, 1))]
    out: Linear,
}

hypernetwork! {
    struct Solutions for Solution {
        embedding: encoder(1, [16], tanh, 17, 8),
        generator: linear,
        mode: dynamic,
    }
}

/// The residual of `u′ = -a u` at `count` points for each `a`, and that of `u(0) = 1`.
fn equation(hyper: &Solutions, a: &Tensor, points: &Tensor) -> Result<Tensor> {
    let (sets, rows) = (a.dim(0)?, points.dim(0)?);
    let of_rows = a.repeat((1, rows / sets))?.reshape((rows, 1))?;
    let params = hyper.generate_params(a)?;
    let xs = Var::from_tensor(points)?;
    let u = params.forward(&xs)?;
    let residual = (derivative(&u, &xs)? + (&of_rows * &u)?)?;
    let start = Tensor::zeros((sets, 1), a.dtype(), a.device())?;
    let at_start = (params.forward(&start)? - 1.)?;
    residual.sqr()?.mean_all()? + at_start.sqr()?.mean_all()?
}

keeping_graphs! {
    fn gradients_of_an_equation_are_those_of_finite_differences() {
        let (vars, vb) = variables(6, DType::F64);
        let hyper = Solutions::new(vb)?;
        let a = Tensor::new(&[[0.5f64], [1.7]], device())?;
        let points = input(&[6, 1], 3, DType::F64)?.affine(0.5, 0.5)?;
        let error = gradient_error(&vars, &|| equation(&hyper, &a, &points))?;
        assert!(error < 1e-6, "{error:e}");
        Ok(())
    }
}

keeping_graphs! {
    /// `u′ = -a u`, `u(0) = 1`, for all `a` from 0.5 to 2: learned from the equation alone, at values of `a`
    /// between those of the training.
    fn an_equation_is_solved_for_all_its_parameters() {
        if !device().is_cpu() {
            // 800 steps take minutes on the stand-in for a card.
            return Ok(());
        }
        let (vars, vb) = variables(6, DType::F64);
        let hyper = Solutions::new(vb)?;
        let grid = |from: f64, count: usize, step: f64| {
            let values: Vec<_> = (0..count).map(|i| from + step * i as f64).collect();
            Tensor::from_vec(values, (count, 1), device())
        };
        let a = grid(0.5, 7, 0.25)?;
        let points = grid(0., 7, 1. / 6.)?.repeat((7, 1))?;
        let mut optimizer = AdamW::new_lr(vars.all_vars(), 5e-3)?;
        for _ in 0..800 {
            optimizer.backward_step(&equation(&hyper, &a, &points)?)?;
        }
        let (between, points) = (grid(0.625, 6, 0.25)?, grid(0., 5, 0.25)?);
        let found = hyper.generate_params(&between)?.forward(&points.repeat((6, 1))?)?;
        let exact = points.matmul(&between.t()?)?.neg()?.exp()?.t()?.reshape((30, 1))?;
        let worst = values(&(found - exact)?.abs()?)?.into_iter().fold(0., f64::max);
        assert!(worst < 0.02, "{worst}");
        Ok(())
    }
}
