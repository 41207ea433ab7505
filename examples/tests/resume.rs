//! A run that is killed and goes on ends with the numbers of one that was not.

#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use candle_core::{Device, Tensor};
use serde_json::Value;

/// Cargo builds the examples before it runs this test, in the folder beside it.
fn example(name: &str, args: &[&str], out: &Path) -> Command {
    let test = std::env::current_exe().unwrap();
    let folder: PathBuf = test.ancestors().nth(2).unwrap().join("examples");
    let mut command = Command::new(folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)));
    command.args(args).args(["--quick", "--device", "cpu", "--out"]).arg(out);
    command
}

/// Starts a run and kills it once a line of its output contains this text.
fn kill_after(command: &mut Command, text: &str) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let found = lines.map(Result::unwrap).any(|line| line.contains(text));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(found, "the run never printed `{text}`");
}

/// The summary without times.
fn summary(out: &Path) -> Value {
    let mut summary = serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap());
    summary.iter_mut().for_each(forget_times);
    summary.unwrap()
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.contains("seconds"));
            fields.values_mut().for_each(forget_times);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_times),
        _ => {}
    }
}

/// The hypernetwork's variables at the end; the hash of a pretrained network is no variable.
fn variables(out: &Path) -> Vec<(String, Vec<f32>)> {
    let path = out.join("hypernetwork.safetensors");
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
    let variables = tensors.iter().filter(|(_, tensor)| tensor.dtype().is_float());
    let mut named: Vec<_> = variables.map(|(name, t)| (name.clone(), values(t))).collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    named
}

/// Kills a run after `text`, lets it go on, which it has to say by `resumed`, and compares.
fn interrupted_is_whole(name: &str, args: &[&str], text: &str, resumed: &str) {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(example(name, args, whole.path()).output().unwrap().status.success());
    kill_after(&mut example(name, args, parts.path()), text);
    assert!(!parts.path().join("summary.json").exists());
    let rest = example(name, args, parts.path()).arg("--resume").output().unwrap();
    let printed = String::from_utf8(rest.stdout).unwrap();
    assert!(rest.status.success() && printed.contains(resumed), "{printed}");
    assert_eq!(summary(parts.path()), summary(whole.path()));
    assert!(variables(parts.path()) == variables(whole.path()), "variables differ");
}

#[test]
fn digits() {
    interrupted_is_whole("digits", &[], "hypernetwork: epoch  2", "hypernetwork: goes on after");
}

#[test]
fn mnist() {
    let args = ["--dataset", "digits"];
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

#[test]
fn text_to_adapter() {
    let args = ["--dataset", "digits", "--encoder", "words"];
    let (text, resumed) = ("hypernetwork: step 8/40", "classifier: goes on after step 40");
    interrupted_is_whole("text_to_adapter", &args, text, resumed);
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

/// The landers that are in the air fly on.
#[test]
fn lunar_lander() {
    for mode in ["static", "dynamic"] {
        let text = format!("{mode}: round   2/3");
        let resumed = format!("{mode}: goes on after round ");
        interrupted_is_whole("lunar_lander", &["--mode", mode], &text, &resumed);
    }
}
