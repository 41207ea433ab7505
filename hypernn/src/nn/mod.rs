//! Drop-in layers for `candle_nn`, differentiable in every case, with weights that may come in
//! several sets.
//!
//! Each has candle's constructors and candle's `forward`. Where a weight has one dimension more
//! than usual, `[G, …]`, it holds `G` sets: the batch of `G × n` rows is then cut into `G` runs of
//! `n` consecutive rows, and each run uses its own set. The rank and meaning of inputs and outputs
//! stay those of the ordinary layer.
//!
//! ```
//! use candle_core::{Device, Result, Tensor};
//! use hypernn::nn::{Linear, Module};
//!
//! # fn main() -> Result<()> {
//! // Two sets of a weight `[2, 4]`; the first three rows meet the first set, the others the second.
//! let weights = Tensor::randn(0f32, 1., (2, 2, 4), &Device::Cpu)?;
//! let xs = Tensor::randn(0f32, 1., (6, 4), &Device::Cpu)?;
//! let ys = Linear::new(weights.clone(), None).forward(&xs)?;
//! assert_eq!(ys.dims(), [6, 2]);
//! let second = Linear::new(weights.get(1)?, None).forward(&xs.narrow(0, 3, 3)?)?;
//! let difference = (ys.narrow(0, 3, 3)? - second)?.abs()?.max_all()?;
//! assert!(difference.to_scalar::<f32>()? < 1e-5);
//! # Ok(())
//! # }
//! ```
//!
//! NaN stays NaN through all of them, and through the functions [`relu`], [`max_pool2d`], … and the steps of
//! chains: a broken input or weight shows in the loss. candle's own `Tensor::relu`, and [`Activation::Relu`] with
//! it, also as the `value` of a field, makes 0 of NaN, and `Tensor::max_pool2d` leaves it out; on devices, so do
//! `Tensor::maximum`, `Tensor::minimum` and `Tensor::clamp`. [`SGD`] is candle's as well, and takes a learning rate
//! of NaN, which [`AdamW`] refuses.
//!
//! For language models there are functions without parameters, each with a backward, on every device and in every
//! floating dtype: [`softmax`], [`attention`](attention()) with its [`AttentionMask`], [`Rotary`] position embeddings
//! and [`cross_entropy`].
//!
//! What candle_nn offers beside layers with parameters is re-exported under its own paths, modules
//! included, so that `use hypernn::nn::…` replaces `use candle_nn::…`. It is candle's, and some of it is for
//! inference alone, without a backward: `rope`, `rope_i` and `rope_thd` of [`rotary_emb`], for which there is
//! [`Rotary`]; the fused attention of the module [`attention`](mod@attention) and of [`cpu_flash_attention`], for
//! which there is the function [`attention`](attention()); `softmax_last_dim` of [`ops`], for which there is
//! [`softmax`]; and the kernels of [`moe`].

pub mod activation;
mod affine;
#[doc(hidden)]
pub mod batch_norm;
#[doc(hidden)]
pub mod conv;
mod conv1d;
mod conv2d;
mod conv_transpose1d;
mod conv_transpose2d;
mod cross_entropy;
mod dot_product_attention;
#[doc(hidden)]
pub mod embedding;
mod fixed_tensors;
/// Functions as modules, as `candle_nn::func`.
pub mod func {
    pub use candle_nn::func::{Func, FuncT, func, func_t};
}
#[doc(hidden)]
pub mod group_norm;
mod gru;
#[doc(hidden)]
pub mod layer_norm;
#[doc(hidden)]
pub mod linear;
mod lstm;
mod norm;
pub mod optim;
mod pool;
mod prelu;
mod recurrent;
mod rms_norm;
/// Recurrent layers, as `candle_nn::rnn`.
pub mod rnn {
    pub use super::{GRU, GRUConfig, LSTM, LSTMConfig, RNN, gru, lstm};
    pub use candle_nn::rnn::{Direction, GRUState, LSTMState};
}
/// Modules one after the other, as `candle_nn::sequential`.
pub mod sequential {
    pub use candle_nn::sequential::{Sequential, seq};
}
mod rotary;
mod sliding_window;
mod softmax;
pub mod step;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use activation::relu;
pub use batch_norm::{BatchNorm, BatchNormSpec, batch_norm};
pub use candle_core::{Module, ModuleT};
pub use candle_nn::rnn::{Direction, GRUState, LSTMState};
pub use candle_nn::{
    Activation, Dropout, Init, VarBuilder, VarMap, attention, cpu_flash_attention, encoding, init,
    kv_cache, loss, moe, ops, rotary_emb, sampling, var_builder, var_map, varlen_attention,
};
pub use candle_nn::{
    BatchNormConfig, Conv1dConfig, Conv2dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig,
    GRUConfig, LSTMConfig, LayerNormConfig, RNN,
};
pub use conv_transpose1d::{
    ConvTranspose1d, ConvTranspose1dSpec, conv_transpose1d, conv_transpose1d_no_bias,
};
pub use conv_transpose2d::{
    ConvTranspose2d, ConvTranspose2dSpec, conv_transpose2d, conv_transpose2d_no_bias,
};
pub use conv1d::{Conv1d, Conv1dSpec, conv1d, conv1d_no_bias};
pub use conv2d::{Conv2d, Conv2dSpec, conv2d, conv2d_no_bias};
pub use cross_entropy::cross_entropy;
pub use dot_product_attention::{AttentionMask, attention};
pub use embedding::{Embedding, EmbeddingSpec, embedding};
pub use func::{Func, FuncT, func, func_t};
pub use group_norm::{GroupNorm, GroupNormSpec, group_norm};
pub use gru::{GRU, GRUSpec, gru};
pub use layer_norm::{LayerNorm, LayerNormSpec, layer_norm, layer_norm_no_bias};
pub use linear::{Linear, LinearSpec, linear, linear_b, linear_no_bias};
pub use lstm::{LSTM, LSTMSpec, lstm};
#[doc(hidden)]
pub use norm::{Eps, Epsilon};
pub use optim::{AdamW, Optimizer, ParamsAdamW, SGD};
pub use pool::{avg_pool2d, global_avg_pool2d, max_pool2d};
pub use prelu::{PReLU, PReLUSpec, prelu};
pub use rms_norm::{RmsNorm, RmsNormSpec, rms_norm};
pub use rotary::{Rotary, RotaryConfig, RotaryConvention, RotaryScaling, RotaryTables};
pub use sequential::{Sequential, seq};
pub use softmax::softmax;

/// The constructors as they are written in `#[hyper(…)]`: the candle constructor without `vb`.
pub mod spec {
    pub use super::batch_norm::spec::batch_norm;
    pub use super::conv_transpose1d::spec::{conv_transpose1d, conv_transpose1d_no_bias};
    pub use super::conv_transpose2d::spec::{conv_transpose2d, conv_transpose2d_no_bias};
    pub use super::conv1d::spec::{conv1d, conv1d_no_bias};
    pub use super::conv2d::spec::{conv2d, conv2d_no_bias};
    pub use super::embedding::spec::embedding;
    pub use super::group_norm::spec::group_norm;
    pub use super::gru::spec::gru;
    pub use super::layer_norm::spec::{layer_norm, layer_norm_no_bias};
    pub use super::linear::spec::{linear, linear_b, linear_no_bias};
    pub use super::lstm::spec::lstm;
    pub use super::prelu::spec::prelu;
    pub use super::rms_norm::spec::rms_norm;
}
