//! The angles by which the queries and keys of a forward pass are turned.

use candle_core::{Result, Tensor};
use hypernn::nn::Rotary;

/// By which angles the queries and keys of a forward pass are turned.
#[derive(Clone)]
pub(super) struct Angles {
    tables: Rotary,
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
    pub(super) fn from(tables: Rotary, start: usize) -> Self {
        Self { tables, places: Places::From(start) }
    }

    pub(super) fn at(tables: Rotary, positions: Tensor) -> Self {
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
