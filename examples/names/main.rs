//! Names, letter by letter, from a recurrent network whose weights are generated anew for each letter.
//!
//! `cargo run --release --example names`
//!
//! The setting is that of hyper-nn's names notebook.

mod corpus;
mod finish;
mod run;
mod sample;
mod train;

use anyhow::Result;
use candle_core::{D, DType, Tensor, Var};
use clap::Parser;
use corpus::{LETTERS, WIDTH};
use hypernn::nn::{GRU, GRUState, Linear, Module, RNN, VarMap, ops, relu};
use hypernn::{HyperTarget, hypernetwork};
use run::{Args, Run};
use train::{Entrant, Speller, train};

/// The target, as in the notebook: the next letter from language, letter and state.
#[derive(HyperTarget)]
pub struct NextLetter {
    #[hyper(gru(WIDTH, 128))]
    rnn: GRU,
    #[hyper([linear(128, 256), linear(256, 256), linear(256, LETTERS)])]
    layers: [Linear; 3],
}

impl NextLetter {
    /// Log-probabilities `[1, LETTERS]`, and the state after this letter.
    fn step(&self, xs: &Tensor, state: &GRUState) -> candle_core::Result<(Tensor, GRUState)> {
        let state = self.rnn.step(xs, state)?;
        let [first, second, last] = &self.layers;
        let hidden = relu(&second.forward(&relu(&first.forward(&state.h)?)?)?)?;
        Ok((ops::log_softmax(&last.forward(&hidden)?, D::Minus1)?, state))
    }
}

hypernetwork! {
    /// The notebook's hypernetwork: a table scaled by the state of an RNN cell that reads along.
    pub struct HyperNextLetter for NextLetter {
        embedding: rnn(WIDTH, 64, 4),
        generator: linear,
        mode: dynamic,
    }
}

fn start(xs: &Tensor) -> candle_core::Result<GRUState> {
    Ok(GRUState { h: Tensor::zeros((1, 128), DType::F32, xs.device())? })
}

fn letter(xs: &Tensor, at: usize) -> candle_core::Result<Tensor> {
    xs.narrow(1, at, 1)?.squeeze(1)
}

impl Speller for HyperNextLetter {
    fn spell(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let step = |net: &NextLetter, at, state: GRUState| net.step(&letter(xs, at)?, &state);
        let (outputs, _, _) = self.scan(xs, &self.zero_state(1)?, start(xs)?, step)?;
        outputs.squeeze(0)
    }

    fn trained(&self, _vars: &VarMap) -> Vec<Var> {
        self.trainable()
    }
}

impl Speller for NextLetter {
    fn spell(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let mut state = start(xs)?;
        let mut outputs = Vec::new();
        for at in 0..xs.dim(1)? {
            let (output, next) = self.step(&letter(xs, at)?, &state)?;
            outputs.push(output);
            state = next;
        }
        Tensor::cat(&outputs, 0)
    }

    fn trained(&self, vars: &VarMap) -> Vec<Var> {
        vars.all_vars()
    }
}

/// Trains a network of each seed; the first of them, and all outcomes.
fn all<N: Speller>(run: &Run, entrant: &Entrant<N>) -> Result<(N, finish::Outcomes)> {
    let (first, outcome) = train(run, entrant, run.args.run.common.seed)?;
    let mut outcomes = vec![outcome];
    for seed in run.seeds().skip(1) {
        outcomes.push(train(run, entrant, seed)?.1);
    }
    Ok((first, outcomes))
}

fn main() -> Result<()> {
    let run = Run::new(Args::parse())?;
    println!("{}", finish::introduction(&run));
    let learning_rate = run.args.learning_rate;
    let hyper = Entrant { name: "hypernetwork", new: HyperNextLetter::new, learning_rate };
    let (hyper, outcomes) = all(&run, &hyper)?;
    let learning_rate = run.args.plain_learning_rate;
    let plain = Entrant { name: "plain network", new: |vb| NextLetter::new(vb), learning_rate };
    let (_, plain_outcomes) = all(&run, &plain)?;
    finish::finish(&run, &hyper, &outcomes, &plain_outcomes)
}
