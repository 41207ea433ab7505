//! A field without parameters as a step of a chain.

use std::marker::PhantomData;

use crate::flow::KeepsShape;

/// Whether such a field's type is known to keep the shape: the inherent constant where it is, that
/// of [`UnknownStep`] elsewhere.
#[derive(Debug)]
pub struct StepOf<T>(PhantomData<T>);

impl<T: KeepsShape> StepOf<T> {
    /// This step's output has the shape of its input.
    pub const KEEPS: bool = true;
}

/// Stands in for the constant of [`StepOf`].
pub trait UnknownStep {
    /// Whether the step's output has the shape of its input is not known.
    const KEEPS: bool = false;
}

impl<T> UnknownStep for StepOf<T> {}
