//! A target's own forward, as those ask for it who call it for the user, and what it gives.

use candle_core::{Module, ModuleT, Result, Tensor};

/// What a forward gives: a tensor, or a tuple of up to twelve.
pub trait Outputs: Sized {
    /// Its tensors, in their order.
    fn tensors(&self) -> Vec<&Tensor>;

    /// One of several: each of its tensors is what `join` makes of those at its place.
    ///
    /// # Errors
    /// Those of `join`.
    fn joined(each: &[Self], join: &dyn Fn(&[&Tensor]) -> Result<Tensor>) -> Result<Self>;
}

impl Outputs for Tensor {
    fn tensors(&self) -> Vec<&Tensor> {
        vec![self]
    }

    fn joined(each: &[Self], join: &dyn Fn(&[&Tensor]) -> Result<Tensor>) -> Result<Self> {
        join(&each.iter().collect::<Vec<_>>())
    }
}

/// A type for each place in a tuple.
macro_rules! one {
    ($at:tt) => {
        Tensor
    };
}

macro_rules! tuples {
    ($(($($at:tt)*))*) => {$(
        impl Outputs for ($(one!($at),)*) {
            fn tensors(&self) -> Vec<&Tensor> {
                vec![$(&self.$at),*]
            }

            fn joined(each: &[Self], join: &dyn Fn(&[&Tensor]) -> Result<Tensor>) -> Result<Self> {
                Ok(($(join(&each.iter().map(|outputs| &outputs.$at).collect::<Vec<_>>())?,)*))
            }
        }
    )*};
}

tuples! {
    (0 1)
    (0 1 2)
    (0 1 2 3)
    (0 1 2 3 4)
    (0 1 2 3 4 5)
    (0 1 2 3 4 5 6)
    (0 1 2 3 4 5 6 7)
    (0 1 2 3 4 5 6 7 8)
    (0 1 2 3 4 5 6 7 8 9)
    (0 1 2 3 4 5 6 7 8 9 10)
    (0 1 2 3 4 5 6 7 8 9 10 11)
}

/// A target with a forward of one input, so that what holds its weights has a `forward`.
///
/// Every [`Module`] is one, as is a derived target with several outputs, `#[hyper(sequential = […], output = (…))]`.
/// A target whose forward is written by hand and gives several tensors may implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `Module`, so that there is no `forward` over it",
    label = "`Module` is not implemented for `{Self}`",
    note = "the model itself, with its own methods: `hyper.target()?`, or `params.unpack()?` of generated parameters",
    note = "`impl Module for {Self}`, or `#[hyper(sequential)]` on a derived target, makes it one"
)]
pub trait ForwardTarget {
    /// What the forward gives.
    type Output: Outputs;

    /// The forward.
    ///
    /// # Errors
    /// The target's own.
    fn outputs(&self, xs: &Tensor) -> Result<Self::Output>;
}

#[diagnostic::do_not_recommend]
impl<T: Module> ForwardTarget for T {
    type Output = Tensor;

    fn outputs(&self, xs: &Tensor) -> Result<Tensor> {
        self.forward(xs)
    }
}

/// A target with a forward of one input that may behave otherwise in training, so that what holds its weights has a
/// `forward_t`.
///
/// Every [`ModuleT`] is one, as every [`Module`] is, and a derived target with several outputs.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `ModuleT`, so that there is no `forward_t` over it",
    label = "neither `ModuleT` nor `Module` is implemented for `{Self}`",
    note = "the model itself, with its own methods: `hyper.target()?`, or `params.unpack()?` of generated parameters",
    note = "`impl ModuleT for {Self}`, or `#[hyper(sequential_t)]` on a derived target, makes it one"
)]
pub trait ForwardTargetT {
    /// What the forward gives.
    type Output: Outputs;

    /// The forward, in training or not.
    ///
    /// # Errors
    /// The target's own.
    fn outputs_t(&self, xs: &Tensor, train: bool) -> Result<Self::Output>;
}

#[diagnostic::do_not_recommend]
impl<T: ModuleT> ForwardTargetT for T {
    type Output = Tensor;

    fn outputs_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_t(xs, train)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn outputs_are_joined_place_by_place() -> Result<()> {
        let of = |value: f32| Tensor::new(&[value], &Device::Cpu);
        let each = [(of(1.)?, of(2.)?, of(3.)?), (of(4.)?, of(5.)?, of(6.)?)];
        let (a, b, c) = Outputs::joined(&each, &|parts| Tensor::cat(parts, 0))?;
        assert_eq!(a.to_vec1::<f32>()?, [1., 4.]);
        assert_eq!(b.to_vec1::<f32>()?, [2., 5.]);
        assert_eq!(c.to_vec1::<f32>()?, [3., 6.]);
        assert_eq!((a, b).tensors().len(), 2);
        Ok(())
    }
}
