//! A run that is killed and goes on ends with the numbers of one that was not.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../tests/resumed/mod.rs"]
mod resumed;

use crate::resumed::interrupted_is_whole;

/// The landers that are in the air fly on.
#[test]
fn lunar_lander() {
    for mode in ["static", "dynamic"] {
        let text = format!("{mode}: round   2/3");
        let resumed = format!("{mode}: goes on after round ");
        interrupted_is_whole("lunar_lander", &["--mode", mode], &text, &resumed);
    }
}
