//! Blocks that are computed twice: once without a graph, and once more in the backward.
//!
//! Within the scope of a block, parameters give other tensors to the operations of layers. The first time they are
//! values alone, and what they depend on is noted. The second time each of those is a variable of the block's own, so
//! that a backward pass through the block ends there.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{Result, Tensor, TensorId, Var};

use super::Route;

thread_local! {
    /// The scopes of nested blocks, the outermost first.
    static SCOPES: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
}

/// What a block depends on beside its inputs.
#[derive(Clone)]
pub(crate) enum Dependency {
    /// A tensor of its own.
    Tensor(Tensor),
    /// The edge of parameters that were cut out of something larger: the first of them that the block asked for, and
    /// its values.
    Edge(Route, Tensor),
}

impl Dependency {
    /// The node to depend on.
    pub(crate) fn node(&self) -> &Tensor {
        match self {
            Self::Tensor(tensor) => tensor,
            Self::Edge(route, _) => route.edge(),
        }
    }
}

enum Scope {
    First(Vec<Dependency>),
    Again(HashMap<TensorId, Var>),
}

impl Scope {
    fn resolve(&mut self, tensor: Tensor, route: Option<Route>) -> (Tensor, Option<Route>) {
        match (self, route) {
            (Self::First(noted), Some(route)) => {
                let values = tensor.detach();
                note(noted, Dependency::Edge(route, values.clone()));
                (values, None)
            }
            (Self::First(noted), None) if tensor.track_op() => {
                note(noted, Dependency::Tensor(tensor.clone()));
                (tensor.detach(), None)
            }
            (Self::Again(vars), Some(route)) => match vars.get(&route.edge().id()) {
                Some(var) => (tensor.detach(), Some(route.of_copy(var))),
                None => (tensor, Some(route)),
            },
            (Self::Again(vars), None) => match vars.get(&tensor.id()) {
                Some(var) => (var.as_tensor().clone(), None),
                None => (tensor, None),
            },
            (Self::First(_), None) => (tensor, None),
        }
    }
}

fn note(noted: &mut Vec<Dependency>, dependency: Dependency) {
    if noted.iter().all(|other| other.node().id() != dependency.node().id()) {
        noted.push(dependency);
    }
}

/// What a parameter is within the blocks that are computed on this thread.
pub(super) fn resolve(tensor: &Tensor, route: Option<&Route>) -> (Tensor, Option<Route>) {
    SCOPES.with_borrow_mut(|scopes| {
        let start = (tensor.clone(), route.cloned());
        scopes.iter_mut().fold(start, |(tensor, route), scope| scope.resolve(tensor, route))
    })
}

/// Whether a block is computed on this thread without a graph: blocks inside of it are a part of it.
pub(crate) fn is_first() -> bool {
    SCOPES.with_borrow(|scopes| scopes.iter().any(|scope| matches!(scope, Scope::First(_))))
}

/// Whether a block is computed once more on this thread: what it did besides is done already.
pub(crate) fn is_again() -> bool {
    SCOPES.with_borrow(|scopes| scopes.iter().any(|scope| matches!(scope, Scope::Again(_))))
}

/// Removes the scope at the end, also where the block panics.
struct Entered;

impl Entered {
    fn new(scope: Scope) -> Self {
        SCOPES.with_borrow_mut(|scopes| scopes.push(scope));
        Self
    }

    fn leave(self) -> Option<Scope> {
        std::mem::forget(self);
        SCOPES.with_borrow_mut(Vec::pop)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        SCOPES.with_borrow_mut(Vec::pop);
    }
}

/// Computes a block without the graph of its parameters, and gives what it depends on.
pub(crate) fn first<R>(block: impl FnOnce() -> Result<R>) -> Result<(R, Vec<Dependency>)> {
    let entered = Entered::new(Scope::First(Vec::new()));
    let result = block()?;
    match entered.leave() {
        Some(Scope::First(noted)) => Ok((result, noted)),
        _ => candle_core::bail!("recompute: the scopes of blocks are not nested"),
    }
}

/// Computes a block over variables in place of the nodes of these ids.
pub(crate) fn again<R>(
    vars: HashMap<TensorId, Var>,
    block: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let _entered = Entered::new(Scope::Again(vars));
    block()
}

/// Runs outside of all blocks: for what outlives them.
pub(crate) fn outside<R>(run: impl FnOnce() -> R) -> R {
    struct Back(Vec<Scope>);
    impl Drop for Back {
        fn drop(&mut self) {
            let scopes = std::mem::take(&mut self.0);
            SCOPES.with_borrow_mut(|there| *there = scopes);
        }
    }
    let _back = Back(SCOPES.with_borrow_mut(std::mem::take));
    run()
}
