//! The README's first program is the example `readme`, prints what the README says, and the error
//! after it has hypernn's own words.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use hypernn::flow::{Chain, SampleShape};
use hypernn::nn::spec;

const README: &str = include_str!("../../README.md");
const PROGRAM: &str = include_str!("../examples/readme.rs");

/// The contents of the README's first block of this language.
fn first_block(language: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_first_program_is_the_example() {
    let (_docs, program) = PROGRAM.split_once("\n\n").unwrap();
    assert_eq!(first_block("rust"), program);
    assert!(program.lines().count() <= 25);
}

/// Cargo builds the examples before it runs this test, in the folder beside it.
#[test]
fn the_first_program_prints_what_the_readme_says() {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let name = format!("readme{}", std::env::consts::EXE_SUFFIX);
    let program = profile.join(Path::new("examples")).join(name);
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), first_block("text"));
}

#[test]
fn the_error_is_hypernn_s_own() {
    let (hidden, out) = (spec::linear(64, 32), spec::linear(64, 10));
    let mut chain = Chain::<2>::new();
    let xs = chain.input(SampleShape::new(&[64]));
    let xs = chain.takes(0, "hidden", hidden.info().takes, xs);
    let gives = |shape: &SampleShape| hidden.gives(shape);
    let xs = chain.gives(0, "hidden", (gives(xs.shape()), gives(&SampleShape::ANY)), xs);
    chain.takes(1, "out", out.info().takes, xs);
    let problem = chain.first().unwrap();
    assert!(README.contains(&format!("evaluation panicked: {}\n", problem.message())));
}
