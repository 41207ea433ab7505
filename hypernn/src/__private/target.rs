//! The target of a declared hypernetwork.

use std::marker::PhantomData;

use candle_core::Result;

use super::ItemOf;
use super::invalid;
use crate::flow::{Network, SampleShape};
use crate::generated::TargetPlan;
use crate::hyper_target::{Configures, IsFixed};
use crate::structure::layer::Container;
use crate::{FixedTarget, HyperTarget, ShapedTarget};

/// What has a network for a configuration: a target, or what a container of targets holds.
pub trait Networked {
    /// The target's own.
    type Config;

    /// The target's own.
    fn network(config: &Self::Config) -> Option<Network>;
}

impl<T: HyperTarget> Networked for T {
    type Config = T::Config;

    fn network(config: &Self::Config) -> Option<Network> {
        T::network(config)
    }
}

impl<T: Container> Networked for ItemOf<T>
where
    T::Item: Networked,
{
    type Config = <T::Item as Networked>::Config;

    fn network(config: &Self::Config) -> Option<Network> {
        T::Item::network(config)
    }
}

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

    /// The shapes of all its inputs.
    pub const INPUT_SHAPES: &'static [SampleShape] = T::INPUT_SHAPES;

    /// The shapes of all its outputs.
    pub const OUTPUT_SHAPES: &'static [SampleShape] = T::OUTPUT_SHAPES;
}

impl<T: Networked> TargetOf<T> {
    /// Its network for a configuration.
    pub fn network_of<B: Configures<T::Config>>(config: &B) -> Option<Network> {
        T::network(config.config())
    }
}

impl<T: HyperTarget> TargetOf<T> {
    /// Fails to compile where the number of parameters is not a constant: called with
    /// `FixedTarget::IS_FIXED`.
    pub fn fixed(_: IsFixed<T>) {}

    /// What makes the plan for a configuration. A function, and not its call: a configuration of another
    /// type is then an error that shows nothing but that type.
    pub fn target_plan() -> fn(&T::Config) -> Result<TargetPlan<T>> {
        TargetPlan::new
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

/// A fixed target.
#[derive(Debug)]
pub struct Known;

#[diagnostic::do_not_recommend]
impl FixedTarget for Known {
    const NUM_PARAMS: usize = 0;
}

/// Stands in for the items of [`TargetOf`] where the type is no target, or not a fixed one.
pub trait NoTarget<T> {
    /// The number is unknown.
    const NUM_PARAMS: usize = 0;

    /// Nothing is known.
    const INPUT_SHAPE: SampleShape = SampleShape::ANY;

    /// Nothing is known.
    const OUTPUT_SHAPE: SampleShape = SampleShape::ANY;

    /// How many it takes is not known either.
    const INPUT_SHAPES: &'static [SampleShape] = &[];

    /// How many it gives is not known either.
    const OUTPUT_SHAPES: &'static [SampleShape] = &[];

    /// Nothing is known.
    fn network_of<B>(_: &B) -> Option<Network> {
        None
    }

    /// Nothing more to report: `IS_FIXED` is that of any fixed target.
    fn fixed(_: IsFixed<Known>) {}

    /// Never called in a program that compiles.
    fn target_plan<C>() -> fn(&C) -> Result<TargetPlan<T>> {
        |_| invalid()
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
