//! CPU kernels of [hypernn](https://crates.io/crates/hypernn), from slices to slices, for `f32` and `f64`.
//!
//! | Module | What it computes |
//! |---|---|
//! | [`linear`] | `x wᵀ + b` for one or several sets of weights, whose outputs go to vectors of the caller's choice, scaled and shifted |
//! | [`conv`] | Convolutions in two dimensions, and the gradients of images and weights, without unfolded columns |
//! | [`matmul`](mod@matmul) | Products of matrices with any strides, by the crate `gemm` |
//! | [`attention`] | Scaled dot-product attention and its gradients, some rows of weights at a time |
//! | [`softmax`], [`cross_entropy`] | Probabilities and the loss over them, and their gradients |
//! | [`rotary`] | Rotary position embeddings |
//! | [`elementwise`] | Activations and their gradients |
//! | [`adam_w`] | A step of AdamW in one pass |
//! | [`transpose`](fn@transpose) | Matrices, transposed |
//! | [`executor`] | The threads that a caller brings |
//! | [`uninit`] | Vectors that several threads write |
//! | [`simd`] | The instruction set in use, and passes that are compiled for AVX2 as well |
//! | [`heap`] | Buffers that the allocator keeps |
//!
//! Vector instructions are found at run time, up to AVX-512, or up to a cap that the environment names
//! ([`InstructionSet`](simd::InstructionSet)). Nothing here starts threads by itself: a kernel that
//! can use several takes an [`Executor`](executor::Executor).
//!
//! ```
//! use hypernn_kernels::executor::Sequential;
//! use hypernn_kernels::linear::{Linear, Sizes};
//!
//! // Two rows of three inputs, four outputs.
//! let sizes = Sizes { sets: 1, rows: 2, inputs: 3, outputs: 4 };
//! let xs = [1f32, 0., 0., 0., 1., 0.];
//! let weight: Vec<f32> = (0..12u8).map(f32::from).collect();
//! let layer = Linear::new(sizes, &xs, &weight, Some(&[0.5; 4]))?;
//! assert_eq!(layer.outputs(&Sequential)?, [0.5, 3.5, 6.5, 9.5, 1.5, 4.5, 7.5, 10.5]);
//! # Ok::<_, hypernn_kernels::Error>(())
//! ```

#![warn(missing_docs, clippy::undocumented_unsafe_blocks)]
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

pub mod adam_w;
pub mod attention;
pub mod conv;
pub mod cross_entropy;
pub mod elementwise;
mod error;
pub mod executor;
mod float;
mod heads;
pub mod heap;
pub mod linear;
pub mod matmul;
mod microkernel;
pub mod rotary;
pub mod simd;
pub mod softmax;
mod transpose;
mod tuning;
pub mod uninit;

pub use error::{Error, Result};
pub use float::Float;
pub use heads::Heads;
pub use matmul::Matrix;
pub use transpose::transpose;
