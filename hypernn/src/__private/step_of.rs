//! A field without parameters as a step of a chain.

use std::marker::PhantomData;

use crate::flow::KeepsShape;
use crate::nn::step::ShapedStep;

/// Whether such a field's type is known to keep the shape: the inherent constant where it is, that
/// of [`UnknownStep`] elsewhere.
#[derive(Debug)]
pub struct StepOf<T>(PhantomData<T>);

impl<T: KeepsShape> StepOf<T> {
    /// This step's output has the shape of its input.
    pub const KEEPS: bool = true;
}

impl<T: ShapedStep> StepOf<T> {
    /// The step, which says what it takes and gives.
    pub fn shaped(value: impl FnOnce() -> T) -> Option<T> {
        Some(value())
    }
}

/// Stands in for what [`StepOf`] has.
pub trait UnknownStep<T> {
    /// Nothing is known of the step.
    fn shaped(_value: impl FnOnce() -> T) -> Option<crate::nn::step::Flatten> {
        None
    }

    /// Whether the step's output has the shape of its input is not known.
    const KEEPS: bool = false;
}

impl<T> UnknownStep<T> for StepOf<T> {}
