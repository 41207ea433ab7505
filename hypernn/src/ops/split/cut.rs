//! The values of all tensors, cut off from their graph, on the CPU, in f32 and f64.

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Result, Storage, Tensor};

use super::Segment;
use super::pieces::by_set;
use super::scaled::Parts;
use super::whole::view;
use crate::generator::Rows;
use crate::ops::dense::{Layer, Target};
use crate::ops::linear::Sizes;
use crate::ops::pool;
use crate::ops::scalar::{Held, Scalar, values, wide};

/// So many sets of generated values, each `width` of them, surplus included.
#[derive(Clone, Copy)]
pub(super) struct Sets {
    pub(super) count: usize,
    pub(super) width: usize,
}

impl Sets {
    pub(super) fn of(rows: &Rows, count: usize) -> Result<Self> {
        let values = match rows {
            Rows::Linear { inputs, weight, .. } => {
                Sizes::new(inputs.dims(), weight.dims())?.values()
            }
            Rows::Scaled { shared, .. } => count * shared.elem_count(),
            Rows::Values(values) => values.elem_count(),
        };
        if count == 0 || !values.is_multiple_of(count) {
            crate::error::bail!(shape, "the generator gave {values} values for {count} sets");
        }
        Ok(Self { count, width: values / count })
    }

    /// A tensor for each segment: where the values are there and nothing is to be done to them, a view.
    pub(super) fn tensors(
        self,
        rows: &Rows,
        sets: Option<usize>,
        segments: &[Segment],
    ) -> Result<Vec<Tensor>> {
        if let Rows::Values(values) = rows {
            let values = values.contiguous()?.reshape((self.count, self.width))?;
            let tensor = |segment: &Segment| match view(&values, sets, segment)? {
                window if segment.is_plain() => Ok(window),
                window => window.affine(segment.scale, segment.shift),
            };
            return segments.iter().map(tensor).collect();
        }
        let tensor = |(values, segment): (_, &Segment)| {
            let (storage, shape) = (Storage::Cpu(values), segment.shape(sets));
            Tensor::from_storage(storage, shape, BackpropOp::none(), false)
        };
        Ok(self.cut(rows, segments)?.into_iter().zip(segments).map(tensor).collect())
    }

    /// Of each segment, the values of every set.
    pub(super) fn cut(self, rows: &Rows, segments: &[Segment]) -> Result<Vec<CpuStorage>> {
        Ok(match rows.dtype() {
            DType::F64 => self.cut_as(rows, segments)?.into_iter().map(CpuStorage::F64).collect(),
            _ => self.cut_as(rows, segments)?.into_iter().map(CpuStorage::F32).collect(),
        })
    }

    fn cut_as<T: Scalar>(self, rows: &Rows, segments: &[Segment]) -> Result<Vec<Vec<T>>> {
        match rows {
            Rows::Linear { inputs, weight, bias } => self.outputs([inputs, weight, bias], segments),
            Rows::Scaled { shared, gains, bias } => {
                let parts = Parts::new(shared, gains, bias)?;
                segments.iter().map(|segment| parts.cut(segment)).collect()
            }
            Rows::Values(whole) => {
                let whole = whole.detach().contiguous()?;
                segments.iter().map(|segment| self.run(&whole, segment)).collect()
            }
        }
    }

    /// Written as the layer computes them.
    fn outputs<T: Scalar>(self, layer: [&Tensor; 3], segments: &[Segment]) -> Result<Vec<Vec<T>>> {
        let [xs, weight, bias] = layer;
        let [xs, weight, bias] = [xs.contiguous()?, weight.contiguous()?, bias.contiguous()?];
        let sizes = Sizes::new(xs.dims(), weight.dims())?;
        sizes.check_bias(bias.layout())?;
        let [xs, weight, bias] = [Held::new(&xs)?, Held::new(&weight)?, Held::new(&bias)?];
        let (xs, weight, bias) = (xs.values()?, weight.values()?, Some(bias.values()?));
        let lens: Vec<_> = segments.iter().map(|segment| self.count * segment.len()).collect();
        Ok(Layer { sizes, xs, weight, bias }.by_outputs(&lens, &self.targets(segments)))
    }

    fn targets<T: Scalar>(self, segments: &[Segment]) -> Vec<Target<T>> {
        let mut targets = Vec::with_capacity(self.count * (2 * segments.len() + 1));
        for _ in 0..self.count {
            let mut end = 0;
            for (index, segment) in segments.iter().enumerate() {
                targets.push(Target::left_out(segment.offset - end));
                let (scale, shift) = (T::of(segment.scale), T::of(segment.shift));
                targets.push(Target { len: segment.len(), vector: Some(index), scale, shift });
                end = segment.offset + segment.len();
            }
            targets.push(Target::left_out(self.width - end));
        }
        targets
    }

    fn run<T: Scalar>(self, whole: &Tensor, segment: &Segment) -> Result<Vec<T>> {
        let (scale, shift) = (T::of(segment.scale), T::of(segment.shift));
        values(whole, |whole: &[T]| {
            pool::written(self.count * segment.len(), |range, out| {
                for (set, run) in by_set(segment, range) {
                    let values = &whole[set * self.width..][run];
                    wide(|| out.extend(values.iter().map(|&value| value * scale + shift)));
                }
            })
        })
    }
}
