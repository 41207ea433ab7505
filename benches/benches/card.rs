//! The cases of the table on a card, ours and in plain candle, and larger ones until the card is full.
//!
//! `ci/cuda-card.sh` runs it. Each line is `case/step/who/dtype`, milliseconds, or why there are none. Alone:
//! `cargo bench --features cuda -p hypernn-benches --bench card -- cases 0.5`, where the number is the
//! seconds for each line, or `-- batches 0.5`.

#![allow(missing_docs, reason = "a benchmark")]

use std::io::Write;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, bail};
use hypernn_benches::cases::{CASES, Step, Who, prepare_on};

/// How many samples there are of a line, of which the median is printed.
const SAMPLES: usize = 7;

/// How often something runs in `seconds`, the device waited for.
fn time(device: &Device, runs: u32, run: &dyn Fn() -> Result<()>) -> Result<Duration> {
    device.synchronize()?;
    let start = Instant::now();
    for _ in 0..runs {
        run()?;
    }
    device.synchronize()?;
    Ok(start.elapsed() / runs)
}

/// The median of some samples that fill `seconds`.
fn measure(device: &Device, seconds: f64, run: &dyn Fn() -> Result<()>) -> Result<Duration> {
    // What is made once, and memory that the driver keeps.
    time(device, 3, run)?;
    let once = time(device, 1, run)?.as_secs_f64();
    let runs = (seconds / SAMPLES as f64 / once).clamp(1., 1e6) as u32;
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        samples.push(time(device, runs, run)?);
    }
    samples.sort_unstable();
    Ok(samples[SAMPLES / 2])
}

/// Prints a line as soon as it is measured; whether there was something to measure, without an error.
fn line(
    device: &Device,
    dtype: DType,
    (case, step, who): (&str, Step, Who),
    seconds: f64,
) -> Result<bool> {
    let path = format!("{case}/{}/{}/{}", step.name(), who.name(), dtype.as_str());
    let found = prepare_on(device, dtype, case, step, who).and_then(|run| {
        let Some(run) = run else { return Ok(None) };
        measure(device, seconds, &run).map(Some)
    });
    let mut out = std::io::stdout();
    match found {
        Ok(None) => return Ok(false),
        Ok(Some(each)) => writeln!(out, "{path} {:.4}", each.as_secs_f64() * 1e3)?,
        Err(err) => {
            let why = err.to_string();
            writeln!(out, "{path} failed: {}", why.lines().next().unwrap_or_default())?;
            return Ok(false);
        }
    }
    out.flush()?;
    Ok(true)
}

fn cases(device: &Device, seconds: f64) -> Result<()> {
    for case in CASES {
        for step in [Step::Forward, Step::Backward, Step::Adam] {
            for who in [Who::Hypernn, Who::ByHand, Who::PlainCandle] {
                line(device, DType::F32, (case, step, who), seconds)?;
            }
        }
    }
    Ok(())
}

/// Four times as many sets of weights each time, in both dtypes, until one no longer fits.
fn batches(device: &Device, seconds: f64) -> Result<()> {
    for dtype in [DType::F32, DType::BF16] {
        for who in [Who::Hypernn, Who::ByHand] {
            let mut batch = 64;
            while line(device, dtype, (&format!("dynamic_{batch}"), Step::Backward, who), seconds)?
            {
                batch *= 4;
            }
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let seconds = arguments.get(1).and_then(|seconds| seconds.parse().ok()).unwrap_or(0.5);
    match arguments.first().map(String::as_str) {
        Some("cases") => cases(&Device::new_cuda(0)?, seconds),
        Some("batches") => batches(&Device::new_cuda(0)?, seconds),
        // `cargo test --all-targets` runs it without a card.
        None => Ok(()),
        Some(other) => bail!("`{other}` is neither `cases` nor `batches`"),
    }
}
