//! Low-rank adapters (LoRA): a frozen weight and a generated difference of low rank.
//!
//! The weight is `base + alpha / rank × up · down`, after Hu et al., *LoRA: Low-Rank Adaptation of Large
//! Language Models* (2021). The base is that of a [`Pretrained`](crate::Pretrained) network; `down`,
//! `[rank, in]`, and `up`, `[out, rank]`, are generated, and `up` starts at zero exactly, so that the
//! adapted network starts as the pretrained one. A kernel `[out, in, height, width]` is taken as a matrix
//! `[out, in × height × width]`.
//!
//! On a field, `#[hyper(linear(64, 64), role = lora(2, 4.))]`, the role adapts matrices and kernels, and
//! freezes what else the layer has.
//!
//! `lora_dropout(rank, alpha, dropout)` drops that part of the difference's input in training, as PEFT's
//! `lora_dropout` does. A layer's `forward` knows nothing of training: its adapter is built with dropout
//! where the target is built for training, as [`forward_t`](crate::GeneratedParams::forward_t) and
//! [`unpack_t`](crate::GeneratedParams::unpack_t) do. It needs a layer that applies its adapter itself,
//! since a merged weight has no input of the difference alone: `Linear`, and `Conv2d` of one group.
//! A field that is tied to an adapted weight gets the adapted weight, and nothing of the dropout.
//!
//! ```
//! use hypernn::HyperTarget;
//! use hypernn::nn::Linear;
//!
//! #[derive(HyperTarget)]
//! #[hyper(sequential = [hidden, relu, out])]
//! struct Net {
//!     #[hyper(linear(64, 64), role = lora_dropout(2, 4., 0.1))]
//!     hidden: Linear,
//!     #[hyper(linear(64, 4))]
//!     out: Linear,
//! }
//!
//! // Two factors in place of a matrix; the first bias is frozen.
//! const _: () = assert!(Net::NUM_PARAMS == 2 * (64 + 64) + 64 * 4 + 4);
//! ```
//!
//! By name, for any target, and an adapter for each row of the input:
//!
//! ```
//! use candle_core::{DType, Device, Result, Tensor};
//! use hypernn::nn::{Linear, Module, VarBuilder, VarMap};
//! use hypernn::{HyperTarget, hypernetwork};
//!
//! #[derive(HyperTarget)]
//! struct Net {
//!     #[hyper(linear(64, 64))]
//!     hidden: Linear,
//!     #[hyper(linear(64, 4))]
//!     out: Linear,
//! }
//!
//! impl Module for Net {
//!     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
//!         self.out.forward(&self.hidden.forward(xs)?.relu()?)
//!     }
//! }
//!
//! hypernetwork! {
//!     /// Each row of the input adapts the network to itself.
//!     struct HyperNet for Net {
//!         roles: [("*.weight", lora(2, 4.)), ("*", freeze)],
//!         embedding: encoder(64, [16], tanh, 28, 4),
//!         generator: linear,
//!         mode: dynamic,
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let vars = VarMap::new();
//! let net = Net::new(VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
//! let pretrained = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
//! let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
//! let hyper = HyperNet::new_from(vb, pretrained)?;
//! // Two factors of rank 2 for each weight, in place of 64 × 64 and 4 × 64 values.
//! assert_eq!(hyper.num_target_params(), 2 * (64 + 64) + 2 * (64 + 4));
//! let xs = Tensor::randn(0f32, 1., (3, 64), &Device::Cpu)?;
//! let difference = (hyper.forward(&xs)? - net.forward(&xs)?)?.abs()?.max_all()?;
//! assert!(difference.to_scalar::<f32>()? < 1e-5);
//! # Ok(())
//! # }
//! ```

pub use crate::info::AdapterSize;
