//! The values of all tensors, cut off from their graph, on the CPU, in f32 and f64.

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Result, Storage, Tensor};
use hypernn_kernels::linear::Epilogue;
use hypernn_kernels::simd::dispatch;

use super::Slot;
use super::pieces::by_set;
use super::rows::Rows;
use super::scaled::ScaledRows;
use super::whole::view;
use crate::ops::dense::CpuLinear;
use crate::ops::kernels::write_values;
use crate::ops::linear::LinearSizes;
use crate::ops::scalar::{CpuSlice, Scalar, values};

/// How many sets of generated values there are, and the width of each, surplus included.
#[derive(Clone, Copy)]
pub(super) struct Sets {
    pub(super) count: usize,
    pub(super) width: usize,
}

impl Sets {
    pub(super) fn of(rows: &Rows, count: usize) -> Result<Self> {
        let values = match rows {
            Rows::Linear { inputs, weight, .. } => {
                LinearSizes::new(inputs.dims(), weight.dims())?.values()
            }
            Rows::Scaled { shared, .. } => count * shared.elem_count(),
            Rows::Values(values) => values.elem_count(),
        };
        if count == 0 || !values.is_multiple_of(count) {
            crate::error::bail!(shape, "the generator gave {values} values for {count} sets");
        }
        Ok(Self { count, width: values / count })
    }

    /// A tensor for each slot: where the values are there and nothing is to be done to them, a view.
    pub(super) fn tensors(
        self,
        rows: &Rows,
        sets: Option<usize>,
        slots: &[Slot],
    ) -> Result<Vec<Tensor>> {
        if let Rows::Values(values) = rows {
            let values = values.contiguous()?.reshape((self.count, self.width))?;
            let tensor = |slot: &Slot| match view(&values, sets, slot)? {
                window if slot.is_plain() => Ok(window),
                window => window.affine(slot.scale, slot.shift),
            };
            return slots.iter().map(tensor).collect();
        }
        let tensor = |(values, slot): (_, &Slot)| {
            let (storage, shape) = (Storage::Cpu(values), slot.shape(sets));
            Tensor::from_storage(storage, shape, BackpropOp::none(), false)
        };
        Ok(self.cut(rows, slots)?.into_iter().zip(slots).map(tensor).collect())
    }

    /// For each slot, the values of every set, one set after the other.
    pub(super) fn cut(self, rows: &Rows, slots: &[Slot]) -> Result<Vec<CpuStorage>> {
        Ok(match rows.dtype() {
            DType::F64 => self.cut_as(rows, slots)?.into_iter().map(CpuStorage::F64).collect(),
            _ => self.cut_as(rows, slots)?.into_iter().map(CpuStorage::F32).collect(),
        })
    }

    fn cut_as<T: Scalar>(self, rows: &Rows, slots: &[Slot]) -> Result<Vec<Vec<T>>> {
        match rows {
            Rows::Linear { inputs, weight, bias } => self.outputs([inputs, weight, bias], slots),
            Rows::Scaled { shared, gains, bias } => {
                let parts = ScaledRows::new(shared, gains, bias)?;
                slots.iter().map(|slot| parts.cut(slot)).collect()
            }
            Rows::Values(whole) => {
                let whole = whole.detach().contiguous()?;
                slots.iter().map(|slot| self.run(&whole, slot)).collect()
            }
        }
    }

    /// Written as the layer computes them.
    fn outputs<T: Scalar>(self, layer: [&Tensor; 3], slots: &[Slot]) -> Result<Vec<Vec<T>>> {
        let [xs, weight, bias] = layer;
        let [xs, weight, bias] = [xs.contiguous()?, weight.contiguous()?, bias.contiguous()?];
        let sizes = LinearSizes::new(xs.dims(), weight.dims())?;
        sizes.check_bias(bias.layout())?;
        let [xs, weight, bias] = [&xs, &weight, &bias].map(CpuSlice::new);
        let (xs, weight, bias) = (xs?, weight?, bias?);
        let (xs, weight, bias) = (xs.values()?, weight.values()?, Some(bias.values()?));
        let lens: Vec<_> = slots.iter().map(|slot| self.count * slot.len()).collect();
        CpuLinear { sizes, xs, weight, bias }.outputs_to(&lens, &self.epilogues(slots))
    }

    fn epilogues<T: Scalar>(self, slots: &[Slot]) -> Vec<Epilogue<T>> {
        let mut epilogues = Vec::with_capacity(self.count * (2 * slots.len() + 1));
        for _ in 0..self.count {
            let mut end = 0;
            for (index, slot) in slots.iter().enumerate() {
                epilogues.push(Epilogue::left_out(slot.offset - end));
                let (scale, shift) = (T::of(slot.scale), T::of(slot.shift));
                epilogues.push(Epilogue { len: slot.len(), vector: Some(index), scale, shift });
                end = slot.offset + slot.len();
            }
            epilogues.push(Epilogue::left_out(self.width - end));
        }
        epilogues
    }

    fn run<T: Scalar>(self, whole: &Tensor, slot: &Slot) -> Result<Vec<T>> {
        let (scale, shift) = (T::of(slot.scale), T::of(slot.shift));
        values(whole, |whole: &[T]| {
            write_values(self.count * slot.len(), |range, out| {
                for (set, run) in by_set(slot, range) {
                    let values = &whole[set * self.width..][run];
                    dispatch(|| out.extend(values.iter().map(|&value| value * scale + shift)));
                }
            })
        })?
    }
}
