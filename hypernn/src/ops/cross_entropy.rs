//! The mean cross-entropy over rows, as one node.

use candle_core::{D, DType, Device, Result, Tensor};
use hypernn_kernels::cross_entropy;

use super::dtype::internal;
use super::kernels::{CandleThreads, kernel};
use super::scalar::{Scalar, is_direct, values};
use super::second_order::operand;
use super::softmax::softmax;
use super::with_backward::node;

/// Of `logits [N, V]` and the target of each row, over the rows that have one; at least one has.
pub(crate) fn cross_entropy(logits: &Tensor, targets: Vec<Option<u32>>) -> Result<Tensor> {
    let (logits, targets) = (logits.contiguous()?, Targets(targets));
    let (loss, sums) = targets.loss(&logits.detach())?;
    node("cross_entropy", loss, [&logits], move |[logits], _, grad| {
        Ok([Some(targets.gradient(&operand(logits), &sums, grad)?)])
    })
}

/// The target of each row, none where it is ignored.
struct Targets(Vec<Option<u32>>);

impl Targets {
    fn count(&self) -> usize {
        self.0.iter().flatten().count()
    }

    /// The loss, and on the CPU in f32 and f64 the logarithm of each row's sum of exponentials.
    fn loss(&self, logits: &Tensor) -> Result<(Tensor, Vec<f64>)> {
        match logits.dtype() {
            DType::F64 if is_direct(logits) => self.direct_loss::<f64>(logits),
            DType::F32 if is_direct(logits) => self.direct_loss::<f32>(logits),
            _ => Ok((self.composed_loss(logits)?, Vec::new())),
        }
    }

    fn direct_loss<T: Scalar>(&self, logits: &Tensor) -> Result<(Tensor, Vec<f64>)> {
        let classes = logits.dim(1)?;
        let (sum, sums) = values(logits, |logits: &[T]| {
            let sums =
                kernel(cross_entropy::log_sum_exps(logits, classes, &self.0, &CandleThreads))?;
            let rows = self.0.iter().zip(&sums).enumerate();
            let losses = rows.filter_map(|(row, (target, sum))| {
                target.map(|target| sum - logits[row * classes + target as usize].as_f64())
            });
            Ok::<_, candle_core::Error>((losses.sum::<f64>(), sums))
        })??;
        let loss = Tensor::new(sum / self.count() as f64, &Device::Cpu)?;
        Ok((loss.to_dtype(logits.dtype())?, sums))
    }

    /// The rows that have a target, and their targets `[rows, 1]`, for candle's operations.
    fn kept(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        let rows = self.0.iter().zip(0u32..).filter_map(|(target, row)| target.map(|t| (row, t)));
        let (rows, targets): (Vec<_>, Vec<_>) = rows.unzip();
        let count = rows.len();
        Ok((Tensor::new(rows, device)?, Tensor::from_vec(targets, (count, 1), device)?))
    }

    /// The logits of these rows, or all of them where that is the same.
    fn selected(&self, logits: &Tensor, rows: &Tensor) -> Result<Tensor> {
        let logits = logits.to_dtype(internal(logits.dtype()))?;
        if rows.elem_count() == self.0.len() { Ok(logits) } else { logits.index_select(rows, 0) }
    }

    fn composed_loss(&self, logits: &Tensor) -> Result<Tensor> {
        let (rows, targets) = self.kept(logits.device())?;
        let logits = self.selected(logits, &rows)?;
        candle_nn::ops::log_softmax(&logits, D::Minus1)?.gather(&targets, 1)?.mean_all()?.neg()
    }

    /// From that of the loss, a scalar: in one pass, which is no node, or by candle's operations, elsewhere and where
    /// gradients are differentiated again.
    fn gradient(&self, logits: &Tensor, sums: &[f64], grad: &Tensor) -> Result<Tensor> {
        let composed = logits.track_op() || grad.track_op();
        match logits.dtype() {
            DType::F64 if is_direct(logits) && !composed => {
                self.direct_gradient::<f64>(logits, sums, grad)
            }
            DType::F32 if is_direct(logits) && !composed => {
                self.direct_gradient::<f32>(logits, sums, grad)
            }
            _ => self.composed_gradient(logits, grad),
        }
    }

    fn direct_gradient<T: Scalar>(
        &self,
        logits: &Tensor,
        sums: &[f64],
        grad: &Tensor,
    ) -> Result<Tensor> {
        let classes = logits.dim(1)?;
        let grad = T::of(grad.to_scalar::<T>()?.as_f64() / self.count() as f64);
        let grads = values(logits, |logits: &[T]| {
            cross_entropy::gradients(logits, classes, &self.0, sums, grad, &CandleThreads)
        })?;
        Tensor::from_vec(kernel(grads)?, logits.shape(), &Device::Cpu)
    }

    fn composed_gradient(&self, logits: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let (rows, targets) = self.kept(logits.device())?;
        let probabilities = softmax(&self.selected(logits, &rows)?)?;
        let minus = Tensor::full(-1f32, targets.shape(), logits.device())?;
        let minus = minus.to_dtype(probabilities.dtype())?;
        // candle's own gradient of what values are scattered into is wrong: zeros have none.
        let hot = probabilities.zeros_like()?.scatter_add(&targets, &minus, 1)?;
        let of_rows = (probabilities + hot)?;
        let of_rows = of_rows.broadcast_mul(&(grad / self.count() as f64)?)?;
        if rows.elem_count() == self.0.len() {
            return of_rows.to_dtype(logits.dtype());
        }
        let zeros = Tensor::zeros(logits.shape(), of_rows.dtype(), logits.device())?;
        zeros.index_add(&rows, &of_rows, 0)?.to_dtype(logits.dtype())
    }
}
