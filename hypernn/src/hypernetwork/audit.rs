//! The gradient audit: what a loss teaches, by name.

use candle_core::{DType, Result, Tensor};
use candle_nn::Init;

use super::core::{Core, is_trained};
use super::zero_part::ZeroPart;
use crate::generated::GeneratedParams;
use crate::ops::probe;
use crate::structure::layout::Layout;
use crate::structure::source::ParamKind;

/// Which generated tensors and which variables of a hypernetwork get a gradient from a loss.
///
/// candle reports no error where an operation has no backward: what lies before it gets none, or, where
/// a tensor has other ways to the loss, zero in the part that went through that operation. The audit names
/// both. It tells a zero where no gradient arrives from one that arrives and is multiplied by zero, as that
/// of a low-rank adapter is at its start, or that of a unit behind a ReLU that is off for every row: a
/// second backward pass, from NaN, shows where gradients flow.
///
/// A gradient that arrives can still be wrong. [`audit_exact`](super::StaticHyperNetwork::audit_exact)
/// compares gradients with differences of the loss, and [`KNOWN_FAULTS`](super::KNOWN_FAULTS) lists the
/// operations of candle to look for.
///
/// ```
/// use candle_core::{D, DType, Device, Module, Result, Tensor};
/// use hypernn::nn::{Linear, VarBuilder, VarMap, ops};
/// use hypernn::{HyperTarget, hypernetwork};
///
/// #[derive(HyperTarget)]
/// struct Net {
///     #[hyper(linear(4, 8))]
///     scores: Linear,
///     #[hyper(linear(8, 2))]
///     out: Linear,
/// }
///
/// impl Module for Net {
///     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
///         // `ops::softmax(…, D::Minus1)` would have a backward.
///         self.out.forward(&ops::softmax_last_dim(&self.scores.forward(xs)?)?)
///     }
/// }
///
/// hypernetwork! {
///     struct HyperNet for Net { embedding: table(29, 3), generator: linear, mode: static }
/// }
///
/// # fn main() -> Result<()> {
/// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
/// let params = hyper.generate_params()?;
/// let xs = Tensor::ones((5, 4), DType::F32, &Device::Cpu)?;
/// let loss = params.forward(&xs)?.sqr()?.mean_all()?;
/// let audit = hyper.audit(&params, &loss)?;
/// assert!(!audit.is_complete());
/// assert_eq!(
///     audit.to_string(),
///     "HyperNet over Net: 2 of 4 generated tensors and 3 of 3 variables get a gradient
/// generated tensor `scores.weight` gets none
/// generated tensor `scores.bias` gets none"
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Audit {
    network: &'static str,
    target: &'static str,
    generated: Vec<(String, Gradient)>,
    variables: Vec<(String, Gradient)>,
    parts: Vec<(String, ZeroPart)>,
}

/// What one tensor gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Gradient {
    /// A gradient whose values are finite, and not all of them zero.
    Some,
    /// None: it learns nothing from this loss. It is cut off by an operation without a backward, or the loss
    /// does not use it; `audit_exact` tells one from the other.
    None,
    /// Zero in every value, since none arrives.
    Zero,
    /// Zero in some values, since none arrives there: that part of the tensor learns nothing from this loss.
    /// [`Audit::parts`] has the rows. It is cut off, or left out on purpose, as a table of positions beyond
    /// the sequence; `audit_exact` tells one from the other.
    ///
    /// A table of embeddings is not said to have such a part: it gets zero in the rows that were not looked
    /// up. For a target by constructor, that is a matrix that is asked for with the init of
    /// `candle_nn::embedding`.
    Parts {
        /// How many of them.
        zero: usize,
        /// The number of the tensor's values, of one weight set.
        of: usize,
    },
    /// Zero in every value, though one arrives: it is multiplied by zero on its way. It learns as soon as
    /// that other factor has moved; a unit that is off for every row may stay so.
    ZeroHere,
    /// One with values that are NaN or infinite.
    NotFinite {
        /// How many of them.
        bad: usize,
        /// The number of the tensor's values.
        of: usize,
    },
}

impl Gradient {
    /// Whether a gradient arrives at every value.
    fn is_whole(self) -> bool {
        matches!(self, Self::Some | Self::ZeroHere)
    }
}

impl std::fmt::Display for Gradient {
    /// `gets none`, say: what a sentence about the tensor goes on with.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Some => f.write_str("gets a gradient"),
            Self::None => f.write_str("gets none"),
            Self::Zero => f.write_str("gets zero in every value"),
            Self::Parts { zero, of } => write!(f, "gets zero in {zero} of {of} values"),
            Self::ZeroHere => f.write_str("gets one that is multiplied by zero here"),
            Self::NotFinite { bad, of } => write!(f, "gets {bad} of {of} values not finite"),
        }
    }
}

/// A tensor that is looked at.
struct Watched<'a> {
    dims: &'a [usize],
    /// Whether rows that nobody asked for get zero.
    is_sparse: bool,
}

impl Watched<'_> {
    /// What `grad` gives it, and the part that gets nothing, where `probe` has NaN wherever a gradient
    /// arrives. Both may be of several weight sets.
    fn look(
        &self,
        grad: Option<&Tensor>,
        probe: Option<&Tensor>,
    ) -> Result<(Gradient, Option<ZeroPart>)> {
        let Some(grad) = grad else { return Ok((Gradient::None, None)) };
        let grads = values(grad)?;
        let bad = grads.iter().filter(|grad| !grad.is_finite()).count();
        if bad > 0 {
            return Ok((Gradient::NotFinite { bad, of: grads.len() }, None));
        }
        let arrives = probe.map_or(Ok(Vec::new()), values)?;
        let len = self.dims.iter().product();
        let in_no_set = |is: &dyn Fn(usize) -> bool| -> Vec<bool> {
            (0..len).map(|at| (at..grads.len()).step_by(len).all(is)).collect()
        };
        let zero = in_no_set(&|at| grads[at] == 0.);
        let cut = in_no_set(&|at| grads[at] == 0. && arrives.get(at).is_none_or(|to| !to.is_nan()));
        Ok(self.judge(&zero, &cut))
    }

    /// Of values that get zero, and of those among them at which none arrives.
    fn judge(&self, zero: &[bool], cut: &[bool]) -> (Gradient, Option<ZeroPart>) {
        let (of, all_zero) = (zero.len(), zero.iter().all(|zero| *zero));
        match cut.iter().filter(|cut| **cut).count() {
            count if count == of => (Gradient::Zero, None),
            count if count > 0 && !self.is_sparse => {
                (Gradient::Parts { zero: count, of }, ZeroPart::of(cut, self.dims))
            }
            _ if all_zero => (Gradient::ZeroHere, None),
            _ => (Gradient::Some, None),
        }
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

fn has_zeros(grad: &Tensor) -> Result<bool> {
    Ok(values(grad)?.contains(&0.))
}

/// A table of embeddings has gradients in the rows that were looked up, and a slope where there are
/// negative values.
fn is_sparse(layout: &Layout, kind: ParamKind, init: Init, dims: &[usize]) -> bool {
    match kind {
        ParamKind::Table | ParamKind::Slope => true,
        // By constructor the kind is unknown: this is what `candle_nn::embedding` asks with.
        ParamKind::Tensor if layout.is_by_constructor() => {
            matches!(init, Init::Randn { mean: 0., stdev: 1. }) && dims.len() == 2
        }
        _ => false,
    }
}

impl Audit {
    /// What each generated tensor gets, in flat order.
    pub fn generated(&self) -> &[(String, Gradient)] {
        &self.generated
    }

    /// What each variable of the hypernetwork gets, in the order of construction.
    pub fn variables(&self) -> &[(String, Gradient)] {
        &self.variables
    }

    /// The part that no gradient reaches, of each that gets [`Gradient::Parts`], by name; none where such
    /// values fill no row, column or other slice.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &ZeroPart)> {
        self.parts.iter().map(|(name, part)| (name.as_str(), part))
    }

    /// Whether a finite gradient arrives at every value of all of them, though it may be
    /// [zero here](Gradient::ZeroHere).
    ///
    /// It does not say that the gradient is right: `audit_exact` does. Where the model leaves a part of a
    /// tensor out on purpose, as a table of positions beyond the sequence, it is false, and `audit_exact`
    /// tells the one from the other.
    pub fn is_complete(&self) -> bool {
        self.generated.iter().chain(&self.variables).all(|(_, gradient)| gradient.is_whole())
    }

    /// The line about what is not as it should be, or not as it may seem.
    fn line(&self, name: &str, gradient: Gradient) -> String {
        let part = self.parts.iter().find(|(at, _)| at == name);
        match (gradient, part) {
            (Gradient::Parts { .. }, Some((_, part))) => format!("gets zero in {part}"),
            _ => gradient.to_string(),
        }
    }
}

impl std::fmt::Display for Audit {
    /// The numbers, then a line for each that gets none, zero, zero in a part or one that is not finite.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reached = |entries: &[(String, Gradient)]| {
            let reached = |gradient: Gradient| {
                gradient.is_whole() || matches!(gradient, Gradient::Parts { .. })
            };
            entries.iter().filter(|(_, gradient)| reached(*gradient)).count()
        };
        write!(
            f,
            "{} over {}: {} of {} generated tensors and {} of {} variables get a gradient",
            self.network,
            self.target,
            reached(&self.generated),
            self.generated.len(),
            reached(&self.variables),
            self.variables.len()
        )?;
        for (what, entries) in
            [("generated tensor", &self.generated), ("variable", &self.variables)]
        {
            for (name, gradient) in entries.iter().filter(|(_, g)| *g != Gradient::Some) {
                write!(f, "\n{what} `{name}` {}", self.line(name, *gradient))?;
            }
        }
        Ok(())
    }
}

/// What a pass gave the generated tensors and the variables.
struct PassGradients {
    generated: Vec<Option<Tensor>>,
    variables: Vec<Option<Tensor>>,
}

impl<T> Core<T> {
    /// Which generated tensors and which variables get a gradient from `loss`, which was computed
    /// with `params`. The loss is not changed, and no variable is.
    ///
    /// # Errors
    /// The backward pass's own.
    pub fn audit(&self, params: &GeneratedParams<T>, loss: &Tensor) -> Result<Audit> {
        let pass = self.pass(params, loss)?;
        let mut grads = pass.generated.iter().chain(&pass.variables).flatten();
        let probed = match grads
            .try_fold(false, |any, grad| Ok::<_, candle_core::Error>(any || has_zeros(grad)?))?
        {
            true => Some(probe::pass(loss, |loss| self.pass(params, loss))?),
            false => None,
        };
        self.judge(params.layout(), &pass, probed.as_ref())
    }

    fn pass(&self, params: &GeneratedParams<T>, loss: &Tensor) -> Result<PassGradients> {
        let (grads, generated) = params.backward(loss)?;
        let variables = self.trained().map(|(_, var)| grads.get(var).cloned()).collect();
        Ok(PassGradients { generated, variables })
    }

    /// The variables by name.
    pub(super) fn trained(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.named_tensors().filter(|(name, _)| is_trained(name))
    }

    fn judge(
        &self,
        layout: &Layout,
        pass: &PassGradients,
        probed: Option<&PassGradients>,
    ) -> Result<Audit> {
        let (mut generated, mut variables, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for (index, param) in layout.params().iter().enumerate() {
            let dims = param.shape.dims();
            let watched = Watched { dims, is_sparse: is_sparse_param(layout, index) };
            let probe = probed.and_then(|probed| probed.generated[index].as_ref());
            let (gradient, part) = watched.look(pass.generated[index].as_ref(), probe)?;
            generated.push((param.name.clone(), gradient));
            parts.extend(part.map(|part| (param.name.clone(), part)));
        }
        let all_whole = generated.iter().all(|(_, gradient)| gradient.is_whole());
        for (index, (name, var)) in self.trained().enumerate() {
            let watched = Watched {
                dims: var.dims(),
                is_sparse: is_sparse_variable(layout, name, all_whole),
            };
            let probe = probed.and_then(|probed| probed.variables[index].as_ref());
            let (gradient, part) = watched.look(pass.variables[index].as_ref(), probe)?;
            variables.push((name.to_owned(), gradient));
            parts.extend(part.map(|part| (name.to_owned(), part)));
        }
        let (network, target) = (self.name, self.plan.name);
        Ok(Audit { network, target, generated, variables, parts })
    }
}

/// Whether generated tensor number `index` is a table, or the factor of an adapter that has the rows of one.
fn is_sparse_param(layout: &Layout, index: usize) -> bool {
    let adapted = layout.adapted().find(|at| at.factors()[1] == index);
    let base = adapted.and_then(|at| layout.kept().get(at.base));
    let param = &layout.params()[index];
    let (kind, init, shape) = match base {
        Some(base) => (base.kind, base.init, &base.shape),
        None => (param.kind, param.init, &param.shape),
    };
    is_sparse(layout, kind, init, shape.dims())
}

/// Whether a part of the variable gets zero by right: a table of the target that is trained itself, and all
/// that makes generated tensors where some of these get none.
fn is_sparse_variable(layout: &Layout, name: &str, all_whole: bool) -> bool {
    let of_target = name.strip_prefix("target.");
    let kept = of_target.and_then(|name| layout.kept().iter().find(|kept| kept.name == name));
    kept.map_or(!all_whole, |kept| is_sparse(layout, kept.kind, kept.init, kept.shape.dims()))
}
