//! The instructions of hypernetworks by the macros, as multiples of those of the same hypernetworks
//! without a macro, and of the same mathematics by hand in plain candle: callgrind counts them for this
//! program, in long runs and in short.
//!
//! `RAYON_NUM_THREADS=1 cargo bench -p hypernn-benches --bench instructions`, or of some cases alone:
//! `-- static_small`; it takes valgrind.

#![allow(missing_docs, reason = "a benchmark")]

use std::process::Command;

use candle_core::{Result, bail};
use hypernn_benches::cases::{self, CASES, Step, Who};

/// The instructions that are counted for a figure, about.
const ENOUGH: f64 = 5e7;

/// An allocator that keeps its buffers: zeros that the system writes would else count for nobody.
const KEEPS: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "4294967296"), ("MALLOC_TRIM_THRESHOLD_", "8589934592")];

/// What callgrind watches.
fn run(path: &str, runs: usize) -> Result<()> {
    let (case, step, who) = cases::find(path)?;
    let Some(run) = cases::prepare(case, step, who)? else { return Ok(()) };
    (0..runs).try_for_each(|_| run())
}

/// The instructions of this program with these arguments.
fn instructions(path: &str, runs: usize) -> Result<f64> {
    let program = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--watched", path, &runs.to_string()])
        .envs(KEEPS)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let counted = said.lines().find_map(|line| line.split_once("Collected : ")?.1.parse().ok());
    let Some(counted) = counted else { bail!("valgrind counted nothing:\n{said}") };
    Ok(counted)
}

/// Those of one run.
fn per_run(case: &str, step: Step, who: Who) -> Result<f64> {
    let path = format!("{case}/{}/{}", step.name(), who.name());
    // The difference is counted, so that building and warming up are not.
    let [short, long] = [instructions(&path, 2)?, instructions(&path, 4)?];
    let more = (ENOUGH / (long - short)) as usize * 2;
    if more < 4 {
        return Ok((long - short) / 2.);
    }
    let runs = more.min(400);
    Ok((instructions(&path, 4 + runs)? - long) / runs as f64)
}

/// A line per step that this case has.
fn compare(case: &str) -> Result<()> {
    for step in Step::ALL {
        let has = |who| cases::prepare(case, step, who).map(|run| run.is_some());
        if !has(Who::Hypernn)? {
            continue;
        }
        let ours = per_run(case, step, Who::Hypernn)?;
        if !has(Who::ByHand)? {
            println!("| {case} | {} | {ours:.0} | | | |", step.name());
            continue;
        }
        let by_hand = per_run(case, step, Who::ByHand)?;
        let line = format!("| {case} | {} | {ours:.0} | {by_hand:.0}", step.name());
        let ratio = ours / by_hand;
        if has(Who::NoMacros)? {
            let no_macros = ours / per_run(case, step, Who::NoMacros)?;
            println!("{line} | {ratio:.3} | {no_macros:.4} |");
        } else {
            println!("{line} | {ratio:.3} | |");
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [flag, path, runs] = &args[..]
        && flag == "--watched"
    {
        return run(path, runs.parse().map_err(candle_core::Error::wrap)?);
    }
    println!("| Case | Step | By the macros | By hand in candle | Ratio | To no macros |");
    println!("|---|---|---|---|---|---|");
    let asked: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let is_asked = |case: &&str| asked.is_empty() || asked.iter().any(|name| name == case);
    CASES.into_iter().filter(is_asked).try_for_each(compare)
}
