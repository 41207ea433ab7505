//! Pooling of images.

use candle_core::{D, Result, Tensor};

use crate::ops::max_pool::max_pool;

/// The largest value of each window of `size` × `size`, windows side by side: `[B, C, H, W]` to
/// `[B, C, ⌊H / size⌋, ⌊W / size⌋]`, as `Tensor::max_pool2d`.
///
/// A window with NaN gives NaN, as in PyTorch; candle's own leaves it out.
///
/// The gradient of candle 0.11's own is too small by a factor of `size²`, and lies at other places
/// where the windows leave a remainder. Here a window's gradient goes to its largest value, in equal
/// shares where several are largest.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use hypernn::nn::max_pool2d;
///
/// # fn main() -> candle_core::Result<()> {
/// let xs = Var::new(&[[[[1f32, 2.], [3., 4.]]]], &Device::Cpu)?;
/// let ys = max_pool2d(&xs, 2)?;
/// assert_eq!(ys.flatten_all()?.to_vec1::<f32>()?, [4.]);
/// let grads = ys.sum_all()?.backward()?;
/// let grad = grads.get(&xs).map(|grad| grad.flatten_all()?.to_vec1::<f32>()).transpose()?;
/// assert_eq!(grad, Some(vec![0., 0., 0., 1.]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The input has another rank, or less than `size` pixels along an axis; or `size` is 0.
pub fn max_pool2d(xs: &Tensor, size: usize) -> Result<Tensor> {
    max_pool(&whole_windows("max_pool2d", xs, size)?, size)
}

/// The mean of each window of `size` × `size`, windows side by side: `[B, C, H, W]` to
/// `[B, C, ⌊H / size⌋, ⌊W / size⌋]`, as `Tensor::avg_pool2d`.
///
/// The gradient of candle 0.11's own lies at other places where the windows leave a remainder.
///
/// # Errors
/// The input has another rank, or less than `size` pixels along an axis; or `size` is 0.
pub fn avg_pool2d(xs: &Tensor, size: usize) -> Result<Tensor> {
    whole_windows("avg_pool2d", xs, size)?.avg_pool2d(size)
}

/// The mean of each channel: `[B, C, H, W]` to `[B, C]`.
///
/// # Errors
/// The input has another rank.
pub fn global_avg_pool2d(xs: &Tensor) -> Result<Tensor> {
    check_rank("global_avg_pool2d", xs)?;
    xs.flatten_from(2)?.mean(D::Minus1)
}

/// The input without the pixels at the right and lower edges that no window covers.
fn whole_windows(name: &str, xs: &Tensor, size: usize) -> Result<Tensor> {
    check_rank(name, xs)?;
    let (_, _, height, width) = xs.dims4()?;
    if size == 0 || height < size || width < size {
        crate::error::bail!(
            shape,
            "{name}: a window of {size} × {size} does not fit into {height} × {width}"
        );
    }
    let whole = |pixels| pixels / size * size;
    xs.narrow(2, 0, whole(height))?.narrow(3, 0, whole(width))
}

fn check_rank(name: &str, xs: &Tensor) -> Result<()> {
    if xs.rank() == 4 {
        return Ok(());
    }
    crate::error::bail!(
        shape,
        "{name}: the input has shape {:?}, expected [batch, channels, height, width]",
        xs.dims()
    )
}
