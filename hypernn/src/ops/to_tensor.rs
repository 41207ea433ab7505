//! A parameter as a plain tensor, merged with its adapter.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, Layout, MetalStorage, Result, Shape, Tensor,
};

use super::low_rank::low_rank;
use crate::param::{self, Adapter, Param, Route};

impl Param {
    /// The parameter as a tensor, `[dims…]` or `[G, dims…]`, for any use: with what a low-rank
    /// [adapter](crate::structure::adapter) adds to it, and with a gradient that costs as much as the tensor.
    ///
    /// # Errors
    /// Its adapter has a dropout, which needs a layer that applies the adapter itself.
    pub fn to_tensor(&self) -> Result<Tensor> {
        self.ensure_one_weight()?;
        self.merged()
    }

    /// The parameter for a layer that takes base and adapter as one weight.
    ///
    /// # Errors
    /// The parameter's adapter has a dropout.
    pub(crate) fn into_one_weight(self) -> Result<Self> {
        self.ensure_one_weight()?;
        self.into_merged()?.dense()
    }

    /// The parameter with its adapter as a part of the values, and nothing of the adapter's dropout.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn into_merged(self) -> Result<Self> {
        if self.adapter().is_none() {
            return Ok(self.without_dropout());
        }
        self.merged().map(Self::from)
    }

    /// The tensor with what an adapter adds to it, without the adapter's dropout.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn merged(&self) -> Result<Tensor> {
        let base = self.collected()?;
        self.adapter().map_or(Ok(base.clone()), |adapter| adapter.merge(&base))
    }

    /// The tensor without what adapts it, whose gradient is collected from any use: of a view a copy.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn collected(&self) -> Result<Tensor> {
        match self.resolved()? {
            (tensor, Some(route)) if route.is_of_view() => route.collected(&tensor),
            (tensor, _) => Ok(tensor),
        }
    }

    /// The tensor for whoever asks a layer for it, whose rank is `rank` where it is shared by all rows: made when it is
    /// first asked for, with a gradient that is collected with all others.
    pub(crate) fn shown(&self, rank: usize) -> &Tensor {
        param::shown(self.for_others(), rank)
    }

    /// The tensor without what adapts it, for whoever looks at it by itself; its gradient is collected from any use.
    pub(crate) fn visited(&self) -> &Tensor {
        if self.adapter().is_none() { self.for_others() } else { self.values() }
    }

    fn for_others(&self) -> &Tensor {
        if self.adapter().is_none() && !self.is_view() {
            return self.values();
        }
        // Base and factors fit together: the layout made them so. Where there is no memory for a copy, the view has
        // the same gradient, past the accumulator.
        let merged = || param::scope::outside(|| self.merged());
        self.shown_cell().get_or_init(|| merged().unwrap_or_else(|_| self.values().clone()))
    }
}

impl Adapter {
    /// The adapted weight, `[dims…]` or `[G, dims…]`.
    fn merge(&self, base: &Tensor) -> Result<Tensor> {
        low_rank(base, &self.up.collected()?, &self.down.collected()?, self.scale)
    }
}

impl Route {
    /// A copy of the parameter's values, whose gradient is delivered.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn collected(&self, view: &Tensor) -> Result<Tensor> {
        view.detach().apply_op2(self.edge(), Copied(self.clone()))
    }
}

/// A copy of a view; its gradient takes this way.
struct Copied(Route);

impl Copied {
    fn run<S: BackendStorage>(view: &S, layout: &Layout) -> Result<(S, Shape)> {
        Ok((view.affine(layout, 1., 0.)?, layout.shape().clone()))
    }
}

impl CustomOp2 for Copied {
    fn name(&self) -> &'static str {
        "split"
    }

    fn cpu_fwd(
        &self,
        view: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::run(view, layout)
    }

    fn cuda_fwd(
        &self,
        view: &CudaStorage,
        layout: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Self::run(view, layout)
    }

    fn metal_fwd(
        &self,
        view: &MetalStorage,
        layout: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        Self::run(view, layout)
    }

    fn bwd(
        &self,
        _: &Tensor,
        _edge: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((None, self.0.deliver(grad.clone())?))
    }
}
