//! Every case of the table, ours and in plain candle: `case/step/who`.
//!
//! `python3 benches/table.py` runs it beside its peers and prints the table. Alone:
//! `cargo bench -p hypernn-benches --bench table -- static_small`.

#![allow(missing_docs, reason = "a benchmark")]

use candle_core::Result;
use criterion::Criterion;
use hypernn_benches::cases;

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let mut done = Ok(());
    for (path, case, step, who) in cases::paths()? {
        criterion.bench_function(&path, |bencher| {
            let run = cases::prepare(case, step, who);
            let measure = || {
                let Some(run) = run? else { return Ok(()) };
                let mut done = Ok(());
                bencher.iter(|| {
                    if let Err(err) = run() {
                        done = Err(err);
                    }
                });
                done
            };
            if let Err(err) = measure() {
                done = Err(err);
            }
        });
    }
    criterion.final_summary();
    done
}
