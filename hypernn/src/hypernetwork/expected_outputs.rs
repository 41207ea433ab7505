//! Whether embeddings and generators give what their specs say: a surplus would be left out in silence.

use candle_core::{DType, Device, Result, Tensor};

use super::core::PartNames;
use crate::check::ensure_same_device;
use crate::embedding::Embedded;
use crate::error::bail;
use crate::generator::{GeneratorOutput, GeneratorShape};

/// What the specs of a hypernetwork's parts say.
#[derive(Clone, Copy)]
pub(super) struct ExpectedOutputs<'a> {
    /// The hypernetwork's name.
    pub(super) network: &'a str,
    /// What was written after `embedding:`, `generator:` and `mode:`.
    pub(super) parts: &'a PartNames,
    pub(super) shape: GeneratorShape,
    /// The dtype and device of the hypernetwork's variables.
    pub(super) kind: (DType, &'a Device),
}

impl ExpectedOutputs<'_> {
    /// Embeddings that all sets share, `[N, E]`.
    pub(super) fn check_embedding(&self, found: &Tensor) -> Result<()> {
        let GeneratorShape { num_embeddings, embedding_dim, .. } = self.shape;
        self.check_part("embeddings", found, &[num_embeddings, embedding_dim])
    }

    /// Embeddings for the rows of a condition.
    pub(super) fn check_embedded(&self, found: &Embedded, sets: usize) -> Result<()> {
        let GeneratorShape { num_embeddings, embedding_dim, .. } = self.shape;
        match found {
            Embedded::Shared(table) => self.check_embedding(table),
            Embedded::PerSet(embeddings) => {
                self.check_part("embeddings", embeddings, &[sets, num_embeddings, embedding_dim])
            }
            Embedded::Scaled { table, gains } => {
                self.check_embedding(table)?;
                self.check_part("gains", gains, &[sets, num_embeddings])
            }
        }
    }

    fn check_part(&self, what: &str, found: &Tensor, expected: &[usize]) -> Result<()> {
        if found.dims() != expected {
            bail!(
                shape,
                "the embedding `{}` of {} gave {what} of shape {:?}, expected {expected:?}",
                self.parts.embedding,
                self.network,
                found.dims()
            );
        }
        self.check_kind(
            || format!("the embedding `{}` of {}", self.parts.embedding, self.network),
            found,
        )
    }

    /// Rows of generated values for these sets; `None` is one.
    pub(super) fn check_output(&self, found: &GeneratorOutput, sets: Option<usize>) -> Result<()> {
        let part = || format!("the generator `{}` of {}", self.parts.generator, self.network);
        let count = sets.unwrap_or(1);
        if !found.has_dims(|dims| self.fits(dims, count)) {
            let (rows, chunk) = (count * self.shape.plan.rows(), self.shape.plan.chunk());
            bail!(shape, "{} gave {found}, expected {rows} rows of {chunk}", part());
        }
        found.rows.tensors().try_for_each(|tensor| self.check_kind(part, tensor))
    }

    /// Rows of all sets one after the other, or by set, each as rows of chunks or as one.
    fn fits(&self, dims: &[usize], sets: usize) -> bool {
        let plan = self.shape.plan;
        match *dims {
            [all] => sets == 1 && all == plan.num_values(),
            [a, b] => {
                (a == sets * plan.rows() && b == plan.chunk())
                    || (a == sets && b == plan.num_values())
            }
            [a, b, c] => a == sets && b == plan.rows() && c == plan.chunk(),
            _ => false,
        }
    }

    fn check_kind(&self, part: impl Fn() -> String, found: &Tensor) -> Result<()> {
        let (dtype, device) = self.kind;
        if found.dtype() != dtype {
            bail!(dtype, "{} gave {:?}, but the hypernetwork is {dtype:?}", part(), found.dtype());
        }
        if found.device().same_device(device) {
            return Ok(());
        }
        ensure_same_device(
            &format!("what {} gave", part()),
            found.device().location(),
            "the hypernetwork",
            device.location(),
        )
    }
}
