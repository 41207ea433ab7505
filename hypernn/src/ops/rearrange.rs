//! The values of a vector in another order, block by block.
//!
//! By candle's operations each block would be cut out by `narrow`, whose gradient is as long as the whole vector.
//! Here a vector is written once, and so is its gradient.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Device, Layout, MetalStorage, Result, Shape,
    Storage, Tensor,
};

/// A matrix that is moved from one place of a vector to another, row-major in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where its first value lies before.
    pub(crate) from: usize,
    /// Where its first value lies afterwards.
    pub(crate) to: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Whether it is transposed on the way, to `[columns, rows]`.
    pub(crate) transposed: bool,
}

impl Block {
    fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// The way back.
    fn reversed(&self) -> Self {
        let (rows, columns) =
            if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) };
        Self { from: self.to, to: self.from, rows, columns, transposed: self.transposed }
    }

    /// Appends the block's values, in their new order.
    fn append<T: Copy>(&self, values: &[T], out: &mut Vec<T>) {
        let values = &values[self.from..self.from + self.len()];
        if !self.transposed {
            return out.extend_from_slice(values);
        }
        for column in 0..self.columns {
            out.extend(values[column..].iter().step_by(self.columns).copied());
        }
    }
}

/// Blocks in the order in which they lie afterwards, which cover the vector.
#[derive(Debug)]
struct Order {
    blocks: Vec<Block>,
    /// On devices, where each value comes from: `[len]`.
    index: Option<Tensor>,
}

impl Order {
    fn new(mut blocks: Vec<Block>, len: usize, device: &Device) -> Result<Self> {
        blocks.sort_unstable_by_key(|block| block.to);
        let index = match device {
            Device::Cpu => None,
            device => Some(Self::index(&blocks, len, device)?),
        };
        Ok(Self { blocks, index })
    }

    fn index(blocks: &[Block], len: usize, device: &Device) -> Result<Tensor> {
        let Ok(end) = u32::try_from(len) else {
            crate::error::bail!(
                declaration,
                "{len} values in another order, expected at most {} on a device",
                u32::MAX
            );
        };
        let places: Vec<u32> = (0..end).collect();
        Tensor::from_vec(Self::rearranged(blocks, &places, len), len, device)
    }

    /// Each run of `len` values by itself.
    fn rearranged<T: Copy>(blocks: &[Block], values: &[T], len: usize) -> Vec<T> {
        let mut out = Vec::with_capacity(values.len());
        for run in values.chunks_exact(len.max(1)) {
            blocks.iter().for_each(|block| block.append(run, &mut out));
        }
        out
    }
}

/// Another order of the values of a vector, and the way back.
#[derive(Clone, Debug)]
pub(crate) struct Rearrangement {
    len: usize,
    forth: Arc<Order>,
    back: Arc<Order>,
}

impl Rearrangement {
    /// Of blocks that cover a vector of `len` values on this device, before and afterwards.
    pub(crate) fn new(blocks: Vec<Block>, len: usize, device: &Device) -> Result<Self> {
        let back = blocks.iter().map(Block::reversed).collect();
        let (forth, back) = (Order::new(blocks, len, device)?, Order::new(back, len, device)?);
        Ok(Self { len, forth: Arc::new(forth), back: Arc::new(back) })
    }

    /// `[…, len]` to the same shape.
    pub(crate) fn apply(&self, xs: &Tensor) -> Result<Tensor> {
        xs.contiguous()?.apply_op1(self.clone())
    }

    fn reversed(&self) -> Self {
        Self { len: self.len, forth: self.back.clone(), back: self.forth.clone() }
    }

    fn on_cpu(&self, xs: &CpuStorage, layout: &Layout) -> Result<CpuStorage> {
        let (start, end) = (layout.start_offset(), layout.shape().elem_count());
        let end = start + end;
        let (blocks, len) = (&self.forth.blocks, self.len);
        Ok(match xs {
            CpuStorage::F32(xs) => CpuStorage::F32(Order::rearranged(blocks, &xs[start..end], len)),
            CpuStorage::F64(xs) => CpuStorage::F64(Order::rearranged(blocks, &xs[start..end], len)),
            CpuStorage::F16(xs) => CpuStorage::F16(Order::rearranged(blocks, &xs[start..end], len)),
            CpuStorage::BF16(xs) => {
                CpuStorage::BF16(Order::rearranged(blocks, &xs[start..end], len))
            }
            xs => return Err(other_dtype(xs.dtype())),
        })
    }

    /// Rows `[n, len]` by their index.
    fn on_device<S: BackendStorage>(
        &self,
        xs: &S,
        layout: &Layout,
        index: &S,
        index_layout: &Layout,
    ) -> Result<S> {
        let rows = (layout.shape().elem_count() / self.len.max(1), self.len);
        let layout = Layout::contiguous_with_offset(rows, layout.start_offset());
        xs.index_select(index, &layout, index_layout, 1)
    }
}

fn other_dtype(found: DType) -> candle_core::Error {
    crate::error::dtype(format!("rearrange: {found:?}, expected f16, bf16, f32 or f64"))
}

fn elsewhere() -> candle_core::Error {
    crate::error::device("rearrange: the values are on another device than their order".to_owned())
}

/// The values on one kind of device.
macro_rules! on_device {
    ($self:ident, $kind:ident, $xs:ident, $layout:ident) => {{
        let Some(index) = &$self.forth.index else { return Err(elsewhere()) };
        let (index, index_layout) = index.storage_and_layout();
        let Storage::$kind(index) = &*index else { return Err(elsewhere()) };
        Ok(($self.on_device($xs, $layout, index, index_layout)?, $layout.shape().clone()))
    }};
}

impl CustomOp1 for Rearrangement {
    fn name(&self) -> &'static str {
        "rearrange"
    }

    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((self.on_cpu(xs, layout)?, layout.shape().clone()))
    }

    fn cuda_fwd(&self, xs: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        on_device!(self, Cuda, xs, layout)
    }

    fn metal_fwd(&self, xs: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        on_device!(self, Metal, xs, layout)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.reversed().apply(grad).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::nn::testing::device;

    /// `[2, 3]` to the end, transposed; a row of two; and `[3, 1]` to the start.
    fn blocks() -> Vec<Block> {
        let block =
            |from, to, rows, columns, transposed| Block { from, to, rows, columns, transposed };
        vec![block(0, 5, 2, 3, true), block(6, 3, 1, 2, false), block(8, 0, 3, 1, false)]
    }

    const EXPECTED: [f64; 11] = [8., 9., 10., 6., 7., 0., 3., 1., 4., 2., 5.];

    /// Values and gradients, of one vector and of several, in each dtype.
    #[test]
    fn blocks_change_their_places() -> Result<()> {
        let order = Rearrangement::new(blocks(), 11, device())?;
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let xs = Tensor::arange(0f64, 22., device())?.reshape((2, 11))?.to_dtype(dtype)?;
            let xs = Var::from_tensor(&xs)?;
            let ys = order.apply(&xs)?;
            let found = ys.to_dtype(DType::F64)?.to_vec2::<f64>()?;
            assert_eq!(found, [EXPECTED, EXPECTED.map(|value| value + 11.)]);
            let grads = (ys.sqr()? * 0.5)?.sum_all()?.backward()?;
            let grad = grads.get(&xs).map(|grad| grad.to_dtype(DType::F64)?.to_vec2::<f64>());
            assert_eq!(grad.transpose()?, Some(xs.to_dtype(DType::F64)?.to_vec2::<f64>()?));
        }
        Ok(())
    }

    /// A part of something larger, and integers.
    #[test]
    fn views_and_other_dtypes() -> Result<()> {
        let order = Rearrangement::new(blocks(), 11, device())?;
        let larger = Tensor::arange(-11f64, 11., device())?;
        let part = larger.narrow(0, 11, 11)?;
        assert_eq!(order.apply(&part)?.to_vec1::<f64>()?, EXPECTED);
        if device().is_cpu() {
            let message = order.apply(&part.to_dtype(DType::U32)?).map_err(|err| err.to_string());
            let message = message.err().unwrap_or_default();
            let expected = "rearrange: U32, expected f16, bf16, f32 or f64";
            assert_eq!(message.lines().next(), Some(expected));
        }
        Ok(())
    }

    /// There and back.
    #[test]
    fn a_reversed_block_goes_back() {
        for block in blocks() {
            assert_eq!(block.reversed().reversed(), block);
        }
    }
}
