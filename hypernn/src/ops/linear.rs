//! `y = x wᵀ + b` for one or several sets of weights, as one node of the graph.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, CustomOp3, DType, Device, Layout, MetalStorage, Result,
    Shape, Storage, Tensor, op,
};
use hypernn_kernels::simd::dispatch;

use super::dense::{self, CpuLinear};
use super::gemm;
use super::product::{matmul, product_over_rows};
use super::quantized::quantized_linear;
use super::scalar::{Scalar, is_direct, values};
use super::second_order::{ensure_detached, operand};
use crate::check::ensure_same_dtype;
use crate::param::{Adapter, Param, PendingGradient, Routes};

/// `xs […, in]`, `weight [out, in]`, `bias [out]` to `[…, out]`; or `weight [G, out, in]` and
/// `bias [G, out]`, where each of `G` runs of rows has a set of its own. A low-rank adapter of the weight is applied
/// beside it.
///
/// Beside candle's own matmul and add, the backward gives the weight's gradient row-major (candle's
/// is a transposed view, which every later pass reads against the grain) and none where nothing
/// asks for it.
pub(crate) fn linear(xs: &Tensor, weight: &Param, bias: Option<&Param>) -> Result<Tensor> {
    let ys = node(xs, weight, bias)?;
    weight.adapter().map_or(Ok(ys.clone()), |adapter| ys + adapter.apply(xs)?)
}

/// One node, without what adapts the weight.
fn node(xs: &Tensor, weight: &Param, bias: Option<&Param>) -> Result<Tensor> {
    ensure_same_dtype("linear", "the input", xs.dtype(), "the weight", weight.dtype())?;
    if let Some(quantized) = weight.blocks() {
        return quantized_linear(xs, quantized, bias);
    }
    let xs = xs.contiguous()?;
    if let Some(routes) = Routes::of(weight, bias) {
        let weight = weight.values().detach().contiguous()?;
        let bias = bias.map(|bias| bias.values().detach().contiguous()).transpose()?;
        let edge = routes.edge().clone();
        return xs.apply_op3(&weight, &edge, LinearNode { routed: Some(Routed { routes, bias }) });
    }
    let weight = weight.collected()?.contiguous()?;
    match bias {
        Some(bias) => {
            xs.apply_op3(&weight, &bias.collected()?.contiguous()?, LinearNode { routed: None })
        }
        None => xs.apply_op2(&weight, LinearNode { routed: None }),
    }
}

impl Adapter {
    /// What the difference adds to the output of a linear layer, for an input `[…, in]`: two narrow
    /// products, and the weight's difference itself is never computed.
    fn apply(&self, xs: &Tensor) -> Result<Tensor> {
        let hidden = linear(&self.dropped(xs)?, &self.down, None)?;
        // The narrow side is scaled, which has as many values as ranks.
        linear(&(hidden * self.scale)?, &self.up, None)
    }

    /// The input, with a part dropped and the rest made up for it.
    pub(crate) fn dropped(&self, xs: &Tensor) -> Result<Tensor> {
        if self.dropout == 0. {
            return Ok(xs.clone());
        }
        candle_nn::ops::dropout(xs, self.dropout)
    }
}

/// A node over an input, a weight, and a third tensor: the bias, or the edge of parameters with routes.
struct LinearNode {
    routed: Option<Routed>,
}

/// What is no argument of the node where gradients are delivered.
struct Routed {
    routes: Routes,
    bias: Option<Tensor>,
}

/// The sizes of one product.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinearSizes {
    pub(super) sets: usize,
    /// The rows of one set.
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl LinearSizes {
    pub(super) fn new(xs: &[usize], weight: &[usize]) -> Result<Self> {
        let (sets, outputs, inputs) = match *weight {
            [outputs, inputs] => (1, outputs, inputs),
            [sets, outputs, inputs] => (sets, outputs, inputs),
            _ => {
                crate::error::bail!(
                    shape,
                    "linear: the weight has shape {weight:?}, expected [out, in] or [G, out, in]"
                )
            }
        };
        let rows: usize = xs.iter().rev().skip(1).product();
        if xs.last() != Some(&inputs) || sets == 0 || !rows.is_multiple_of(sets) {
            crate::error::bail!(
                shape,
                "linear: an input of shape {xs:?} does not fit a weight of shape {weight:?}"
            );
        }
        Ok(Self { sets, rows: rows / sets, inputs, outputs })
    }

    fn of(xs: &Tensor, weight: &Tensor) -> Result<Self> {
        Self::new(xs.dims(), weight.dims())
    }

    /// The number of values that come out.
    pub(super) fn values(&self) -> usize {
        self.sets * self.rows * self.outputs
    }

    /// Whether inputs and outputs together are no more values than the weight.
    pub(super) fn sides_are_fewer(&self) -> bool {
        self.of_kernel().sides_are_fewer()
    }

    /// `[…, out]` for an input `[…, in]`.
    pub(super) fn output(&self, xs: &[usize]) -> Shape {
        let mut dims = xs.to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.outputs;
        }
        Shape::from(dims)
    }

    /// The shape of the input's rows by set, `[G, rows, in]`.
    fn rows_by_set(&self) -> (usize, usize, usize) {
        (self.sets, self.rows, self.inputs)
    }

    /// The layouts of the rows of each set, and of the transposed weights, for storages that are contiguous.
    fn sides(&self, xl: &Layout, wl: &Layout) -> Result<[Layout; 2]> {
        // On CUDA, candle panics for a part of nothing that starts anywhere else.
        let start = if self.rows == 0 { 0 } else { xl.start_offset() };
        let xl = Layout::contiguous_with_offset(self.rows_by_set(), start);
        let weights = (self.sets, self.outputs, self.inputs);
        Ok([xl, Layout::contiguous_with_offset(weights, wl.start_offset()).transpose(1, 2)?])
    }

    /// The outputs on a device: a product, and a broadcast addition where there is a bias.
    pub(super) fn outputs<S: BackendStorage>(
        &self,
        xs: &S,
        xl: &Layout,
        weight: &S,
        wl: &Layout,
        bias: Option<(&S, &Layout)>,
    ) -> Result<S> {
        let ys = self.matmul(xs, xl, weight, wl)?;
        match bias {
            None => Ok(ys),
            Some((bias, bl)) => self.add_bias(ys, bias, bl),
        }
    }

    fn matmul<S: BackendStorage>(&self, xs: &S, xl: &Layout, weight: &S, wl: &Layout) -> Result<S> {
        let [xl, wl] = self.sides(xl, wl)?;
        xs.matmul(weight, (self.sets, self.rows, self.outputs, self.inputs), &xl, &wl)
    }

    /// The outputs on the CPU.
    pub(super) fn outputs_on_cpu(
        &self,
        xs: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<CpuStorage> {
        let all = [(xs, xl), (weight, wl)].into_iter().chain(bias);
        let dtype = weight.dtype();
        if dense::serves(self) && all.clone().all(|(part, _)| part.dtype() == dtype) {
            bias.map_or(Ok(()), |(_, bl)| self.check_bias(bl))?;
            match dtype {
                DType::F32 => return self.directly(all).map(CpuStorage::F32),
                DType::F64 => return self.directly(all).map(CpuStorage::F64),
                _ => {}
            }
        }
        let [xl, wl] = self.sides(xl, wl)?;
        let mut ys = gemm::matmul(xs, &xl, weight, &wl)?;
        if let Some((bias, bl)) = bias {
            self.add_bias_in_place(&mut ys, bias, bl)?;
        }
        Ok(ys)
    }

    fn directly<'a, T: Scalar>(
        &self,
        parts: impl Iterator<Item = (&'a CpuStorage, &'a Layout)>,
    ) -> Result<Vec<T>> {
        let values = parts.map(|(part, layout)| Ok(&part.as_slice()?[layout.start_offset()..]));
        let parts = values.collect::<Result<Vec<&[T]>>>()?;
        let (xs, weight, bias) = (parts[0], parts[1], parts.get(2).copied());
        CpuLinear { sizes: *self, xs, weight, bias }.outputs()
    }

    pub(super) fn check_bias(&self, bl: &Layout) -> Result<()> {
        let (found, expected) = (bl.shape().elem_count(), self.sets * self.outputs);
        if found != expected {
            crate::error::bail!(shape, "linear: the bias has {found} values, expected {expected}");
        }
        Ok(())
    }

    fn check_dtypes(&self, weight: DType, bias: DType) -> Result<()> {
        if weight == bias && weight.is_float() {
            return Ok(());
        }
        crate::error::bail!(
            dtype,
            "linear: the weight is {weight:?} and the bias {bias:?}, expected one floating dtype"
        )
    }

    /// Adds the bias on a device: one broadcast addition.
    fn add_bias<S: BackendStorage>(&self, ys: S, bias: &S, bl: &Layout) -> Result<S> {
        self.check_bias(bl)?;
        self.check_dtypes(ys.dtype(), bias.dtype())?;
        // On CUDA, candle can't add to nothing.
        if self.values() == 0 {
            return Ok(ys);
        }
        let shape = Shape::from((self.sets, self.rows, self.outputs));
        let bias_layout =
            Layout::contiguous_with_offset((self.sets, 1, self.outputs), bl.start_offset())
                .broadcast_as(&shape)?;
        ys.binary_impl::<op::Add>(bias, &Layout::contiguous(&shape), &bias_layout)
    }

    /// Adds the bias on the CPU, in place.
    fn add_bias_in_place(&self, ys: &mut CpuStorage, bias: &CpuStorage, bl: &Layout) -> Result<()> {
        self.check_bias(bl)?;
        let start = bl.start_offset();
        match (ys, bias) {
            (CpuStorage::F32(ys), CpuStorage::F32(bias)) => {
                dispatch(|| self.add_rows(ys, &bias[start..]));
            }
            (CpuStorage::F64(ys), CpuStorage::F64(bias)) => {
                dispatch(|| self.add_rows(ys, &bias[start..]));
            }
            (CpuStorage::F16(ys), CpuStorage::F16(bias)) => self.add_rows(ys, &bias[start..]),
            (CpuStorage::BF16(ys), CpuStorage::BF16(bias)) => self.add_rows(ys, &bias[start..]),
            (ys, bias) => return self.check_dtypes(ys.dtype(), bias.dtype()),
        }
        Ok(())
    }

    #[inline(always)]
    fn add_rows<T: Copy + std::ops::AddAssign>(&self, ys: &mut [T], bias: &[T]) {
        let per_set = (self.rows * self.outputs).max(1);
        for (ys, bias) in ys.chunks_exact_mut(per_set).zip(bias.chunks_exact(self.outputs.max(1))) {
            for row in ys.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(y, &b)| *y += b);
            }
        }
    }
}

/// The gradients of a linear layer's parts.
pub(super) struct LinearBackward {
    sizes: LinearSizes,
    /// The shape of the input's rows by set, `[G, rows, in]`.
    xs: Tensor,
    /// `[G, rows, out]`.
    grad: Tensor,
}

impl LinearBackward {
    pub(super) fn new(xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<Self> {
        let sizes = LinearSizes::of(xs, weight)?;
        let xs = operand(xs).reshape(sizes.rows_by_set())?;
        let grad = grad.contiguous()?.reshape((sizes.sets, sizes.rows, sizes.outputs))?;
        Ok(Self { sizes, xs, grad })
    }

    /// The gradient of the input, where something asks for it.
    pub(super) fn of_input(&self, xs: &Tensor, weight: &Tensor) -> Result<Option<Tensor>> {
        if !xs.track_op() {
            return Ok(None);
        }
        let LinearSizes { sets, inputs, outputs, .. } = self.sizes;
        let weight = operand(weight).reshape((sets, outputs, inputs))?;
        matmul(&self.grad, &weight)?.reshape(xs.shape()).map(Some)
    }

    /// The gradient of the weight, `[G, out, in]`.
    pub(super) fn of_weight(&self) -> Result<Tensor> {
        product_over_rows(&self.grad, &self.xs)
    }

    /// The gradient of the weight in the weight's own shape, where something asks for it.
    fn asked_of_weight(&self, weight: &Tensor) -> Result<Option<Tensor>> {
        weight.track_op().then(|| self.of_weight()?.reshape(weight.shape())).transpose()
    }

    /// The two sides whose product is the weight's gradient, where they are no more than it.
    pub(super) fn factors(&self) -> Option<(&Tensor, &Tensor)> {
        let fewer = self.sizes.rows == 1 || self.sizes.sides_are_fewer();
        fewer.then_some((&self.grad, &self.xs))
    }

    /// Of the bias, `[G, out]`, the sum over rows: on the CPU directly, or as a product, since candle's
    /// own sum over a middle dimension is slow there.
    pub(super) fn of_bias(&self) -> Result<Tensor> {
        let LinearSizes { sets, rows, outputs, .. } = self.sizes;
        if rows == 1 {
            return self.grad.reshape((sets, outputs));
        }
        if is_direct(&self.grad) && !self.grad.track_op() {
            return match self.grad.dtype() {
                DType::F64 => self.sum_rows::<f64>(),
                _ => self.sum_rows::<f32>(),
            };
        }
        let ones = Tensor::ones((sets, 1, rows), self.grad.dtype(), self.grad.device())?;
        matmul(&ones, &self.grad)?.reshape((sets, outputs))
    }

    fn sum_rows<T: Scalar>(&self) -> Result<Tensor> {
        let LinearSizes { sets, rows, outputs, .. } = self.sizes;
        let mut sums = vec![T::default(); sets * outputs];
        values(&self.grad, |grad: &[T]| {
            let (of_set, of_row) = ((rows * outputs).max(1), outputs.max(1));
            for (grad, sums) in grad.chunks_exact(of_set).zip(sums.chunks_exact_mut(of_row)) {
                let rows = grad.chunks_exact(sums.len());
                dispatch(|| {
                    rows.for_each(|row| sums.iter_mut().zip(row).for_each(|(s, &g)| *s += g))
                });
            }
        })?;
        Tensor::from_vec(sums, (sets, outputs), &Device::Cpu)
    }
}

/// The gradients of input and weight, each where something asks for it.
fn backward(
    xs: &Tensor,
    weight: &Tensor,
    grad: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let backward = LinearBackward::new(xs, weight, grad)?;
    Ok((backward.of_input(xs, weight)?, backward.asked_of_weight(weight)?))
}

/// The gradients of input, weight and bias.
type Grads = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// The gradients of input, weight and bias, each where something asks for it.
pub(super) fn backward_with_bias(
    xs: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    grad: &Tensor,
) -> Result<Grads> {
    let backward = LinearBackward::new(xs, weight, grad)?;
    let of_bias = bias.track_op().then(|| backward.of_bias()?.reshape(bias.shape())).transpose()?;
    Ok((backward.of_input(xs, weight)?, backward.asked_of_weight(weight)?, of_bias))
}

impl LinearNode {
    fn routed_bwd(
        &self,
        routed: &Routed,
        xs: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
    ) -> Result<Grads> {
        ensure_detached("linear")?;
        let backward = LinearBackward::new(xs, weight, grad)?;
        let of_weight = match backward.factors() {
            Some((grad, xs)) => PendingGradient::Product(grad.clone(), xs.clone()),
            None => backward.of_weight()?.into(),
        };
        let of_edge = routed.routes.deliver(of_weight, || backward.of_bias())?;
        Ok((backward.of_input(xs, weight)?, None, of_edge))
    }
}

/// The forward on one kind of storage, with the third tensor or none: `$outputs` computes it with the storage and
/// layout of the bias, if any.
macro_rules! forward {
    ($node:expr, $kind:ident, $xl:ident, $wl:ident, $third:expr, $outputs:expr) => {{
        let sizes = LinearSizes::new($xl.dims(), $wl.dims())?;
        let held = $node.routed.as_ref().map(|routed| &routed.bias);
        let held = held.map(|bias| bias.as_ref().map(Tensor::storage_and_layout));
        let bias = match &held {
            None => $third,
            Some(None) => None,
            Some(Some((storage, layout))) => match &**storage {
                Storage::$kind(bias) => Some((bias, *layout)),
                _ => crate::error::bail!(
                    device,
                    "linear: the bias is on another device than the weight"
                ),
            },
        };
        Ok(($outputs(&sizes, bias)?, sizes.output($xl.dims())))
    }};
}

impl CustomOp2 for LinearNode {
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
        forward!(self, Cpu, xl, wl, None, |sizes: &LinearSizes, bias| {
            sizes.outputs_on_cpu(xs, xl, weight, wl, bias)
        })
    }

    fn cuda_fwd(
        &self,
        xs: &CudaStorage,
        xl: &Layout,
        weight: &CudaStorage,
        wl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        forward!(self, Cuda, xl, wl, None, |sizes: &LinearSizes, bias| {
            sizes.outputs(xs, xl, weight, wl, bias)
        })
    }

    fn metal_fwd(
        &self,
        xs: &MetalStorage,
        xl: &Layout,
        weight: &MetalStorage,
        wl: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        forward!(self, Metal, xl, wl, None, |sizes: &LinearSizes, bias| {
            sizes.outputs(xs, xl, weight, wl, bias)
        })
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        backward(xs, weight, grad)
    }
}

impl CustomOp3 for LinearNode {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
        third: &CpuStorage,
        tl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward!(self, Cpu, xl, wl, Some((third, tl)), |sizes: &LinearSizes, bias| {
            sizes.outputs_on_cpu(xs, xl, weight, wl, bias)
        })
    }

    fn cuda_fwd(
        &self,
        xs: &CudaStorage,
        xl: &Layout,
        weight: &CudaStorage,
        wl: &Layout,
        third: &CudaStorage,
        tl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        forward!(self, Cuda, xl, wl, Some((third, tl)), |sizes: &LinearSizes, bias| {
            sizes.outputs(xs, xl, weight, wl, bias)
        })
    }

    fn metal_fwd(
        &self,
        xs: &MetalStorage,
        xl: &Layout,
        weight: &MetalStorage,
        wl: &Layout,
        third: &MetalStorage,
        tl: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        forward!(self, Metal, xl, wl, Some((third, tl)), |sizes: &LinearSizes, bias| {
            sizes.outputs(xs, xl, weight, wl, bias)
        })
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        third: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<Grads> {
        match &self.routed {
            Some(routed) => self.routed_bwd(routed, xs, weight, grad),
            None => backward_with_bias(xs, weight, third, grad),
        }
    }
}
