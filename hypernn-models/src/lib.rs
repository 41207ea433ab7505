//! Language models for candle that can be trained.

pub mod decoder;
mod layers;
mod metadata;

pub use decoder::{Cache, Decoder, DecoderConfig};
