//! A run that is killed and goes on ends with the numbers of one that was not.

#![allow(missing_docs, clippy::unwrap_used)]

mod resumed;

use std::path::Path;

use crate::resumed::{example, interrupted_is_whole};

#[test]
fn digits() {
    interrupted_is_whole("digits", &[], "hypernetwork: epoch  2", "hypernetwork: goes on after");
}

#[test]
fn mnist() {
    let args = ["--dataset", "digits"];
    interrupted_is_whole("mnist", &args, "hypernetwork: epoch  2", "hypernetwork: goes on after");
}

/// By two ranks: the first reads, and tells the other.
#[test]
fn mnist_by_ranks() {
    let args = ["--dataset", "digits", "--ranks", "2"];
    interrupted_is_whole("mnist", &args, "hypernetwork: epoch  2", "hypernetwork: goes on after");
}

#[test]
fn multi_task() {
    let args = ["--datasets", "digits,digits"];
    let (text, resumed) = ("hypernetwork: epoch  2", "hypernetwork: goes on after");
    interrupted_is_whole("multi_task", &args, text, resumed);
}

/// In the midst of the second task: the first is not learned again, but remembered again.
#[test]
fn continual() {
    let (text, resumed) =
        ("with the regulariser, 2 or 3: epoch  1", "0 or 1: goes on after epoch 2");
    interrupted_is_whole("continual", &["--dataset", "digits"], text, resumed);
}

#[test]
fn image_field() {
    let args = ["--dataset", "digits"];
    interrupted_is_whole("image_field", &args, "step 4/40", "hypernetwork: goes on after step");
}

/// In the midst of the second network: the first is not trained again.
#[test]
fn names() {
    let folder = tempfile::tempdir().unwrap();
    write_names(folder.path());
    let (args, text) = (["--names", folder.path().to_str().unwrap()], "plain network, seed 0: 20");
    interrupted_is_whole("names", &args, text, "hypernetwork, seed 0: goes on after 30 names");
}

/// A folder of eighteen languages; each has names of its own letters.
fn write_names(folder: &Path) {
    for language in 0..18u8 {
        let [first, second] = [language, language + 3].map(|at| char::from(b'a' + at));
        let name = |count| format!("É{first}{}\n", second.to_string().repeat(count));
        let names: String = (1..12).map(name).collect();
        std::fs::write(folder.join(format!("Language{language}.txt")), names).unwrap();
    }
}

#[test]
fn a_folder_without_names_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = |folder: &Path| {
        let args = ["--names", folder.to_str().unwrap()];
        let output = example("names", &args, &folder.join("out")).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let found = error(folder.path());
    assert!(found.contains("has 0 files *.txt, expected one for each of 18 languages"), "{found}");
    let found = error(&folder.path().join("nothing"));
    assert!(found.contains("cannot read") && found.contains("nothing"), "{found}");
    write_names(folder.path());
    std::fs::write(folder.path().join("Language3.txt"), "Ada\n").unwrap();
    let found = error(folder.path());
    assert!(found.contains("Language3.txt has too few names: at least ten are needed"), "{found}");
}
