//! The progress of a run, on the screen.

use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// What a progress bar shows.
const TEMPLATE: &str = "{prefix} {wide_bar:.cyan/blue} {msg}  {eta} left";

/// A bar of `steps` steps with room for a message, drawn only in a terminal.
///
/// # Errors
/// indicatif's own.
pub fn bar(name: &str, steps: usize) -> Result<ProgressBar> {
    let bar = ProgressBar::new(steps as u64)
        .with_style(ProgressStyle::with_template(TEMPLATE)?)
        .with_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    Ok(bar)
}
