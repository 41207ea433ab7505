//! The gradient audit: what a loss teaches, by name.

use candle_core::{DType, Result, Tensor};

use super::core::{Core, is_trained};
use crate::generated::GeneratedParams;

/// Which generated tensors and which variables of a hypernetwork get a gradient from a loss.
///
/// A tensor gets none where the loss does not use it, or where an operation without a backward lies
/// between; candle then reports no error. Those of candle 0.11 are `softmax_last_dim`, rotary
/// embeddings, `rms_norm`, and the `LayerNorm` with a bias over a contiguous input.
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
/// let loss = hyper.forward_with(&params, &xs)?.sqr()?.mean_all()?;
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
}

/// What one tensor gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Gradient {
    /// A gradient whose values are finite, and not all of them zero.
    Some,
    /// None: it learns nothing.
    None,
    /// Zero in every value.
    Zero,
    /// One with values that are NaN or infinite.
    NotFinite {
        /// How many of them.
        bad: usize,
        /// Of how many values.
        of: usize,
    },
}

impl Gradient {
    fn of(grad: Option<&Tensor>) -> Result<Self> {
        let Some(grad) = grad else { return Ok(Self::None) };
        let values = grad.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let bad = values.iter().filter(|value| !value.is_finite()).count();
        Ok(match bad {
            0 if values.iter().all(|value| *value == 0.) => Self::Zero,
            0 => Self::Some,
            bad => Self::NotFinite { bad, of: values.len() },
        })
    }
}

impl std::fmt::Display for Gradient {
    /// `gets none`, say: what a sentence about the tensor goes on with.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Some => f.write_str("gets a gradient"),
            Self::None => f.write_str("gets none"),
            Self::Zero => f.write_str("gets zero in every value"),
            Self::NotFinite { bad, of } => write!(f, "gets {bad} of {of} values not finite"),
        }
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

    /// Whether all of them get a gradient that is finite and not zero.
    pub fn is_complete(&self) -> bool {
        self.generated
            .iter()
            .chain(&self.variables)
            .all(|(_, gradient)| *gradient == Gradient::Some)
    }
}

impl std::fmt::Display for Audit {
    /// The numbers, then a line for each that gets none, zero or one that is not finite.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let good = |entries: &[(String, Gradient)]| {
            entries.iter().filter(|(_, gradient)| *gradient == Gradient::Some).count()
        };
        write!(
            f,
            "{} over {}: {} of {} generated tensors and {} of {} variables get a gradient",
            self.network,
            self.target,
            good(&self.generated),
            self.generated.len(),
            good(&self.variables),
            self.variables.len()
        )?;
        for (what, entries) in
            [("generated tensor", &self.generated), ("variable", &self.variables)]
        {
            for (name, gradient) in entries.iter().filter(|(_, g)| *g != Gradient::Some) {
                write!(f, "\n{what} `{name}` {gradient}")?;
            }
        }
        Ok(())
    }
}

impl<T> Core<T> {
    pub(super) fn audit(&self, params: &GeneratedParams<T>, loss: &Tensor) -> Result<Audit> {
        let (grads, filed) = params.backward(loss)?;
        let generated = params.layout().params().iter().zip(&filed);
        let generated =
            generated.map(|(param, grad)| Ok((param.name.clone(), Gradient::of(grad.as_ref())?)));
        let trained = self.named_tensors().filter(|(name, _)| is_trained(name));
        let variables =
            trained.map(|(name, var)| Ok((name.to_owned(), Gradient::of(grads.get(var))?)));
        Ok(Audit {
            network: self.name,
            target: self.plan.name,
            generated: generated.collect::<Result<_>>()?,
            variables: variables.collect::<Result<_>>()?,
        })
    }
}
