//! Language models for candle that can be trained.

pub mod decoder;
pub mod encoder;
mod generation;
mod padding;
pub mod tokenizer;

pub use decoder::{Cache, Decoder, DecoderConfig};
pub use encoder::{Encoder, EncoderConfig};
pub use generation::{GenerateOptions, Generation, Sampling, generate};
pub use padding::left_padded;
