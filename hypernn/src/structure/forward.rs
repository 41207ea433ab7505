//! A target's own forward, as those ask for it who call it for the user.

use candle_core::{Module, ModuleT};

/// A target that is a [`Module`], so that what holds its weights has a `forward`.
///
/// Nobody implements it by hand: every [`Module`] is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `Module`, so that there is no `forward` over it",
    label = "`Module` is not implemented for `{Self}`",
    note = "the model itself, with its own methods: `hyper.target()?`, or `params.unpack()?` of generated parameters",
    note = "`impl Module for {Self}`, or `#[hyper(sequential)]` on a derived target, makes it one"
)]
pub trait ForwardTarget: Module {}

#[diagnostic::do_not_recommend]
impl<T: Module> ForwardTarget for T {}

/// A target that is a [`ModuleT`], so that what holds its weights has a `forward_t`.
///
/// Nobody implements it by hand: every [`ModuleT`] is one, as is every [`Module`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `ModuleT`, so that there is no `forward_t` over it",
    label = "neither `ModuleT` nor `Module` is implemented for `{Self}`",
    note = "the model itself, with its own methods: `hyper.target()?`, or `params.unpack()?` of generated parameters",
    note = "`impl ModuleT for {Self}`, or `#[hyper(sequential_t)]` on a derived target, makes it one"
)]
pub trait ForwardTargetT: ModuleT {}

#[diagnostic::do_not_recommend]
impl<T: ModuleT> ForwardTargetT for T {}
