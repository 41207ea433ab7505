//! The macros' output under every lint that the compiler knows, forbidden: it needs no `#[allow]`, which
//! would be an error then, and there is nothing to allow.
//!
//! One call of rustc for a set of lints, over the crates that this test is built with.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::process::Output;

use hypernn_tests::rustc::{Compiler, Crates, text};

const BODY: &str = include_str!("lints/body.rs");

/// What has to do with the crate as a whole, or with how rustc is called.
const ELSEWHERE: [&str; 2] = ["unused-crate-dependencies", "linker-messages"];

/// What a compiler says of a library in one file; None where it is not installed.
fn compile(compiler: Compiler, source: &str, edition: &str) -> Option<Output> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body.rs");
    fs::write(&file, source).unwrap();
    let mut command = compiler.command().unwrap()?;
    command.args(["--crate-type=lib", "--emit=metadata", "--edition", edition, "--out-dir"]);
    command.arg(folder.path()).args(Crates::of_this_test(&[]).unwrap().arguments()).arg(&file);
    Some(command.output().unwrap())
}

/// The lints that are allowed by default, or the groups, as `-W help` lists them.
fn listed(compiler: Compiler) -> (Vec<String>, Vec<String>) {
    let help =
        text(&compiler.command().unwrap().unwrap().args(["-W", "help"]).output().unwrap().stdout);
    let (lints, groups) = help.split_once("Lint groups provided by rustc").unwrap();
    let allowed = lints.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, level) = (words.next()?, words.next()?);
        (level == "allow" && !ELSEWHERE.contains(&name)).then(|| name.replace('-', "_"))
    });
    let groups = groups.lines().filter_map(|line| line.split_whitespace().next());
    let groups = groups.skip_while(|word| *word != "warnings");
    let groups = groups.take_while(|word| word.starts_with(char::is_lowercase));
    (allowed.collect(), groups.map(|group| group.replace('-', "_")).collect())
}

/// Those that this compiler has without a feature of its own.
fn stable(lints: Vec<String>) -> Vec<String> {
    let source = lints.iter().map(|lint| format!("#![forbid({lint})]\n")).collect::<String>();
    let output = compile(Compiler::Rustc, &source, "2024").unwrap();
    let said = text(&output.stderr);
    let unknown = |lint: &String| said.contains(&format!("unknown lint: `{lint}`"));
    lints.into_iter().filter(|lint| !unknown(lint)).collect()
}

/// Compiles the body with these lints forbidden; nothing may be said.
fn forbid(compiler: Compiler, lints: &[&str], edition: &str) {
    let header = format!("//! Docs.\n#![forbid({})]\n", lints.join(", "));
    // rustc and clippy disagree on `pub` in a private module.
    let body = match compiler {
        Compiler::Rustc => BODY.to_owned(),
        Compiler::Clippy => BODY.replace("pub(crate)", "pub").replace("pub(super)", "pub"),
    };
    let Some(output) = compile(compiler, &(header + &body), edition) else { return };
    let said = text(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{lints:?}, edition {edition}:\n{said}");
}

#[test]
fn every_lint_that_is_allowed_by_default() {
    let lints = stable(listed(Compiler::Rustc).0);
    assert!(lints.len() > 30, "{lints:?}");
    let lints: Vec<_> = lints.iter().map(String::as_str).collect();
    for edition in ["2018", "2021", "2024"] {
        forbid(Compiler::Rustc, &lints, edition);
    }
}

#[test]
fn every_group_of_lints() {
    let groups = listed(Compiler::Rustc).1;
    assert!(groups.len() > 8 && groups.iter().any(|group| group == "warnings"), "{groups:?}");
    for group in &groups {
        forbid(Compiler::Rustc, &[group], "2024");
    }
}

#[test]
fn the_lints_that_the_output_once_had_to_allow() {
    let lints = [
        "dead_code",
        "unused_imports",
        "unused_parens",
        "unused_variables",
        "unused_qualifications",
        "non_snake_case",
        "arithmetic_overflow",
        "deprecated",
        "missing_docs",
        "unsafe_code",
    ];
    for lint in lints {
        forbid(Compiler::Rustc, &[lint], "2021");
    }
}

#[test]
fn clippy() {
    for group in ["all", "pedantic", "nursery"] {
        forbid(Compiler::Clippy, &[&format!("clippy::{group}")], "2024");
    }
}
