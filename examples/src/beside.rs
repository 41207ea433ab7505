//! A hypernetwork, and the plain network that was trained beside it.

use serde::Serialize;

use crate::report::{commas, percent, table};
use crate::round_trip::agrees;
use crate::training::History;

/// What `summary.json` holds of both.
#[derive(Clone, Debug, Serialize)]
pub struct Beside<'a> {
    test_accuracy: f64,
    plain_test_accuracy: f64,
    num_params: usize,
    num_target_params: usize,
    ratio: f64,
    seconds: f64,
    plain_seconds: f64,
    /// Whether the reloaded hypernetwork and the network from the exported file compute the same.
    agreement: bool,
    max_logit_difference: f64,
    history: [&'a History; 2],
}

impl<'a> Beside<'a> {
    /// The hypernetwork comes first; `difference` is the largest between its outputs and those of what
    /// was saved.
    pub fn new(
        history: [&'a History; 2],
        [num_params, num_target_params]: [usize; 2],
        difference: f64,
    ) -> Self {
        let [hyper, plain] = history;
        Self {
            test_accuracy: hyper.last(),
            plain_test_accuracy: plain.last(),
            num_params,
            num_target_params,
            ratio: num_params as f64 / num_target_params as f64,
            seconds: hyper.seconds,
            plain_seconds: plain.seconds,
            agreement: agrees(difference),
            max_logit_difference: difference,
            history,
        }
    }
}

/// Prints both side by side.
pub fn print_table(histories: [&History; 2], sizes: [usize; 2]) {
    let rows = std::iter::zip(histories, sizes).map(|(history, size)| {
        let seconds = format!("{:.1}", history.seconds);
        [history.name.clone(), commas(size), percent(history.last()), seconds]
    });
    let header = ["network", "parameters", "test accuracy", "seconds"];
    println!("{}", table(header, &rows.collect::<Vec<_>>()));
}

/// What is about to happen, for these numbers of images and this device.
pub fn introduction(
    [train, test]: [usize; 2],
    device: &str,
    [params, target]: [usize; 2],
) -> String {
    format!(
        "{} images to train on, {} to test on, on {device}.\n\
         A hypernetwork of {} parameters generates a network of {}: {}.",
        commas(train),
        commas(test),
        commas(params),
        commas(target),
        percent(params as f64 / target as f64)
    )
}
