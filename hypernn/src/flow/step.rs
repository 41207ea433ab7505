//! What can be a step of a chain.

use candle_core::{Module, ModuleT, Result, Tensor};

/// A step of a `sequential` chain: a [`Module`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a step of `sequential`",
    label = "not a `Module`",
    note = "a layer that behaves otherwise in training, such as `BatchNorm`, goes into `#[hyper(sequential_t)]`",
    note = "a chain of some of the fields names them: `#[hyper(sequential = [conv, relu, flatten, fc])]`",
    note = "a target with several inputs takes them, and one with several outputs gives them, by name: `cross(context)`, `(mean, log_variance) = encoder`",
    note = "for anything else, write the forward by hand"
)]
pub trait Step {
    /// The next values.
    ///
    /// # Errors
    /// The layer's own.
    fn step(&self, xs: &Tensor) -> Result<Tensor>;
}

#[diagnostic::do_not_recommend]
impl<T: Module + ?Sized> Step for T {
    fn step(&self, xs: &Tensor) -> Result<Tensor> {
        self.forward(xs)
    }
}

/// A step of a `sequential_t` chain: a [`ModuleT`], as every [`Module`] is.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a step of `sequential_t`",
    label = "not a `Module` or `ModuleT`",
    note = "a chain of some of the fields names them: `#[hyper(sequential_t = [conv, relu, flatten, fc])]`",
    note = "a target with several inputs takes them, and one with several outputs gives them, by name: `cross(context)`, `(mean, log_variance) = encoder`",
    note = "for anything else, write the forward by hand"
)]
pub trait StepT {
    /// The next values, in training or not.
    ///
    /// # Errors
    /// The layer's own.
    fn step_t(&self, xs: &Tensor, train: bool) -> Result<Tensor>;
}

#[diagnostic::do_not_recommend]
impl<T: ModuleT + ?Sized> StepT for T {
    fn step_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_t(xs, train)
    }
}

/// A step that takes several values: `add`, `concat`, … of [`nn::step`](crate::nn::step), a step of your own in
/// `join(self::mine, [left], [right])`, or a target with several inputs.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a step of several values",
    label = "not a `Join`",
    note = "a target takes several values where it names its inputs: `#[hyper(sequential = […], input = (x: (T, 64), context: (S, 32)))]`",
    note = "a layer or step of your own implements `hypernn::flow::Join`"
)]
pub trait Join {
    /// The next values, of the operands in their order.
    ///
    /// # Errors
    /// The step's own; another number of values than it takes.
    fn join(&self, xs: &[&Tensor]) -> Result<Tensor>;
}

#[diagnostic::do_not_recommend]
impl<T: Join + ?Sized> Join for Box<T> {
    fn join(&self, xs: &[&Tensor]) -> Result<Tensor> {
        (**self).join(xs)
    }
}

/// A step of `sequential_t` that takes several values, as every [`Join`] is.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a step of several values",
    label = "not a `Join` or `JoinT`",
    note = "a target takes several values where it names its inputs: `#[hyper(sequential_t = […], input = (x: (T, 64), context: (S, 32)))]`",
    note = "a layer or step of your own implements `hypernn::flow::Join`"
)]
pub trait JoinT {
    /// The next values, in training or not.
    ///
    /// # Errors
    /// The step's own; another number of values than it takes.
    fn join_t(&self, xs: &[&Tensor], train: bool) -> Result<Tensor>;
}

#[diagnostic::do_not_recommend]
impl<T: Join + ?Sized> JoinT for T {
    fn join_t(&self, xs: &[&Tensor], _train: bool) -> Result<Tensor> {
        self.join(xs)
    }
}

/// A step without parameters that gives the shape it takes, for a field with a `value` in a chain.
///
/// Behind a field whose type does not say so, shapes are unknown up to the next layer.
pub trait KeepsShape {}

impl KeepsShape for candle_nn::Activation {}
impl KeepsShape for candle_nn::Dropout {}
