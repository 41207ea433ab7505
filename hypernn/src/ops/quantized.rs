//! Layers over a frozen weight that stays quantised in memory.
//!
//! The weight is dequantised a few rows at a time, whenever it is used, and multiplied in the layer's own dtype: the
//! result is that of the dequantised weight, digit by digit but for the order of sums. candle's `QMatMul` rounds the
//! inputs to eight bits on the CPU, which costs two or three digits, and has no backward.

use std::borrow::Cow;
use std::ops::Range;

use candle_core::quantized::GgmlDType;
use candle_core::{CpuStorage, DType, Device, Result, Tensor};
use hypernn_kernels::executor::map_parts;

use super::kernels::{CandleThreads, kernel};
use super::linear::linear;
use super::product::matmul;
use super::second_order::{ensure_detached, keeps_graph};
use super::with_backward::node;
use crate::error::bail;
use crate::param::{Param, Quantized};

/// As many values of a weight as are dequantised at a time: four megabytes in f32.
const BLOCK: usize = 1 << 20;

/// As many as one thread takes.
const PART: usize = 1 << 16;

/// The largest index of its dtype, which is no row.
const NO_ROW: u32 = u32::MAX;

/// `xs […, in]`, a quantised weight `[out, in]` and a bias `[out]` to `[…, out]`, as [`linear`]. The weight gets no
/// gradient.
pub(super) fn quantized_linear(
    xs: &Tensor,
    weight: &Quantized,
    bias: Option<&Param>,
) -> Result<Tensor> {
    if keeps_graph() {
        return linear(xs, &weight.dequantize()?.into(), bias);
    }
    let (outputs, inputs) = sizes(weight)?;
    if xs.dims().last() != Some(&inputs) {
        bail!(
            shape,
            "linear: an input of shape {:?} does not fit a weight of shape {:?}",
            xs.dims(),
            weight.dims()
        );
    }
    let dims = [&xs.dims()[..xs.rank() - 1], &[outputs]].concat();
    let ys = product(&xs.detach().contiguous()?, weight)?.reshape(dims)?;
    let weight = weight.clone();
    let ys = node("linear", ys, [xs], move |[xs], _, grad| {
        ensure_detached("linear")?;
        let of_input = product_transposed(&grad.contiguous()?, &weight)?;
        Ok([Some(of_input.reshape(xs.shape())?)])
    })?;
    bias.map_or(Ok(ys.clone()), |bias| ys.broadcast_add(&bias.collected()?.reshape(outputs)?))
}

/// The rows of a quantised table `[rows, width]` at `indices [n]`, as [`lookup`](super::lookup::lookup).
pub(super) fn quantized_rows(table: &Quantized, indices: &Tensor) -> Result<Tensor> {
    let (rows, width) = sizes(table)?;
    if !table.device().is_cpu() {
        return table.dequantize()?.index_select(indices, 0);
    }
    let found = indices.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    let is_row = |index: &i64| (0..rows as i64).contains(index);
    let no_row = if indices.dtype() == DType::I64 { i64::MAX } else { NO_ROW.into() };
    if let Some(index) = found.iter().find(|index| **index != no_row && !is_row(index)) {
        bail!(shape, "embedding: index {index} is out of range, the table has {rows} rows");
    }
    let mut used: Vec<u32> = found.iter().filter(|i| is_row(i)).map(|i| *i as u32).collect();
    used.sort_unstable();
    used.dedup();
    if used.is_empty() {
        return Tensor::zeros((found.len(), width), table.dtype(), table.device());
    }
    let place = |index: &i64| {
        let place = used.binary_search(&u32::try_from(*index).unwrap_or(NO_ROW));
        place.map_or(NO_ROW, |place| place as u32)
    };
    let places: Vec<_> = found.iter().map(place).collect();
    let used = Tensor::from_vec(used.clone(), used.len(), table.device())?;
    let values = table.blocks().embedding(&used)?.to_dtype(table.dtype())?;
    values.index_select(&Tensor::from_vec(places, found.len(), table.device())?, 0)
}

fn sizes(weight: &Quantized) -> Result<(usize, usize)> {
    match *weight.dims() {
        [outputs, inputs] => Ok((outputs, inputs)),
        _ => bail!(shape, "linear: the weight has shape {:?}, expected [out, in]", weight.dims()),
    }
}

/// How many rows `[n…, width]` has.
fn row_count(xs: &Tensor) -> usize {
    xs.dims()[..xs.rank() - 1].iter().product()
}

/// `xs [n…, in]` times the transposed weight `[out, in]`: `[n, out]`.
fn product(xs: &Tensor, weight: &Quantized) -> Result<Tensor> {
    let (_, inputs) = sizes(weight)?;
    let xs = xs.reshape((1, row_count(xs), inputs))?;
    let blocks = blocks(weight)?.map(|rows| {
        let block = dequantized(weight, rows)?.unsqueeze(0)?;
        matmul(&xs, &block.t()?)?.squeeze(0)
    });
    let products = blocks.collect::<Result<Vec<_>>>()?;
    match &products[..] {
        [product] => Ok(product.clone()),
        products => Tensor::cat(products, 1),
    }
}

/// `grad [n…, out]` times the weight `[out, in]`: `[n, in]`.
fn product_transposed(grad: &Tensor, weight: &Quantized) -> Result<Tensor> {
    let (outputs, inputs) = sizes(weight)?;
    let grad = grad.reshape((1, row_count(grad), outputs))?;
    let mut sum: Option<Tensor> = None;
    for rows in blocks(weight)? {
        let part = grad.narrow(2, rows.start, rows.len())?.contiguous()?;
        let product = matmul(&part, &dequantized(weight, rows)?.unsqueeze(0)?)?;
        sum = Some(sum.map_or(Ok(product.clone()), |sum| sum + product)?);
    }
    let none = || Tensor::zeros((grad.dim(1)?, inputs), grad.dtype(), grad.device());
    sum.map_or_else(none, |sum| sum.squeeze(0))
}

/// The rows that are dequantised at a time.
fn blocks(weight: &Quantized) -> Result<impl Iterator<Item = Range<usize>> + use<>> {
    let (outputs, inputs) = sizes(weight)?;
    // Elsewhere, candle dequantises whole tensors alone.
    let step = match weight.device() {
        Device::Cpu => (BLOCK / inputs.max(1)).max(1),
        _ => outputs.max(1),
    };
    Ok((0..outputs).step_by(step).map(move |start| start..outputs.min(start + step)))
}

/// Some rows of a weight `[out, in]`, `[rows, in]`.
fn dequantized(weight: &Quantized, rows: Range<usize>) -> Result<Tensor> {
    if !weight.device().is_cpu() {
        return weight.dequantize();
    }
    let (outputs, inputs) = sizes(weight)?;
    let bytes = weight.blocks().data()?;
    let of_row = bytes.len() / outputs.max(1);
    let step = (PART / inputs.max(1)).max(1);
    let parts = rows.clone().step_by(step).map(|start| start..rows.end.min(start + step));
    let parts = parts.map(|rows| &bytes[rows.start * of_row..rows.end * of_row]).collect();
    let dtype = weight.blocks().dtype();
    let values = kernel(map_parts(parts, &CandleThreads, |part| values(dtype, part)))?;
    let values = values.into_iter().collect::<Result<Vec<_>>>()?.concat();
    Tensor::from_vec(values, (rows.len(), inputs), &Device::Cpu)?.to_dtype(weight.dtype())
}

/// The values of whole blocks.
fn values(dtype: GgmlDType, bytes: &[u8]) -> Result<Vec<f32>> {
    let blocks = dtype.from_data(Cow::Borrowed(bytes));
    let count = bytes.len() / dtype.type_size() * dtype.block_size();
    match blocks.dequantize(count)? {
        CpuStorage::F32(values) => Ok(values),
        _ => bail!(dtype, "{dtype:?} is dequantised to another dtype, expected f32"),
    }
}
