//! Every operation of ours is listed in `docs/cuda.md`, with the sides that it has.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A line of the table.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Operation {
    file: String,
    /// The type and its number of inputs.
    name: String,
    cuda: bool,
    backward: bool,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// candle's traits of operations, without the number of inputs.
const KINDS: [&str; 2] = ["CustomOp", "InplaceOp"];

/// What the sources implement: rustfmt puts an `impl` and its closing brace at the start of a line.
fn implemented() -> BTreeSet<Operation> {
    let (root, mut files) = (workspace().join("hypernn/src"), Vec::new());
    rust_files(&root, &mut files);
    let mut found = BTreeSet::new();
    for path in files {
        let source = fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(root.join("ops")).or(path.strip_prefix(&root)).unwrap();
        let file = file.to_string_lossy().replace('\\', "/");
        for part in source.split("\nimpl").skip(1) {
            let body = part.split("\n}").next().unwrap();
            let head = body.lines().next().unwrap();
            let Some((_, rest)) = KINDS.iter().find_map(|kind| head.split_once(kind)) else {
                continue;
            };
            let (inputs, name) = rest.split_once(" for ").unwrap();
            let name = name.trim_end_matches(" {").trim_end_matches("<'_>");
            assert!(body.contains("fn cpu_fwd"), "{name} has no CPU side");
            found.insert(Operation {
                file: file.clone(),
                name: format!("`{name}`, of {inputs}"),
                cuda: body.contains("fn cuda_fwd"),
                backward: body.contains("fn bwd"),
            });
        }
    }
    found
}

fn yes(cell: &str) -> bool {
    assert!(matches!(cell, "yes" | "no"), "expected yes or no, found {cell}");
    cell == "yes"
}

/// What the table lists.
fn listed() -> BTreeSet<Operation> {
    let text = fs::read_to_string(workspace().join("docs/cuda.md")).unwrap();
    let (_, text) = text.split_once("\n## Operations\n").unwrap();
    let lines = text.lines().filter(|line| line.starts_with("| `"));
    let mut found = BTreeSet::new();
    for line in lines {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, file, name, cuda, backward, note, _] = cells[..] else { panic!("{line}") };
        let (cuda, backward) = (yes(cuda), yes(backward));
        assert!((cuda && backward) || !note.is_empty(), "no reason is given in: {line}");
        let file = file.trim_matches('`').to_owned();
        found.insert(Operation { file, name: name.to_owned(), cuda, backward });
    }
    found
}

#[test]
fn every_operation_is_listed() {
    let (implemented, listed) = (implemented(), listed());
    let missing: Vec<_> = implemented.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&implemented).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "in the sources, but not like this in docs/cuda.md: {missing:#?}\n\
         in docs/cuda.md, but not like this in the sources: {stale:#?}"
    );
    assert!(implemented.len() > 15, "the sources were not read");
}

/// Operations that a macro would make are not read by the list.
#[test]
fn operations_are_implemented_in_the_open() {
    let mut files = Vec::new();
    rust_files(&workspace().join("hypernn/src"), &mut files);
    for path in files {
        let source = fs::read_to_string(&path).unwrap();
        let in_macros = source.lines().filter(|line| {
            let code = line.trim_start();
            let operation = KINDS.iter().any(|kind| code.contains(kind));
            code.starts_with("impl") && operation && code.len() < line.len()
        });
        assert_eq!(in_macros.count(), 0, "{}: an operation inside of something", path.display());
    }
}
