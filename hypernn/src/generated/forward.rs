//! The target's forward over generated parameters: all sets at once, or one after the other.

use candle_core::{DType, Error, Result, Tensor, Var};

use super::GeneratedParams;
use crate::check::ensure_same_device;
use crate::ops::split::unstack;
use crate::param::sets::rows_per_set;
use crate::param::{Param, watch_weights};
use crate::structure::Outputs;
use crate::structure::value::field_of_stored;
use crate::trace::span;

impl<T> GeneratedParams<T> {
    /// An error of candle's that two dtypes do not go together, with those of the input, of the parameters and
    /// of a field's `value`, where these do not.
    pub(super) fn with_dtypes(&self, err: Error, xs: &Tensor) -> Error {
        let dtype = self.params.first().map_or(xs.dtype(), Param::dtype);
        if !is_dtype_mismatch(&err) || !xs.dtype().is_float() {
            return err;
        }
        let (what, found) = match self.value_of_another_dtype(dtype) {
            _ if xs.dtype() != dtype => ("the input is".to_owned(), xs.dtype()),
            Some((name, found)) => (format!("the value of the field `{name}` is"), found),
            None => return err,
        };
        crate::error::dtype(format!(
            "{}: {what} {found:?}, but the generated parameters {dtype:?} ({})",
            self.plan.name,
            crate::error::plain(&err)
        ))
    }

    /// The first field whose `value` holds a floating tensor of another dtype, and that dtype: values are in
    /// the dtype in which they were made.
    fn value_of_another_dtype(&self, dtype: DType) -> Option<(&str, DType)> {
        let values = self.plan.values.names.iter().zip(self.kept.values.iter());
        let mut others =
            values.filter(|(_, value)| value.dtype().is_float() && value.dtype() != dtype);
        others.next().map(|(name, value)| (field_of_stored(name), value.dtype()))
    }

    pub(super) fn apply<O: Outputs>(
        &self,
        xs: &Tensor,
        train: bool,
        forward: impl Fn(&T, &Tensor) -> Result<O>,
    ) -> Result<O> {
        span!("forward", self.plan.name);
        ensure_same_device(
            "the input",
            xs.device().location(),
            "the generated parameters",
            self.device().location(),
        )?;
        let Some(sets) = self.sets else { return self.of_one(xs, train, &forward) };
        if self.one_set_layer().is_none()
            && !self.plan.forwards.look_at_weights()
            && let Some(ys) = self.at_once(xs, train, &forward)?
        {
            if !train {
                self.ensure_same_model(xs, &ys, forward)?;
            }
            return Ok(ys);
        }
        self.in_turn(xs, sets, train, forward)
    }

    /// Applies the target with one weight set, which serves every row.
    fn of_one<O: Outputs>(
        &self,
        xs: &Tensor,
        train: bool,
        forward: impl Fn(&T, &Tensor) -> Result<O>,
    ) -> Result<O> {
        let ys = forward(&self.unpack_t(train)?, xs)?;
        if !train {
            self.ensure_same_model(xs, &ys, forward)?;
        }
        Ok(ys)
    }

    /// With all sets; none where the forward looked at weights, whose first dimension is that of the
    /// sets.
    fn at_once<O>(
        &self,
        xs: &Tensor,
        train: bool,
        forward: impl Fn(&T, &Tensor) -> Result<O>,
    ) -> Result<Option<O>> {
        let (target, statistics) = (self.unpack_t(train)?, self.statistics(train)?);
        let (ys, looked) = watch_weights(|| forward(&target, xs));
        if !looked {
            if ys.is_ok() {
                self.plan.forwards.saw_none(train);
            }
            return ys.map(Some);
        }
        // This forward did not take place.
        statistics.iter().try_for_each(|(var, before)| var.set(before))?;
        self.plan.forwards.saw_weights();
        Ok(None)
    }

    /// The running statistics as they are, where a forward may have to be undone.
    fn statistics(&self, train: bool) -> Result<Vec<(Var, Tensor)>> {
        if !train || self.plan.forwards.are_known_in_training() {
            return Ok(Vec::new());
        }
        let variables = self.kept.buffers.iter().filter(|buffer| buffer.is_variable());
        variables.map(|buffer| Ok((Var::from_tensor(buffer)?, buffer.detach().copy()?))).collect()
    }

    /// Applies the target with one weight set after the other, each to its run of the rows.
    fn in_turn<O: Outputs>(
        &self,
        xs: &Tensor,
        sets: usize,
        train: bool,
        forward: impl Fn(&T, &Tensor) -> Result<O>,
    ) -> Result<O> {
        let rows = rows_per_set(self.plan.name, xs.dim(0)?, sets)?;
        let each = self.each_set(sets)?;
        let outputs = each.iter().zip(runs(xs, sets, rows)?);
        let outputs = outputs.map(|(params, xs)| params.of_one(&xs, train, &forward));
        let outputs = outputs.collect::<Result<Vec<_>>>()?;
        let outputs = O::joined(&outputs, &|parts| Tensor::cat(parts, 0))?;
        if train {
            self.take_statistics(&each)?;
        }
        Ok(outputs)
    }

    /// Running statistics of each set by itself, as training one after the other has left them.
    fn take_statistics(&self, each: &[Self]) -> Result<()> {
        if self.kept.buffer_sets.is_none() {
            return Ok(());
        }
        for (index, buffer) in self.kept.buffers.iter().enumerate() {
            let of_sets: Vec<_> =
                each.iter().map(|params| params.kept.buffers[index].detach()).collect();
            Var::from_tensor(buffer)?.set(&Tensor::stack(&of_sets, 0)?)?;
        }
        Ok(())
    }
}

/// The rows of each set. `narrow` would give each a gradient of the length of the whole input.
fn runs(xs: &Tensor, sets: usize, rows: usize) -> Result<Vec<Tensor>> {
    if xs.track_op() {
        return unstack(&xs.reshape([&[sets, rows], &xs.dims()[1..]].concat())?);
    }
    (0..sets).map(|set| xs.narrow(0, set * rows, rows)?.contiguous()).collect()
}

fn is_dtype_mismatch(err: &Error) -> bool {
    match err {
        Error::WithBacktrace { inner, .. } => is_dtype_mismatch(inner),
        err => matches!(err, Error::DTypeMismatchBinaryOp { .. }),
    }
}
