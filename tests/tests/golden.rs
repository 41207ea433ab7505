//! The golden cases on the device of the tests; `cuda.rs` has them on a card whatever that is.

#![allow(missing_docs)]

use candle_core::Result;
use hypernn_tests::{device, golden};

#[test]
fn a_static_mlp() -> Result<()> {
    golden::a_static_mlp(device())
}

#[test]
fn a_static_cnn() -> Result<()> {
    golden::a_static_cnn(device())
}

#[test]
fn a_convolution_of_six_samples_with_weights_of_their_own() -> Result<()> {
    golden::a_convolution_of_six_samples_with_weights_of_their_own(device())
}

#[test]
fn ten_samples_with_weights_of_their_own() -> Result<()> {
    golden::ten_samples_with_weights_of_their_own(device())
}

#[test]
fn a_recurrent_target_with_new_weights_at_each_step() -> Result<()> {
    golden::a_recurrent_target_with_new_weights_at_each_step(device())
}

#[test]
fn state_dicts_of_static_hypernetworks() -> Result<()> {
    golden::state_dicts_of_static_hypernetworks(device())
}

#[test]
fn state_dicts_of_dynamic_hypernetworks() -> Result<()> {
    golden::state_dicts_of_dynamic_hypernetworks(device())
}
