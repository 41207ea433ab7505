//! A node of the graph without values: what matters is that a backward pass comes by.

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Error, Layout, MetalStorage, Result, Shape, Tensor,
};

/// What a backward pass does at the node.
pub(super) trait Visit: Send + Sync + 'static {
    /// The operation's name.
    const NAME: &'static str;

    /// The gradient of the tensor above which the node is.
    ///
    /// # Errors
    /// candle's own; without a gradient of its own, that there is none.
    fn gradient(&self, _of: &Tensor) -> Result<Option<Tensor>> {
        Err(Error::BackwardNotSupported { op: Self::NAME })
    }
}

/// A zero above a tensor, of its dtype and on its device.
pub(super) fn zero_node(above: &Tensor, visit: impl Visit) -> Result<Tensor> {
    above.apply_op1(ZeroNode(visit))
}

struct ZeroNode<V>(V);

impl<V: Visit> CustomOp1 for ZeroNode<V> {
    fn name(&self) -> &'static str {
        V::NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        zero(storage)
    }

    fn cuda_fwd(&self, storage: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        zero(storage)
    }

    fn metal_fwd(&self, storage: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        zero(storage)
    }

    fn bwd(&self, above: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        self.0.gradient(above)
    }
}

/// One zero, of the storage's dtype and on its device, where it is no launch.
pub(super) fn zero<S: BackendStorage>(storage: &S) -> Result<(S, Shape)>
where
    S::Device: BackendDevice<Storage = S>,
{
    let shape = Shape::from(());
    Ok((storage.device().zeros_impl(&shape, storage.dtype())?, shape))
}
