//! A convolution as one node of the graph, on the CPU: outputs and gradients are summed up where the
//! pixels lie, without unfolded columns.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, DType, Device, Error, Layout, Result, Shape, Tensor,
};
use hypernn_kernels::Float;
use hypernn_kernels::conv::{Channels, Convolution};

use super::convolved::ConvolutionKind;
use super::kernels::{CandleThreads, kernel};
use super::product::{product, product_transposed};
use super::scalar::{Scalar, values};
use super::second_order::{ensure_detached, keeps_graph};
use super::unfold::{Windows, fold, unfold};
use crate::param::{Param, Routes};

/// Images `[B, C, H, W]`, weight `[sets, out, C / groups, height, width]` and bias `[sets, out]` to
/// `[B, out, H', W']`; where [`is_direct`](super::scalar::is_direct) says so.
pub(crate) fn convolution(
    images: &Tensor,
    weight: &Param,
    bias: Option<&Param>,
    windows: Windows,
) -> Result<Tensor> {
    let images = images.contiguous()?;
    if let Some(routes) = Routes::of(weight, bias) {
        let (weight, edge) = (weight.values().contiguous()?.detach(), routes.edge().clone());
        let bias = bias.map(|bias| bias.values().detach().contiguous()).transpose()?;
        return images.apply_op3(
            &weight,
            &edge,
            ConvolutionNode { windows, bias, routes: Some(routes) },
        );
    }
    let weight = weight.collected()?.contiguous()?;
    let Some(bias) = bias else {
        return images.apply_op2(&weight, ConvolutionNode { windows, bias: None, routes: None });
    };
    let bias = bias.collected()?.contiguous()?;
    let node = ConvolutionNode { windows, bias: Some(bias.detach()), routes: None };
    images.apply_op3(&weight, &bias, node)
}

/// A convolution as a node of the graph. Where its parameters have routes, their gradients are delivered there, and
/// the bias is no argument of the node.
struct ConvolutionNode {
    windows: Windows,
    bias: Option<Tensor>,
    routes: Option<Routes>,
}

/// Which gradients are asked for.
#[derive(Clone, Copy)]
struct AskedGrads {
    images: bool,
    weight: bool,
    bias: bool,
}

impl ConvolutionNode {
    fn direct(&self, images: &Shape, weight: &Shape) -> Result<Convolution<'static>> {
        let (batch, ..) = images.dims4()?;
        let (_, outputs, channels, ..) = weight.dims5()?;
        let channels = Channels { inputs: channels, outputs: outputs / self.windows.groups };
        let images = batch / self.windows.sets;
        kernel(Convolution::new(self.windows, images, channels, &CandleThreads))
    }

    fn output(&self, images: &Shape, weight: &Shape) -> Result<Shape> {
        let (batch, ..) = images.dims4()?;
        let (_, outputs, ..) = weight.dims5()?;
        let (height, width) = (self.windows.height.positions, self.windows.width.positions);
        Ok(Shape::from((batch, outputs, height, width)))
    }

    fn forward(
        &self,
        images: &CpuStorage,
        il: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ys = match (images, weight) {
            (CpuStorage::F32(images), CpuStorage::F32(weight)) => {
                CpuStorage::F32(self.outputs(images, il, weight, wl)?)
            }
            (CpuStorage::F64(images), CpuStorage::F64(weight)) => {
                CpuStorage::F64(self.outputs(images, il, weight, wl)?)
            }
            (images, weight) => {
                let (lhs, rhs) = (images.dtype(), weight.dtype());
                return Err(Error::DTypeMismatchBinaryOp { lhs, rhs, op: "convolution" }.bt());
            }
        };
        Ok((ys, self.output(il.shape(), wl.shape())?))
    }

    fn outputs<T: Scalar>(
        &self,
        images: &[T],
        il: &Layout,
        weights: &[T],
        wl: &Layout,
    ) -> Result<Vec<T>> {
        let direct = self.direct(il.shape(), wl.shape())?;
        let (images, weights) = (&images[il.start_offset()..], &weights[wl.start_offset()..]);
        match &self.bias {
            None => kernel(direct.forward(images, weights, None)),
            Some(bias) => kernel(values(bias, |bias| direct.forward(images, weights, Some(bias)))?),
        }
    }

    /// The gradients of images, weight and bias, each where it is asked for.
    fn backward(
        &self,
        images: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
        ask: AskedGrads,
    ) -> Result<[Option<Tensor>; 3]> {
        if keeps_graph() {
            return self.composed_backward(images, weight, grad, ask);
        }
        match images.dtype() {
            DType::F64 => self.backward_of::<f64>(images, weight, grad, ask),
            _ => self.backward_of::<f32>(images, weight, grad, ask),
        }
    }

    fn backward_of<T: Scalar>(
        &self,
        images: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
        ask: AskedGrads,
    ) -> Result<[Option<Tensor>; 3]> {
        let grad = grad.contiguous()?;
        let direct = self.direct(images.shape(), weight.shape())?;
        let of_images = || {
            let grads = values(weight, |weights: &[T]| {
                values(&grad, |grad| direct.image_grads(weights, grad))
            })??;
            Tensor::from_vec(kernel(grads)?, images.shape(), &Device::Cpu)
        };
        let of_weight = || {
            let grads = values(images, |images: &[T]| {
                values(&grad, |grad| direct.weight_grads(images, grad))
            })??;
            Tensor::from_vec(kernel(grads)?, weight.shape(), &Device::Cpu)
        };
        let bias = ask.bias.then(|| self.bias_grad::<T>(&grad)).transpose()?;
        Ok([ask.images.then(of_images).transpose()?, ask.weight.then(of_weight).transpose()?, bias])
    }

    /// The gradients of images, weight and bias by operations that can be differentiated again.
    fn composed_backward(
        &self,
        images: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
        ask: AskedGrads,
    ) -> Result<[Option<Tensor>; 3]> {
        let windows = self.windows;
        let kind = ConvolutionKind { windows, transposed: false };
        let (sets, outputs, channels, ..) = weight.dims5()?;
        let matrices = (sets * windows.groups, outputs / windows.groups, channels * windows.taps());
        let (matrices, lines) = (weight.reshape(matrices)?, kind.lines(grad)?);
        let of_images = || fold(&product_transposed(&matrices, &lines)?, windows);
        let of_weight = || product(&lines, &unfold(images, windows)?.t()?)?.reshape(weight.shape());
        Ok([
            ask.images.then(of_images).transpose()?,
            ask.weight.then(of_weight).transpose()?,
            ask.bias.then(|| kind.bias_grad(grad)).transpose()?,
        ])
    }

    /// The sums over a set's images and positions, `[sets, outputs]`.
    fn bias_grad<T: Scalar>(&self, grad: &Tensor) -> Result<Tensor> {
        let (_, outputs, ..) = grad.dims4()?;
        let sets = self.windows.sets;
        let mut sums = vec![T::default(); sets * outputs];
        values(grad, |grad: &[T]| {
            let per_set = (grad.len() / sets).max(1);
            for (grad, sums) in grad.chunks_exact(per_set).zip(sums.chunks_exact_mut(outputs)) {
                for (i, plane) in grad.chunks_exact(self.windows.positions()).enumerate() {
                    sums[i % outputs] += Float::sum(plane);
                }
            }
        })?;
        Tensor::from_vec(sums, (sets, outputs), &Device::Cpu)
    }
}

impl CustomOp2 for ConvolutionNode {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn cpu_fwd(
        &self,
        images: &CpuStorage,
        il: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(images, il, weight, wl)
    }

    fn bwd(
        &self,
        images: &Tensor,
        weight: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ask = AskedGrads { images: images.track_op(), weight: weight.track_op(), bias: false };
        let [images, weight, _] = self.backward(images, weight, grad, ask)?;
        Ok((images, weight))
    }
}

/// The third tensor is the bias, or the edge of parameters with routes.
impl CustomOp3 for ConvolutionNode {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn cpu_fwd(
        &self,
        images: &CpuStorage,
        il: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(images, il, weight, wl)
    }

    fn bwd(
        &self,
        images: &Tensor,
        weight: &Tensor,
        third: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(routes) = &self.routes else {
            let ask = AskedGrads {
                images: images.track_op(),
                weight: weight.track_op(),
                bias: third.track_op(),
            };
            let [images, weight, bias] = self.backward(images, weight, grad, ask)?;
            return Ok((images, weight, bias));
        };
        ensure_detached("convolution")?;
        let ask = AskedGrads { images: images.track_op(), weight: true, bias: routes.has_bias() };
        let [images, weight, bias] = self.backward(images, weight, grad, ask)?;
        Ok((images, None, routes.deliver_both(weight, bias)?))
    }
}
