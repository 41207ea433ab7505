//! Training over MPI, by two and three processes of the program `ranks`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use candle_core::DType;
use hypernn::nn::{AdamW, SGD};
use hypernn_tests::parallel::{Settings, largest_difference, trained_alone};

/// Runs so many ranks. A run that hangs is ended by the launcher, and fails.
fn mpiexec(size: usize, arguments: &[&str]) -> Output {
    let mut command = Command::new("mpiexec");
    command
        .env("MPIEXEC_TIMEOUT", "300")
        .env("RAYON_NUM_THREADS", "1")
        .env_remove("RUST_BACKTRACE");
    command.args(["-n", &size.to_string(), env!("CARGO_BIN_EXE_ranks")]).args(arguments);
    command.output().unwrap()
}

fn succeeds(size: usize, arguments: &[&str]) -> String {
    let output = mpiexec(size, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} on {size} ranks: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// What each rank has written.
fn values(out: &Path, size: usize) -> Vec<Vec<f64>> {
    let of_rank = |rank: usize| {
        let bytes = std::fs::read(out.join(rank.to_string())).unwrap();
        bytes.chunks(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
    };
    (0..size).map(of_rank).collect()
}

fn assert_as_one<O: Settings>(names: [&str; 2], dtype: DType, tolerance: f64) {
    let alone = trained_alone::<O>(dtype, 50).unwrap();
    for size in [1, 2, 3] {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().to_str().unwrap();
        succeeds(size, &["trained", names[0], names[1], path]);
        let ranks = values(out.path(), size);
        assert!(ranks.iter().all(|values| values == &ranks[0]), "{names:?}: {size} ranks differ");
        let difference = largest_difference(&ranks[0], &alone);
        let tolerance = if size == 1 { 0. } else { tolerance };
        assert!(difference <= tolerance, "{names:?}: {size} ranks: {difference:e}");
    }
}

#[test]
fn processes_have_the_values_of_one() {
    assert_as_one::<SGD>(["sgd", "f64"], DType::F64, 1e-12);
    assert_as_one::<SGD>(["sgd", "f32"], DType::F32, 1e-6);
    assert_as_one::<AdamW>(["adam_w", "f64"], DType::F64, 1e-12);
    // Where a gradient is next to zero, AdamW's step is as large for its rounding as for any other.
    assert_as_one::<AdamW>(["adam_w", "f32"], DType::F32, 1e-4);
}

#[test]
fn each_dtype_is_summed_and_sent() {
    for size in [1, 2, 3] {
        assert_eq!(succeeds(size, &["operations"]).matches("all operations").count(), size);
    }
}

/// All end, and somebody says why.
fn assert_fails(size: usize, how: &str, words: &[&str]) {
    let output = mpiexec(size, &["fails", how]);
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(!output.status.success(), "{how} on {size} ranks did not fail: {said}");
    assert!(words.iter().all(|words| said.contains(words)), "{how} on {size} ranks: {said}");
    assert!(!said.contains("TIMEOUT") && !said.contains("timed out"), "{how}: {said}");
}

#[test]
fn a_rank_that_ends_ends_all() {
    for size in [2, 3] {
        let last = size - 1;
        let words = |words: &str| words.replace("LAST", &last.to_string());
        assert_fails(size, "killed", &["BAD TERMINATION", "EXIT CODE: 9"]);
        assert_fails(size, "panic", &["a panic that is meant"]);
        assert_fails(size, "early", &["failed early"]);
        assert_fails(size, "late", &["failed late"]);
        let silently = words("rank LAST has gone after 3 steps, without `finish`");
        assert_fails(size, "silently", &[&silently]);
        let loss = words("rank LAST: failed in its loss");
        assert_fails(size, "loss", &[&loss, "failed in its loss"]);
        let finished = words(
            "rank 0 takes step 4 with a learning rate of 0.01, rank LAST has finished after 3 steps",
        );
        assert_fails(size, "finished", &[&finished]);
        let shape =
            "has trained `fc.weight` F32 [2, 4], but rank 0 has trained `fc.weight` F32 [2, 3]";
        assert_fails(size, "shape", &[shape]);
    }
}

/// A run whose processes are killed goes on to the numbers of one that was not.
#[test]
fn a_killed_run_goes_on_with_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = |load: &str, last: usize, save: &str, out: &str| {
        std::fs::create_dir_all(path(out)).unwrap();
        let (load, save, out) = (path(load), path(save), path(out));
        succeeds(2, &["goes-on", &load, &last.to_string(), &save, &out]);
    };
    run("nothing", 30, "end", "whole");
    run("nothing", 12, "middle", "half");
    assert_fails(2, "killed", &["EXIT CODE: 9"]);
    run("middle", 30, "end", "rest");
    assert_eq!(values(&folder.path().join("rest"), 2), values(&folder.path().join("whole"), 2));
}
