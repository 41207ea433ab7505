//! The last step of a normalisation, as by hand: times a weight, plus a bias.

use candle_core::{Result, Tensor};

use super::with_backward::with_backward;
use crate::param::{Param, Routes};

/// `xs` times a weight, plus a bias, whose shapes broadcast to that of `xs`; the last step of `layer`.
pub(crate) fn gain(
    layer: &'static str,
    xs: &Tensor,
    weight: &Param,
    bias: Option<&Param>,
) -> Result<Tensor> {
    let Some(routes) = Routes::of(weight, bias) else {
        let bias = bias.map(Param::collected).transpose()?;
        return values(xs, &weight.collected()?, bias.as_ref());
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
