//! A step of AdamW over candle's variables: in one pass by `hypernn_kernels::adam_w`, on the CPU in f32 and f64, by
//! candle's operations elsewhere.

use std::cell::RefCell;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, Var, bail};
use candle_nn::ParamsAdamW;
use hypernn_kernels::adam_w::{self, Settings, Variable, power};

use super::dtype::internal;
use super::kernels::{CandleThreads, kernel};
use super::scalar::{Scalar, is_direct};

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
        internal(var.dtype())
    }

    /// The moments before the first step, all zero.
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

    /// Moments with these values, which have the variable's shape and device, and its dtype or that of its moments.
    pub(crate) fn from_tensors(var: &Var, first: &Tensor, second: &Tensor) -> Result<Self> {
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

    /// The first and the second moment, in the variable's shape and on its device.
    pub(crate) fn to_tensors(&self, var: &Var) -> Result<[Tensor; 2]> {
        let (shape, device) = (var.shape(), var.device());
        let [first, second] = match self {
            Self::F32(moments) => moments.each_ref().map(|values| Tensor::new(&**values, device)),
            Self::F64(moments) => moments.each_ref().map(|values| Tensor::new(&**values, device)),
            Self::Other(moments) => moments.each_ref().map(Tensor::copy),
        };
        Ok([first?.reshape(shape)?, second?.reshape(shape)?])
    }

    /// Moves the variable by one step; `steps` is the number of steps with this one.
    pub(crate) fn step(
        &mut self,
        var: &Var,
        grad: &Tensor,
        params: &ParamsAdamW,
        steps: usize,
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
            return step_by_candle(var, moments, grad, params, steps);
        }
        let grad = if same_storage(grad, var) { grad.copy()? } else { grad.clone() };
        let step = AdamWStep { params, steps, moments: RefCell::new(self) };
        var.inplace_op2(&grad.contiguous()?, &step)
    }
}

/// A step by candle's operations, in the dtype of the moments.
fn step_by_candle(
    var: &Var,
    moments: &mut [Tensor; 2],
    grad: &Tensor,
    params: &ParamsAdamW,
    steps: usize,
) -> Result<()> {
    let [first, second] = moments;
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

/// Whether two tensors have the same memory, which could not be read while it is written.
fn same_storage(left: &Tensor, right: &Tensor) -> bool {
    let storage = |tensor: &Tensor| std::ptr::from_ref(&*tensor.storage_and_layout().0);
    storage(left) == storage(right)
}

struct AdamWStep<'a> {
    params: &'a ParamsAdamW,
    steps: usize,
    /// candle's operations have no memory of their own.
    moments: RefCell<&'a mut Moments>,
}

impl InplaceOp2 for AdamWStep<'_> {
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
                self.move_values(values, vl, moments, grads, gl)
            }
            (Moments::F64(moments), CpuStorage::F64(values), CpuStorage::F64(grads)) => {
                self.move_values(values, vl, moments, grads, gl)
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

impl AdamWStep<'_> {
    fn settings(&self) -> Settings {
        let ParamsAdamW { lr: learning_rate, beta1, beta2, eps, weight_decay } = *self.params;
        Settings { learning_rate, beta1, beta2, eps, weight_decay }
    }

    fn move_values<T: Scalar>(
        &self,
        values: &mut [T],
        vl: &Layout,
        moments: &mut [Vec<T>; 2],
        grads: &[T],
        gl: &Layout,
    ) -> Result<()> {
        let (Some((start, end)), Some((grad_start, grad_end))) =
            (vl.contiguous_offsets(), gl.contiguous_offsets())
        else {
            bail!("adam_w: the variable is not contiguous");
        };
        let (values, grads) = (&mut values[start..end], &grads[grad_start..grad_end]);
        let [first_moment, second_moment] = moments;
        let variable = Variable { values, first_moment, second_moment };
        kernel(adam_w::step(variable, grads, &self.settings(), self.steps, &CandleThreads))
    }
}
