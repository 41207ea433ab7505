//! Operations with gradients that candle lacks, gets wrong or makes slow.
//!
//! Each runs on whatever storage it is given: CPU, CUDA or Metal.

pub(crate) mod adam_w;
pub(crate) mod convolution;
pub(crate) mod convolved;
mod gemm;
pub(crate) mod linear;
pub(crate) mod linear_into;
pub(crate) mod max_pool;
pub(crate) mod outer;
mod pool;
pub(crate) mod product;
pub(crate) mod scalar;
pub(crate) mod split;
mod tiles;
pub(crate) mod unfold;
