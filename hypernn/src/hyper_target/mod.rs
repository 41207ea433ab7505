//! The trait of a target, the network whose weights are generated, and what a flat vector makes of it.

mod flat;
mod layout_cache;
mod phantom_data;

use std::marker::PhantomData;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::flow::Network;
use crate::generated::GeneratedParams;
use crate::structure::layer::Parameters;
use crate::structure::layout::Layout;
use crate::structure::source::{ParamSource, VarBuilderSource};
use crate::structure::{ForwardTarget, ForwardTargetT, Outputs};
use layout_cache::recorded;

/// A network whose weights can be generated. Derive it: `#[derive(HyperTarget)]`.
///
/// `Config` is what the attributes' expressions need at run time; it is `()` where every size is a constant. Where it
/// is not, a layout is that of a [`TargetPlan`](crate::generated::TargetPlan), which packs as well, and a flat vector is
/// taken by [`GeneratedParams::from_flat`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a hypernetwork target",
    label = "not a target",
    note = "a struct of your own becomes one by `#[derive(HyperTarget)]`",
    note = "a field that is a layer names its candle constructor, without `vb`: `#[hyper(linear(64, 10))] fc: Linear`",
    note = "a field without parameters says how to make it: `#[hyper(value = Activation::Relu)]`"
)]
pub trait HyperTarget: Parameters + Sized {
    /// What the attributes' expressions read as `config`.
    type Config: Clone + Send + Sync + 'static;

    /// The type's name, for messages and files.
    const NAME: &'static str;

    /// Whether each layer tells for itself how many sets it takes, as the derive's do. A target by hand
    /// that builds its layers without them is applied to one set after the other, unless it says that all
    /// of them take several, as [`HyperLayer::TAKES_SETS`](crate::HyperLayer::TAKES_SETS) does.
    const TAKES_SETS: bool = false;

    /// Builds the network, asking `source` for its parameters in flat order.
    ///
    /// # Errors
    /// An invalid size, or whatever the source returns.
    fn build(config: &Self::Config, source: &mut dyn ParamSource) -> Result<Self>;

    /// The steps of the forward, with the shape of one sample behind each; none where the forward is written by hand.
    fn network(_config: &Self::Config) -> Option<Network> {
        None
    }

    /// Builds the network, and tells the source where it takes one set of weights at a time.
    #[doc(hidden)]
    fn build_by_sets(config: &Self::Config, source: &mut dyn ParamSource) -> Result<Self> {
        if !Self::TAKES_SETS {
            source.takes_one_set();
        }
        Self::build(config, source)
    }

    /// The network with variables of its own, named by field: an ordinary candle model.
    ///
    /// # Errors
    /// The builder lacks a tensor, or has one of another shape.
    fn new(vb: VarBuilder<'_>) -> Result<Self>
    where
        Self: HyperTarget<Config = ()>,
    {
        Self::with_config(&(), vb)
    }

    /// The network with variables of its own, for sizes known at run time.
    ///
    /// # Errors
    /// An invalid size, or whatever the builder returns.
    fn with_config(config: &Self::Config, vb: VarBuilder<'_>) -> Result<Self> {
        Self::build(config, &mut VarBuilderSource::new(vb))
    }

    /// Which tensor lies where in the flat vector.
    ///
    /// # Errors
    /// An invalid size, or two tensors of one name.
    fn layout() -> Result<Layout>
    where
        Self: HyperTarget<Config = ()>,
    {
        Ok(recorded::<Self>(&())?.layout.clone())
    }

    /// The network over a flat vector `[P]`, or over `G` sets `[G, P]`; gradients flow into it. The tensors of one set
    /// are views of the vector, as those of candle's `narrow`.
    ///
    /// # Errors
    /// The vector's length or rank is not the target's.
    fn unpack(flat: &Tensor) -> Result<Self>
    where
        Self: HyperTarget<Config = ()>,
    {
        GeneratedParams::<Self>::from_flat(&(), flat)?.unpack()
    }

    /// The network's parameters as one flat vector `[P]`, or `[G, P]` where it holds `G` sets;
    /// gradients flow back into them.
    ///
    /// # Errors
    /// A layer does not give access to its tensors, or they differ in dtype or device.
    fn pack(&self) -> Result<Tensor>
    where
        Self: HyperTarget<Config = ()>,
    {
        flat::pack(self, &recorded::<Self>(&())?.layout)
    }

    /// `unpack(flat)?.forward(xs)`.
    ///
    /// # Errors
    /// The vector's length or rank is not the target's, or the forward's own.
    fn functional_forward<O: Outputs>(flat: &Tensor, xs: &Tensor) -> Result<O>
    where
        Self: HyperTarget<Config = ()> + ForwardTarget<Output = O>,
    {
        GeneratedParams::<Self>::from_flat(&(), flat)?.forward(xs)
    }

    /// `unpack(flat)?.forward_t(xs, train)`.
    ///
    /// # Errors
    /// The vector's length or rank is not the target's, or the forward's own.
    fn functional_forward_t<O: Outputs>(flat: &Tensor, xs: &Tensor, train: bool) -> Result<O>
    where
        Self: HyperTarget<Config = ()> + ForwardTargetT<Output = O>,
    {
        GeneratedParams::<Self>::from_flat(&(), flat)?.forward_t(xs, train)
    }
}

impl<T: HyperTarget> HyperTarget for Box<T> {
    type Config = T::Config;

    const NAME: &'static str = T::NAME;

    const TAKES_SETS: bool = T::TAKES_SETS;

    fn network(config: &Self::Config) -> Option<Network> {
        T::network(config)
    }

    fn build(config: &Self::Config, source: &mut dyn ParamSource) -> Result<Self> {
        T::build(config, source).map(Self::new)
    }
}

/// The number of parameters of a target all of whose sizes are constants.
#[diagnostic::on_unimplemented(
    message = "the number of parameters of `{Self}` is not a constant",
    label = "its sizes are known only at run time",
    note = "in `hypernetwork!`, name the type of its configuration: `config: Type`"
)]
pub trait FixedTarget {
    /// The number of its parameters: the length of the flat vector.
    const NUM_PARAMS: usize;

    /// What `hypernetwork!` asks for, by a path that names this trait alone.
    #[doc(hidden)]
    const IS_FIXED: IsFixed<Self> = IsFixed(PhantomData);
}

/// Says of `T` that it is a [`FixedTarget`].
#[doc(hidden)]
#[derive(Debug)]
pub struct IsFixed<T: ?Sized>(PhantomData<T>);

#[diagnostic::do_not_recommend]
impl<T: FixedTarget> FixedTarget for Box<T> {
    const NUM_PARAMS: usize = T::NUM_PARAMS;
}

/// The spec of a field that is a target itself: `#[hyper(target)]`, `#[hyper(target(&config.block))]`,
/// or no attribute at all.
#[derive(Clone, Copy, Debug)]
pub struct NestedSpec<C>(pub C);

/// What can configure a nested target whose `Config` is `C`: a value or a reference to one.
#[diagnostic::on_unimplemented(
    message = "a field whose target is configured by a `{C}` can't take `{Self}`",
    label = "this target has another configuration",
    note = "the attribute passes the configuration: `#[hyper(target(EXPR))]`, where EXPR is a `{C}` or a reference to one"
)]
pub trait Configures<C> {
    /// The type itself.
    type Itself;

    /// The configuration.
    fn config(&self) -> &C;
}

#[diagnostic::do_not_recommend]
impl<C> Configures<C> for C {
    type Itself = Self;

    fn config(&self) -> &C {
        self
    }
}

#[diagnostic::do_not_recommend]
impl<C> Configures<C> for &C {
    type Itself = Self;

    fn config(&self) -> &C {
        self
    }
}
