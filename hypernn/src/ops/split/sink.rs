//! A shorter way for gradients: from an operation straight into the ledger.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::ledger::{Filed, Ledger};
use super::slice::pass_token;
use super::whole::copied;

/// Where the gradient of a generated tensor goes.
///
/// candle adds every gradient to zeros before it hands it on: two passes over all values and two
/// allocations. An operation that knows the sink of its weight depends on [`below`](Self::below) in
/// place of the weight, files the weight's gradient, and returns what [`file`](Self::file) gives as
/// the gradient of `below`.
#[derive(Clone)]
pub struct Sink {
    pub(super) ledger: Arc<Ledger>,
    pub(super) index: usize,
    pub(super) below: Tensor,
    /// Whether the tensor is a view, whose own gradient would not go to the ledger.
    pub(super) of_view: bool,
}

impl Sink {
    /// The node to depend on.
    pub(crate) fn below(&self) -> &Tensor {
        &self.below
    }

    /// Whether the sink's tensor is a view of the flat vector.
    pub(crate) fn is_of_view(&self) -> bool {
        self.of_view
    }

    /// The sink's tensor for all that knows no sinks: its gradient goes to the ledger as well.
    pub(crate) fn tracked(&self, tensor: &Tensor) -> Result<Tensor> {
        if !self.of_view {
            return Ok(tensor.clone());
        }
        copied(tensor, &self.below, (&self.ledger, self.index))
    }

    /// Files a gradient of the tensor's number of values.
    pub(crate) fn file(&self, grad: Tensor) -> Result<Option<Tensor>> {
        self.file_as(grad.into())
    }

    /// Files a gradient that is `leftᵀ · right` of each set, for `left [sets, rows, m]`,
    /// `right [sets, rows, n]` and a tensor `[sets, m, n]`.
    pub(crate) fn file_product(&self, left: Tensor, right: Tensor) -> Result<Option<Tensor>> {
        self.file_as(Filed::Product(left, right))
    }

    fn file_as(&self, grad: Filed) -> Result<Option<Tensor>> {
        pass_token(self.ledger.file(self.index, grad)?, &self.below)
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sink({})", self.index)
    }
}

/// Sees what a backward pass gives each tensor of a split.
#[derive(Clone)]
pub(crate) struct Watch(pub(super) Arc<Ledger>);

impl Watch {
    /// Runs a backward pass on this thread, and gives the gradient of each tensor that it reached.
    pub(crate) fn pass<R>(
        &self,
        pass: impl FnOnce() -> Result<R>,
    ) -> Result<(R, Vec<Option<Tensor>>)> {
        self.0.watch(pass)
    }

    /// Whether both see the same split.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
