//! The tables of rotary embeddings, made where they are needed.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Tensor};

use super::config::DecoderConfig;
use hypernn::nn::Rotary;

/// The fewest positions of a table.
const FEWEST: usize = 256;

/// Tables by dtype and device, no longer than the sequences that were met.
///
/// They depend on the configuration alone: no file needs them, and all that is built of one network shares them.
#[derive(Clone)]
pub(super) struct RotaryTables {
    config: DecoderConfig,
    made: Arc<Mutex<Vec<Table>>>,
}

struct Table {
    rotary: Arc<Rotary>,
    positions: usize,
    dtype: DType,
    device: Device,
}

impl RotaryTables {
    pub(super) fn new(config: &DecoderConfig) -> Self {
        Self { config: config.clone(), made: Arc::default() }
    }

    /// A table of so many positions or more.
    pub(super) fn up_to(
        &self,
        positions: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Arc<Rotary>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |table: &&Table| table.dtype == dtype && table.device.same_device(device);
        if let Some(table) = made.iter().filter(fits).find(|table| table.positions >= positions) {
            return Ok(table.rotary.clone());
        }
        // Twice as long each time, so that generation makes few.
        let positions = positions.max(FEWEST).next_power_of_two();
        let rotary = Arc::new(Rotary::new(&self.config.rotary(positions), dtype, device)?);
        made.retain(|table| !fits(&table));
        made.push(Table { rotary: rotary.clone(), positions, dtype, device: device.clone() });
        Ok(rotary)
    }
}

/// By which angles the queries and keys of a forward pass are turned.
#[derive(Clone)]
pub(super) struct Angles {
    tables: Arc<Rotary>,
    places: Places,
}

#[derive(Clone)]
enum Places {
    /// One after the other, from this one on.
    From(usize),
    /// These, `u32` of `[B, T]`.
    At(Tensor),
}

impl Angles {
    pub(super) fn from(tables: Arc<Rotary>, start: usize) -> Self {
        Self { tables, places: Places::From(start) }
    }

    pub(super) fn at(tables: Arc<Rotary>, positions: Tensor) -> Self {
        Self { tables, places: Places::At(positions) }
    }

    /// `[B, heads, T, head_dim]` to the same.
    pub(super) fn rotate(&self, xs: &Tensor) -> Result<Tensor> {
        match &self.places {
            Places::From(start) => self.tables.apply(xs, *start),
            Places::At(positions) => self.tables.apply_at(xs, positions),
        }
    }
}
