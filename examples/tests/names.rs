//! The example `names`, over a few made-up names.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::path::Path;

/// A folder of eighteen languages; each has names of its own letters.
fn write_names(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for language in 0..18u8 {
        let [first, second] = [language, language + 3].map(|at| char::from(b'a' + at));
        let name = |count| format!("É{first}{}\n", second.to_string().repeat(count));
        let names: String = (1..12).map(name).collect();
        std::fs::write(folder.join(format!("Language{language}.txt")), names).unwrap();
    }
}

#[test]
fn an_interrupted_run_goes_on_with_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let names = folder.path().join("names");
    write_names(&names);
    let names = names.to_str().unwrap();
    let args = ["--device", "cpu", "--names", names, "--count", "6", "--seeds", "2"];
    common::resumes("names", &args, "4", folder.path());
    for picture in ["learning_curves.png", "weights.png"] {
        assert!(folder.path().join("whole").join(picture).exists(), "{picture}");
    }
}

#[test]
fn a_folder_that_is_no_corpus_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = |folder: &Path| {
        let out = folder.join("out");
        let args = ["--names", folder.to_str().unwrap(), "--out", out.to_str().unwrap()];
        String::from_utf8(common::run("names", args).stderr).unwrap()
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
