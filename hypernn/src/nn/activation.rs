//! Activations, as `candle_nn::activation`, and those that candle has otherwise.

use candle_core::{Result, Tensor};

pub use super::{Activation, PReLU, prelu};
use crate::ops::activation;

/// `max(x, 0)`, and NaN where `x` is NaN, as in PyTorch.
///
/// candle 0.11's own `Tensor::relu` makes 0 of NaN, so that a network goes on with finite numbers behind an
/// input or a weight that is none. The gradient passes where `x` is 0, as candle's does, and where it is NaN.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use hypernn::nn::relu;
///
/// # fn main() -> candle_core::Result<()> {
/// let xs = Tensor::new(&[-1f32, 2., f32::NAN], &Device::Cpu)?;
/// let ys = relu(&xs)?.to_vec1::<f32>()?;
/// assert_eq!(ys[..2], [0., 2.]);
/// assert!(ys[2].is_nan());
/// assert_eq!(xs.relu()?.to_vec1::<f32>()?, [0., 2., 0.]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// candle's own.
pub fn relu(xs: &Tensor) -> Result<Tensor> {
    activation::relu(xs)
}
