//! A run that is killed and goes on ends with the numbers of one that was not.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../tests/resumed/mod.rs"]
mod resumed;

use crate::resumed::interrupted_is_whole;

/// In the midst of the second training: the first is not done again.
#[test]
fn doc_to_lora() {
    let (text, resumed) = ("hypernetwork: step 2/4", "model: goes on after step 4");
    interrupted_is_whole("doc_to_lora", &[], text, resumed);
}
