//! One name at a time.

use anyhow::Result;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use hypernn::HyperTarget;
use hypernn::nn::{AdamW, Optimizer, ParamsAdamW, VarMap};
use hypernn::seeded;
use hypernn_examples::random::rng_of;

use crate::corpus::{inputs, next_letters};
use crate::run::Run;
use crate::{HyperNextLetter, NextLetter, Speller};

const WINDOW: usize = 500;

pub fn hyper(run: &Run, seed: u64) -> Result<(f64, f64)> {
    let vars = VarMap::new();
    let net = HyperNextLetter::new(seeded::var_builder(&vars, seed, DType::F32, &Device::Cpu))?;
    train(run, seed, &vars, &net, run.args.learning_rate)
}

pub fn plain(run: &Run, seed: u64) -> Result<(f64, f64)> {
    let vars = VarMap::new();
    let net = NextLetter::new(seeded::var_builder(&vars, seed, DType::F32, &Device::Cpu))?;
    train(run, seed, &vars, &net, run.args.plain_learning_rate)
}

fn sorted(vars: &VarMap) -> Vec<Var> {
    let data = vars.data().lock().unwrap();
    let mut named: Vec<_> = data.iter().collect();
    named.sort_by_key(|(name, _)| name.as_str());
    named.into_iter().map(|(_, var)| var.clone()).collect()
}

fn train(run: &Run, seed: u64, vars: &VarMap, net: &impl Speller, lr: f64) -> Result<(f64, f64)> {
    let vars = sorted(vars);
    let params = ParamsAdamW { lr, weight_decay: 0., ..Default::default() };
    let mut optimizer = AdamW::new(vars.clone(), params)?;
    let mut losses = Vec::new();
    for step in 0..run.args.count {
        let (language, name) = run.corpus.draw(&mut rng_of([seed, 0, step as u64, 0]));
        let loss = loss(net, language, name)?;
        let mut grads = loss.backward()?;
        clip(&mut grads, &vars, 10.)?;
        optimizer.step(&grads)?;
        losses.push(f64::from(loss.to_scalar::<f32>()?) / name.len() as f64);
    }
    let window = &losses[losses.len() - WINDOW.min(losses.len())..];
    let mut means = Vec::new();
    for (number, language) in run.corpus.0.iter().enumerate() {
        let mut sum = 0.;
        for name in &language.held_out {
            sum += f64::from(loss(net, number, name)?.to_scalar::<f32>()?) / name.len() as f64;
        }
        means.push(sum / language.held_out.len() as f64);
    }
    Ok((
        window.iter().sum::<f64>() / window.len() as f64,
        means.iter().sum::<f64>() / means.len() as f64,
    ))
}

/// The sum over letters of what the name costs.
fn loss(net: &impl Speller, language: usize, name: &[u32]) -> Result<Tensor> {
    let all = net.spell(&inputs(language, name)?)?;
    Ok(all.gather(&next_letters(name)?, 1)?.sum_all()?.neg()?)
}

/// Scales all gradients so that their norm is at most `limit`.
fn clip(grads: &mut GradStore, vars: &[Var], limit: f64) -> Result<()> {
    let mut squares = 0.;
    for grad in vars.iter().filter_map(|var| grads.get(var)) {
        squares += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let scale = limit / squares.sqrt();
    if scale >= 1. {
        return Ok(());
    }
    for var in vars {
        if let Some(grad) = grads.remove(var) {
            grads.insert(var, (grad * scale)?);
        }
    }
    Ok(())
}
