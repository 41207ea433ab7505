//! A backward pass that asks where gradients flow, and not how large they are.
//!
//! It starts from NaN in place of one. What a gradient is multiplied by, zero included, makes NaN of it;
//! what candle fills up with zeros, as the gradient of a narrowed tensor, stays zero. An operation that
//! selects, and does not multiply, asks [`is_on`] and multiplies then.

use std::cell::Cell;

use candle_core::{Result, Tensor};

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
}

/// Whether the backward pass on this thread is a probe.
pub(crate) fn is_on() -> bool {
    IS_ON.get()
}

/// Runs a backward pass as a probe: it is given what to start from.
pub(crate) fn pass<R>(loss: &Tensor, pass: impl FnOnce(&Tensor) -> Result<R>) -> Result<R> {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            IS_ON.set(false);
        }
    }
    let start = loss.affine(f64::NAN, 0.)?;
    IS_ON.set(true);
    let _off = Off;
    pass(&start)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn probed(xs: &Var, loss: &Tensor) -> Result<Vec<bool>> {
        let grads = pass(loss, Tensor::backward)?;
        assert!(!is_on());
        let grad = grads.get(xs).map_or_else(|| xs.zeros_like(), |grad| Ok(grad.clone()))?;
        Ok(grad.flatten_all()?.to_vec1::<f64>()?.iter().map(|grad| grad.is_nan()).collect())
    }

    /// A factor of zero, a unit that is off and a value that is not the largest are reached; what is left
    /// out is not.
    #[test]
    fn what_is_multiplied_is_reached() -> Result<()> {
        let xs = Var::new(&[-1f64, 2., 3.], &Device::Cpu)?;
        let all = [true; 3];
        assert_eq!(probed(&xs, &(xs.as_tensor() * 0.5)?.sum_all()?)?, all);
        assert_eq!(probed(&xs, &(xs.as_tensor() * xs.zeros_like()?)?.sum_all()?)?, all);
        assert_eq!(probed(&xs, &xs.relu()?.sum_all()?)?, all);
        assert_eq!(probed(&xs, &super::super::activation::relu(&xs)?.sum_all()?)?, all);
        assert_eq!(probed(&xs, &xs.max(0)?)?, all);
        assert_eq!(probed(&xs, &xs.narrow(0, 1, 2)?.sum_all()?)?, [false, true, true]);
        let ids = Tensor::new(&[2u32, 2], &Device::Cpu)?;
        assert_eq!(probed(&xs, &xs.index_select(&ids, 0)?.sum_all()?)?, [false, false, true]);
        Ok(())
    }
}
