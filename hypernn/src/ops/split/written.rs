//! The gradient of the whole vector, written in one pass from those of its segments.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use hypernn_kernels::Matrix;
use hypernn_kernels::matmul::{LEAST, Product};
use hypernn_kernels::simd::dispatch;
use hypernn_kernels::uninit::{UninitWriter, write_parts};

use super::Segment;
use super::ledger::{Filed, Ledger};
use crate::ops::kernels::{for_values, kernel};
use crate::ops::scalar::{CpuSlice, Scalar};

/// The gradient of a segment, held in its place.
enum Gradient<'a> {
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

impl Ledger {
    /// As [`whole`](Self::whole), where the values can be written directly.
    pub(super) fn written<T: Scalar>(&self, grads: &[Option<Filed>]) -> Result<Tensor> {
        let grads = self.segments.iter().zip(grads).filter_map(|(segment, grad)| {
            grad.as_ref().map(|grad| Ok((segment, grad.contiguous()?)))
        });
        let grads = grads.collect::<Result<Vec<_>>>()?;
        let held = grads.iter().map(|(segment, grad)| Ok((*segment, Gradient::new(grad)?)));
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

    /// Those of one set, of about `most` values at most.
    fn add_runs<'a, T: Scalar>(
        &self,
        set: usize,
        held: &'a [(&Segment, Gradient<'_>)],
        most: usize,
        runs: &mut Vec<(usize, Run<'a, T>)>,
    ) -> Result<()> {
        let mut end = 0;
        let zeros = |len: usize| (len > 0).then_some((len, Run::Zeros(len)));
        for (segment, gradient) in held {
            runs.extend(zeros(segment.offset - end));
            end = segment.offset + segment.len();
            gradient.add_runs((set, segment), most, runs)?;
        }
        runs.extend(zeros(self.width - end));
        Ok(())
    }
}

impl<'a> Gradient<'a> {
    /// Of a contiguous one.
    fn new(grad: &'a Filed) -> Result<Self> {
        let (left, right) = match grad {
            Filed::Whole(grad) => return CpuSlice::new(grad).map(Self::Whole),
            Filed::Product(left, right) => (left, right),
        };
        let ((_, k, m), n) = (left.dims3()?, right.dim(2)?);
        Ok(Self::Product([CpuSlice::new(left)?, CpuSlice::new(right)?], [k, m, n]))
    }

    fn add_runs<'b, T: Scalar>(
        &'b self,
        (set, segment): (usize, &Segment),
        most: usize,
        runs: &mut Vec<(usize, Run<'b, T>)>,
    ) -> Result<()> {
        let scale = T::of(segment.scale);
        match self {
            Self::Whole(held) => {
                let values = &held.values::<T>()?[set * segment.len()..][..segment.len()];
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
