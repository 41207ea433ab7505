//! A field without parameters.

use std::marker::PhantomData;
use std::sync::Arc;

use candle_core::{Result, bail};

use crate::structure::source::{ParamSource, scoped};
use crate::structure::value::FixedTensors;

/// The type of a field without parameters, which says how often its value is made.
///
/// The inherent method applies where the type holds tensors that a file can have; elsewhere that of
/// [`MadeOnce`] where it can be cloned, else that of [`MadeAnew`].
#[derive(Debug)]
pub struct ValueOf<T>(PhantomData<fn() -> T>);

impl<T> ValueOf<T> {
    /// To be called by reference: a method of `&ValueOf` then comes before one of `&&ValueOf`.
    pub const NEW: Self = Self(PhantomData);
}

impl<T: FixedTensors + Send + Sync + 'static> ValueOf<T> {
    /// Made once, with tensors that the source may have.
    ///
    /// # Errors
    /// The source's own.
    pub fn value_of_field(
        &self,
        name: &str,
        source: &mut dyn ParamSource,
        make: impl Fn() -> T,
    ) -> Result<T> {
        let made = source.made(&mut || Arc::new(make()));
        let Some(value) = made.downcast_ref::<T>() else { return other(name) };
        scoped(source, name, |source| {
            value.with_tensors(&mut |name, tensor| source.fixed(name, &mut || Ok(tensor.clone())))
        })
    }
}

/// What can be cloned.
pub trait MadeOnce<T> {
    /// Made once.
    ///
    /// # Errors
    /// The target's fields are others than when its layout was taken.
    fn value_of_field(
        &self,
        name: &str,
        source: &mut dyn ParamSource,
        make: impl Fn() -> T,
    ) -> Result<T>;
}

impl<T: Clone + Send + Sync + 'static> MadeOnce<T> for ValueOf<T> {
    fn value_of_field(
        &self,
        name: &str,
        source: &mut dyn ParamSource,
        make: impl Fn() -> T,
    ) -> Result<T> {
        let made = source.made(&mut || Arc::new(make()));
        made.downcast_ref::<T>().map_or_else(|| other(name), |value| Ok(value.clone()))
    }
}

/// All else.
pub trait MadeAnew<T> {
    /// Made in every build.
    ///
    /// # Errors
    /// None.
    fn value_of_field(
        &self,
        name: &str,
        source: &mut dyn ParamSource,
        make: impl Fn() -> T,
    ) -> Result<T>;
}

impl<T> MadeAnew<T> for &ValueOf<T> {
    fn value_of_field(
        &self,
        name: &str,
        source: &mut dyn ParamSource,
        make: impl Fn() -> T,
    ) -> Result<T> {
        Ok(made_anew(name, source, make))
    }
}

/// The value of a field that is made in every build.
pub fn made_anew<T>(name: &str, source: &mut dyn ParamSource, make: impl FnOnce() -> T) -> T {
    // What has no size holds nothing that could differ.
    if size_of::<T>() > 0 {
        source.made_anew(name);
    }
    make()
}

fn other<T>(name: &str) -> Result<T> {
    bail!("field `{name}` is asked for in another order than when the target's layout was taken")
}
