//! `y = x wᵀ + b` for one or several sets of weights, as one node of the graph.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, CustomOp3, Layout, MetalStorage, Result, Shape, Tensor, op,
};

use super::outer::outer;

/// `xs [G, R, in]`, `weight [G, out, in]`, `bias [G, out]` to `[G, R, out]`.
///
/// Beside candle's own matmul and add, the backward gives the weight's gradient row-major (candle's
/// is a transposed view, which every later pass reads against the grain) and none where nothing
/// asks for it.
pub(crate) fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => {
            xs.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear)
        }
        None => xs.contiguous()?.apply_op2(&weight.contiguous()?, Linear),
    }
}

struct Linear;

/// The sizes of one product.
pub(super) struct Sizes {
    sets: usize,
    rows: usize,
    inputs: usize,
    outputs: usize,
}

impl Sizes {
    pub(super) fn new(xs: &Layout, weight: &Layout) -> Result<Self> {
        let (sets, rows, inputs) = xs.shape().dims3()?;
        let (_, outputs, _) = weight.shape().dims3()?;
        Ok(Self { sets, rows, inputs, outputs })
    }

    pub(super) fn output(&self) -> Shape {
        Shape::from((self.sets, self.rows, self.outputs))
    }

    pub(super) fn matmul<S: BackendStorage>(
        &self,
        xs: &S,
        xl: &Layout,
        weight: &S,
        wl: &Layout,
    ) -> Result<S> {
        let sizes = (self.sets, self.rows, self.outputs, self.inputs);
        xs.matmul(weight, sizes, xl, &wl.transpose(1, 2)?)
    }

    /// Adds the bias on a device: one broadcast addition.
    pub(super) fn add_bias<S: BackendStorage>(&self, ys: &S, bias: &S, bl: &Layout) -> Result<S> {
        let shape = self.output();
        let bias_layout =
            Layout::contiguous_with_offset((self.sets, 1, self.outputs), bl.start_offset())
                .broadcast_as(&shape)?;
        ys.binary_impl::<op::Add>(bias, &Layout::contiguous(&shape), &bias_layout)
    }

    /// Adds the bias on the CPU, in place.
    pub(super) fn add_bias_in_place(
        &self,
        ys: &mut CpuStorage,
        bias: &CpuStorage,
        bl: &Layout,
    ) -> Result<()> {
        let start = bl.start_offset();
        match (ys, bias) {
            (CpuStorage::F32(ys), CpuStorage::F32(bias)) => self.add_rows(ys, &bias[start..]),
            (CpuStorage::F64(ys), CpuStorage::F64(bias)) => self.add_rows(ys, &bias[start..]),
            (CpuStorage::F16(ys), CpuStorage::F16(bias)) => self.add_rows(ys, &bias[start..]),
            (CpuStorage::BF16(ys), CpuStorage::BF16(bias)) => self.add_rows(ys, &bias[start..]),
            (ys, bias) => candle_core::bail!(
                "linear: the weight is {:?} and the bias {:?}, expected one floating dtype",
                ys.dtype(),
                bias.dtype()
            ),
        }
        Ok(())
    }

    fn add_rows<T: Copy + std::ops::AddAssign>(&self, ys: &mut [T], bias: &[T]) {
        let per_set = (self.rows * self.outputs).max(1);
        for (ys, bias) in ys.chunks_exact_mut(per_set).zip(bias.chunks_exact(self.outputs.max(1))) {
            for row in ys.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(y, &b)| *y += b);
            }
        }
    }
}

/// Gradients of `xs` and `weight`, each only where something asks for it.
pub(crate) fn backward(
    xs: &Tensor,
    weight: &Tensor,
    grad: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let xs_grad = xs.track_op().then(|| grad.matmul(&weight.detach())).transpose()?;
    let weight_grad = weight.track_op().then(|| weight_backward(&xs.detach(), grad)).transpose()?;
    Ok((xs_grad, weight_grad))
}

pub(super) fn weight_backward(xs: &Tensor, grad: &Tensor) -> Result<Tensor> {
    if xs.dim(1)? == 1 { outer(grad, xs) } else { grad.transpose(1, 2)?.matmul(xs) }
}

/// The gradient of a `bias` of any shape with `sets × outputs` values, as `[sets, outputs]`.
pub(crate) fn bias_backward(bias: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
    bias.track_op().then(|| rows_backward(grad)).transpose()
}

/// The sum over rows, `[sets, rows, outputs]` to `[sets, outputs]`: as a product, since candle's own
/// sum over a middle dimension is slow on the CPU.
pub(super) fn rows_backward(grad: &Tensor) -> Result<Tensor> {
    let (sets, rows, outputs) = grad.dims3()?;
    if rows == 1 {
        return grad.reshape((sets, outputs));
    }
    let ones = Tensor::ones((sets, 1, rows), grad.dtype(), grad.device())?;
    ones.matmul(grad)?.reshape((sets, outputs))
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = Sizes::new(xl, wl)?;
        Ok((sizes.matmul(xs, xl, weight, wl)?, sizes.output()))
    }

    fn cuda_fwd(
        &self,
        xs: &CudaStorage,
        xl: &Layout,
        weight: &CudaStorage,
        wl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let sizes = Sizes::new(xl, wl)?;
        Ok((sizes.matmul(xs, xl, weight, wl)?, sizes.output()))
    }

    fn metal_fwd(
        &self,
        xs: &MetalStorage,
        xl: &Layout,
        weight: &MetalStorage,
        wl: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        let sizes = Sizes::new(xl, wl)?;
        Ok((sizes.matmul(xs, xl, weight, wl)?, sizes.output()))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        backward(xs, weight, &grad.contiguous()?)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
        bias: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = Sizes::new(xl, wl)?;
        let mut ys = sizes.matmul(xs, xl, weight, wl)?;
        sizes.add_bias_in_place(&mut ys, bias, bl)?;
        Ok((ys, sizes.output()))
    }

    fn cuda_fwd(
        &self,
        xs: &CudaStorage,
        xl: &Layout,
        weight: &CudaStorage,
        wl: &Layout,
        bias: &CudaStorage,
        bl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let sizes = Sizes::new(xl, wl)?;
        let ys = sizes.matmul(xs, xl, weight, wl)?;
        Ok((sizes.add_bias(&ys, bias, bl)?, sizes.output()))
    }

    fn metal_fwd(
        &self,
        xs: &MetalStorage,
        xl: &Layout,
        weight: &MetalStorage,
        wl: &Layout,
        bias: &MetalStorage,
        bl: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        let sizes = Sizes::new(xl, wl)?;
        let ys = sizes.matmul(xs, xl, weight, wl)?;
        Ok((sizes.add_bias(&ys, bias, bl)?, sizes.output()))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (xs_grad, weight_grad) = backward(xs, weight, &grad)?;
        Ok((xs_grad, weight_grad, bias_backward(bias, &grad)?))
    }
}
