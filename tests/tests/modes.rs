//! Training and evaluation: dropout, batch statistics, and running statistics for each weight set.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Module, ModuleT, Result, Tensor};
use candle_nn::{Dropout, VarMap};
use hypernn::generated::Buffers;
use hypernn::nn::{BatchNorm, Linear};
use hypernn::{GeneratedParams, HyperTarget, hypernetwork};
use hypernn_tests::{by_name, device, input, message, relative_error, values, variables};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(3, 4))]
    linear: Linear,
    #[hyper(batch_norm(4, momentum = 0.5))]
    norm: BatchNorm,
    #[hyper(value = Dropout::new(0.5))]
    dropout: Dropout,
    #[hyper(linear(4, 2))]
    last: Linear,
}

impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let xs = self.norm.forward_t(&self.linear.forward(xs)?, train)?;
        self.last.forward(&self.dropout.forward_t(&xs, train)?)
    }
}

hypernetwork! {
    struct HyperNet for Net { embedding: encoder(3, [4], tanh, 7, 3), generator: linear, mode: dynamic }
}

hypernetwork! {
    struct StaticNet for Net { embedding: table(7, 3), generator: linear, mode: static }
}

fn net() -> Result<(VarMap, HyperNet)> {
    let (vars, vb) = variables(1, DType::F64);
    Ok((vars, HyperNet::new(vb)?))
}

fn means(vars: &VarMap) -> Result<Vec<f64>> {
    values(&by_name(vars)["buffers.norm.running_mean"])
}

/// Dropout draws anew in training alone; running statistics move in training alone.
#[test]
fn modes_reach_the_target() -> Result<()> {
    let (vars, vb) = variables(1, DType::F64);
    let hyper = StaticNet::new(vb)?;
    let xs = input(&[64, 3], 2, DType::F64)?;
    let eval = || values(&hyper.forward_t(&xs, false)?);
    assert_eq!(eval()?, eval()?);
    assert_eq!(means(&vars)?, [0.; 4]);
    let train = || values(&hyper.forward_t(&xs, true)?);
    assert_ne!(train()?, train()?);
    assert!(means(&vars)?.iter().all(|mean| *mean != 0.));
    Ok(())
}

/// A sequence with batches at each step.
#[test]
fn modes_reach_the_steps_of_a_sequence() -> Result<()> {
    let (vars, hyper) = net()?;
    let xs = input(&[4, 2, 3, 5], 2, DType::F64)?.transpose(2, 3)?.contiguous()?;
    let vectors = xs.narrow(2, 0, 1)?.squeeze(2)?;
    let state = hyper.zero_state(4)?;
    // One row per set has no statistics to train on.
    assert_eq!(
        message(hyper.run_t(&vectors, &state, true)),
        "batch_norm: 1 value per feature to train on (shape [4, 4]), expected at least 2"
    );
    let (whole, _) = hyper.run_t(&vectors, &state, false)?;
    let (first, state) = hyper.step_t(&vectors.get_on_dim(1, 0)?, &state, false)?;
    let (second, _) = hyper.step_t(&vectors.get_on_dim(1, 1)?, &state, false)?;
    assert_eq!(values(&whole)?, values(&Tensor::stack(&[first, second], 1)?)?);
    assert_eq!(means(&vars)?, [0.; 4]);
    Ok(())
}

/// The parameters of three sets, and a batch of four rows each.
fn three(hyper: &HyperNet) -> Result<(GeneratedParams<Net>, Tensor)> {
    let params = hyper.generate_params(&input(&[3, 3], 5, DType::F64)?)?;
    Ok((params, input(&[12, 3], 6, DType::F64)?))
}

fn buffers(hyper: &HyperNet, sets: usize) -> Result<(VarMap, Buffers)> {
    let (vars, vb) = variables(0, DType::F64);
    Ok((vars, hyper.buffers(sets, vb)?))
}

/// The statistics of a set are those that its rows alone would give, in training and behind it.
#[test]
fn statistics_of_each_set() -> Result<()> {
    let (vars, hyper) = net()?;
    let ((params, xs), (own, buffers)) = (three(&hyper)?, buffers(&hyper, 3)?);
    let with = params.with_buffers(&buffers)?;
    for _ in 0..2 {
        with.forward_t(&xs, true)?;
    }
    let whole = with.forward_t(&xs, false)?;
    for set in 0..3 {
        let rows = xs.narrow(0, 4 * set, 4)?;
        let alone = params.set(set)?.unpack()?;
        let (hidden, mut mean) =
            (alone.linear.forward(&rows)?, Tensor::zeros(4, DType::F64, device())?);
        for _ in 0..2 {
            mean = ((mean * 0.5)? + (hidden.mean(0)? * 0.5)?)?;
        }
        let (name, found) = buffers.named().next().unwrap();
        assert_eq!(name, "norm.running_mean");
        assert!(relative_error(&found.get(set)?, &mean)? < 1e-12);
        // Evaluation uses them: the set by itself, with its copy.
        let single = with.set(set)?.forward_t(&rows, false)?;
        assert!(relative_error(&whole.narrow(0, 4 * set, 4)?, &single)? < 1e-12);
    }
    // Those that all sets share have not moved; the others are variables of their own map.
    assert_eq!(means(&vars)?, [0.; 4]);
    assert_eq!(
        by_name(&own).into_keys().collect::<Vec<_>>(),
        ["norm.running_mean", "norm.running_var"]
    );
    Ok(())
}

/// They start as those that all sets share, and come back from a file.
#[test]
fn statistics_have_a_start_and_a_file() -> Result<()> {
    let (_vars, hyper) = net()?;
    let (params, xs) = three(&hyper)?;
    params.forward_t(&xs, true)?;
    let (own, buffers) = buffers(&hyper, 3)?;
    let with = params.with_buffers(&buffers)?;
    let shared = values(&params.forward_t(&xs, false)?)?;
    assert_eq!(values(&with.forward_t(&xs, false)?)?, shared);
    with.forward_t(&xs, true)?;
    let trained = values(&with.forward_t(&xs, false)?)?;
    assert_ne!(trained, shared);

    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("statistics.safetensors");
    own.save(&path)?;
    let tensors = candle_core::safetensors::load(&path, device())?;
    let vb = candle_nn::VarBuilder::from_tensors(tensors, DType::F64, device());
    let again = params.with_buffers(&hyper.buffers(3, vb)?)?;
    assert_eq!(values(&again.forward_t(&xs, false)?)?, trained);
    Ok(())
}

#[derive(HyperTarget)]
struct Other {
    #[hyper(linear(3, 4))]
    linear: Linear,
    #[hyper(batch_norm(4))]
    other: BatchNorm,
    #[hyper(tensor([4, 2], sets = true))]
    last: Tensor,
}

hypernetwork! {
    struct HyperOther for Other {
        embedding: encoder(3, [4], tanh, 8, 3), generator: linear, mode: dynamic,
    }
}

#[derive(HyperTarget)]
struct Candles {
    #[hyper(linear(3, 4))]
    linear: Linear,
    #[hyper(batch_norm(4))]
    norm: candle_nn::BatchNorm,
    #[hyper(tensor([4, 2]))]
    last: Tensor,
}

hypernetwork! {
    struct HyperCandles for Candles {
        embedding: encoder(3, [4], tanh, 8, 3), generator: linear, mode: dynamic,
    }
}

#[test]
fn statistics_that_do_not_fit() -> Result<()> {
    let (_vars, hyper) = net()?;
    let (params, _) = three(&hyper)?;
    assert_eq!(message(buffers(&hyper, 0)), "buffers of 0 weight sets, expected at least 1");
    let (_own, two) = buffers(&hyper, 2)?;
    assert_eq!(
        message(params.with_buffers(&two)),
        "buffers of 2 weight sets for parameters of Net, of which there are 3: expected as many"
    );
    assert_eq!(
        message(params.set(0)?.with_buffers(&two)),
        "buffers of 2 weight sets for parameters of Net, of which there are one for every row: expected as many"
    );
    let condition = input(&[3, 3], 5, DType::F64)?;
    let (_own, three) = buffers(&hyper, 3)?;
    let other = HyperOther::new(variables(1, DType::F64).1)?.generate_params(&condition)?;
    assert_eq!(
        message(other.with_buffers(&three)),
        "these are not the buffers of Other: [\"norm.running_mean\", \"norm.running_var\"]"
    );
    let candles = HyperCandles::new(variables(1, DType::F64).1)?.generate_params(&condition)?;
    assert_eq!(
        message(candles.with_buffers(&three)),
        "layer `norm` of Candles computes with one set of weights at a time, so statistics of 3 sets can't be kept: take the layer from `hypernn::nn`"
    );
    Ok(())
}
