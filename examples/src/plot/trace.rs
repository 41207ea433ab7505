//! Generated weights in the course of time.

use std::path::Path;

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::{HeatMap, heat_map};

/// Weights in the picture.
const ROWS: usize = 64;

/// Some of a network's generated weights at each step of a sequence.
#[derive(Clone, Debug, Default)]
pub struct WeightTrace {
    columns: Vec<Tensor>,
    names: Vec<String>,
}

impl WeightTrace {
    /// Adds a step: its name, and all weights at it, of any shape.
    ///
    /// # Errors
    /// candle's own.
    pub fn push(&mut self, name: impl Into<String>, weights: &Tensor) -> Result<()> {
        let weights = weights.flatten_all()?;
        let rows = Self::rows(weights.elem_count()).map(u32::try_from);
        let rows = Tensor::new(rows.collect::<Result<Vec<_>, _>>()?, weights.device())?;
        self.columns.push(weights.index_select(&rows, 0)?.to_dtype(DType::F64)?);
        self.names.push(name.into());
        Ok(())
    }

    /// Which weights are kept: some from all over the network.
    fn rows(count: usize) -> impl Iterator<Item = usize> {
        (0..count.min(ROWS)).map(move |row| row * count / count.min(ROWS))
    }

    /// Draws each weight's difference from its mean over all steps; a row for each weight, by its place
    /// among `num_weights`, and a column for each step.
    ///
    /// # Errors
    /// There are no steps, or the file cannot be written.
    pub fn draw(&self, path: &Path, title: &str, num_weights: usize) -> Result<()> {
        let weights = Tensor::stack(&self.columns, 1)?;
        let differences = weights.broadcast_sub(&weights.mean_keepdim(1)?)?;
        let rows: Vec<_> = Self::rows(num_weights).map(|row| row.to_string()).collect();
        let (columns, values) = (&self.names, &differences.to_vec2()?);
        heat_map(path, &HeatMap { title, rows: &rows, columns, values, numbers: false })
    }
}
