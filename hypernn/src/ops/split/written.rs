//! The gradient of the whole vector, written in one pass from those of its slots.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use hypernn_kernels::Matrix;
use hypernn_kernels::matmul::{LEAST, Product};
use hypernn_kernels::simd::dispatch;
use hypernn_kernels::uninit::{UninitWriter, write_parts};

use super::Slot;
use super::accumulator::GradientAccumulator;
use crate::ops::kernels::{for_values, kernel};
use crate::ops::scalar::{CpuSlice, Scalar};
use crate::param::PendingGradient;

/// The gradient of a slot, held in its place.
enum SlotGradient<'a> {
    Whole(CpuSlice<'a>),
    /// `left [sets, k, m]` and `right [sets, k, n]`, and `[k, m, n]`.
    Product([CpuSlice<'a>; 2], [usize; 3]),
}

/// A run of the vector.
enum Run<'a, T> {
    /// Values that no gradient reached.
    Zeros(usize),
    Values(&'a [T], T),
    /// Some rows of the product of one column by one row.
    Outer {
        sides: [&'a [T]; 2],
        rows: Range<usize>,
        scale: T,
    },
    /// Some rows of `leftᵀ · right`.
    Product {
        product: Product<'a, T>,
        rows: Range<usize>,
        scale: T,
    },
}

impl GradientAccumulator {
    /// The gradient of the whole vector, `[P]` or `[G, P]`, written directly from those of its tensors; zero where
    /// a tensor has none. [`whole`](Self::whole) gives it for every dtype and device.
    pub(super) fn written<T: Scalar>(&self, grads: &[Option<PendingGradient>]) -> Result<Tensor> {
        let grads =
            self.slots.iter().zip(grads).filter_map(|(slot, grad)| {
                grad.as_ref().map(|grad| Ok((slot, grad.contiguous()?)))
            });
        let grads = grads.collect::<Result<Vec<_>>>()?;
        let held = grads.iter().map(|(slot, grad)| Ok((*slot, SlotGradient::new(grad)?)));
        let held = held.collect::<Result<Vec<_>>>()?;
        let len = self.sets * self.width;
        let executor = for_values(len);
        let threads = executor.threads();
        let most = if threads == 1 { len } else { len.div_ceil(4 * threads) };
        let mut runs = Vec::with_capacity(self.sets * 2 * held.len());
        (0..self.sets).try_for_each(|set| self.add_runs(set, &held, most, &mut runs))?;
        let written = kernel(write_parts(runs, executor, Run::<T>::write))?;
        Tensor::from_vec(written, (self.sets, self.width), &Device::Cpu)
    }

    /// Appends the runs of one set, of about `most` values at most.
    fn add_runs<'a, T: Scalar>(
        &self,
        set: usize,
        held: &'a [(&Slot, SlotGradient<'_>)],
        most: usize,
        runs: &mut Vec<(usize, Run<'a, T>)>,
    ) -> Result<()> {
        let mut end = 0;
        let zeros = |len: usize| (len > 0).then_some((len, Run::Zeros(len)));
        for (slot, gradient) in held {
            runs.extend(zeros(slot.offset - end));
            end = slot.offset + slot.len();
            gradient.add_runs(set, slot, most, runs)?;
        }
        runs.extend(zeros(self.width - end));
        Ok(())
    }
}

impl<'a> SlotGradient<'a> {
    /// Reads a contiguous gradient.
    fn new(grad: &'a PendingGradient) -> Result<Self> {
        let (left, right) = match grad {
            PendingGradient::Whole(grad) => return CpuSlice::new(grad).map(Self::Whole),
            PendingGradient::Product(left, right) => (left, right),
        };
        let ((_, k, m), n) = (left.dims3()?, right.dim(2)?);
        Ok(Self::Product([CpuSlice::new(left)?, CpuSlice::new(right)?], [k, m, n]))
    }

    fn add_runs<'b, T: Scalar>(
        &'b self,
        set: usize,
        slot: &Slot,
        most: usize,
        runs: &mut Vec<(usize, Run<'b, T>)>,
    ) -> Result<()> {
        let scale = T::of(slot.scale);
        match self {
            Self::Whole(held) => {
                let values = &held.values::<T>()?[set * slot.len()..][..slot.len()];
                let values = values.chunks(most);
                runs.extend(values.map(|values| (values.len(), Run::Values(values, scale))));
            }
            Self::Product([left, right], sizes) => {
                let [k, m, n] = *sizes;
                let sides = [
                    &left.values()?[set * k * m..][..k * m],
                    &right.values()?[set * k * n..][..k * n],
                ];
                let [left, right] = sides;
                let [left, right] = [(left, m), (right, n)]
                    .map(|(side, columns)| kernel(Matrix::row_major(side, [k, columns])));
                let product = kernel(Product::new(left?.t(), right?))?;
                let step = (most / n.max(1)).max(LEAST);
                runs.extend((0..m).step_by(step).map(|start| {
                    let rows = start..m.min(start + step);
                    let len = rows.len() * n;
                    // A general product spends most of its time preparing.
                    let run = match k {
                        1 => Run::Outer { sides, rows, scale },
                        _ => Run::Product { product, rows, scale },
                    };
                    (len, run)
                }));
            }
        }
        Ok(())
    }
}

impl<T: Scalar> Run<'_, T> {
    fn write(self, writer: &mut UninitWriter<'_, T>) {
        match self {
            Self::Zeros(len) => writer.extend(std::iter::repeat_n(T::default(), len)),
            Self::Values(values, scale) => {
                dispatch(|| writer.extend(values.iter().map(|&value| value * scale)));
            }
            Self::Outer { sides: [left, right], rows, scale } => dispatch(|| {
                for &left in &left[rows] {
                    writer.extend(right.iter().map(|&right| left * right * scale));
                }
            }),
            Self::Product { product, rows, scale } => product.write_rows(rows, scale, writer),
        }
    }
}
