//! The last step of a normalisation, as by hand: times a weight, plus a bias.

use candle_core::{Result, Tensor};

use super::adopt::adopt;
use super::split::Sink;

/// `xs` times a weight, plus a bias, whose shapes broadcast to that of `xs`.
pub(crate) fn gain(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let ys = xs.broadcast_mul(weight)?;
    bias.map_or(Ok(ys.clone()), |bias| ys.broadcast_add(bias))
}

/// As [`gain`], for a weight and a bias with sinks.
pub(crate) fn gain_into(
    layer: &'static str,
    xs: &Tensor,
    (weight, weight_sink): (&Tensor, Sink),
    bias: Option<(&Tensor, Sink)>,
) -> Result<Tensor> {
    let (weight, below) = (weight.detach(), weight_sink.below().clone());
    let detached = bias.as_ref().map(|(bias, _)| bias.detach());
    let ys = gain(&xs.detach(), &weight, detached.as_ref())?;
    let bias_sink = bias.map(|(_, sink)| sink);
    adopt(layer, ys, [xs, &below], move |xs, grad| {
        let mut token = weight_sink.file(sum_as(&(grad * xs.detach())?, &weight)?)?;
        if let Some(sink) = &bias_sink {
            token = sink.file(sum_as(grad, &weight)?)?.or(token);
        }
        let of_input = xs.track_op().then(|| grad.broadcast_mul(&weight)).transpose()?;
        Ok((of_input, token))
    })
}

/// The sum over all along which `like` is broadcast to `values`.
pub(super) fn sum_as(values: &Tensor, like: &Tensor) -> Result<Tensor> {
    let pairs = values.dims().iter().zip(like.dims()).enumerate();
    let along = pairs.filter(|(_, (values, like))| values != like).map(|(axis, _)| axis);
    values.sum_keepdim(along.collect::<Vec<_>>())
}
