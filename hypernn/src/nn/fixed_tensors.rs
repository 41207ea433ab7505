//! Layers in fields without parameters: a fixed projection or filter.

use candle_core::{Result, Tensor};

use super::{Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Embedding, Linear};
use crate::structure::value::{FixedTensors, fixed_convolutions, fixed_layers};

fixed_layers! {
    Linear, Embedding;
}

fixed_convolutions! {
    Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d,
}
