//! Blocks whose intermediate values are computed once more in the backward, in place of being kept.
//!
//! A backward pass needs what the forward computed: of a deep network, all of it, until the pass has come to it.
//! [`recompute`] keeps the inputs of a block alone, and computes the block again when its gradient is asked for (Chen et
//! al. 2016, *Training Deep Nets with Sublinear Memory Cost*; "gradient checkpointing"). Around each of `n` blocks, it
//! takes the memory of `n` inputs and of one block, and the time of one forward more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, TensorId, Var};

use crate::ops::internal;
use crate::ops::second_order::{ensure_detached, keeps_graph};
use crate::ops::with_backward::node;
use crate::param::scope::{self, Dependency};

/// The output of a block over these inputs, which keeps nothing of what the block computes: the backward computes it
/// once more.
///
/// Gradients are those without: of the inputs, and of the parameters of all layers of [`nn`](crate::nn) in the block,
/// whether they are generated, variables, tied, or adapted by low rank. Blocks may contain blocks. The closure owns the
/// layers of the block; a clone of a layer shares its tensors.
///
/// ```
/// use candle_core::{DType, Device, Result, Tensor};
/// use hypernn::nn::{Linear, Module, VarBuilder, VarMap};
/// use hypernn::{HyperTarget, hypernetwork, recompute};
///
/// #[derive(Clone, HyperTarget)]
/// struct Block {
///     #[hyper(linear(4, 16))]
///     up: Linear,
///     #[hyper(linear(16, 4))]
///     down: Linear,
/// }
///
/// impl Module for Block {
///     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
///         xs + self.down.forward(&self.up.forward(xs)?.silu()?)?
///     }
/// }
///
/// #[derive(HyperTarget)]
/// struct Net {
///     first: Block,
///     second: Block,
/// }
///
/// impl Module for Net {
///     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
///         let first = self.first.clone();
///         let xs = recompute(&[xs.clone()], move |xs| first.forward(&xs[0]))?;
///         let second = self.second.clone();
///         recompute(&[xs], move |xs| second.forward(&xs[0]))
///     }
/// }
///
/// hypernetwork! {
///     struct HyperNet for Net { embedding: table(8, 3), generator: linear, mode: static }
/// }
///
/// # fn main() -> Result<()> {
/// let vars = VarMap::new();
/// let hyper = HyperNet::new(VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
/// let loss = hyper.forward(&Tensor::ones((2, 4), DType::F32, &Device::Cpu)?)?.sqr()?.mean_all()?;
/// let grads = loss.backward()?;
/// assert!(vars.all_vars().iter().all(|var| grads.get(var).is_some()));
/// # Ok(())
/// # }
/// ```
///
/// The block must give the same again: one with dropout, or that draws random numbers, is an error in the backward, and
/// so is one whose variables were changed between forward and backward. Running statistics of a
/// [`BatchNorm`](crate::nn::BatchNorm) move once.
///
/// A tensor with a gradient that the closure owns is no parameter of a layer, and neither are the weights that an
/// accessor such as [`Linear::weight`](crate::nn::Linear::weight) gives, a field that is a bare tensor, and the weights of
/// candle's own layers. Such are inputs: `recompute(&[xs, table], …)`.
///
/// Where nothing has a gradient, and where candle keeps the graph of gradients for second derivatives
/// ([`derivative`](crate::derivative())), the block is computed as it is.
///
/// # Errors
/// Those of the block, or its output has a gradient that is neither of an input nor of a layer's parameter. In the
/// backward: the block gave another output than before.
pub fn recompute(
    inputs: &[Tensor],
    block: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    // Inside of a block that keeps nothing there is nothing to keep.
    if keeps_graph() || scope::is_first() {
        return block(inputs);
    }
    let values: Vec<_> = inputs.iter().map(Tensor::detach).collect();
    let (output, parameters) = scope::first(|| block(&values))?;
    if output.track_op() {
        crate::error::bail!(
            declaration,
            "recompute: the block's output has a gradient that is neither of an input nor of a parameter of a layer of hypernn::nn: the block uses a tensor with a gradient that it owns, weights that a layer's accessor gives, or a layer of candle's own, expected such among the inputs"
        );
    }
    let tracked = inputs.iter().enumerate().filter(|(_, input)| input.track_op());
    let tracked: Vec<_> = tracked.map(|(at, input)| (at, input.clone())).collect();
    let nodes: Vec<_> = tracked.iter().map(|(_, input)| input.clone()).collect();
    let nodes = [nodes, parameters.iter().map(|part| part.node().clone()).collect()].concat();
    if nodes.is_empty() {
        return Ok(output);
    }
    let handed = Arc::new(Handed::default());
    let joined = join(&nodes, 0, &handed)?;
    let tracked = tracked.into_iter().map(|(at, _)| at).collect();
    let block = Block { block: Box::new(block), inputs: values, tracked, parameters };
    // The output may share its values with others, an input say.
    node("recompute", output.copy()?, [&joined], move |[joined], output, grad| {
        ensure_detached("recompute")?;
        handed.put(block.gradients(output, grad)?);
        joined.zeros_like().map(|zero| [Some(zero)])
    })
}

/// One node below which all of these lie: any number of them, where candle's nodes have three inputs at most. Its value
/// is nothing; its backward hands each its gradient.
fn join(nodes: &[Tensor], start: usize, handed: &Arc<Handed>) -> Result<Tensor> {
    let handed_on = handed.clone();
    let take = move |at| handed_on.take(start + at);
    let zero = |like: &Tensor| Tensor::zeros((), like.dtype(), like.device());
    match nodes {
        [a] => node("recompute", zero(a)?, [a], move |_, _, _| Ok([take(0)])),
        [a, b] => node("recompute", zero(a)?, [a, b], move |_, _, _| Ok([take(0), take(1)])),
        [a, b, rest @ ..] => {
            let rest = join(rest, start + 2, handed)?;
            node("recompute", zero(a)?, [a, b, &rest], move |[_, _, rest], _, _| {
                Ok([take(0), take(1), Some(rest.zeros_like()?)])
            })
        }
        [] => candle_core::bail!("recompute: nothing to depend on"),
    }
}

/// Gradients on their way from the block's node to those that join. A backward pass runs on one thread.
#[derive(Default)]
struct Handed(Mutex<HashMap<ThreadId, Vec<Option<Tensor>>>>);

impl Handed {
    fn put(&self, grads: Vec<Option<Tensor>>) {
        let mut passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        passes.insert(std::thread::current().id(), grads);
    }

    /// The last one leaves nothing behind.
    fn take(&self, at: usize) -> Option<Tensor> {
        let mut passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = std::thread::current().id();
        let grads = passes.get_mut(&thread)?;
        let grad = grads.get_mut(at).and_then(Option::take);
        if at + 1 == grads.len() {
            passes.remove(&thread);
        }
        grad
    }
}

type BlockFn = dyn Fn(&[Tensor]) -> Result<Tensor> + Send + Sync;

/// What the backward needs.
struct Block {
    block: Box<BlockFn>,
    /// Without their graph.
    inputs: Vec<Tensor>,
    /// Which inputs have a gradient.
    tracked: Vec<usize>,
    parameters: Vec<Dependency>,
}

impl Block {
    /// The gradients of the tracked inputs, then those of the parameters.
    fn gradients(&self, output: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let var = |tensor: &Tensor| Var::from_tensor(&tensor.detach());
        let mut inputs = self.inputs.clone();
        let mut of_inputs = Vec::with_capacity(self.tracked.len());
        for &at in &self.tracked {
            let input = var(&inputs[at])?;
            inputs[at] = input.as_tensor().clone();
            of_inputs.push(input);
        }
        let of_parameters = self.parameters.iter().map(|part| var(part.node()));
        let of_parameters = of_parameters.collect::<Result<Vec<_>>>()?;
        let ids = self.parameters.iter().map(|part| part.node().id());
        let vars: HashMap<TensorId, Var> = ids.zip(of_parameters.iter().cloned()).collect();
        let grads = scope::again(vars, || {
            let again = (self.block)(&inputs)?;
            ensure_same(output, &again)?;
            pass(&again, grad)
        })?;
        let of_inputs = of_inputs.iter().map(|input| of(&grads, input));
        let parameters = self.parameters.iter().zip(&of_parameters);
        let of_parameters = parameters.map(|(part, var)| part.gradient(&grads, var));
        of_inputs.chain(of_parameters).collect()
    }
}

/// A backward pass from an output that has this gradient.
fn pass(output: &Tensor, grad: &Tensor) -> Result<GradStore> {
    let (zero, grad) = (Tensor::zeros((), grad.dtype(), grad.device())?, grad.clone());
    if !output.track_op() {
        return zero.backward();
    }
    node("recompute", zero, [output], move |_, _, _| Ok([Some(grad.clone())]))?.backward()
}

/// That of a variable, zeros where the output does not depend on it: candle expects one of each node.
fn of(grads: &GradStore, var: &Var) -> Result<Option<Tensor>> {
    grads.get(var).map_or_else(|| var.zeros_like(), |grad| Ok(grad.clone())).map(Some)
}

impl Dependency {
    /// What the node gets: where it is an edge, the gradients were delivered past the graph. What came of that in the
    /// block's own pass must reach the edge; where nothing did, something is delivered.
    fn gradient(&self, grads: &GradStore, var: &Var) -> Result<Option<Tensor>> {
        let Self::Edge(route, values) = self else { return of(grads, var) };
        match grads.get(var) {
            Some(token) => Ok(Some(token.clone())),
            None => match route.deliver(values.zeros_like()?)? {
                Some(token) => Ok(Some(token)),
                None => var.zeros_like().map(Some),
            },
        }
    }
}

/// An error where the block gave something else than the first time. Sums may be in another order.
fn ensure_same(first: &Tensor, again: &Tensor) -> Result<()> {
    let same = first.dims() == again.dims()
        && first.dtype() == again.dtype()
        && differing(&first.detach(), &again.detach())? == 0.;
    if same {
        return Ok(());
    }
    crate::error::bail!(
        declaration,
        "recompute: the block gave another output when it was computed again for the backward, expected the same: it must not depend on chance, as dropout does, nor on what changes between forward and backward"
    )
}

/// How many values differ by more than rounding. What is no number differs from nothing.
fn differing(first: &Tensor, again: &Tensor) -> Result<f64> {
    if first.elem_count() == 0 {
        return Ok(0.);
    }
    let tolerance = match first.dtype() {
        DType::F64 => 1e-9,
        DType::F32 => 1e-4,
        _ => 5e-2,
    };
    let dtype = internal(first.dtype());
    let (first, again) = (first.to_dtype(dtype)?, again.to_dtype(dtype)?);
    let size = first.abs()?;
    let allowed = (size.broadcast_add(&size.mean_all()?)? * tolerance)?;
    let differing = (first - again)?.abs()?.gt(&allowed)?.to_dtype(DType::F32)?;
    differing.sum_all()?.to_dtype(DType::F64)?.to_scalar()
}
