//! Pairs of values turned by angles. The backward turns the gradient the other way.

use candle_core::{DType, Device, Result, Tensor};
use hypernn_kernels::rotary;

use super::kernels::{CandleThreads, kernel};
use super::scalar::{CpuHeads, CpuSlice, Scalar, is_direct, rows_together};
use super::with_backward::node;

/// The angles of each position, and which values are a pair.
#[derive(Clone)]
pub(crate) struct Rotation {
    /// The cosines, `[1, T, D / 2]`, or `[B, T, D / 2]` where positions differ.
    pub(crate) cos: Tensor,
    /// The sines, of the same shape.
    pub(crate) sin: Tensor,
    /// Whether a pair lies side by side; else one half of the values is paired with the other.
    pub(crate) interleaved: bool,
}

/// Turns the pairs of `xs [B, H, T, D]`.
pub(crate) fn rotate(xs: &Tensor, rotation: Rotation) -> Result<Tensor> {
    turn(xs, rotation, false)
}

/// There, or back. A node of the graph where the input is tracked, so that gradients can be differentiated again.
fn turn(xs: &Tensor, rotation: Rotation, back: bool) -> Result<Tensor> {
    // On CUDA, candle can't compute with nothing.
    if xs.elem_count() == 0 {
        return Ok(xs.clone());
    }
    let ys = forward(&xs.detach(), &rotation, back)?;
    node("rotary", ys, [xs], move |_, _, grad| Ok([Some(turn(grad, rotation.clone(), !back)?)]))
}

fn forward(xs: &Tensor, rotation: &Rotation, back: bool) -> Result<Tensor> {
    match xs.dtype() {
        DType::F64 if is_direct(xs) => direct::<f64>(xs, rotation, back),
        DType::F32 if is_direct(xs) => direct::<f32>(xs, rotation, back),
        _ => by_candle(xs, rotation, back),
    }
}

fn direct<T: Scalar>(xs: &Tensor, rotation: &Rotation, back: bool) -> Result<Tensor> {
    let xs = rows_together(xs)?;
    let (cos, sin) = (CpuSlice::new(&rotation.cos)?, CpuSlice::new(&rotation.sin)?);
    let interleaved = rotation.interleaved;
    let rotation = rotary::Rotation { cos: cos.values()?, sin: sin.values()?, interleaved, back };
    let ys = rotary::rotate(CpuHeads::new(&xs).heads::<T>()?, rotation, &CandleThreads);
    Tensor::from_vec(kernel(ys)?, xs.shape(), &Device::Cpu)
}

/// By candle's kernels.
fn by_candle(xs: &Tensor, rotation: &Rotation, back: bool) -> Result<Tensor> {
    let shared = |table: &Tensor| {
        if table.dim(0)? == 1 { table.squeeze(0) } else { Ok(table.clone()) }
    };
    let (cos, sin) = (shared(&rotation.cos)?, shared(&rotation.sin)?);
    let sin = if back { sin.neg()? } else { sin };
    let rope = match rotation.interleaved {
        true => candle_nn::rotary_emb::rope_i,
        false => candle_nn::rotary_emb::rope,
    };
    rope(&xs.contiguous()?, &cos.contiguous()?, &sin.contiguous()?)
}
