//! Whether a target is the same model in each build: by a constructor, or with fields that are made anew.

use std::sync::atomic::Ordering;

use candle_core::{DType, Error, Result, Tensor};

use super::{GeneratedParams, TargetPlan};
use crate::structure::Outputs;

/// How far outputs of one model may differ, for the order of sums.
const SAME: f64 = 1e-3;

impl<T> GeneratedParams<T> {
    /// Checks, by the first outputs `ys` for `xs`, that a constructor builds the same model each time, and that
    /// fields that are made anew are the same each time. A forward that draws at random can't tell.
    pub(super) fn ensure_same_model<O: Outputs>(
        &self,
        xs: &Tensor,
        ys: &O,
        forward: impl Fn(&T, &Tensor) -> Result<O>,
    ) -> Result<()> {
        let same = self.plan.same_model().filter(|same| !same.load(Ordering::Relaxed));
        let Some(same) = same else { return Ok(()) };
        let mut params = self.detach();
        params.kept.buffers =
            params.kept.buffers.iter().map(Tensor::copy).collect::<Result<_>>()?;
        let again = params.unpack()?;
        let other = forward(&again, xs)?;
        let difference = difference(ys, &other)?;
        if difference <= SAME || self::difference(&other, &forward(&again, xs)?)? > SAME {
            same.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err(self.plan.another_each_time(100. * difference))
    }
}

impl<T> TargetPlan<T> {
    fn another_each_time(&self, percent: f64) -> Error {
        let name = self.name;
        let differ = format!("outputs of the same parameters differ by {percent:.1} %");
        Error::msg(match &self.values.anew {
            Some(field) => format!(
                "`{field}` of {name} is made anew each time that the target is built, and is another each time: {differ}; let its type hold tensors (`hypernn::target::value::FixedTensors`) or be `Clone`, and mention no type parameter, so that it is made once"
            ),
            None => format!(
                "the constructor of {name} draws values by itself, others each time that a model is built: {differ}; draw them once, outside of the constructor, or ask the builder for them (`layout().absent()` has the names that it looked for in vain)"
            ),
        })
    }
}

/// The largest difference of the outputs of two models.
fn difference<O: Outputs>(ys: &O, others: &O) -> Result<f64> {
    let (ys, others) = (ys.tensors(), others.tensors());
    let mut pairs = ys.into_iter().zip(others);
    pairs.try_fold(0f64, |largest, (ys, others)| Ok(largest.max(tensor_difference(ys, others)?)))
}

/// The largest difference of two outputs, as a part of the largest output; none where they are not
/// comparable.
fn tensor_difference(ys: &Tensor, others: &Tensor) -> Result<f64> {
    if ys.dims() != others.dims() || !ys.dtype().is_float() || ys.elem_count() == 0 {
        return Ok(0.);
    }
    let largest = |of: &Tensor| of.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar::<f64>();
    let ys = ys.detach();
    let difference = largest(&(&ys - others)?)? / largest(&ys)?;
    Ok(if difference.is_nan() { 0. } else { difference })
}
