//! Where the gradient of a parameter goes that was cut out of something larger.
//!
//! candle adds every gradient to zeros before it hands it on: two passes over all values and two allocations. An
//! operation that knows the route of its weight depends on the route's [`edge`](Route::edge) in place of the weight,
//! and delivers the weight's gradient to the accumulator.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::Param;

/// The gradient of a parameter, before it is put together with those of others.
#[derive(Clone)]
pub(crate) enum PendingGradient {
    /// A gradient of the parameter's number of values.
    Whole(Tensor),
    /// Of a weight that met a few rows per set: `left [sets, rows, m]` and `right [sets, rows, n]`, whose product over
    /// the rows, `leftᵀ · right`, is computed where it is used.
    Product(Tensor, Tensor),
}

impl From<Tensor> for PendingGradient {
    fn from(grad: Tensor) -> Self {
        Self::Whole(grad)
    }
}

/// Collects the gradients of parameters that were cut out of one vector.
pub(crate) trait Accumulator: Send + Sync {
    /// Takes a gradient for a slot. What it returns is the gradient of `edge`, where this is the first of a
    /// backward pass.
    ///
    /// # Errors
    /// candle's own.
    fn add(&self, slot: usize, gradient: PendingGradient, edge: &Tensor) -> Result<Option<Tensor>>;
}

/// The way of one parameter's gradient to an accumulator.
#[derive(Clone)]
pub(crate) struct Route {
    accumulator: Arc<dyn Accumulator>,
    slot: usize,
    edge: Tensor,
    of_view: bool,
}

impl Route {
    /// To a slot of an accumulator, for operations that depend on `edge`. The parameter's tensor may be a view,
    /// whose own gradient would not go there.
    pub(crate) fn new(
        accumulator: Arc<dyn Accumulator>,
        slot: usize,
        edge: Tensor,
        of_view: bool,
    ) -> Self {
        Self { accumulator, slot, edge, of_view }
    }

    /// The node to depend on.
    pub(crate) fn edge(&self) -> &Tensor {
        &self.edge
    }

    /// This route for a parameter's values by themselves, with another node to depend on.
    pub(crate) fn of_copy(&self, edge: &Tensor) -> Self {
        Self { edge: edge.clone(), of_view: true, ..self.clone() }
    }

    /// Whether the parameter's tensor is a view of the flat vector.
    pub(crate) fn is_of_view(&self) -> bool {
        self.of_view
    }

    /// Hands over a gradient of the parameter's number of values; what it returns is that of the edge.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn deliver(&self, gradient: impl Into<PendingGradient>) -> Result<Option<Tensor>> {
        self.accumulator.add(self.slot, gradient.into(), &self.edge)
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Route({})", self.slot)
    }
}

/// The routes of a weight and perhaps a bias that meet in one edge.
#[derive(Clone)]
pub(crate) struct Routes {
    weight: Route,
    bias: Option<Route>,
}

impl Routes {
    /// None where a parameter has none, or they do not meet: the gradients then take the tensors' own edges.
    pub(crate) fn of(weight: &Param, bias: Option<&Param>) -> Option<Self> {
        let weight = weight.route()?;
        let bias = bias.map(|bias| bias.route().filter(|bias| bias.edge.id() == weight.edge.id()));
        match bias {
            None => Some(Self { weight, bias: None }),
            Some(bias) => Some(Self { weight, bias: Some(bias?) }),
        }
    }

    /// The node to depend on.
    pub(crate) fn edge(&self) -> &Tensor {
        &self.weight.edge
    }

    /// Whether there is a bias.
    pub(crate) fn has_bias(&self) -> bool {
        self.bias.is_some()
    }

    /// Hands over the gradients of both, where there are two; what it returns is that of the edge.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn deliver_both(
        &self,
        weight: Option<Tensor>,
        bias: Option<Tensor>,
    ) -> Result<Option<Tensor>> {
        let of_edge = weight.map_or(Ok(None), |grad| self.weight.deliver(grad))?;
        let Some((route, grad)) = self.bias.as_ref().zip(bias) else { return Ok(of_edge) };
        Ok(route.deliver(grad)?.or(of_edge))
    }

    /// Hands over the gradients; what it returns is that of the edge. That of the bias is computed where there is one.
    ///
    /// # Errors
    /// candle's own.
    pub(crate) fn deliver(
        &self,
        weight: impl Into<PendingGradient>,
        bias: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        let of_edge = self.weight.deliver(weight)?;
        let Some(route) = &self.bias else { return Ok(of_edge) };
        Ok(route.deliver(bias()?)?.or(of_edge))
    }
}
