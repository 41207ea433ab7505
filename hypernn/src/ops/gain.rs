//! The last step of a normalisation, as by hand: times a weight, plus a bias.

use candle_core::{Result, Tensor};

use super::with_backward::{node, with_backward};
use crate::param::{Param, Routes};

/// `xs` times a weight, plus a bias, whose shapes broadcast to that of `xs`; the last step of `layer`.
pub(crate) fn gain(
    layer: &'static str,
    xs: &Tensor,
    weight: &Param,
    bias: Option<&Param>,
) -> Result<Tensor> {
    let Some(routes) = Routes::of(weight, bias) else {
        let ys = times(layer, xs, &weight.collected()?)?;
        return bias.map_or(Ok(ys.clone()), |bias| plus(layer, &ys, &bias.collected()?));
    };
    let weight = weight.values().detach();
    let bias = bias.map(|bias| bias.values().detach());
    let ys = values(&xs.detach(), &weight, bias.as_ref())?;
    let edge = routes.edge().clone();
    with_backward(layer, ys, xs, &edge, move |xs, grad| {
        let of_weight = sum_as(&(grad * xs.detach())?, &weight)?;
        let of_edge = routes.deliver(of_weight, || sum_as(grad, &weight))?;
        let of_input = xs.track_op().then(|| grad.broadcast_mul(&weight)).transpose()?;
        Ok((of_input, of_edge))
    })
}

/// `xs` times what broadcasts to its shape.
///
/// candle computes the gradients of both sides, also of one that nothing asks for.
fn times(layer: &'static str, xs: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if weight.track_op() {
        return xs.broadcast_mul(weight);
    }
    let factor = weight.clone();
    let times = move |xs: &Tensor| xs.broadcast_mul(&factor);
    of_constants(layer, xs, times.clone(), times)
}

/// `xs` plus what broadcasts to its shape.
pub(crate) fn plus(layer: &'static str, xs: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let dims = bias.dims().iter().rev().zip(xs.dims().iter().rev());
    let fits = bias.rank() <= xs.rank() && dims.into_iter().all(|(b, x)| b == x || *b == 1);
    if bias.track_op() || !fits {
        return xs.broadcast_add(bias);
    }
    of_constants(layer, xs, |xs| xs.broadcast_add(bias), |grad| Ok(grad.clone()))
}

/// What is linear in `xs`, but for what is added, and in nothing else that has a gradient; `backward` makes the gradient
/// of `xs` of that of the outputs.
pub(crate) fn of_constants(
    layer: &'static str,
    xs: &Tensor,
    forward: impl FnOnce(&Tensor) -> Result<Tensor>,
    backward: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let ys = forward(&xs.detach())?;
    node(layer, ys, [xs], move |_, _, grad| Ok([Some(backward(grad)?)]))
}

fn values(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let ys = xs.broadcast_mul(weight)?;
    bias.map_or(Ok(ys.clone()), |bias| ys.broadcast_add(bias))
}

/// The sum over all along which `like` is broadcast to `values`.
pub(super) fn sum_as(values: &Tensor, like: &Tensor) -> Result<Tensor> {
    let pairs = values.dims().iter().zip(like.dims()).enumerate();
    let along = pairs.filter(|(_, (values, like))| values != like).map(|(axis, _)| axis);
    values.sum_keepdim(along.collect::<Vec<_>>())
}
