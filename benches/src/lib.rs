//! Shared by the benchmarks: cases measured in turn, so that each meets the same machine.
//!
//! The harnesses in use measure one case after another, and on a machine with other work the first
//! minute is not like the second. Here every round runs every case once, and a ratio compares
//! medians over the same rounds.

use std::time::{Duration, Instant};

use candle_core::Result;

/// Something to measure.
pub struct Case<'a>(Box<dyn Fn() -> Result<()> + 'a>);

impl<'a> Case<'a> {
    /// A case; what `run` returns is dropped inside the measured time.
    pub fn new<T>(run: impl Fn() -> Result<T> + 'a) -> Self {
        Self(Box::new(move || run().map(drop)))
    }

    fn time(&self) -> Result<Duration> {
        let start = Instant::now();
        (self.0)()?;
        Ok(start.elapsed())
    }
}

/// The median time of each case over `rounds` rounds, after one that does not count.
///
/// # Errors
/// A case's own.
pub fn medians(cases: &[Case<'_>], rounds: usize) -> Result<Vec<Duration>> {
    let mut times = vec![Vec::with_capacity(rounds); cases.len()];
    for round in 0..=rounds {
        for (case, times) in cases.iter().zip(&mut times) {
            let time = case.time()?;
            if round > 0 {
                times.push(time);
            }
        }
    }
    Ok(times.iter_mut().map(|times| median(times)).collect())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Prints a time in milliseconds and as a multiple of `base`.
pub fn print_line(name: &str, time: Duration, base: Duration) {
    let milliseconds = time.as_secs_f64() * 1e3;
    println!("  {name:44} {milliseconds:9.2} ms {:6.2}", ratio(time, base));
}

/// `time / base`.
pub fn ratio(time: Duration, base: Duration) -> f64 {
    time.as_secs_f64() / base.as_secs_f64()
}
