//! Runs of examples. Cargo builds them before it runs tests, in the folder beside those.

use std::path::Path;
use std::process::{Command, Output};

/// Runs an example to its end.
pub fn run<'a>(example: &str, args: impl IntoIterator<Item = &'a str>) -> Output {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let name = format!("{example}{}", std::env::consts::EXE_SUFFIX);
    Command::new(profile.join("examples").join(name)).args(args).output().unwrap()
}

/// What a run that should succeed printed.
pub fn printed(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A whole run, and one that `--stop-after` interrupts and `--resume` takes up again, give the same
/// `summary.json`.
pub fn resumes(example: &str, args: &[&str], stop_after: &str, folder: &Path) {
    let run = |out: &str, more: &[&str]| {
        let out = folder.join(out);
        let out = ["--out", out.to_str().unwrap()];
        run(example, [args, &out, more].concat())
    };
    printed(&run("whole", &[]));
    let stopped = run("interrupted", &["--stop-after", stop_after]);
    let error = String::from_utf8_lossy(&stopped.stderr);
    assert!(!stopped.status.success() && error.contains("--resume goes on"), "{error}");
    assert!(!folder.join("interrupted/summary.json").exists());
    printed(&run("interrupted", &["--resume"]));
    let summary = |out: &str| std::fs::read_to_string(folder.join(out).join("summary.json"));
    assert_eq!(summary("interrupted").unwrap(), summary("whole").unwrap());
}
