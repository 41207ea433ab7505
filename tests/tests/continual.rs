//! The output regulariser: its value by hand, its gradient, its files and its errors.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarMap;
use hypernn::continual::OutputRegularizer;
use hypernn::nn::{Linear, Optimizer, SGD};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::{device, input, message, values, variables};

#[derive(HyperTarget)]
#[hyper(sequential = [first, tanh, second], input = 3)]
struct Net {
    #[hyper(linear(3, 4))]
    first: Linear,
    #[hyper(linear(4, 2))]
    second: Linear,
}

#[derive(HyperTarget)]
#[hyper(sequential = [only], input = 3)]
struct Other {
    #[hyper(linear(3, 2))]
    only: Linear,
}

hypernetwork! {
    struct HyperNet for Net { embedding: tasks(3, 7, 2), generator: linear, mode: dynamic }
}

hypernetwork! {
    struct HyperVector for Net { embedding: encoder(5, [6], tanh, 7, 2), generator: linear, mode: dynamic }
}

hypernetwork! {
    struct HyperOther for Other { embedding: tasks(3, 4, 2), generator: linear, mode: dynamic }
}

fn tasks() -> Result<(VarMap, HyperNet)> {
    let (vars, vb) = variables(3, DType::F32);
    Ok((vars, HyperNet::new(vb)?))
}

fn task(number: u32) -> Result<Tensor> {
    Tensor::new(number, device())
}

fn remembering(beta: f64, hyper: &HyperNet, numbers: &[u32]) -> Result<OutputRegularizer> {
    let mut old = OutputRegularizer::new(beta)?;
    for &number in numbers {
        old.remember(hyper, &task(number)?)?;
    }
    Ok(old)
}

/// Moves every variable.
fn disturb(vars: &VarMap) -> Result<()> {
    for (index, var) in vars.all_vars().iter().enumerate() {
        var.set(&(var.affine(1.1, 0.01 * index as f64))?)?;
    }
    Ok(())
}

fn generated(hyper: &HyperNet, number: u32) -> Result<Vec<f64>> {
    values(&hyper.generate_params(&task(number)?)?.flat()?)
}

fn distance(now: &[f64], then: &[f64]) -> f64 {
    now.iter().zip(then).map(|(now, then)| (now - then).powi(2)).sum()
}

fn scalar(tensor: &Tensor) -> Result<f64> {
    tensor.to_dtype(DType::F64)?.to_scalar()
}

#[test]
fn the_penalty_is_the_paper_s() -> Result<()> {
    let (vars, hyper) = tasks()?;
    let old = remembering(3., &hyper, &[0, 2])?;
    assert_eq!(scalar(&old.penalty(&hyper)?)?, 0.);

    let then = [generated(&hyper, 0)?, generated(&hyper, 2)?];
    disturb(&vars)?;
    let now = [generated(&hyper, 0)?, generated(&hyper, 2)?];
    let expected = 3. / 2. * (distance(&now[0], &then[0]) + distance(&now[1], &then[1]));
    let found = scalar(&old.penalty(&hyper)?)?;
    assert!(expected > 0.1 && (found / expected - 1.).abs() < 1e-5, "{found}, {expected}");
    Ok(())
}

#[test]
fn without_old_tasks_it_is_zero() -> Result<()> {
    let (_vars, hyper) = tasks()?;
    let old = OutputRegularizer::new(1.)?;
    assert!(old.is_empty());
    assert_eq!(scalar(&old.penalty(&hyper)?)?, 0.);
    assert_eq!(scalar(&old.penalty_of_some(&hyper, 2, 7)?)?, 0.);
    Ok(())
}

/// A new task's loss moves all that is generated; with the penalty, old tasks move much less.
#[test]
fn old_tasks_are_held_while_a_new_one_is_learned() -> Result<()> {
    let learn = |beta: f64| -> Result<(f64, f64)> {
        let (vars, hyper) = tasks()?;
        let old = remembering(beta, &hyper, &[0, 1])?;
        let then = generated(&hyper, 0)?;
        let xs = input(&[6, 3], 5, DType::F32)?;
        let mut optimizer = SGD::new(vars.all_vars(), 0.02)?;
        let loss = || (hyper.generate_params(&task(2)?)?.forward(&xs)? - 1.)?.sqr()?.mean_all();
        for _ in 0..150 {
            optimizer.backward_step(&(loss()? + old.penalty(&hyper)?)?)?;
        }
        Ok((scalar(&loss()?)?, distance(&generated(&hyper, 0)?, &then)))
    };
    let ((free_loss, free), (held_loss, held)) = (learn(0.)?, learn(1.)?);
    assert!(held < 0.1 * free, "{held}, {free}");
    assert!(free_loss < 0.3 && held_loss < 0.3, "{free_loss}, {held_loss}");
    Ok(())
}

#[test]
fn some_tasks_are_drawn_by_the_step() -> Result<()> {
    let (vars, hyper) = tasks()?;
    let old = remembering(1., &hyper, &[0, 1, 2])?;
    disturb(&vars)?;
    let some = |count, draw| scalar(&old.penalty_of_some(&hyper, count, draw)?);
    let one = |number| scalar(&remember_before(number)?.penalty(&hyper)?);
    let each = [one(0)?, one(1)?, one(2)?];
    let drawn = (0..30).map(|draw| some(1, draw)).collect::<Result<Vec<_>>>()?;
    let is = |a: f64, b: f64| (a / b - 1.).abs() < 1e-5;
    for wanted in each {
        assert!(drawn.iter().any(|&found| is(found, wanted)), "{wanted} in {drawn:?}");
    }
    assert!(drawn.iter().all(|&found| each.iter().any(|&wanted| is(found, wanted))));
    assert_eq!(some(2, 5)?, some(2, 5)?);
    // The sum's order is that of the draw.
    assert!(is(some(9, 5)?, scalar(&old.penalty(&hyper)?)?));
    Ok(())
}

/// One task of a network as it was before `disturb`.
fn remember_before(number: u32) -> Result<OutputRegularizer> {
    let (_vars, hyper) = tasks()?;
    remembering(1., &hyper, &[number])
}

#[test]
fn a_task_that_is_remembered_again_is_replaced() -> Result<()> {
    let (vars, hyper) = tasks()?;
    let mut old = remembering(1., &hyper, &[0, 1])?;
    disturb(&vars)?;
    old.remember(&hyper, &task(0)?)?;
    old.remember(&hyper, &task(1)?)?;
    assert_eq!(old.len(), 2);
    assert_eq!(scalar(&old.penalty(&hyper)?)?, 0.);
    Ok(())
}

#[test]
fn conditions_may_be_vectors() -> Result<()> {
    let (vars, vb) = variables(4, DType::F64);
    let hyper = HyperVector::new(vb)?;
    let mut old = OutputRegularizer::new(1.)?;
    for seed in 0..2 {
        let condition = input(&[5], seed, DType::F64)?;
        old.remember(&hyper, &condition)?;
    }
    disturb(&vars)?;
    let penalty = old.penalty(&hyper)?;
    assert!(old.len() == 2 && penalty.dtype() == DType::F64 && scalar(&penalty)? > 0.);
    Ok(())
}

/// The penalty has the variables' dtype, so that it can be added to a loss in it.
#[test]
fn the_target_may_have_a_dtype_of_its_own() -> Result<()> {
    let (vars, vb) = variables(3, DType::F32);
    let hyper = HyperNet::new(vb)?.with_target_dtype(DType::BF16)?;
    let old = remembering(1., &hyper, &[0])?;
    disturb(&vars)?;
    let penalty = old.penalty(&hyper)?;
    assert!(penalty.dtype() == DType::F32 && scalar(&penalty)? > 0.);
    let grads = penalty.backward()?;
    let moved = vars.all_vars().iter().filter(|var| grads.get(var).is_some()).count();
    // The task's embeddings, the generator's weight and bias.
    assert_eq!(moved, 3);
    Ok(())
}

#[test]
fn files_bring_the_tasks_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("old.safetensors");
    let (vars, hyper) = tasks()?;
    let old = remembering(2., &hyper, &[1, 0])?;
    disturb(&vars)?;
    old.save(&path)?;
    let mut loaded = OutputRegularizer::new(2.)?;
    loaded.load(&path, device())?;
    let penalty = |old: &OutputRegularizer| scalar(&old.penalty(&hyper)?);
    assert!(loaded.len() == 2 && penalty(&old)? > 0.);
    assert_eq!(penalty(&loaded)?, penalty(&old)?);

    let other = Tensor::zeros(2, DType::F32, device())?;
    candle_core::safetensors::save(&[("bias", other)].into(), &path)?;
    let err = message(loaded.load(&path, device()));
    assert!(err.contains("old.safetensors: no `0.condition`"), "{err}");
    assert_eq!(penalty(&loaded)?, penalty(&old)?);
    Ok(())
}

/// A file of integers, and of another dtype than the hypernetwork's.
#[test]
fn files_of_other_dtypes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("old.safetensors");
    let (_vars, hyper) = tasks()?;
    let write = |dtype| {
        let values = Tensor::zeros(26, dtype, &Device::Cpu)?;
        let condition = Tensor::new(0u32, &Device::Cpu)?;
        let tensors = [("0.condition".to_owned(), condition), ("0.values".to_owned(), values)];
        candle_core::safetensors::save(&tensors.into(), &path)
    };
    let mut old = OutputRegularizer::new(1.)?;
    write(DType::U8)?;
    let err = message(old.load(&path, device()));
    assert!(err.ends_with("task 0 has values of U8, expected a floating dtype"), "{err}");
    write(DType::F64)?;
    old.load(&path, device())?;
    assert_eq!(
        message(old.penalty(&hyper)),
        "the remembered tasks have values of F64, but this hypernetwork generates F32: they were remembered for another"
    );
    Ok(())
}

#[test]
fn mistakes_are_named() -> Result<()> {
    let (_vars, hyper) = tasks()?;
    let mut old = remembering(1., &hyper, &[0])?;
    let err = message(OutputRegularizer::new(-1.));
    assert!(err.contains("beta is -1, expected a number from 0 on"), "{err}");
    let several = Tensor::new(&[0u32, 1], device())?;
    let err = message(old.remember(&hyper, &several));
    assert!(
        err.contains("one task is remembered at a time, but the condition is that of 2"),
        "{err}"
    );
    let err = message(old.remember(&hyper, &Tensor::new(1i64, device())?));
    assert!(
        err.contains("the condition is I64 of shape [], but those remembered are U32"),
        "{err}"
    );
    let err = message(old.penalty_of_some(&hyper, 0, 1));
    assert!(err.contains("`count` is 0, expected 1 or more"), "{err}");
    let err = message(old.remember(&hyper, &task(9)?));
    assert!(err.contains("there is no task 9"), "{err}");
    let other = HyperOther::new(variables(1, DType::F32).1)?;
    let err = message(old.penalty(&other));
    assert!(err.contains("has 26 generated values, but this hypernetwork generates 8"), "{err}");
    Ok(())
}
