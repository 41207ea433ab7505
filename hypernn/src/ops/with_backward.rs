//! A tensor that was computed outside of the graph becomes a node of it, with a backward of our own and
//! at no launch.
//!
//! Where generated tensors are views, a layer computes its outputs by candle's own operations on
//! detached tensors, as by hand; the backward delivers the gradients of the views.

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Error, Layout, MetalStorage, Result,
    Shape, Storage, StorageRef, Tensor, bail,
};

use super::second_order::ensure_detached;

/// From the inputs, the outputs and the gradient of the outputs: the gradient of each input, where it is asked for.
type BackwardFn = dyn Fn(&[&Tensor], &Tensor, &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync;

/// The node `layer` of these outputs, which no other tensor may share, over an input and the edge of generated
/// parameters. The backward gets the input and the gradient of the outputs; it gives the gradient of the input, where
/// it is asked for, and that of the edge, as [`Routes::deliver`](crate::param::Routes::deliver) gives it.
pub(crate) fn with_backward(
    layer: &'static str,
    outputs: Tensor,
    input: &Tensor,
    edge: &Tensor,
    backward: impl Fn(&Tensor, &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)>
    + Send
    + Sync
    + 'static,
) -> Result<Tensor> {
    node(layer, outputs, [input, edge], move |[input, _], _, grad| {
        ensure_detached(layer)?;
        backward(input, grad).map(Into::into)
    })
}

/// The node `layer` of these outputs, which no other tensor may share, over one to three inputs. The backward gets the
/// inputs, the outputs and their gradient. Where no input has a gradient the outputs are no node.
pub(crate) fn node<const N: usize>(
    layer: &'static str,
    outputs: Tensor,
    inputs: [&Tensor; N],
    backward: impl Fn([&Tensor; N], &Tensor, &Tensor) -> Result<[Option<Tensor>; N]>
    + Send
    + Sync
    + 'static,
) -> Result<Tensor> {
    if inputs.iter().all(|input| !input.track_op()) {
        return Ok(outputs);
    }
    let layout = outputs.layout();
    let outputs = if layout.is_contiguous() && layout.start_offset() == 0 {
        outputs
    } else {
        outputs.force_contiguous()?
    };
    let backward = move |inputs: &[&Tensor], outputs: &Tensor, grad: &Tensor| {
        let Ok(inputs) = inputs.try_into() else { bail!("{layer}: inputs of another node") };
        backward(inputs, outputs, grad).map(Vec::from)
    };
    let op = WithBackward { layer, outputs, backward: Box::new(backward) };
    match inputs[..] {
        [input] => input.apply_op1(op),
        [first, second] => first.apply_op2(second, op),
        [first, second, third] => first.apply_op3(second, third, op),
        _ => bail!("{layer}: a node over {N} inputs"),
    }
}

struct WithBackward {
    layer: &'static str,
    /// Empty, once the node is made.
    outputs: Tensor,
    backward: Box<BackwardFn>,
}

impl WithBackward {
    /// Moves the values out, which leaves none.
    fn take(&self) -> Result<Storage> {
        let lock = StorageRef::rwlock(&self.outputs.storage_and_layout().0);
        // candle holds those of the input.
        let Some(mut values) = lock.try_write() else {
            bail!("{}: the outputs are in use elsewhere", self.layer);
        };
        Ok(std::mem::replace(&mut *values, Storage::Cpu(CpuStorage::U8(Vec::new()))))
    }

    fn on_cpu(&self) -> Result<(CpuStorage, Shape)> {
        let Storage::Cpu(outputs) = self.take()? else { return Err(self.elsewhere()) };
        Ok((outputs, self.outputs.shape().clone()))
    }

    fn on_cuda(&self) -> Result<(CudaStorage, Shape)> {
        let Storage::Cuda(outputs) = self.take()? else { return Err(self.elsewhere()) };
        Ok((outputs, self.outputs.shape().clone()))
    }

    fn on_metal(&self) -> Result<(MetalStorage, Shape)> {
        let Storage::Metal(outputs) = self.take()? else { return Err(self.elsewhere()) };
        Ok((outputs, self.outputs.shape().clone()))
    }

    fn gradients<const N: usize>(
        &self,
        inputs: [&Tensor; N],
        outputs: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        let grads = (self.backward)(&inputs, outputs, grad)?;
        let Ok(grads) = grads.try_into() else {
            bail!("{}: gradients of another node", self.layer)
        };
        Ok(grads)
    }

    fn elsewhere(&self) -> Error {
        let (layer, device) = (self.layer, self.outputs.device().location());
        crate::error::device(format!(
            "{layer}: the outputs are on {device:?}, the input is elsewhere"
        ))
    }
}

impl CustomOp1 for WithBackward {
    fn name(&self) -> &'static str {
        self.layer
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.on_metal()
    }

    fn bwd(&self, first: &Tensor, outputs: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [first] = self.gradients([first], outputs, grad)?;
        Ok(first)
    }
}

impl CustomOp2 for WithBackward {
    fn name(&self) -> &'static str {
        self.layer
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        self.on_metal()
    }

    fn bwd(
        &self,
        first: &Tensor,
        second: &Tensor,
        outputs: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients([first, second], outputs, grad).map(Into::into)
    }
}

impl CustomOp3 for WithBackward {
    fn name(&self) -> &'static str {
        self.layer
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        self.on_metal()
    }

    fn bwd(
        &self,
        first: &Tensor,
        second: &Tensor,
        third: &Tensor,
        outputs: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.gradients([first, second, third], outputs, grad).map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;

    fn inputs() -> Result<(Var, Tensor)> {
        let input = Var::new(&[1f64, 2.], &Device::Cpu)?;
        Ok((input, Tensor::zeros((), DType::F64, &Device::Cpu)?))
    }

    fn double(outputs: Tensor, input: &Tensor, edge: &Tensor) -> Result<Tensor> {
        with_backward("double", outputs, input, edge, |_, grad| Ok((Some((grad * 2.)?), None)))
    }

    /// The values are moved, not copied; the gradient is the backward's.
    #[test]
    fn outputs_become_a_node() -> Result<()> {
        let (input, edge) = inputs()?;
        let outputs = (input.as_detached_tensor() * 2.)?;
        let place = |tensor: &Tensor| match &*tensor.storage_and_layout().0 {
            Storage::Cpu(CpuStorage::F64(values)) => Some(values.as_ptr()),
            _ => None,
        };
        let before = place(&outputs);
        let node = double(outputs, &input, &edge)?;
        assert!(before.is_some());
        assert_eq!(place(&node), before);
        assert_eq!(node.to_vec1::<f64>()?, [2., 4.]);
        let grads = node.sqr()?.sum_all()?.backward()?;
        let grad = grads.get(&input).map(Tensor::to_vec1::<f64>).transpose()?;
        assert_eq!(grad, Some(vec![8., 16.]));
        Ok(())
    }

    /// Outputs that are part of something larger, or lie in another order, are copied.
    #[test]
    fn views_are_copied() -> Result<()> {
        let (input, edge) = inputs()?;
        let larger = Tensor::new(&[[1f64, 2.], [3., 4.]], &Device::Cpu)?;
        for (view, expected) in [(larger.get(1)?, [3., 4.]), (larger.t()?.get(1)?, [2., 4.])] {
            assert_eq!(double(view, &input, &edge)?.to_vec1::<f64>()?, expected);
        }
        assert_eq!(larger.to_vec2::<f64>()?, [[1., 2.], [3., 4.]]);
        Ok(())
    }

    /// Outputs that are the input are refused, and whoever shares them gets no other values.
    #[test]
    fn shared_outputs_are_an_error() -> Result<()> {
        let (input, edge) = inputs()?;
        assert!(double(input.as_detached_tensor(), &input, &edge).is_err());
        let outputs = (input.as_detached_tensor() * 2.)?;
        let shared = outputs.clone();
        double(outputs, &input, &edge)?;
        assert!(shared.to_vec1::<f64>().is_err());
        Ok(())
    }
}
