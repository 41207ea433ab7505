//! A field that holds nothing: `PhantomData`, which a generic target needs for a type that it does not
//! hold.

use std::marker::PhantomData;

use candle_core::Result;

use super::{Configures, FixedTarget, HyperTarget, NestedSpec};
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::ParamSource;

/// A phantom field has no parameters.
impl<T: ?Sized> Parameters for PhantomData<T> {
    fn visit(&self, _visitor: &mut Visitor<'_>) -> Result<()> {
        Ok(())
    }
}

#[diagnostic::do_not_recommend]
impl<T: ?Sized> HyperTarget for PhantomData<T> {
    type Config = ();

    const NAME: &'static str = "PhantomData";

    fn build(_config: &(), _source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self)
    }
}

#[diagnostic::do_not_recommend]
impl<T: ?Sized> FixedTarget for PhantomData<T> {
    const NUM_PARAMS: usize = 0;
}

#[diagnostic::do_not_recommend]
impl<T: ?Sized, B: Configures<()>> HyperLayer<NestedSpec<B>> for PhantomData<T> {
    const TAKES_SETS: bool = true;

    fn build(_spec: &NestedSpec<B>, _source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self)
    }
}
