//! Operations with gradients that candle lacks, gets wrong or makes slow.
//!
//! Each runs on whatever storage it is given: CPU, CUDA or Metal.

pub(crate) mod activation;
pub(crate) mod adam_w;
pub(crate) mod adopt;
pub(crate) mod convolution;
pub(crate) mod convolved;
mod dense;
mod direct;
pub(crate) mod gain;
mod gemm;
pub(crate) mod heap;
pub(crate) mod linear;
pub(crate) mod linear_into;
pub(crate) mod lookup;
pub(crate) mod low_rank;
pub(crate) mod max_pool;
pub(crate) mod outer;
mod panels;
mod pool;
pub(crate) mod product;
pub(crate) mod rectified;
pub(crate) mod scalar;
pub(crate) mod split;
mod transpose;
pub(crate) mod unfold;
