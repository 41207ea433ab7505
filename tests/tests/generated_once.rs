//! Parameters that are generated once: what is kept is what the user keeps, and nothing else.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Result, Tensor};
use hypernn::nn::{AdamW, Linear, Module, Optimizer};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::{by_name, input, values, variables};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(3, 8))]
    hidden: Linear,
    #[hyper(linear(8, 2))]
    out: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.hidden.forward(xs)?.tanh()?)
    }
}

hypernetwork! {
    struct Hyper for Net { embedding: table(5, 4), generator: linear, mode: static }
}

hypernetwork! {
    struct HyperOfTasks for Net { embedding: tasks(2, 5, 4), generator: linear, mode: dynamic }
}

fn assert_same(found: &Tensor, expected: &Tensor) -> Result<()> {
    assert_eq!(values(found)?, values(expected)?);
    Ok(())
}

fn assert_different(found: &Tensor, other: &Tensor) -> Result<()> {
    let pairs = values(found)?.into_iter().zip(values(other)?);
    assert!(pairs.clone().all(|(found, other)| found != other), "{:?}", pairs.collect::<Vec<_>>());
    Ok(())
}

/// Whoever moves the variables, the next generation follows them; what was generated stays.
#[test]
fn a_step_of_the_optimiser_is_seen_by_all_but_the_handle() -> Result<()> {
    let (vars, vb) = variables(0, DType::F32);
    let (hyper, xs) = (Hyper::new(vb)?, input(&[4, 3], 1, DType::F32)?);
    let params = hyper.generate_params()?;
    let (flat, ys) = (params.flat()?.copy()?, params.forward(&xs)?);
    assert_same(&ys, &hyper.forward(&xs)?)?;
    AdamW::new_lr(vars.all_vars(), 0.1)?.backward_step(&ys.sqr()?.mean_all()?)?;

    let fresh = hyper.generate_params()?;
    assert_different(&fresh.flat()?, &flat)?;
    assert_same(&hyper.forward(&xs)?, &fresh.forward(&xs)?)?;
    assert_same(&hyper.target()?.forward(&xs)?, &fresh.forward(&xs)?)?;
    assert_different(&hyper.forward(&xs)?, &ys)?;

    assert_same(&params.flat()?, &flat)?;
    assert_same(&params.forward(&xs)?, &ys)
}

/// Nobody tells the hypernetwork that a variable was set, or that a file was loaded.
#[test]
fn a_variable_that_is_set_is_seen_at_once() -> Result<()> {
    let (vars, vb) = variables(0, DType::F32);
    let (hyper, xs) = (Hyper::new(vb)?, input(&[4, 3], 1, DType::F32)?);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("hyper.safetensors");
    hyper.save(&path)?;
    let start = hyper.forward(&xs)?;
    let mut last = start.clone();
    for (_, var) in by_name(&vars).into_iter().filter(|(name, _)| !name.starts_with("base.")) {
        var.set(&(var.as_tensor() + 0.5)?)?;
        let next = hyper.forward(&xs)?;
        assert_different(&next, &last)?;
        last = next;
    }
    hyper.load(&path)?;
    assert_same(&hyper.forward(&xs)?, &start)
}

/// The same for a set per task.
#[test]
fn a_task_that_learns_is_generated_anew() -> Result<()> {
    let (vars, vb) = variables(0, DType::F32);
    let (hyper, xs) = (HyperOfTasks::new(vb)?, input(&[4, 3], 1, DType::F32)?);
    let task = Tensor::new(1u32, xs.device())?;
    let params = hyper.generate_params(&task)?;
    let ys = params.forward(&xs)?;
    AdamW::new_lr(vars.all_vars(), 0.1)?.backward_step(&ys.sqr()?.mean_all()?)?;
    let fresh = hyper.generate_params(&task)?;
    assert_different(&fresh.flat()?, &params.flat()?)?;
    assert_different(&fresh.forward(&xs)?, &ys)?;
    assert_same(&params.forward(&xs)?, &ys)
}
