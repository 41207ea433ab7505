//! Drop-in layers for `candle_nn`, differentiable in every case, with weights that may come in
//! several sets.
//!
//! Each has candle's constructors and candle's `forward`. Where a weight has one dimension more
//! than usual, `[G, …]`, it holds `G` sets: the batch of `G × n` rows is then cut into `G` runs of
//! `n` consecutive rows, and each run uses its own set. The rank and meaning of inputs and outputs
//! stay those of the ordinary layer.
//!
//! What candle_nn offers beside layers with parameters is re-exported, so that `use hypernn::nn::…`
//! replaces `use candle_nn::…`.

mod linear;
mod sets;

pub use candle_core::{Module, ModuleT};
pub use candle_nn::{
    Activation, AdamW, Dropout, Func, FuncT, Init, Optimizer, ParamsAdamW, SGD, Sequential,
    VarBuilder, VarMap, func, func_t, init, loss, ops, optim, seq, var_builder, var_map,
};
pub use linear::{Linear, LinearSpec, linear, linear_b, linear_no_bias};

/// The constructors as they are written in `#[hyper(…)]`: the candle constructor without `vb`.
pub mod spec {
    pub use super::linear::spec::{linear, linear_b, linear_no_bias};
}
