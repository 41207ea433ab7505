//! Blocks that are computed again in the backward: the gradients of all they touch are those without.

#![allow(missing_docs, clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::BTreeMap;

use candle_core::{DType, Module, ModuleT, Result, Tensor, Var};
use candle_nn::VarMap;
use hypernn::nn::{BatchNorm, Conv2d, Embedding, GRU, Linear, PReLU, RNN, RmsNorm};
use hypernn::{HyperTarget, hypernetwork, recompute};
use hypernn_tests::{
    by_name, device, gradients, input, message, relative_error, values, variables, weighted_sum,
};

thread_local! {
    static RECOMPUTES: Cell<bool> = const { Cell::new(false) };
}

/// The block as it is, or computed again in the backward.
fn block(
    inputs: &[Tensor],
    block: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    if RECOMPUTES.get() { recompute(inputs, block) } else { block(inputs) }
}

#[derive(Clone, HyperTarget)]
struct Block {
    #[hyper(rms_norm(4, 1e-5))]
    norm: RmsNorm,
    #[hyper(linear(4, 6))]
    up: Linear,
    #[hyper(prelu(None))]
    act: PReLU,
    #[hyper(linear_no_bias(6, 4))]
    down: Linear,
}

impl Module for Block {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let hidden = self.act.forward(&self.up.forward(&self.norm.forward(xs)?)?)?;
        xs + self.down.forward(&hidden)?
    }
}

/// A table, tied to the head, and two blocks, the second of which is inside of another with the first once more.
#[derive(HyperTarget)]
struct Net {
    #[hyper(embedding(5, 4))]
    embed: Embedding,
    first: Block,
    second: Block,
    #[hyper(linear(4, 5), tie(weight = embed.weight))]
    head: Linear,
}

impl Module for Net {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (embed, ids) = (self.embed.clone(), ids.clone());
        let xs = block(&[], move |_| embed.forward(&ids))?;
        let first = self.first.clone();
        let xs = block(&[xs], move |xs| first.forward(&xs[0]))?;
        let (first, second) = (self.first.clone(), self.second.clone());
        let nested = block(&[xs.clone(), xs.clone()], move |xs| {
            let (second, others) = (second.clone(), first.forward(&xs[1])?);
            block(&[xs[0].clone(), others], move |xs| second.forward(&xs[0])? * xs[1].sin()?)
        })?;
        let head = self.head.clone();
        block(&[nested, xs], move |xs| head.forward(&(&xs[0] + &xs[1])?))
    }
}

hypernetwork! {
    struct Static for Net { embedding: table(13, 3), generator: linear, mode: static }

    struct Dynamic for Net {
        embedding: encoder(3, [5], tanh, 13, 3),
        generator: linear,
        mode: dynamic,
    }

    struct Scaled for Net { embedding: rnn(3, 13, 3), generator: linear, mode: dynamic }

    struct Adapted for Net {
        embedding: table(10, 3),
        generator: linear,
        mode: static,
        roles: [
            ("*.up.weight", lora(2, 4.)),
            ("*.norm.weight", train),
            ("embed.weight", train),
            ("*", freeze),
        ],
    }

    struct AdaptedByCondition for Net {
        embedding: encoder(3, [5], tanh, 10, 3),
        generator: linear,
        mode: dynamic,
        roles: [("*.up.weight", lora(2, 4.)), ("*.norm.weight", train), ("*", freeze)],
    }
}

fn ids() -> Result<Tensor> {
    Tensor::new(&[[0u32, 1, 2], [4, 3, 3], [1, 1, 0], [2, 0, 4]], device())
}

type Found = (Vec<f64>, BTreeMap<String, Tensor>);

fn found(recomputes: bool, vars: &VarMap, forward: &dyn Fn() -> Result<Tensor>) -> Result<Found> {
    RECOMPUTES.set(recomputes);
    let ys = forward();
    RECOMPUTES.set(false);
    let ys = ys?;
    // The blocks inside of a block are computed again as such.
    RECOMPUTES.set(recomputes);
    let grads = gradients(vars, &weighted_sum(&ys.tanh()?)?);
    RECOMPUTES.set(false);
    Ok((values(&ys)?, grads?))
}

/// Outputs and gradients with and without.
fn check(name: &str, vars: &VarMap, forward: &dyn Fn() -> Result<Tensor>) -> Result<()> {
    let (expected_ys, expected) = found(false, vars, forward)?;
    let (ys, grads) = found(true, vars, forward)?;
    for (y, expected) in ys.iter().zip(&expected_ys) {
        assert!((y - expected).abs() < 1e-12, "{name}: {y}, without {expected}");
    }
    assert!(!expected.is_empty());
    for (var, expected) in &expected {
        let error = relative_error(&grads[var], expected)?;
        assert!(error < 1e-11, "{name} {var}: {error:e}");
        // A recurrent embedding starts from a state of zeros.
        let flows = values(expected)?.iter().any(|grad| *grad != 0.) || var.ends_with("weight_hh");
        assert!(flows, "{name}: no gradient flows to {var}");
    }
    Ok(())
}

#[test]
fn ordinary_models() -> Result<()> {
    let (vars, vb) = variables(1, DType::F64);
    let net = Net::new(vb)?;
    check("ordinary", &vars, &|| net.forward(&ids()?))
}

#[test]
fn generated_weights_of_one_set_and_of_several() -> Result<()> {
    let (vars, vb) = variables(1, DType::F64);
    let hyper = Static::new(vb)?;
    check("static", &vars, &|| hyper.forward(&ids()?))?;
    for sets in [1, 2, 4] {
        let condition = input(&[sets, 3], 5, DType::F64)?;
        let (vars, vb) = variables(2, DType::F64);
        let hyper = Dynamic::new(vb)?;
        let params = || hyper.generate_params(&condition);
        check("dynamic", &vars, &|| params()?.forward(&ids()?))?;
        let (vars, vb) = variables(3, DType::F64);
        let hyper = Scaled::new(vb)?;
        let params = || hyper.generate_params(&condition);
        check("scaled", &vars, &|| params()?.forward(&ids()?))?;
    }
    Ok(())
}

/// Generated once, for two forward passes and with a loss that takes weights besides.
#[test]
fn gradients_of_several_passes_add_up() -> Result<()> {
    let (vars, vb) = variables(1, DType::F64);
    let hyper = Static::new(vb)?;
    check("twice", &vars, &|| {
        let params = hyper.generate_params()?;
        let ys = (params.forward(&ids()?)? + params.forward(&ids()?)?.sin()?)?;
        ys.broadcast_add(&params.flat()?.sqr()?.mean_all()?)
    })
}

#[test]
fn adapters_and_trained_variables() -> Result<()> {
    let (_pretrained, base) = variables(1, DType::F64);
    Net::new(base.clone())?;
    let (vars, vb) = variables(2, DType::F64);
    let hyper = Adapted::new_from(vb, base.clone())?;
    away_from_zero(&vars)?;
    check("adapted", &vars, &|| hyper.forward(&ids()?))?;
    let (vars, vb) = variables(3, DType::F64);
    let hyper = AdaptedByCondition::new_from(vb, base)?;
    away_from_zero(&vars)?;
    let condition = input(&[2, 3], 5, DType::F64)?;
    check("adapted sets", &vars, &|| hyper.generate_params(&condition)?.forward(&ids()?))
}

/// Where adapters start at nothing, half of their gradients are nothing.
fn away_from_zero(vars: &VarMap) -> Result<()> {
    for (seed, var) in (1..).zip(by_name(vars).into_values()) {
        var.set(&(var.as_tensor() + (input(var.dims(), seed, DType::F64)? * 0.3)?)?)?;
    }
    Ok(())
}

/// In f32 and in bf16, where parameters are views.
#[test]
fn other_dtypes() -> Result<()> {
    let gradient = |dtype: DType, recomputes| {
        let (vars, vb) = variables(1, DType::F32);
        let hyper = Static::new(vb)?.with_target_dtype(dtype)?;
        found(recomputes, &vars, &|| hyper.forward(&ids()?)?.to_dtype(DType::F32))
    };
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::BF16, 2e-2)] {
        let (_, expected) = gradient(dtype, false)?;
        for (name, grad) in gradient(dtype, true)?.1 {
            let error = relative_error(&grad, &expected[&name])?;
            assert!(error < tolerance, "{dtype:?} {name}: {error:e}");
        }
    }
    Ok(())
}

/// Views again, with several sets and convolutions and recurrent layers.
#[test]
fn other_layers() -> Result<()> {
    #[derive(HyperTarget)]
    struct Layers {
        #[hyper(conv2d(2, 3, 3, padding = 1))]
        conv: Conv2d,
        #[hyper(gru(3, 4))]
        gru: GRU,
    }

    impl Module for Layers {
        fn forward(&self, xs: &Tensor) -> Result<Tensor> {
            let (conv, gru) = (self.conv.clone(), self.gru.clone());
            let xs = block(std::slice::from_ref(xs), move |xs| conv.forward(&xs[0])?.tanh())?;
            block(&[xs], move |xs| {
                let steps = xs[0].flatten_from(2)?.transpose(1, 2)?.contiguous()?;
                Tensor::stack(
                    &gru.seq(&steps)?.iter().map(|s| s.h().clone()).collect::<Vec<_>>(),
                    1,
                )
            })
        }
    }

    hypernetwork! {
        struct HyperLayers for Layers {
            embedding: encoder(3, [5], tanh, 7, 3),
            generator: linear,
            mode: dynamic,
        }
    }

    let xs = input(&[4, 2, 2, 3], 7, DType::F64)?;
    let (vars, vb) = variables(1, DType::F64);
    let net = Layers::new(vb)?;
    check("ordinary", &vars, &|| net.forward(&xs))?;
    for sets in [1, 2] {
        let (vars, vb) = variables(1, DType::F64);
        let hyper = HyperLayers::new(vb)?;
        let condition = input(&[sets, 3], 5, DType::F64)?;
        check("generated", &vars, &|| hyper.generate_params(&condition)?.forward(&xs))?;
    }
    Ok(())
}

/// Inputs that are variables, that have no gradient, that are integers, and that the block does not use.
#[test]
fn inputs_of_all_kinds() -> Result<()> {
    let var = |seed| Var::from_tensor(&input(&[3, 4], seed, DType::F64)?);
    let (a, b, unused) = (var(1)?, var(2)?, var(3)?);
    let hidden = (a.as_tensor() * 2.)?;
    let scaled = (unused.as_tensor() * 2.)?;
    let picks = Tensor::new(&[2u32, 0, 1], device())?;
    let inputs = [
        hidden.clone(),
        picks.clone(),
        b.as_tensor().clone(),
        input(&[3, 4], 4, DType::F64)?,
        scaled,
    ];
    let run = |xs: &[Tensor]| (xs[0].index_select(&xs[1], 0)? * &xs[2])? * xs[3].sin()?;
    let expected = weighted_sum(&run(&inputs)?)?.backward()?;
    let found = weighted_sum(&recompute(&inputs, run)?)?.backward()?;
    for var in [&a, &b] {
        assert_eq!(values(found.get(var).unwrap())?, values(expected.get(var).unwrap())?);
    }
    assert!(values(found.get(&unused).unwrap())?.iter().all(|grad| *grad == 0.));
    // Given back as it is, and shared with whoever has it.
    let same = recompute(std::slice::from_ref(&hidden), |xs| Ok(xs[0].clone()))?;
    assert_eq!(values(&same)?, values(&hidden)?);
    assert_eq!(values(same.sum_all()?.backward()?.get(&a).unwrap())?, [2.; 12]);
    Ok(())
}

/// Without gradients nothing is kept, and nothing is computed again.
#[test]
fn without_gradients_it_is_the_block() -> Result<()> {
    let xs = input(&[2, 2], 1, DType::F64)?;
    let ys = recompute(std::slice::from_ref(&xs), |xs| xs[0].sqr())?;
    assert!(!ys.track_op());
    assert_eq!(values(&ys)?, values(&xs.sqr()?)?);
    Ok(())
}

#[test]
fn gradients_that_the_closure_owns_are_refused() -> Result<()> {
    let (vars, vb) = variables(1, DType::F64);
    let net = Block::new(vb)?;
    let xs = input(&[2, 4], 1, DType::F64)?;
    let expected = "recompute: the block's output has a gradient that is neither of an input nor of a parameter of a layer of hypernn::nn: the block uses a tensor with a gradient that it owns, weights that a layer's accessor gives, or a layer of candle's own, expected such among the inputs";
    let owned = by_name(&vars)["norm.weight"].as_tensor().clone();
    let by_owned = owned.clone();
    let found = recompute(std::slice::from_ref(&xs), move |xs| xs[0].broadcast_mul(&by_owned));
    assert_eq!(message(found), expected);
    let up = net.up.clone();
    assert_eq!(
        message(recompute(std::slice::from_ref(&xs), move |xs| xs[0].matmul(&up.weight().t()?))),
        expected
    );
    let candle_s = candle_nn::Linear::new(net.up.weight().clone(), None);
    assert_eq!(
        message(recompute(std::slice::from_ref(&xs), move |xs| candle_s.forward(&xs[0]))),
        expected
    );
    // What it says to do.
    let ys = recompute(&[xs, owned], |xs| xs[0].broadcast_mul(&xs[1]))?;
    assert!(ys.sum_all()?.backward()?.get(&by_name(&vars)["norm.weight"]).is_some());
    Ok(())
}

const OTHER: &str = "recompute: the block gave another output when it was computed again for the backward, expected the same: it must not depend on chance, as dropout does, nor on what changes between forward and backward";

#[test]
fn blocks_that_depend_on_chance_are_refused() -> Result<()> {
    let xs = Var::from_tensor(&input(&[16, 16], 1, DType::F32)?)?;
    let ys = recompute(&[xs.as_tensor().clone()], |xs| candle_nn::ops::dropout(&xs[0], 0.5))?;
    assert_eq!(message(ys.sum_all()?.backward()), OTHER);
    let ys = recompute(&[xs.as_tensor().clone()], |xs| xs[0].mul(&xs[0].randn_like(0., 1.)?))?;
    assert_eq!(message(ys.sum_all()?.backward()), OTHER);
    Ok(())
}

#[test]
fn variables_that_moved_are_refused() -> Result<()> {
    let (vars, vb) = variables(1, DType::F32);
    let net = Block::new(vb)?;
    let xs = input(&[2, 4], 1, DType::F32)?;
    let ys = recompute(&[xs], move |xs| net.forward(&xs[0]))?;
    let weight = by_name(&vars)["up.weight"].clone();
    weight.set(&(weight.as_tensor() * 2.)?)?;
    assert_eq!(message(ys.sum_all()?.backward()), OTHER);
    // A pass that failed leaves nothing behind.
    weight.set(&(weight.as_tensor() * 0.5)?)?;
    assert!(ys.sum_all()?.backward()?.get(&weight).is_some());
    Ok(())
}

/// The batch's own statistics are the same both times; the running ones move once.
#[test]
fn running_statistics_move_once() -> Result<()> {
    let moved = |recomputes| {
        let (vars, vb) = variables(1, DType::F64);
        let norm = hypernn::nn::batch_norm(3, 1e-5, vb)?;
        let xs = Var::from_tensor(&input(&[5, 3], 1, DType::F64)?)?;
        RECOMPUTES.set(recomputes);
        let train = norm.clone();
        let ys =
            block(&[xs.as_tensor().clone()], move |xs| BatchNorm::forward_t(&train, &xs[0], true));
        RECOMPUTES.set(false);
        let grads = weighted_sum(&ys?)?.backward()?;
        let grad = values(grads.get(&xs).unwrap())?;
        let running = ["running_mean", "running_var"].map(|name| values(&by_name(&vars)[name]));
        let [mean, var] = running;
        Ok::<_, candle_core::Error>((grad, mean?, var?))
    };
    assert_eq!(moved(true)?, moved(false)?);
    Ok(())
}

/// A block's error is that of its own, and the next one is as good as before.
#[test]
fn errors_leave_nothing_behind() -> Result<()> {
    let (vars, vb) = variables(1, DType::F64);
    let net = Block::new(vb)?;
    let xs = input(&[2, 4], 1, DType::F64)?;
    let wrong = net.clone();
    let expected = "rms_norm: the input has width 3 (shape [2, 3]), the layer takes 4";
    let found = recompute(&[xs.narrow(1, 0, 3)?], move |xs| wrong.forward(&xs[0]));
    assert_eq!(message(found), expected);
    let direct = net.forward(&xs)?;
    assert!(direct.track_op());
    check("after an error", &vars, &|| {
        let net = net.clone();
        block(std::slice::from_ref(&xs), move |xs| net.forward(&xs[0]))
    })
}
