//! The target of a declared hypernetwork.

use std::marker::PhantomData;

use candle_core::Result;

use super::invalid;
use crate::flow::SampleShape;
use crate::generated::TargetPlan;
use crate::{FixedTarget, HyperTarget, ShapedTarget};

/// The target of a declared hypernetwork.
///
/// The inherent items apply where it is one; elsewhere those of [`NoTarget`] do, and naming it once
/// as a target reports the one error.
#[derive(Debug)]
pub struct TargetOf<T>(PhantomData<T>);

impl<T: FixedTarget> TargetOf<T> {
    /// The number of its parameters.
    pub const NUM_PARAMS: usize = T::NUM_PARAMS;
}

impl<T: ShapedTarget> TargetOf<T> {
    /// The shape that it takes.
    pub const INPUT_SHAPE: SampleShape = T::INPUT_SHAPE;

    /// The shape that it gives.
    pub const OUTPUT_SHAPE: SampleShape = T::OUTPUT_SHAPE;
}

impl<T: HyperTarget> TargetOf<T> {
    /// Fails to compile where the number of parameters is not a constant.
    pub fn fixed()
    where
        T: FixedTarget,
    {
    }

    /// The plan for a configuration.
    ///
    /// # Errors
    /// An invalid size.
    pub fn target_plan(config: &T::Config) -> Result<TargetPlan<T>> {
        TargetPlan::new(config)
    }
}

impl<T: HyperTarget<Config = ()>> TargetOf<T> {
    /// The plan of a target that takes no configuration.
    ///
    /// # Errors
    /// Two tensors of one name.
    pub fn fixed_plan() -> Result<TargetPlan<T>> {
        TargetPlan::new(&())
    }
}

/// Stands in for the items of [`TargetOf`] where the type is no target, or not a fixed one.
pub trait NoTarget<T> {
    /// The number is unknown.
    const NUM_PARAMS: usize = 0;

    /// Nothing is known.
    const INPUT_SHAPE: SampleShape = SampleShape::ANY;

    /// Nothing is known.
    const OUTPUT_SHAPE: SampleShape = SampleShape::ANY;

    /// Nothing more to report.
    fn fixed() {}

    /// Never called in a program that compiles.
    ///
    /// # Errors
    /// Always.
    fn target_plan<C>(_config: &C) -> Result<TargetPlan<T>> {
        invalid()
    }

    /// Never called in a program that compiles.
    ///
    /// # Errors
    /// Always.
    fn fixed_plan() -> Result<TargetPlan<T>> {
        invalid()
    }
}

impl<T> NoTarget<T> for TargetOf<T> {}
