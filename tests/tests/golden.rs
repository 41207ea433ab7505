//! The golden cases on the CPU; `cuda.rs` has them on a card.

#![allow(missing_docs)]

use candle_core::{Device, Result};
use hypernn_tests::golden;

#[test]
fn a_static_mlp() -> Result<()> {
    golden::a_static_mlp(&Device::Cpu)
}

#[test]
fn a_static_cnn() -> Result<()> {
    golden::a_static_cnn(&Device::Cpu)
}

#[test]
fn a_convolution_of_six_samples_with_weights_of_their_own() -> Result<()> {
    golden::a_convolution_of_six_samples_with_weights_of_their_own(&Device::Cpu)
}

#[test]
fn ten_samples_with_weights_of_their_own() -> Result<()> {
    golden::ten_samples_with_weights_of_their_own(&Device::Cpu)
}

#[test]
fn a_recurrent_target_with_new_weights_at_each_step() -> Result<()> {
    golden::a_recurrent_target_with_new_weights_at_each_step(&Device::Cpu)
}

#[test]
fn state_dicts_of_static_hypernetworks() -> Result<()> {
    golden::state_dicts_of_static_hypernetworks(&Device::Cpu)
}

#[test]
fn state_dicts_of_dynamic_hypernetworks() -> Result<()> {
    golden::state_dicts_of_dynamic_hypernetworks(&Device::Cpu)
}
