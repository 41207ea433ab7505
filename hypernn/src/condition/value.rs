//! A condition as a caller gives it.

use candle_core::{Result, Tensor, Var};

use super::{Condition, Sequences};
use crate::error::bail;

/// A condition as [`generate_params`](crate::hypernetwork::DynamicHyperNetwork::generate_params) takes it: a tensor; for
/// sequences and sets of several lengths a tensor with a mask or with lengths, or [`Sequences`].
///
/// ```
/// use candle_core::{DType, Device, Result, Tensor};
/// use hypernn::nn::{Linear, VarBuilder, VarMap};
/// use hypernn::{HyperTarget, Sequences, hypernetwork};
///
/// #[derive(HyperTarget)]
/// #[hyper(sequential)]
/// struct Net {
///     #[hyper(linear(4, 2))]
///     fc: Linear,
/// }
///
/// hypernetwork! {
///     /// Weights for a sequence of vectors of width 6.
///     struct HyperNet for Net { embedding: perceiver(6, 5, 8, 1, 2), generator: linear, mode: dynamic }
/// }
///
/// # fn main() -> Result<()> {
/// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
/// let document = |rows: usize| Tensor::randn(0f32, 1., (rows, 6), &Device::Cpu);
///
/// // One sequence of nine vectors, one set of weights.
/// let params = hyper.generate_params(&document(9)?)?;
/// assert_eq!(params.num_sets(), None);
///
/// // Two sequences, of nine and of four vectors, in one tensor: with lengths, or with a mask.
/// let (long, short) = (document(9)?, document(4)?);
/// let padding = Tensor::new(f32::NAN, &Device::Cpu)?.broadcast_as((5, 6))?;
/// let batch = Tensor::stack(&[&long, &Tensor::cat(&[&short, &padding], 0)?], 0)?;
/// let lengths = Tensor::new(&[9u32, 4], &Device::Cpu)?;
/// let params = hyper.generate_params((&batch, &lengths))?;
/// assert_eq!(params.num_sets(), Some(2));
/// // The padding is never looked at.
/// let alone = hyper.generate_params(&short)?.flat()?;
/// let difference = (params.flat()?.get(1)? - alone)?.abs()?.max_all()?.to_scalar::<f32>()?;
/// assert!(difference < 1e-5);
///
/// // Or sequences as they are.
/// let params = hyper.generate_params(&Sequences::pad(&[long, short])?)?;
/// assert_eq!(params.num_sets(), Some(2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ConditionValue<'a>(Given<'a>);

#[derive(Clone, Copy, Debug)]
enum Given<'a> {
    Tensor(&'a Tensor),
    /// With a mask or lengths.
    Padded(&'a Tensor, &'a Tensor),
    Sequences(&'a Sequences),
}

impl<'a> From<&'a Tensor> for ConditionValue<'a> {
    fn from(condition: &'a Tensor) -> Self {
        Self(Given::Tensor(condition))
    }
}

impl<'a> From<&'a Var> for ConditionValue<'a> {
    fn from(condition: &'a Var) -> Self {
        Self(Given::Tensor(condition))
    }
}

/// Vectors `[G, T, width]` with a mask `[G, T]` of integers, 0 for padding and 1 for all else, or with lengths `[G]`,
/// integers from 1 to `T`; for one set `[T, width]` with a mask `[T]` or one length.
impl<'a> From<(&'a Tensor, &'a Tensor)> for ConditionValue<'a> {
    fn from((condition, padding): (&'a Tensor, &'a Tensor)) -> Self {
        Self(Given::Padded(condition, padding))
    }
}

impl<'a> From<&'a Sequences> for ConditionValue<'a> {
    fn from(sequences: &'a Sequences) -> Self {
        Self(Given::Sequences(sequences))
    }
}

impl ConditionValue<'_> {
    pub(super) fn tensor(&self) -> &Tensor {
        match self.0 {
            Given::Tensor(tensor) | Given::Padded(tensor, _) => tensor,
            Given::Sequences(sequences) => sequences.values(),
        }
    }

    /// The condition, of which `rows` is the tensor with a dimension for sets.
    pub(super) fn rows(&self, rows: Tensor, of: Condition) -> Result<Rows> {
        match self.0 {
            Given::Tensor(_) if !of.is_many() => Ok(Rows::Vectors(rows)),
            Given::Tensor(_) => Sequences::new(&rows).map(Rows::Many),
            _ if !of.is_many() => {
                let kind = of.kind().1;
                bail!(condition, "the condition is a {kind}, which has neither a mask nor lengths")
            }
            Given::Padded(tensor, padding) => {
                let padding = match tensor.rank() {
                    2 => padding.unsqueeze(0)?,
                    _ => padding.clone(),
                };
                Sequences::padded(&rows, &padding).map(Rows::Many)
            }
            Given::Sequences(sequences) => Ok(Rows::Many(sequences.clone())),
        }
    }
}

/// A condition that was checked.
#[derive(Debug)]
pub(crate) enum Rows {
    /// Vectors `[G, width]`, or tasks `[G]`.
    Vectors(Tensor),
    /// Sequences or sets.
    Many(Sequences),
}

impl Rows {
    /// The number of sets, `G`.
    pub(crate) fn sets(&self) -> usize {
        match self {
            Self::Vectors(rows) => rows.dims()[0],
            Self::Many(sequences) => sequences.count(),
        }
    }
}
