//! Operations with gradients that candle lacks, gets wrong or makes slow.
//!
//! An operation with a gradient runs on whatever storage it is given, CPU, CUDA or Metal, except
//! [`convolution`], which is for the CPU and f32 or f64. The kernels below them, `dense`, `direct`, `gemm`, `panels`,
//! `pool` and `transpose`, take slices and are for the CPU as well.

pub(crate) mod activation;
pub(crate) mod adam_w;
pub(crate) mod convolution;
pub(crate) mod convolved;
mod dense;
mod direct;
mod dtype;
pub(crate) mod gain;
mod gemm;
pub(crate) mod heap;
pub(crate) mod linear;
pub(crate) mod lookup;
pub(crate) mod low_rank;
pub(crate) mod max_pool;
pub(crate) mod outer;
mod panels;
mod pool;
pub(crate) mod prelu;
pub(crate) mod probe;
pub(crate) mod product;
pub(crate) mod scalar;
pub(crate) mod second_order;
pub(crate) mod split;
mod to_tensor;
mod transpose;
pub(crate) mod unfold;
pub(crate) mod with_backward;

pub(crate) use dtype::internal;
