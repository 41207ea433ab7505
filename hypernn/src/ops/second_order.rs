//! Gradients that are differentiated again.
//!
//! candle detaches each gradient before it hands it on, unless the environment variable
//! `CANDLE_GRAD_DO_NOT_DETACH` is set. Gradients then have a graph of their own, and a backward here must
//! compute with what it was given, not with values cut off from their graph: [`operand`] gives what it
//! computes with. A pass over values, which is no node, serves where no operand is tracked.

use candle_core::{Device, Result, Tensor, Var, bail};

thread_local! {
    static KEEPS_GRAPH: bool = probe().unwrap_or(false);
}

/// Whether candle keeps the graph of the gradients that it computes on this thread.
pub(crate) fn keeps_graph() -> bool {
    KEEPS_GRAPH.with(|keeps| *keeps)
}

/// What a backward computes with: the tensor itself where gradients are differentiated again, else
/// its values alone.
pub(crate) fn operand(tensor: &Tensor) -> Tensor {
    if keeps_graph() { tensor.clone() } else { tensor.detach() }
}

/// For an operation that delivers the gradients of generated weights past the graph, which [`split`] lets
/// none do where candle keeps it.
///
/// # Errors
/// candle keeps it here, and did not where the operation ran.
///
/// [`split`]: crate::split::split
pub(crate) fn ensure_detached(operation: &str) -> Result<()> {
    if keeps_graph() {
        bail!(
            "{operation}: its gradient can't be differentiated again, since it ran where candle detaches gradients; set CANDLE_GRAD_DO_NOT_DETACH=1 before the program starts"
        );
    }
    Ok(())
}

/// Asks candle, which reads its variable once per thread and tells nobody. The square's gradient depends on
/// the variable, and passes a second node, where it would be detached.
fn probe() -> Result<bool> {
    let var = Var::new(1f64, &Device::Cpu)?;
    let grads = var.affine(2., 0.)?.sqr()?.backward()?;
    Ok(grads.get(&var).is_some_and(Tensor::track_op))
}
