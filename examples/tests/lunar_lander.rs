//! The example `lunar_lander`, over a few rounds.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

/// The landers that are under way when the run is interrupted fly on.
#[test]
fn an_interrupted_run_goes_on_with_the_same_numbers() {
    for mode in ["static", "plain", "dynamic"] {
        let folder = tempfile::tempdir().unwrap();
        let args = ["--device", "cpu", "--mode", mode, "--quick"];
        common::resumes("lunar_lander", &args, "2", folder.path());
        let drawn = |picture: &str| folder.path().join("whole").join(picture).exists();
        assert!(drawn("learning_curve.png"));
        assert_eq!(drawn("weights.png"), mode == "dynamic");
    }
}
