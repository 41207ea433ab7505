//! Language models for candle that can be trained.

pub mod decoder;
pub mod encoder;
mod metadata;
mod padding;

pub use decoder::{Cache, Decoder, DecoderConfig};
pub use encoder::{Encoder, EncoderConfig};
pub use padding::left_padded;
