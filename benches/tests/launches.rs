//! On a device, a case of the emitted type is no more launches than the same by hand in plain candle.
//!
//! Launches are counted by the stand-in of `ci/cuda-cpu`; elsewhere there is nothing to count. There, nothing is
//! computed meanwhile (`CUDA_CPU_COUNT`): how often a device is asked does not depend on the values.

#![allow(missing_docs, clippy::print_stderr, reason = "tests")]

use candle_core::{DType, Result};
use hypernn_benches::cases::{CASES, Step, Who, prepare_on};
use hypernn_tests::device;
use hypernn_tests::launches::{Asked, are_counted, asked};

/// What is trained and what is not: generation is a part of each. In half precision a whole step alone.
const STEPS: [(Step, DType); 4] = [
    (Step::Forward, DType::F32),
    (Step::Backward, DType::F32),
    (Step::Adam, DType::F32),
    (Step::Adam, DType::BF16),
];

/// What a step asks of the device, once all that is made once is there.
fn of_step(case: &str, step: Step, who: Who, dtype: DType) -> Result<Option<Asked>> {
    let Some(run) = prepare_on(device(), dtype, case, step, who)? else { return Ok(None) };
    run()?;
    asked(run).map(|((), asked)| Some(asked))
}

#[test]
fn no_case_launches_more_than_by_hand() -> Result<()> {
    if !are_counted()? {
        eprintln!("skipped: launches are counted by ci/cuda-cpu/run.sh alone");
        return Ok(());
    }
    let mut more = Vec::new();
    for case in CASES {
        for (step, dtype) in STEPS {
            let ours = of_step(case, step, Who::Hypernn, dtype)?;
            let by_hand = of_step(case, step, Who::ByHand, dtype)?;
            let Some((ours, by_hand)) = ours.zip(by_hand) else { continue };
            let line = format!(
                "{case}, {}, {dtype:?}: {} launches and {} transfers, by hand {} and {}",
                step.name(),
                ours.count(),
                ours.transfers,
                by_hand.count(),
                by_hand.transfers
            );
            eprintln!("{line}");
            if !ours.is_at_most(&by_hand) {
                more.push(line);
            }
        }
    }
    assert!(more.is_empty(), "more than by hand: {more:#?}");
    Ok(())
}
