//! Dynamic hypernetworks: one input, a set of weights per row, a sequence, and a convolution whose
//! samples have weights of their own.
//!
//! `cargo bench -p hypernn-benches --bench dynamic`, or one group alone: `-- batched_conv`;
//! `benches/peers/dynamic.py` runs it beside
//! hyper-nn and PyTorch.

#![allow(missing_docs, reason = "a benchmark")]

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Result, Tensor, Var};
use hypernn::nn::{
    AdamW, Conv2d, Conv2dConfig, GRU, GRUState, Linear, Module, Optimizer, ParamsAdamW, RNN,
    VarBuilder, VarMap, ops,
};
use hypernn::{HyperTarget, hypernetwork, seeded};
use hypernn_benches::{Case, HyperPolicy, measure};

const ROUNDS: usize = 31;

/// Letters of the alphabet of names, and languages.
const LETTERS: usize = 59;
const LANGUAGES: usize = 18;

/// The next letter of a name, from a language, a letter and a state.
#[derive(HyperTarget)]
struct NextLetter {
    #[hyper(gru(LANGUAGES + LETTERS, 128))]
    rnn: GRU,
    #[hyper([linear(128, 256), linear(256, 256), linear(256, LETTERS)])]
    layers: [Linear; 3],
}

impl NextLetter {
    fn step(&self, xs: &Tensor, state: &GRUState) -> Result<(Tensor, GRUState)> {
        let state = self.rnn.step(xs, state)?;
        let [first, second, last] = &self.layers;
        let hidden = second.forward(&first.forward(&state.h)?.relu()?)?.relu()?;
        Ok((ops::log_softmax(&last.forward(&hidden)?, D::Minus1)?, state))
    }
}

hypernetwork! {
    struct HyperNextLetter for NextLetter {
        embedding: rnn(LANGUAGES + LETTERS, 64, 4),
        generator: linear,
        mode: dynamic,
    }
}

fn variables(vars: &VarMap) -> VarBuilder<'static> {
    seeded::var_builder(vars, 0, DType::F32, &Device::Cpu)
}

/// A name of eight letters in one language, `[1, 8, …]`, and the letter after each.
fn name() -> Result<(Tensor, Tensor)> {
    let letters = [17u32, 0, 1, 8, 13, 14, 21, 8];
    let one_hot = |at: usize, width: usize| (0..width).map(move |i| f32::from(u8::from(i == at)));
    let rows = letters.iter().flat_map(|&letter| {
        one_hot(14, LANGUAGES).chain(one_hot(letter as usize, LETTERS)).collect::<Vec<_>>()
    });
    let rows: Vec<_> = rows.collect();
    let xs = Tensor::from_vec(rows, (1, letters.len(), LANGUAGES + LETTERS), &Device::Cpu)?;
    let next: Vec<_> = letters[1..].iter().copied().chain([LETTERS as u32 - 1]).collect();
    Ok((xs, Tensor::new(next, &Device::Cpu)?))
}

/// The loss over a name, weights generated anew for each letter.
fn name_loss(hyper: &HyperNextLetter, xs: &Tensor, next: &Tensor) -> Result<Tensor> {
    let start = GRUState { h: Tensor::zeros((1, 128), DType::F32, &Device::Cpu)? };
    let step = |net: &NextLetter, at: usize, state: GRUState| {
        net.step(&xs.narrow(1, at, 1)?.squeeze(1)?, &state)
    };
    let (outputs, _, _) = hyper.scan(xs, &hyper.zero_state(1)?, start, step)?;
    outputs.squeeze(0)?.gather(&next.unsqueeze(1)?, 1)?.sum_all()?.neg()
}

/// Scales all gradients so that their norm is at most `limit`.
fn clip(grads: &mut GradStore, vars: &[Var], limit: f64) -> Result<()> {
    let mut squares = 0.;
    for grad in vars.iter().filter_map(|var| grads.get(var)) {
        squares += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let scale = (limit / squares.sqrt()).min(1.);
    for var in vars {
        if let Some(grad) = grads.remove(var) {
            grads.insert(var, (grad * scale)?);
        }
    }
    Ok(())
}

fn report(group: &str, names: &[&str], cases: &[Case<'_>]) -> Result<()> {
    for (name, times) in names.iter().zip(measure(cases, ROUNDS)?) {
        let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let (median, fastest) = (milliseconds(times.median), milliseconds(times.fastest));
        println!("{group} {name}\t{median:.4}\t{fastest:.4}");
    }
    Ok(())
}

fn policies() -> Result<()> {
    let vars = VarMap::new();
    let hyper = HyperPolicy::new(variables(&vars))?;
    for rows in [1, 10, 64, 256] {
        let xs = Tensor::randn(0f32, 1., (rows, 8), &Device::Cpu)?;
        let cases = [
            Case::new(|| hyper.forward(&xs)),
            Case::new(|| hyper.forward(&xs)?.sum_all()?.backward()),
        ];
        report(&format!("dynamic B={rows}"), &["forward", "forward+backward"], &cases)?;
    }
    Ok(())
}

fn names() -> Result<()> {
    let vars = VarMap::new();
    let hyper = HyperNextLetter::new(variables(&vars))?;
    let (xs, next) = name()?;
    let params = ParamsAdamW { lr: 1e-4, weight_decay: 0., ..Default::default() };
    let optimizer = std::cell::RefCell::new(AdamW::new(vars.all_vars(), params)?);
    let cases = [
        Case::new(|| name_loss(&hyper, &xs, &next)),
        Case::new(|| name_loss(&hyper, &xs, &next)?.backward()),
        Case::new(|| {
            let mut grads = name_loss(&hyper, &xs, &next)?.backward()?;
            clip(&mut grads, &vars.all_vars(), 10.)?;
            optimizer.borrow_mut().step(&grads)
        }),
    ];
    report("dynamic_rnn", &["forward", "forward+backward", "training step"], &cases)
}

fn convolutions() -> Result<()> {
    let weight = Var::randn(0f32, 0.1, (32, 32, 16, 3, 3), &Device::Cpu)?;
    let bias = Var::randn(0f32, 0.1, (32, 32), &Device::Cpu)?;
    let config = Conv2dConfig { padding: 1, ..Default::default() };
    let conv = Conv2d::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()), config);
    let xs = Tensor::randn(0f32, 1., (32, 16, 28, 28), &Device::Cpu)?;
    let cases =
        [Case::new(|| conv.forward(&xs)), Case::new(|| conv.forward(&xs)?.sum_all()?.backward())];
    report("batched_conv", &["forward", "forward+backward"], &cases)
}

fn main() -> Result<()> {
    println!("case\tmedian ms\tfastest ms");
    let asked = std::env::args().nth(1).filter(|name| !name.starts_with('-'));
    let run = |name: &str, group: fn() -> Result<()>| match &asked {
        Some(asked) if asked != name => Ok(()),
        _ => group(),
    };
    run("dynamic", policies)?;
    run("dynamic_rnn", names)?;
    run("batched_conv", convolutions)
}
