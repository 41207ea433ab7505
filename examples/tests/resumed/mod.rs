//! Runs examples, kills them, and lets them go on.

#![allow(dead_code, reason = "each test takes a part")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

/// Cargo builds the examples before it runs this test, in the folder beside it.
pub fn example(name: &str, args: &[&str], out: &Path) -> Command {
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

/// The hypernetwork's variables at the end; the hash of a pretrained network is no variable, and its measures are `f64`.
fn variables(out: &Path) -> Vec<(String, Vec<f64>)> {
    let path = out.join("hypernetwork.safetensors");
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let values = |tensor: &Tensor| {
        tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    };
    let variables = tensors.iter().filter(|(_, tensor)| tensor.dtype().is_float());
    let mut named: Vec<_> = variables.map(|(name, t)| (name.clone(), values(t))).collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    named
}

/// Kills a run after `text`, lets it go on, which it has to say by `resumed`, and compares.
pub fn interrupted_is_whole(name: &str, args: &[&str], text: &str, resumed: &str) {
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
