//! Shared by the benchmarks: a target, and cases measured in turn, so that each meets the same machine.
//!
//! The harnesses in use measure one case after another, and on a machine with other work the first
//! minute is not like the second. Here every round runs every case once, and a ratio compares the same
//! rounds.

pub mod cases;

use std::time::{Duration, Instant};

use candle_core::{Result, Tensor};
use hypernn::nn::step::relu;
use hypernn::nn::{Linear, Module};
use hypernn::{HyperTarget, hypernetwork};

/// The target of the dynamic cases: 10,528 parameters.
#[derive(HyperTarget)]
pub struct Policy {
    #[hyper(linear(8, 256))]
    hidden: Linear,
    #[hyper(linear(256, 32))]
    out: Linear,
}

impl Module for Policy {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.hidden.forward(xs)?.apply(&relu)?)
    }
}

hypernetwork! {
    /// 32 embeddings of width 4, scaled by the hidden state of an RNN cell.
    pub struct HyperPolicy for Policy {
        embedding: rnn(8, 32, 4),
        generator: linear,
        mode: dynamic,
    }
}

/// The runs of a case in a round that count.
const RUNS: u32 = 4;

/// Something to measure.
pub struct Case<'a>(Box<dyn Fn() -> Result<()> + 'a>);

impl<'a> Case<'a> {
    /// A case; what `run` returns is dropped inside the measured time.
    pub fn new<T>(run: impl Fn() -> Result<T> + 'a) -> Self {
        Self(Box::new(move || run().map(drop)))
    }

    /// One run that does not count, so that memory is where a loop over this case alone would have
    /// it, then the mean of a few.
    fn time(&self) -> Result<Duration> {
        (self.0)()?;
        let start = Instant::now();
        for _ in 0..RUNS {
            (self.0)()?;
        }
        Ok(start.elapsed() / RUNS)
    }
}

/// The times of one case.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The median over all rounds.
    pub median: Duration,
    /// The fastest round: on a machine with other work, the one that met least of it.
    pub fastest: Duration,
}

impl Times {
    fn of(mut rounds: Vec<Duration>) -> Self {
        rounds.sort_unstable();
        Self { median: rounds[rounds.len() / 2], fastest: rounds[0] }
    }

    /// Median and fastest round as multiples of those of `base`.
    pub fn over(self, base: Self) -> (f64, f64) {
        let ratio = |time: Duration, base: Duration| time.as_secs_f64() / base.as_secs_f64();
        (ratio(self.median, base.median), ratio(self.fastest, base.fastest))
    }

    /// The head of the lines that [`print_line`](Self::print_line) prints.
    pub fn print_head(title: &str) {
        println!("{title:36}     median  ratio     fastest  ratio");
    }

    /// Prints both times, and as multiples of those of `base`.
    pub fn print_line(self, name: &str, base: Self) {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, fastest) = (milliseconds(self.median), milliseconds(self.fastest));
        let (of_median, of_fastest) = self.over(base);
        println!("  {name:34} {median:7.2} ms {of_median:6.2}  {fastest:7.2} ms {of_fastest:6.2}");
    }
}

/// The times of each case over `rounds` rounds, after one that does not count.
///
/// # Errors
/// A case's own.
pub fn measure(cases: &[Case<'_>], rounds: usize) -> Result<Vec<Times>> {
    let mut times = vec![Vec::with_capacity(rounds); cases.len()];
    for round in 0..=rounds {
        for (case, times) in cases.iter().zip(&mut times) {
            let time = case.time()?;
            if round > 0 {
                times.push(time);
            }
        }
    }
    Ok(times.into_iter().map(Times::of).collect())
}
