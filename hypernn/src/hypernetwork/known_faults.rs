//! The operations of candle whose gradients are cut off, wrong or an error.

/// What is wrong with an operation's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Fault {
    /// It has none, and candle reports no error: what lies before it learns nothing.
    Cut,
    /// It has other values than the derivative.
    Wrong,
    /// The backward pass ends in an error.
    Error,
}

/// An operation of candle 0.11 whose gradient is cut off, wrong or an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct KnownFault {
    /// The operation's path.
    pub operation: &'static str,
    /// What is wrong.
    pub fault: Fault,
    /// Where: which gradient, for which arguments.
    pub of: &'static str,
    /// What to use in its place.
    pub instead: &'static str,
}

const fn cut(operation: &'static str, of: &'static str, instead: &'static str) -> KnownFault {
    KnownFault { operation, fault: Fault::Cut, of, instead }
}

const fn wrong(operation: &'static str, of: &'static str, instead: &'static str) -> KnownFault {
    KnownFault { operation, fault: Fault::Wrong, of, instead }
}

const fn error(operation: &'static str, of: &'static str, instead: &'static str) -> KnownFault {
    KnownFault { operation, fault: Fault::Error, of, instead }
}

/// The operations of candle 0.11 whose gradients are cut off, wrong or an error, as far as known. A test of
/// hypernn runs each beside differences of a loss, and fails once candle has mended it.
///
/// ```
/// use hypernn::hypernetwork::{Fault, KNOWN_FAULTS};
///
/// let rope = KNOWN_FAULTS.iter().find(|known| known.operation == "candle_nn::rotary_emb::rope");
/// assert_eq!(rope.map(|known| known.fault), Some(Fault::Cut));
/// assert_eq!(rope.map(|known| known.instead), Some("candle_nn::rotary_emb::rope_slow"));
/// ```
pub const KNOWN_FAULTS: &[KnownFault] = &[
    cut("candle_nn::ops::softmax_last_dim", "its input", "candle_nn::ops::softmax"),
    cut(
        "candle_nn::ops::rms_norm",
        "all inputs; `candle_nn::RmsNorm` over a contiguous input calls it",
        "hypernn::nn::RmsNorm, candle_nn::ops::rms_norm_slow",
    ),
    cut(
        "candle_nn::ops::layer_norm",
        "all inputs; `candle_nn::LayerNorm` with a bias over a contiguous input calls it",
        "hypernn::nn::LayerNorm, candle_nn::ops::layer_norm_slow",
    ),
    cut("candle_nn::rotary_emb::rope", "its input", "candle_nn::rotary_emb::rope_slow"),
    cut("candle_nn::rotary_emb::rope_i", "its input", "candle_nn::rotary_emb::rope_i_slow"),
    cut(
        "candle_nn::rotary_emb::rope_thd",
        "its input",
        "candle_nn::rotary_emb::rope_slow over transposed inputs",
    ),
    cut(
        "candle_nn::attention::flash_attn",
        "all inputs, on the CPU",
        "products and candle_nn::ops::softmax",
    ),
    cut(
        "candle_nn::ops::sdpa",
        "all inputs, on Metal; elsewhere it does not run",
        "products and candle_nn::ops::softmax",
    ),
    cut("candle_nn::kv_cache::KvCache", "what is appended", "no cache in training"),
    cut("candle_nn::kv_cache::RotatingKvCache", "what is appended", "no cache in training"),
    cut("candle_nn::kv_cache::ConcatKvCache", "what is appended", "no cache in training"),
    cut("Tensor::slice_set", "what is written", "Tensor::slice_scatter, Tensor::cat"),
    cut("Tensor::scatter_set", "what is written", "Tensor::index_add of a difference"),
    cut("Tensor::scatter_add_set", "what is written", "Tensor::index_add"),
    cut("candle_core::quantized::QMatMul", "its input", "an ordinary linear layer"),
    wrong(
        "Tensor::conv1d",
        "the kernel, with more than one sample and one output channel",
        "hypernn::nn::Conv1d, Tensor::conv2d with a height of 1",
    ),
    wrong(
        "Tensor::max_pool2d",
        "divided by the number of the window's values; where windows leave a remainder, in other places",
        "hypernn::nn::max_pool2d",
    ),
    wrong(
        "Tensor::avg_pool2d",
        "where windows leave a remainder, in other places",
        "hypernn::nn::avg_pool2d",
    ),
    wrong(
        "Tensor::upsample_nearest1d",
        "where its input is used elsewhere too, as by a skip connection, that gradient may be lost",
        "Tensor::broadcast_as and Tensor::reshape",
    ),
    wrong(
        "Tensor::upsample_nearest2d",
        "where its input is used elsewhere too, as by a skip connection, that gradient may be lost",
        "Tensor::broadcast_as and Tensor::reshape",
    ),
    wrong(
        "Tensor::scatter",
        "the tensor written to, where it is overwritten",
        "Tensor::where_cond",
    ),
    wrong("Tensor::unfold", "all values where windows overlap", "Tensor::narrow and Tensor::stack"),
    wrong("Tensor::max", "each of several equal values gets all of it", "no ties"),
    wrong("Tensor::min", "each of several equal values gets all of it", "no ties"),
    wrong(
        "Tensor::matmul",
        "a transposed view times a broadcast one, on the CPU: the product itself is wrong",
        "Tensor::broadcast_matmul, Tensor::contiguous before",
    ),
    error("Tensor::conv_transpose1d", "always", "hypernn::nn::ConvTranspose1d"),
    error(
        "Tensor::conv2d",
        "a stride that leaves another remainder in height than in width",
        "hypernn::nn::Conv2d",
    ),
    error("Tensor::max_pool2d_with_stride", "a stride other than the window", "none in candle"),
    error("Tensor::avg_pool2d_with_stride", "a stride other than the window", "none in candle"),
    error("Tensor::upsample_bilinear2d", "always", "none in candle"),
    error(
        "Tensor::scatter_add",
        "the tensor added to, unless all is of one shape",
        "Tensor::index_add",
    ),
];
