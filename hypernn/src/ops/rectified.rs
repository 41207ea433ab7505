//! The parametric rectifier.

use candle_core::{Result, Tensor};

use super::adopt::adopt;
use super::gain::sum_as;
use super::split::Sink;

/// `xs` where it is positive, elsewhere times slopes whose shape broadcasts to that of `xs`.
pub(crate) fn rectified(xs: &Tensor, slopes: &Tensor) -> Result<Tensor> {
    let below = xs.broadcast_mul(slopes)?;
    // On CUDA, candle can't compare nothing.
    if below.elem_count() == 0 {
        return Ok(below);
    }
    // Candle's own maximum and minimum share the gradient at 0 half and half.
    positive(xs)?.where_cond(xs, &below)
}

/// As [`rectified`], for slopes with a sink.
pub(crate) fn rectified_into(xs: &Tensor, slopes: &Tensor, sink: Sink) -> Result<Tensor> {
    let (slopes, below) = (slopes.detach(), sink.below().clone());
    let ys = rectified(&xs.detach(), &slopes)?;
    adopt("prelu", ys, [xs, &below], move |xs, grad| {
        let (values, positive) = (xs.detach(), positive(xs)?);
        let of_slopes = positive.where_cond(&grad.zeros_like()?, &(grad * &values)?)?;
        let token = sink.file(sum_as(&of_slopes, &slopes)?)?;
        let of_input = || positive.where_cond(grad, &grad.broadcast_mul(&slopes)?);
        Ok((xs.track_op().then(of_input).transpose()?, token))
    })
}

fn positive(xs: &Tensor) -> Result<Tensor> {
    xs.gt(&xs.zeros_like()?)
}
