//! The softmax over the last dimension, whose backward is one pass.

use candle_core::{D, DType, Device, Result, Tensor};
use hypernn_kernels::softmax;

use super::kernels::{CandleThreads, kernel};
use super::scalar::{Scalar, is_direct, values};
use super::second_order::operand;
use super::with_backward::node;

/// `eˣ` over its sum, `[…, n]`.
pub(crate) fn softmax(xs: &Tensor) -> Result<Tensor> {
    // On CUDA, candle can't sum up nothing.
    if xs.elem_count() == 0 {
        return Ok(xs.clone());
    }
    let xs = xs.contiguous()?;
    let ys = forward(&xs.detach())?;
    node("softmax", ys, [&xs], |_, ys, grad| Ok([Some(backward(&operand(ys), grad)?)]))
}

fn forward(xs: &Tensor) -> Result<Tensor> {
    if !is_direct(xs) {
        return candle_nn::ops::softmax_last_dim(xs);
    }
    match xs.dtype() {
        DType::F64 => direct::<f64>(xs),
        _ => direct::<f32>(xs),
    }
}

fn direct<T: Scalar>(xs: &Tensor) -> Result<Tensor> {
    let width = xs.dim(D::Minus1)?;
    let ys = values(xs, |xs: &[T]| softmax::softmax(xs, width, &CandleThreads))?;
    Tensor::from_vec(kernel(ys)?, xs.shape(), &Device::Cpu)
}

/// `y (g - Σ y g)`: one pass, which is no node, or candle's operations, elsewhere and where gradients are
/// differentiated again.
fn backward(ys: &Tensor, grad: &Tensor) -> Result<Tensor> {
    if !is_direct(ys) || ys.track_op() || grad.track_op() {
        let mean = (ys * grad)?.sum_keepdim(D::Minus1)?;
        return ys * grad.broadcast_sub(&mean)?;
    }
    let grad = grad.contiguous()?;
    match ys.dtype() {
        DType::F64 => direct_backward::<f64>(ys, &grad),
        _ => direct_backward::<f32>(ys, &grad),
    }
}

fn direct_backward<T: Scalar>(ys: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let width = ys.dim(D::Minus1)?;
    let grads = values(ys, |ys: &[T]| {
        values(grad, |grad| softmax::softmax_grad(ys, grad, width, &CandleThreads))
    })??;
    Tensor::from_vec(kernel(grads)?, ys.shape(), &Device::Cpu)
}
