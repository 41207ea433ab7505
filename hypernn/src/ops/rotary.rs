//! Pairs of values turned by angles.

use candle_core::{D, Result, Tensor};

/// The angles of each position, and which values are a pair.
pub(crate) struct Rotation {
    /// The cosines, `[1, T, D / 2]`, or `[B, T, D / 2]` where positions differ.
    pub(crate) cos: Tensor,
    /// The sines, of the same shape.
    pub(crate) sin: Tensor,
    /// Whether a pair lies side by side; else one half of the values is paired with the other.
    pub(crate) interleaved: bool,
}

/// Turns the pairs of `xs [B, H, T, D]`.
pub(crate) fn rotate(xs: &Tensor, rotation: &Rotation) -> Result<Tensor> {
    // On CUDA, candle can't compute with nothing.
    if xs.elem_count() == 0 {
        return Ok(xs.clone());
    }
    composed(xs, rotation)
}

/// By candle's operations.
fn composed(xs: &Tensor, rotation: &Rotation) -> Result<Tensor> {
    let (batch, heads, length, width) = xs.dims4()?;
    let half = width / 2;
    let (pairs, axis) = match rotation.interleaved {
        true => ((batch, heads, length, half, 2), 4),
        false => ((batch, heads, length, 2, half), 3),
    };
    let pairs = xs.reshape(pairs)?;
    let angle = |table: &Tensor| table.unsqueeze(1)?.unsqueeze(axis);
    let (cos, sin) = (angle(&rotation.cos)?, angle(&rotation.sin)?);
    let (first, second) = (pairs.narrow(axis, 0, 1)?, pairs.narrow(axis, 1, 1)?);
    let turned = [
        (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?,
        (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?,
    ];
    Tensor::cat(&turned, axis)?.flatten_from(D::Minus2)
}
