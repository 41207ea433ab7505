//! The parametric rectifier.

use candle_core::{Result, Tensor};

use super::gain::sum_as;
use super::with_backward::{node, with_backward};
use crate::param::Param;

/// `xs` where it is positive, elsewhere times slopes whose shape broadcasts to that of `xs`.
pub(crate) fn prelu(xs: &Tensor, slopes: &Param) -> Result<Tensor> {
    let Some(route) = slopes.route() else {
        let slopes = slopes.collected()?;
        return if slopes.track_op() { values(xs, &slopes) } else { frozen(xs, slopes) };
    };
    let (slopes, edge) = (slopes.values().detach(), route.edge().clone());
    let ys = values(&xs.detach(), &slopes)?;
    with_backward("prelu", ys, xs, &edge, move |xs, grad| {
        let (values, positive) = (xs.detach(), positive(xs)?);
        let of_slopes = positive.where_cond(&grad.zeros_like()?, &(grad * &values)?)?;
        let of_edge = route.deliver(sum_as(&of_slopes, &slopes)?)?;
        let of_input = || positive.where_cond(grad, &grad.broadcast_mul(&slopes)?);
        Ok((xs.track_op().then(of_input).transpose()?, of_edge))
    })
}

/// With slopes that have no gradient, so that none is computed.
fn frozen(xs: &Tensor, slopes: Tensor) -> Result<Tensor> {
    let ys = values(&xs.detach(), &slopes)?;
    node("prelu", ys, [xs], move |[xs], _, grad| {
        let scaled = grad.broadcast_mul(&slopes)?;
        Ok([Some(positive(&xs.detach())?.where_cond(grad, &scaled)?)])
    })
}

fn values(xs: &Tensor, slopes: &Tensor) -> Result<Tensor> {
    let scaled = xs.broadcast_mul(slopes)?;
    // On CUDA, candle can't compare nothing.
    if scaled.elem_count() == 0 {
        return Ok(scaled);
    }
    // Candle's own maximum and minimum share the gradient at 0 half and half.
    positive(xs)?.where_cond(xs, &scaled)
}

fn positive(xs: &Tensor) -> Result<Tensor> {
    xs.gt(&xs.zeros_like()?)
}
