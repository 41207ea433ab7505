//! The loss of classes and tokens.

use candle_core::{DType, Result, Tensor};

use crate::check::ensure_float;
use crate::ops;

/// The mean cross-entropy of `logits [N, V]` and `targets`, u32 `[N]`, over the rows whose target is not `ignored`: a
/// scalar, of the logits' dtype, in half precision of f32.
///
/// As PyTorch's `cross_entropy` with `ignore_index`; padding and prompts have `ignored` for their target, `u32::MAX`
/// say. Ignored rows are not looked at, and their gradient is zero. For a language model, whose row `t` predicts token
/// `t + 1`, logits and targets are shifted by the caller.
///
/// It keeps one number per row for the backward, which writes the gradient, softmax minus one-hot over the number of
/// rows, at once. It has no parameters, and so nothing to do with weight sets.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use hypernn::nn::cross_entropy;
///
/// # fn main() -> candle_core::Result<()> {
/// let logits = Var::new(&[[0f32, 0.], [5., -5.]], &Device::Cpu)?;
/// let targets = Tensor::new(&[1u32, u32::MAX], &Device::Cpu)?;
/// let loss = cross_entropy(&logits, &targets, u32::MAX)?;
/// assert!((loss.to_scalar::<f32>()? - 2f32.ln()).abs() < 1e-6);
/// let grads = loss.backward()?;
/// let grad = grads.get(&logits).map(Tensor::to_vec2::<f32>).transpose()?;
/// assert_eq!(grad, Some(vec![vec![0.5, -0.5], vec![0., 0.]]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A shape or dtype is another, a target is neither below `V` nor `ignored`, or all targets are ignored, so that there
/// is no mean.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, ignored: u32) -> Result<Tensor> {
    ensure_float("cross_entropy", "the logits' dtype", logits.dtype())?;
    let [rows, classes] = *logits.dims() else {
        crate::error::bail!(
            shape,
            "cross_entropy: the logits have shape {:?}, expected [rows, classes]",
            logits.dims()
        );
    };
    if targets.dims() != [rows] || targets.dtype() != DType::U32 {
        crate::error::bail!(
            shape,
            "cross_entropy: the targets are {:?} of shape {:?}, expected U32 of [{rows}]",
            targets.dtype(),
            targets.dims()
        );
    }
    let targets = kept(&targets.to_vec1()?, classes, ignored)?;
    ops::cross_entropy::cross_entropy(logits, targets)
}

/// The target of each row, and none where it is ignored.
fn kept(targets: &[u32], classes: usize, ignored: u32) -> Result<Vec<Option<u32>>> {
    let outside = |&target: &u32| target != ignored && target as usize >= classes;
    if let Some(row) = targets.iter().position(outside) {
        crate::error::bail!(
            shape,
            "cross_entropy: target {} of row {row} is out of range, there are {classes} classes",
            targets[row]
        );
    }
    let kept: Vec<_> =
        targets.iter().map(|&target| (target != ignored).then_some(target)).collect();
    if kept.iter().all(Option::is_none) {
        crate::error::bail!(
            shape,
            "cross_entropy: all {} targets are {ignored}, which is ignored, expected at least one that is not",
            targets.len()
        );
    }
    Ok(kept)
}
