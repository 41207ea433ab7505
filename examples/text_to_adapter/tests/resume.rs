//! A run that is killed and goes on ends with the numbers of one that was not.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../tests/resumed/mod.rs"]
mod resumed;

use crate::resumed::interrupted_is_whole;

#[test]
fn text_to_adapter() {
    let args = ["--dataset", "digits", "--encoder", "words"];
    let (text, resumed) = ("hypernetwork: step 8/40", "classifier: goes on after step 40");
    interrupted_is_whole("text_to_adapter", &args, text, resumed);
}
