//! Operations with gradients that candle lacks, gets wrong or makes slow.
//!
//! An operation with a gradient runs on whatever storage it is given, CPU, CUDA or Metal, except
//! [`convolution`], which is for the CPU and f32 or f64. What is computed on slices there is in the crate
//! `hypernn-kernels`, which [`kernels`] gives candle's threads and errors.

pub(crate) mod activation;
pub(crate) mod adam_w;
pub(crate) mod attention;
pub(crate) mod convolution;
pub(crate) mod convolved;
pub(crate) mod cross_entropy;
mod dense;
mod dtype;
pub(crate) mod gain;
mod gemm;
mod kernels;
pub(crate) mod linear;
pub(crate) mod lookup;
pub(crate) mod low_rank;
pub(crate) mod max_pool;
pub(crate) mod outer;
pub(crate) mod padded;
pub(crate) mod prelu;
pub(crate) mod probe;
pub(crate) mod product;
mod quantized;
pub(crate) mod rearrange;
pub(crate) mod rotary;
pub(crate) mod scalar;
pub(crate) mod second_order;
pub(crate) mod softmax;
pub(crate) mod split;
mod to_tensor;
pub(crate) mod unfold;
pub(crate) mod with_backward;

pub(crate) use dtype::{internal, wide};
