//! What a wrong declaration says: one file per mistake, the message beside it.
//!
//! The messages are those of the pinned toolchain. `HYPERNN_BLESS=1` rewrites them, and the page of documentation
//! that lists them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use hypernn_tests::rustc::Crates;
use hypernn_tests::rustc::message::of_file;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compile-errors.md");

/// The folders, with what the page says of them.
const TOPICS: [(&str, &str); 8] = [
    ("attribute", "Attributes: what stands in `#[hyper(…)]`"),
    ("field", "Fields: their types, and what a target can be"),
    ("candle", "Layers of candle whose gradients are wrong"),
    ("sizes", "Sizes"),
    ("sequential", "Chains of layers: `#[hyper(sequential)]`"),
    ("forward", "Residuals, branches, values with names, several inputs, named sizes"),
    ("architectures", "Whole architectures with one mistake"),
    ("hypernetwork", "`hypernetwork!`"),
];

/// Files with several mistakes, or whose one mistake rustc reports twice.
const SEVERAL: [(&str, usize); 7] = [
    ("attribute/all_at_once", 4),
    ("field/all_at_once", 3),
    ("sizes/all_at_once", 3),
    ("hypernetwork/all_at_once", 4),
    ("sequential/all_at_once", 3),
    // The check and the number of parameters both compute the size.
    ("sizes/constant_underflow", 2),
    // Once with the suggestion to make it a type parameter, once without.
    ("hypernetwork/target_does_not_exist", 2),
];

/// One mistake.
struct Case {
    name: String,
    title: String,
    source: String,
    message: String,
}

/// The sources of a topic, from this package's folder, in which cargo runs its tests.
fn files(topic: &str) -> Vec<PathBuf> {
    let folder = Path::new("tests/compile_errors").join(topic);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|e| e == "rs")).collect();
    files.sort();
    files
}

fn cases(topic: &str) -> Vec<Case> {
    files(topic).into_iter().map(|file| case(topic, &file)).collect()
}

fn case(topic: &str, file: &PathBuf) -> Case {
    let name = format!("{topic}/{}", file.file_stem().unwrap().display());
    let text = fs::read_to_string(file).unwrap();
    let Some((title, source)) = text.strip_prefix("//! ").and_then(|text| text.split_once("\n\n"))
    else {
        panic!("{name} has no title: its first line is `//! What is wrong.`");
    };
    let message = fs::read_to_string(file.with_extension("stderr")).unwrap();
    Case { name, title: title.to_owned(), source: snippet(source), message }
}

/// The source without its imports and `main`.
fn snippet(source: &str) -> String {
    let lines = source.lines().filter(|line| !line.starts_with("use ") && *line != "fn main() {}");
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Of each error its text, its place and its advice, without what rustc adds about our own code.
fn essence(message: &str) -> String {
    let mut kept = String::new();
    let mut keeps = true;
    for line in message.lines() {
        let text = line.trim_start();
        if line.starts_with("error") {
            keeps = true;
        } else if ["note:", "help:", "= help:"].iter().any(|start| text.starts_with(start)) {
            keeps = false;
        } else if text.starts_with("= note:") {
            keeps = !text.contains("this error originates");
        }
        if keeps {
            writeln!(kept, "{line}").unwrap();
        }
    }
    let kept = kept.trim_end().trim_end_matches(['|', ' ', '\n']);
    kept.to_owned()
}

fn page() -> String {
    let mut page = String::from(
        "# Compile errors\n\nEvery mistake that has a test, and what the compiler says. Generated from \
         `tests/tests/compile_errors`; the notes that rustc adds about hypernn's own code are left out.\n",
    );
    for (topic, heading) in TOPICS {
        writeln!(page, "\n## {heading}").unwrap();
        for Case { title, source, message, .. } in cases(topic) {
            let message = essence(&message);
            writeln!(
                page,
                "\n### {title}\n\n```rust,ignore\n{source}\n```\n\n```text\n{message}\n```"
            )
            .unwrap();
        }
    }
    page
}

/// What is wrong with a source's message; None where it is the one beside it.
fn complaint(file: &Path, crates: &Crates) -> Option<String> {
    let Some(found) = of_file(file, crates).unwrap() else {
        return Some(format!("{} compiles", file.display()));
    };
    let beside = file.with_extension("stderr");
    if std::env::var_os("HYPERNN_BLESS").is_some() {
        fs::write(&beside, &found).unwrap();
    }
    let expected = fs::read_to_string(beside).unwrap_or_default();
    let same = expected == found;
    (!same).then(|| format!("{} says:\n{found}\nexpected:\n{expected}", file.display()))
}

/// All complaints, the sources shared out among threads.
fn complaints(files: &[PathBuf]) -> Vec<String> {
    let crates = Crates::of_this_test(&["candle_core", "candle_nn"]).unwrap();
    let next = AtomicUsize::new(0);
    let work = || -> Vec<String> {
        let mine = std::iter::from_fn(|| files.get(next.fetch_add(1, Ordering::Relaxed)));
        mine.filter_map(|file| complaint(file, &crates)).collect()
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn messages_and_their_page() {
    let files: Vec<_> = TOPICS.iter().flat_map(|(topic, _)| files(topic)).collect();
    let complaints = complaints(&files);
    let all = files.len();
    assert!(complaints.is_empty(), "{} of {all}:\n{}", complaints.len(), complaints.join("\n"));
    let page = page();
    if std::env::var_os("HYPERNN_BLESS").is_some() {
        fs::create_dir_all(Path::new(PAGE).parent().unwrap()).unwrap();
        fs::write(PAGE, &page).unwrap();
    }
    let found = fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        found == page,
        "docs/compile-errors.md is stale: `HYPERNN_BLESS=1 cargo test -p hypernn-tests --test compile_errors` rewrites it"
    );
}

#[test]
fn every_folder_is_a_topic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_errors");
    let mut folders: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let mut topics = TOPICS.map(|(topic, _)| topic);
    topics.sort_unstable();
    assert_eq!(folders, topics);
}

#[test]
fn one_mistake_is_one_error() {
    for case in TOPICS.iter().flat_map(|(topic, _)| cases(topic)) {
        let expected = SEVERAL.iter().find(|(name, _)| *name == case.name).map_or(1, |(_, n)| *n);
        let errors = case.message.lines().filter(|line| line.starts_with("error")).count();
        assert_eq!(errors, expected, "{}:\n{}", case.name, case.message);
    }
}

#[test]
fn messages_stay_with_the_users_tokens() {
    for Case { name, message, .. } in TOPICS.iter().flat_map(|(topic, _)| cases(topic)) {
        let outside = ["warning", "$RUST", "$CARGO", "rustlib", "__private"];
        for word in outside {
            assert!(!message.contains(word), "{name} mentions {word}:\n{message}");
        }
        // What a macro as a whole is shown as: the derive's name, or all lines of the other.
        let essence = essence(&message);
        let whole = ["|          ^^^^^^^^^^^", "| |_^"].iter().any(|mark| essence.contains(mark));
        assert!(!whole, "{name} points at a whole macro:\n{message}");
    }
}
