//! The gradient of the whole vector, written in one pass from those of its slots.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::Slot;
use super::accumulator::GradientAccumulator;
use crate::ops::gemm::{LEAST, transposed_product};
use crate::ops::pool::{self, Places};
use crate::ops::scalar::{Held, Scalar, wide};
use crate::param::PendingGradient;

/// The gradient of a slot, held in its place.
enum Gradient<'a> {
    Whole(Held<'a>),
    /// `left [sets, k, m]` and `right [sets, k, n]`, and `[k, m, n]`.
    Product([Held<'a>; 2], [usize; 3]),
}

/// A run of the vector.
enum Run<'a, T> {
    /// Values that no gradient reached.
    Zeros(usize),
    Values(&'a [T], T),
    /// Some rows of `leftᵀ · right`.
    Product {
        sides: [&'a [T]; 2],
        sizes: [usize; 3],
        rows: Range<usize>,
        scale: T,
    },
}

impl GradientAccumulator {
    /// As [`whole`](Self::whole), where the values can be written directly.
    pub(super) fn written<T: Scalar>(&self, grads: &[Option<PendingGradient>]) -> Result<Tensor> {
        let grads =
            self.slots.iter().zip(grads).filter_map(|(slot, grad)| {
                grad.as_ref().map(|grad| Ok((slot, grad.contiguous()?)))
            });
        let grads = grads.collect::<Result<Vec<_>>>()?;
        let held = grads.iter().map(|(slot, grad)| Ok((*slot, Gradient::new(grad)?)));
        let held = held.collect::<Result<Vec<_>>>()?;
        let len = self.sets * self.width;
        let threads = pool::threads_for_values(len);
        let most = if threads == 1 { len } else { len.div_ceil(4 * threads) };
        let mut runs = Vec::with_capacity(self.sets * 2 * held.len());
        (0..self.sets).try_for_each(|set| self.add_runs(set, &held, most, &mut runs))?;
        let written = pool::written_parts(runs, threads > 1, Run::<T>::write);
        Tensor::from_vec(written, (self.sets, self.width), &Device::Cpu)
    }

    /// Those of one set, of about `most` values at most.
    fn add_runs<'a, T: Scalar>(
        &self,
        set: usize,
        held: &'a [(&Slot, Gradient<'_>)],
        most: usize,
        runs: &mut Vec<(usize, Run<'a, T>)>,
    ) -> Result<()> {
        let mut end = 0;
        let zeros = |len: usize| (len > 0).then_some((len, Run::Zeros(len)));
        for (slot, gradient) in held {
            runs.extend(zeros(slot.offset - end));
            end = slot.offset + slot.len();
            gradient.add_runs((set, slot), most, runs)?;
        }
        runs.extend(zeros(self.width - end));
        Ok(())
    }
}

impl<'a> Gradient<'a> {
    /// Of a contiguous one.
    fn new(grad: &'a PendingGradient) -> Result<Self> {
        let (left, right) = match grad {
            PendingGradient::Whole(grad) => return Held::new(grad).map(Self::Whole),
            PendingGradient::Product(left, right) => (left, right),
        };
        let ((_, k, m), n) = (left.dims3()?, right.dim(2)?);
        Ok(Self::Product([Held::new(left)?, Held::new(right)?], [k, m, n]))
    }

    fn add_runs<'b, T: Scalar>(
        &'b self,
        (set, slot): (usize, &Slot),
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
                let step = (most / n.max(1)).max(LEAST);
                runs.extend((0..m).step_by(step).map(|start| {
                    let rows = start..m.min(start + step);
                    (rows.len() * n, Run::Product { sides, sizes: *sizes, rows, scale })
                }));
            }
        }
        Ok(())
    }
}

impl<T: Scalar> Run<'_, T> {
    fn write(self, places: &mut Places<'_, T>) {
        match self {
            Self::Zeros(len) => places.extend(std::iter::repeat_n(T::default(), len)),
            Self::Values(values, scale) => {
                wide(|| places.extend(values.iter().map(|&value| value * scale)));
            }
            // A general product spends most of its time preparing.
            Self::Product { sides: [left, right], sizes: [1, ..], rows, scale } => wide(|| {
                for &left in &left[rows] {
                    places.extend(right.iter().map(|&right| left * right * scale));
                }
            }),
            Self::Product { sides: [left, right], sizes, rows, scale } => {
                transposed_product(places, (left, right), sizes, rows, scale);
            }
        }
    }
}
