//! Who trains a client, when, and who dies, in short runs of the example `federated`.

#![allow(missing_docs, clippy::unwrap_used)]

mod resumed;

use serde_json::Value;

use crate::resumed::example;

/// The example's summary, and what it has printed.
fn run(args: &[&str]) -> (Value, String) {
    let out = tempfile::tempdir().unwrap();
    let args = [&["--dataset", "digits"], args].concat();
    let output = example("federated", &args, out.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(out.path().join("hypernetwork.safetensors").is_file());
    let summary = std::fs::read(out.path().join("summary.json")).unwrap();
    (serde_json::from_slice(&summary).unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Clients of three ranks are trained in another order than those of one process.
#[test]
fn the_order_of_clients_changes_nothing() {
    let (alone, by_three) = (run(&["--deaths", "0.2"]), run(&["--deaths", "0.2", "--ranks", "3"]));
    assert_eq!(alone.0, by_three.0);
    // Those that died are named, and left out.
    let left_out = alone.0["left_out"].as_array().unwrap();
    assert!(left_out.len() > 1, "{left_out:?}");
    for one in left_out {
        let [round, client] = ["round", "client"].map(|of| one[of].as_u64().unwrap());
        let line = format!("round {round:>4}: client {client} is left out: ");
        let [own, of_rank] = [&alone.1, &by_three.1]
            .map(|printed| printed.lines().find(|said| said.starts_with(&line)).unwrap());
        assert!(own.ends_with("the client is gone"), "{own}");
        assert!(of_rank.contains("it died on rank "), "{of_rank}");
    }
}

/// Where all die, the hypernetwork stays as it was; bytes are those of the target, whatever the hypernetwork's size.
#[test]
fn bytes_are_counted() {
    let target = 4 * 21_840;
    let (all, _) = run(&["--rounds", "3", "--asked", "4"]);
    assert_eq!(all["bytes"], 3 * 4 * 2 * target);
    assert_eq!(
        (&all["ways"][0]["bytes"], &all["ways"][1]["bytes"]),
        (&(2 * target).into(), &0.into())
    );
    let (none, _) = run(&["--rounds", "3", "--asked", "4", "--deaths", "1"]);
    assert_eq!(none["bytes"], 3 * 4 * target);
    assert_eq!(none["left_out"].as_array().unwrap().len(), 12);
}
