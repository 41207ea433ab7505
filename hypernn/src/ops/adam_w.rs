//! A step of AdamW, in one pass over a variable's values.
//!
//! candle's optimiser writes some fifteen tensors of the variable's size in each step. The same sums,
//! in the same order and rounded alike, take no memory but that of the variable and its moments.

use std::cell::RefCell;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, Var, bail};
use candle_nn::ParamsAdamW;
use pulp::NullaryFnOnce;

use super::pool;
use super::scalar::{Scalar, is_direct, wide};

/// The values that one thread takes at a time.
const RUN: usize = 1 << 14;

/// The running means of a variable's gradients and of their squares, in the order of its values.
#[derive(Debug)]
pub(crate) enum Moments {
    F32([Vec<f32>; 2]),
    F64([Vec<f64>; 2]),
    /// Where candle's own operations serve the variable; of [`dtype`](Self::dtype).
    Other([Tensor; 2]),
}

impl Moments {
    /// The dtype of a variable's moments, in which its step is computed: f16 has neither squares of
    /// gradients below 2.4e-4 nor an ε of 1e-8, and a mean in bf16 stands still where it changes by less
    /// than a 256th.
    pub(crate) fn dtype(var: &Var) -> DType {
        match var.dtype() {
            DType::F16 | DType::BF16 => DType::F32,
            dtype => dtype,
        }
    }

    /// Before the first step.
    pub(crate) fn zeros(var: &Var) -> Result<Self> {
        let count = var.elem_count();
        Ok(match var.dtype() {
            _ if !is_direct(var) => {
                let zeros = || Tensor::zeros(var.shape(), Self::dtype(var), var.device());
                Self::Other([zeros()?, zeros()?])
            }
            DType::F32 => Self::F32([vec![0.; count], vec![0.; count]]),
            _ => Self::F64([vec![0.; count], vec![0.; count]]),
        })
    }

    /// These; they have the variable's shape and device, and its dtype or that of its moments.
    pub(crate) fn from_tensors(var: &Var, [first, second]: [&Tensor; 2]) -> Result<Self> {
        let (flat_first, flat_second) = (first.flatten_all()?, second.flatten_all()?);
        Ok(match var.dtype() {
            _ if !is_direct(var) => {
                let own = |moment: &Tensor| moment.to_dtype(Self::dtype(var))?.copy();
                Self::Other([own(first)?, own(second)?])
            }
            DType::F32 => Self::F32([flat_first.to_vec1()?, flat_second.to_vec1()?]),
            _ => Self::F64([flat_first.to_vec1()?, flat_second.to_vec1()?]),
        })
    }

    /// Both, in the variable's shape and on its device.
    pub(crate) fn to_tensors(&self, var: &Var) -> Result<[Tensor; 2]> {
        let (shape, device) = (var.shape(), var.device());
        let [first, second] = match self {
            Self::F32(moments) => moments.each_ref().map(|values| Tensor::new(&**values, device)),
            Self::F64(moments) => moments.each_ref().map(|values| Tensor::new(&**values, device)),
            Self::Other(moments) => moments.each_ref().map(Tensor::copy),
        };
        Ok([first?.reshape(shape)?, second?.reshape(shape)?])
    }

    /// Moves the variable; `steps` counts this one.
    pub(crate) fn step(
        &mut self,
        var: &Var,
        grad: &Tensor,
        (params, steps): (&ParamsAdamW, usize),
    ) -> Result<()> {
        if grad.shape() != var.shape() {
            let (grad, var) = (grad.shape(), var.shape());
            crate::error::bail!(
                shape,
                "adam_w: the gradient has shape {grad:?}, expected the variable's, {var:?}"
            );
        }
        if grad.dtype() != var.dtype() {
            let (grad, var) = (grad.dtype(), var.dtype());
            crate::error::bail!(
                dtype,
                "adam_w: the gradient is {grad:?}, expected the variable's dtype, {var:?}"
            );
        }
        if let Self::Other(moments) = self {
            return step_by_candle(var, moments, grad, (params, steps));
        }
        let grad = if same_storage(grad, var) { grad.copy()? } else { grad.clone() };
        let step = Step { params, steps, moments: RefCell::new(self) };
        var.inplace_op2(&grad.contiguous()?, &step)
    }
}

/// The same as [`Move`], by candle's operations, in the dtype of the moments.
fn step_by_candle(
    var: &Var,
    [first, second]: &mut [Tensor; 2],
    grad: &Tensor,
    (params, steps): (&ParamsAdamW, usize),
) -> Result<()> {
    let ParamsAdamW { lr, beta1, beta2, eps, weight_decay } = *params;
    let dtype = first.dtype();
    let (grad, value) = (grad.detach().to_dtype(dtype)?, var.as_detached_tensor().to_dtype(dtype)?);
    let unbiased = |mean: &Tensor, beta: f64| mean * (1. / (1. - power(beta, steps)));
    *first = ((&*first * beta1)? + (&grad * (1. - beta1))?)?;
    *second = ((&*second * beta2)? + (grad.sqr()? * (1. - beta2))?)?;
    let root = (unbiased(second, beta2)?.sqrt()? + eps)?;
    let direction = (unbiased(first, beta1)? / root)?;
    var.set(&((value * (1. - lr * weight_decay))? - (direction * lr)?)?.to_dtype(var.dtype())?)
}

/// `beta` to the number of steps, which a file may say to be any.
fn power(beta: f64, steps: usize) -> f64 {
    beta.powi(i32::try_from(steps).unwrap_or(i32::MAX))
}

/// Whether two tensors have the same memory, which could not be read while it is written.
fn same_storage(left: &Tensor, right: &Tensor) -> bool {
    let storage = |tensor: &Tensor| std::ptr::from_ref(&*tensor.storage_and_layout().0);
    storage(left) == storage(right)
}

struct Step<'a> {
    params: &'a ParamsAdamW,
    steps: usize,
    /// candle's operations have no memory of their own.
    moments: RefCell<&'a mut Moments>,
}

impl InplaceOp2 for Step<'_> {
    fn name(&self) -> &'static str {
        "adam_w"
    }

    fn cpu_fwd(
        &self,
        values: &mut CpuStorage,
        vl: &Layout,
        grads: &CpuStorage,
        gl: &Layout,
    ) -> Result<()> {
        match (&mut **self.moments.borrow_mut(), values, grads) {
            (Moments::F32(moments), CpuStorage::F32(values), CpuStorage::F32(grads)) => {
                Factors::new(self.params, self.steps).apply((values, vl), moments, (grads, gl))
            }
            (Moments::F64(moments), CpuStorage::F64(values), CpuStorage::F64(grads)) => {
                Factors::new(self.params, self.steps).apply((values, vl), moments, (grads, gl))
            }
            (_, values, grads) => crate::error::bail!(
                dtype,
                "adam_w: a gradient of {:?} for a variable of {:?}",
                grads.dtype(),
                values.dtype()
            ),
        }
    }
}

/// A factor and its complement.
struct Mean<T> {
    old: T,
    new: T,
    /// Undoes the start at zero.
    scale: T,
}

impl<T: Scalar> Mean<T> {
    fn new(beta: f64, steps: usize) -> Self {
        let scale = 1. / (1. - power(beta, steps));
        Self { old: T::of(beta), new: T::of(1. - beta), scale: T::of(scale) }
    }

    /// The next mean, and the same without the start's share.
    fn next(&self, mean: T, value: T) -> (T, T) {
        let mean = scaled(mean, self.old) + scaled(value, self.new);
        (mean, scaled(mean, self.scale))
    }
}

/// As candle multiplies by a number, so that zeros get the same sign.
fn scaled<T: Scalar>(value: T, factor: T) -> T {
    value * factor + T::default()
}

struct Factors<T> {
    first: Mean<T>,
    second: Mean<T>,
    decay: T,
    eps: T,
    learning_rate: T,
}

impl<T: Scalar> Factors<T> {
    fn new(params: &ParamsAdamW, steps: usize) -> Self {
        Self {
            first: Mean::new(params.beta1, steps),
            second: Mean::new(params.beta2, steps),
            decay: T::of(1. - params.lr * params.weight_decay),
            eps: T::of(params.eps),
            learning_rate: T::of(params.lr),
        }
    }

    fn apply(
        &self,
        (values, vl): (&mut [T], &Layout),
        [first, second]: &mut [Vec<T>; 2],
        (grads, gl): (&[T], &Layout),
    ) -> Result<()> {
        let (Some((start, end)), Some((grad_start, grad_end))) =
            (vl.contiguous_offsets(), gl.contiguous_offsets())
        else {
            bail!("adam_w: the variable is not contiguous");
        };
        let (values, grads) = (&mut values[start..end], &grads[grad_start..grad_end]);
        let moments = first.chunks_mut(RUN).zip(second.chunks_mut(RUN));
        let runs = values.chunks_mut(RUN).zip(moments).zip(grads.chunks(RUN));
        pool::each(runs.collect(), true, |((values, (first, second)), grads)| {
            wide(Move { factors: self, values, first, second, grads });
        });
        Ok(())
    }
}

/// The step of some values of a variable.
struct Move<'a, T> {
    factors: &'a Factors<T>,
    values: &'a mut [T],
    first: &'a mut [T],
    second: &'a mut [T],
    grads: &'a [T],
}

impl<T: Scalar> NullaryFnOnce for Move<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { factors, values, first, second, grads } = self;
        let moments = first.iter_mut().zip(second);
        for ((value, (first, second)), &grad) in values.iter_mut().zip(moments).zip(grads) {
            let (mean, mean_hat) = factors.first.next(*first, grad);
            let (square, square_hat) = factors.second.next(*second, grad * grad);
            let direction = mean_hat / (square_hat.sqrt() + factors.eps);
            *value = scaled(*value, factors.decay) - scaled(direction, factors.learning_rate);
            (*first, *second) = (mean, square);
        }
    }
}
