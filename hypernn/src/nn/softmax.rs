//! The softmax of scores.

use candle_core::{Result, Tensor};

use crate::check::ensure_float;
use crate::ops;

/// `eˣ`, divided by its sum over the last dimension: `[…, n]` to `[…, n]`, in any floating dtype.
///
/// `candle_nn::ops::softmax_last_dim` gives the same values and has no backward; `candle_nn::ops::softmax` has one
/// that makes several tensors of the input's size. This one keeps its output alone, and its backward is one pass:
/// `y (g - Σ y g)` for the gradient `g` of the output `y`.
///
/// It has no parameters, and so nothing to do with weight sets. A row with NaN is NaN, and so is a row of `-∞` alone.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use hypernn::nn::softmax;
///
/// # fn main() -> candle_core::Result<()> {
/// let xs = Var::new(&[[0f64, 3f64.ln()]], &Device::Cpu)?;
/// let ys = softmax(&xs)?;
/// assert!((ys.to_vec2::<f64>()?[0][0] - 0.25).abs() < 1e-12);
/// // The gradient of the first probability, y₀ (1 - y₀) and -y₀ y₁.
/// let grads = ys.narrow(1, 0, 1)?.sum_all()?.backward()?;
/// let grad = grads.get(&xs).map(Tensor::to_vec2::<f64>).transpose()?.unwrap_or_default();
/// assert!((grad[0][0] - 0.1875).abs() < 1e-12 && (grad[0][1] + 0.1875).abs() < 1e-12);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The input is a scalar, or of an integer dtype.
pub fn softmax(xs: &Tensor) -> Result<Tensor> {
    ensure_float("softmax", "the input's dtype", xs.dtype())?;
    if xs.rank() == 0 {
        crate::error::bail!(
            shape,
            "softmax: the input is a scalar, expected at least one dimension"
        );
    }
    ops::softmax::softmax(xs)
}
