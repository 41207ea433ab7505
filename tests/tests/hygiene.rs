//! The macros' output does not depend on what is in scope, and brings no warnings with it.

#![deny(warnings, future_incompatible, rust_2021_compatibility, rust_2024_compatibility)]
#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::new_ret_no_self, clippy::non_minimal_cfg)]

use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::{FixedTarget, HyperTarget};

fn variables() -> VarBuilder<'static> {
    VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu)
}

fn inputs(width: usize) -> Tensor {
    Tensor::ones((3, width), DType::F32, &Device::Cpu).unwrap()
}

/// Every common name, and those that the output might use, mean something else here.
mod hostile {
    #![no_implicit_prelude]
    #![allow(dead_code, non_camel_case_types, non_snake_case, non_upper_case_globals)]

    macro_rules! taken {
        ($($name:ident)*) => { $(pub struct $name {} pub fn $name() {})* };
    }
    taken!(Result Ok Err Some None Option Vec Tensor Box String Self_ Default Clone Debug Module NoPart NoTarget);
    taken!(HyperTarget HyperLayer FixedTarget Parameters Part TargetOf Sizes Linear VarBuilder);
    taken!(usize bool f64 str Fn FnMut Into Send Sync);
    taken!(params source config spec inner shape rows vb xs sizes plan declaration);

    pub mod core {}
    pub mod std {}
    pub mod alloc {}
    pub mod candle_core {}
    pub mod candle_nn {}
    pub mod hypernn {}
    pub mod __private {}

    #[allow(unused_macros)]
    macro_rules! stringify {
        ($($any:tt)*) => {
            ()
        };
    }
    #[allow(unused_macros)]
    macro_rules! panic {
        ($($any:tt)*) => {
            ()
        };
    }

    taken!(linear table mlp tanh embedding generator hyper_nn generate train freeze shared);

    /// What the expressions read, by names that the output uses too.
    mod numbers {
        pub const embedding: i32 = 5;
        pub const num_target_params: i32 = 2;
    }

    #[derive(::hypernn::HyperTarget)]
    pub struct Net {
        #[hyper(linear(2, numbers::num_target_params as ::core::primitive::usize))]
        pub params: ::hypernn::nn::Linear,
        #[hyper(layer_norm(2, 1e-5), role = train)]
        pub source: ::hypernn::nn::LayerNorm,
        #[hyper(if true { linear(2, 2) })]
        pub config: ::core::option::Option<::hypernn::nn::Linear>,
        #[hyper([linear(2, 2); 2])]
        pub spec: [::hypernn::nn::Linear; 2],
        #[hyper(linear(2, 2), tie(weight = params.weight))]
        pub tied: ::hypernn::nn::Linear,
    }

    impl ::hypernn::nn::Module for Net {
        fn forward(
            &self,
            xs: &::candle_core::Tensor,
        ) -> ::candle_core::Result<::candle_core::Tensor> {
            ::hypernn::nn::Module::forward(&self.tied, xs)
        }
    }

    ::hypernn::hypernetwork! {
        pub struct HyperNet for Net {
            embedding: table(numbers::embedding as ::core::primitive::usize, 3),
            generator: mlp([4], tanh),
            mode: static,
            init: hyper_nn,
        }
    }

    #[derive(::hypernn::HyperTarget)]
    #[hyper(config = ::core::primitive::usize)]
    pub struct Sized_ {
        #[hyper(linear(*config, 1))]
        pub fc: ::hypernn::nn::Linear,
    }

    ::hypernn::hypernetwork! {
        pub struct HyperSized for Sized_ {
            embedding: table(1, 3),
            generator: linear,
            mode: static,
            config: ::core::primitive::usize,
        }
    }

    ::hypernn::hypernetwork! {
        pub struct HyperBuilt for ::hypernn::nn::Linear {
            target: constructor,
            roles: [("weight", train), ("*", generate)],
            embedding: table(2, 3),
            generator: linear,
            mode: static,
        }
    }
}

#[test]
fn nothing_in_scope_gets_in_the_way() {
    let hyper = hostile::HyperNet::new(variables()).unwrap();
    assert_eq!(hostile::HyperNet::NUM_TARGET_PARAMS, 4 * 6 + 2);
    assert_eq!(hyper.forward(&inputs(2)).unwrap().dims(), [3, 2]);
    let sized = hostile::HyperSized::new(&4, variables()).unwrap();
    assert_eq!(sized.target().unwrap().fc.weight().dims(), [1, 4]);
    let built = hostile::HyperBuilt::new(variables(), |vb| hypernn::nn::linear(4, 2, vb)).unwrap();
    assert_eq!(built.target().unwrap().weight().dims(), [2, 4]);
}

/// The crate under another path: a re-export, as a crate that builds upon hypernn would have.
mod reexport {
    pub mod deep {
        pub use hypernn as renamed;
    }
}

mod by_another_path {
    use super::reexport::deep::renamed::nn::Linear;

    #[derive(super::reexport::deep::renamed::HyperTarget)]
    #[hyper(crate = crate::reexport::deep::renamed)]
    pub struct Net {
        #[hyper([linear(4, 2), linear(2, 1)])]
        pub layers: Vec<Linear>,
        #[hyper(conv2d(1, 1, 2, Conv2dConfig { stride: 2, ..Default::default() }))]
        pub conv: super::reexport::deep::renamed::nn::Conv2d,
    }

    use super::reexport::deep::renamed::nn::Conv2dConfig;

    super::reexport::deep::renamed::hypernetwork! {
        pub struct HyperNet for Net {
            embedding: table(3, 8),
            generator: heads,
            mode: static,
            crate: crate::reexport::deep::renamed,
        }
    }
}

#[test]
fn the_crate_may_be_reached_by_another_path() {
    assert_eq!(by_another_path::Net::NUM_PARAMS, 10 + 3 + 5);
    let net = by_another_path::HyperNet::new(variables()).unwrap().target().unwrap();
    assert_eq!((net.layers.len(), net.conv.weight().dims().len()), (2, 4));
}

/// Types of every visibility, each hypernetwork no more visible than its target; two hypernetworks over one target.
mod visibility {
    use hypernn::nn::{Linear, Module};
    use hypernn::{HyperTarget, hypernetwork};

    #[derive(HyperTarget)]
    pub(super) struct Narrow {
        #[hyper(linear(4, 2))]
        fc: Linear,
    }

    impl Module for Narrow {
        fn forward(&self, xs: &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> {
            self.fc.forward(xs)
        }
    }

    hypernetwork! {
        struct First for Narrow {
            embedding: table(5, 8),
            generator: linear,
            mode: static,
        }
    }

    hypernetwork! {
        pub(super) struct Second for self::Narrow {
            generator: heads,
            mode: static,
            embedding: table(1, 2)
        }
    }

    #[derive(HyperTarget)]
    pub(crate) struct Shared(#[hyper(linear(4, 2))] pub(super) Linear, Narrow);

    hypernetwork! {
        pub(in crate::visibility) struct Third for Shared {
            embedding: table(4, 2),
            generator: linear,
            mode: static,
        }
    }

    pub(super) fn counts() -> [usize; 3] {
        [First::NUM_PARAMS, Second::NUM_PARAMS, Third::NUM_PARAMS]
    }
}

#[test]
fn types_have_any_visibility() {
    assert_eq!(visibility::counts(), [5 * 8 + 9 * 2, 2 + 3 * 10, 4 * 2 + 3 * 5]);
    let second = visibility::Second::new(variables()).unwrap();
    assert_eq!(second.forward(&inputs(4)).unwrap().dims(), [3, 2]);
}

#[test]
fn both_macros_work_inside_a_function() {
    use hypernn::nn::Linear;

    const WIDTH: usize = 4;

    #[derive(HyperTarget)]
    struct Local {
        #[hyper(linear(WIDTH, 2))]
        fc: Linear,
    }

    hypernn::hypernetwork! {
        struct HyperLocal for Local {
            embedding: table(WIDTH + 1, 8),
            generator: linear,
            mode: static,
        }
    }

    let target = HyperLocal::new(variables()).unwrap().target().unwrap();
    assert_eq!(target.fc.weight().dims(), [2, WIDTH]);
}

/// Declares a target with its hypernetwork; every part of both comes from outside.
macro_rules! declare {
    ($vis:vis $net:ident, $hyper:ident, $layer:ident($($size:expr),*), $ty:ty, $n:expr, $generator:expr) => {
        #[derive(HyperTarget)]
        $vis struct $net {
            #[hyper($layer($($size),*))]
            layer: $ty,
        }

        hypernn::hypernetwork! {
            $vis struct $hyper for $net {
                embedding: table($n, 8),
                generator: $generator,
                mode: static,
            }
        }
    };
}

mod declared {
    use hypernn::HyperTarget;
    use hypernn::nn::{Conv2d, Linear};

    declare!(pub One, HyperOne, linear(2 + 2, 2), Linear, 5, linear);
    declare!(pub Two, HyperTwo, conv2d(1, 2, 2), Conv2d, 2 + 3, mlp([4], relu));

    impl One {
        pub(super) fn is_built(&self) -> bool {
            self.layer.bias().is_some()
        }
    }

    impl Two {
        pub(super) fn is_built(&self) -> bool {
            self.layer.bias().is_some()
        }
    }
}

#[test]
fn both_macros_work_inside_a_macro() {
    use declared::{HyperOne, HyperTwo};

    assert_eq!((HyperOne::NUM_TARGET_PARAMS, HyperTwo::NUM_TARGET_PARAMS), (10, 10));
    assert!(HyperOne::new(variables()).unwrap().target().unwrap().is_built());
    assert!(HyperTwo::new(variables()).unwrap().target().unwrap().is_built());
}

/// Public types under every lint that could speak of them: the output adds no warning.
#[deny(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused,
    unused_qualifications,
    unused_lifetimes,
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    single_use_lifetimes,
    non_snake_case,
    non_camel_case_types,
    non_upper_case_globals,
    trivial_casts,
    trivial_numeric_casts,
    unsafe_code,
    unused_import_braces,
    unused_results,
    let_underscore_drop,
    macro_use_extern_crate,
    redundant_lifetimes,
    nonstandard_style,
    rust_2018_idioms,
    clippy::all,
    clippy::pedantic
)]
pub mod linted {
    use candle_core::{Result, Tensor};
    use hypernn::nn::{LayerNorm, Linear, Module};
    use hypernn::{HyperTarget, hypernetwork};

    /// A target.
    #[derive(Debug, HyperTarget)]
    #[hyper(forward(fn logits(&self, xs: &Tensor) -> Result<Tensor>))]
    pub struct Net {
        #[hyper(linear(4, 2))]
        fc: Linear,
        #[hyper(if true { layer_norm(2, 1e-5) })]
        norm: Option<LayerNorm>,
        #[hyper(value = 3)]
        depth: usize,
    }

    impl Net {
        fn logits(&self, xs: &Tensor) -> Result<Tensor> {
            let ys = self.fc.forward(xs)?;
            (0..self.depth)
                .try_fold(ys, |ys, _| self.norm.as_ref().map_or(Ok(ys.clone()), |n| n.forward(&ys)))
        }
    }

    impl Module for Net {
        fn forward(&self, xs: &Tensor) -> Result<Tensor> {
            self.logits(xs)
        }
    }

    /// A generic target, with every kind of parameter.
    #[derive(Debug, HyperTarget)]
    pub struct Around<'a, T, const N: usize> {
        inner: T,
        #[hyper(linear(N, N))]
        fc: Linear,
        #[hyper(value = "name")]
        name: &'a str,
    }

    impl<T, const N: usize> Around<'_, T, N> {
        /// Its parts.
        #[must_use]
        pub fn parts(&self) -> (&T, &Linear, &str) {
            (&self.inner, &self.fc, self.name)
        }
    }

    /// Sizes.
    #[derive(Clone, Copy, Debug)]
    pub struct Sizes {
        /// The width.
        pub width: usize,
    }

    /// A target with a configuration.
    #[derive(Debug, HyperTarget)]
    #[hyper(config = Sizes)]
    #[hyper(forward(fn logits(&self, xs: &Tensor) -> Result<Tensor>))]
    pub struct Configured {
        #[hyper(linear(config.width, 2))]
        fc: Linear,
    }

    impl Configured {
        fn logits(&self, xs: &Tensor) -> Result<Tensor> {
            self.fc.forward(xs)
        }
    }

    hypernetwork! {
        /// A hypernetwork.
        ///
        /// # Panics
        /// Never.
        #[must_use]
        #[non_exhaustive]
        pub struct HyperNet for Net {
            embedding: table(7, 8),
            generator: mlp([4], tanh),
            mode: static,
        }
    }

    hypernetwork! {
        /// A hypernetwork over a target with a configuration.
        pub struct HyperConfigured for Configured {
            embedding: table(2, 8),
            generator: linear,
            mode: static,
            config: Sizes,
        }
    }

    hypernetwork! {
        /// A hypernetwork over a target by its constructor.
        pub struct HyperBuilt for Linear {
            target: constructor,
            embedding: table(5, 8),
            generator: linear,
            mode: static,
        }
    }

    hypernetwork! {
        /// A hypernetwork over one instance of a generic target.
        pub struct HyperAround for Around<'static, Net, 2> {
            embedding: table(1, 8),
            generator: linear,
            mode: static,
        }
    }
}

#[test]
fn the_output_brings_no_warnings() {
    use linted::{Configured, HyperAround, HyperBuilt, HyperConfigured, HyperNet, Net, Sizes};

    let flat = Tensor::ones(Net::NUM_PARAMS, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(Net::functional_logits(&flat, &inputs(4)).unwrap().dims(), [3, 2]);
    let sizes = Sizes { width: 4 };
    let flat = Tensor::ones(10, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(Configured::functional_logits(&sizes, &flat, &inputs(4)).unwrap().dims(), [3, 2]);
    assert_eq!(HyperNet::NUM_TARGET_PARAMS, 14);
    let _ = HyperNet::new(variables()).unwrap();
    let _ = HyperConfigured::new(&sizes, variables()).unwrap();
    let _ = HyperBuilt::new(variables(), |vb| hypernn::nn::linear(4, 2, vb)).unwrap();
    let around = HyperAround::new(variables()).unwrap().target().unwrap();
    assert_eq!(around.parts().2, "name");
}

#[test]
fn a_target_in_a_box_is_a_target() {
    fn name<T: HyperTarget<Config = ()> + FixedTarget>() -> (&'static str, usize, usize) {
        (T::NAME, T::NUM_PARAMS, T::layout().unwrap().num_params())
    }
    assert_eq!(name::<Box<linted::Net>>(), ("Net", 14, 14));
}

/// A function that has the name of a constructor means itself in an expression of the user's.
mod named_like_constructors {
    use hypernn::HyperTarget;
    use hypernn::nn::Linear;

    fn linear(width: usize) -> usize {
        width + 1
    }

    #[derive(HyperTarget)]
    pub struct Net {
        #[hyper(linear(4, 2))]
        pub fc: Linear,
        #[hyper(value = linear(4))]
        pub width: usize,
    }
}

#[test]
fn a_name_of_a_constructor_in_an_expression() {
    let flat = Tensor::zeros(10, DType::F32, &Device::Cpu).unwrap();
    let net = named_like_constructors::Net::unpack(&flat).unwrap();
    assert_eq!((net.width, net.fc.weight().dims()), (5, [2, 4].as_slice()));
}

/// Names that are keywords, and constants of the struct's own in its attributes.
#[allow(non_camel_case_types)]
mod raw {
    use hypernn::nn::{Embedding, Linear, Module};
    use hypernn::{HyperTarget, hypernetwork};

    #[derive(HyperTarget)]
    #[hyper(sequential = [r#in, relu, r#type])]
    #[hyper(forward(fn r#try(&self, r#xs: &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor>))]
    pub struct r#struct<'r#a, const r#N: usize, r#T: 'r#a> {
        #[hyper(linear(r#N, Self::WIDTH))]
        pub r#in: Linear,
        #[hyper(r#linear(Self::WIDTH, 4), name = "typed")]
        pub r#type: Linear,
        #[hyper(value = "x")]
        pub r#str: &'r#a str,
        #[hyper(value = std::marker::PhantomData)]
        pub r#dyn: std::marker::PhantomData<r#T>,
    }

    impl<const N: usize, T> r#struct<'_, N, T> {
        const WIDTH: usize = 3;

        fn r#try(&self, xs: &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> {
            self.forward(xs)
        }
    }

    pub mod r#mod {
        use super::{Embedding, HyperTarget, Linear};

        #[derive(HyperTarget)]
        #[hyper(sequential = [r#loop, r#relu, r#while])]
        pub struct r#type {
            #[hyper(linear(Self::WIDTH, 3))]
            pub r#loop: Linear,
            #[hyper(linear(3, Self::WIDTH))]
            pub r#while: Linear,
        }

        impl r#type {
            pub const WIDTH: usize = 2;
        }

        #[derive(HyperTarget)]
        pub struct Tied {
            #[hyper(embedding(3, 4))]
            pub r#type: Embedding,
            #[hyper(linear_no_bias(4, 3), tie(weight = r#type.weight))]
            pub r#match: Linear,
            #[hyper(linear_no_bias(4, 3), role = r#train)]
            pub r#ref: Linear,
        }
    }

    hypernetwork! {
        pub struct r#enum for r#mod::r#type {
            embedding: table(1, Self::DIM),
            generator: linear,
            mode: static,
        }

        pub struct r#move for r#struct<'static, 2, u8> {
            embedding: table(5, 3),
            generator: linear,
            mode: static,
        }

        pub struct Of for r#mod::Tied {
            embedding: table(3, 2),
            generator: linear,
            mode: static,
        }
    }

    impl r#enum {
        const DIM: usize = 2;
    }
}

#[test]
fn keywords_may_be_names() {
    fn layout<T: HyperTarget<Config = ()>>() -> (&'static str, Vec<String>) {
        let names = T::layout().unwrap().params().iter().map(|param| param.name.clone()).collect();
        (T::NAME, names)
    }

    let names = ["loop.weight", "loop.bias", "while.weight", "while.bias"];
    assert_eq!(layout::<raw::r#mod::r#type>(), ("type", names.map(str::to_owned).into()));
    let names = ["in.weight", "in.bias", "typed.weight", "typed.bias"];
    type Generic = raw::r#struct<'static, 2, u8>;
    assert_eq!(layout::<Generic>(), ("struct", names.map(str::to_owned).into()));

    let hyper = raw::r#enum::new(variables()).unwrap();
    assert!(format!("{hyper:?}").starts_with("enum { target: type (17"), "{hyper:?}");
    assert_eq!(hyper.forward(&inputs(2)).unwrap().dims(), [3, 2]);
    let flat = Tensor::ones(Generic::NUM_PARAMS, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(Generic::functional_try(&flat, &inputs(2)).unwrap().dims(), [3, 4]);
    assert_eq!(raw::r#move::NUM_TARGET_PARAMS, Generic::NUM_PARAMS);
    assert_eq!(raw::r#move::new(variables()).unwrap().target().unwrap().r#str, "x");
    let tied = raw::Of::new(variables()).unwrap().target().unwrap();
    assert_eq!(tied.r#match.weight().dims(), tied.r#type.embeddings().dims());
}

/// Traits that give every type methods of the names that the output calls, by value.
mod blanket {
    #![allow(dead_code, clippy::wrong_self_convention, clippy::should_implement_trait)]

    macro_rules! methods {
        ($($name:ident)*) => {
            pub trait Methods: Sized { $(fn $name(self) {})* }
            impl<T> Methods for T {}
        };
    }
    methods!(build visit info num_params check_adapter takes gives rank adapter forward forward_t new into iter
        is_some map shape input deny of with_role target build_tied parameter visit_untied clone items step
        generate_params export save load audit rows generator ensure conditions plan num_embeddings
        embedding_dim embedding condition with_pretrained dtype device with_roles taken given first
        unknown broken passes zero_state generate_step scan run add_tasks generate core fmt layout pack unpack
        ask_embedding ask_generator known named_tensors deref deref_mut join join_t joins keeps tensor ends
        named_input input_shape output_shape input_shapes has_shape_of called_target network network_of shaped
        len contains causal skips);

    use candle_core::Tensor;
    use hypernn::HyperTarget;
    use hypernn::nn::{Conv2d, LayerNorm, Linear};

    #[derive(HyperTarget)]
    #[hyper(
        sequential = [residual([fc, kept = [tanh], mul(kept)]), concat(0, [class], y), repeat(2, [fc, relu])],
        input = (x: (T, 4), y: (S, 4)),
    )]
    pub struct Pair {
        #[hyper(linear(4, 4))]
        fc: Linear,
        #[hyper(tensor([1, 4]))]
        class: Tensor,
    }

    #[derive(HyperTarget)]
    #[hyper(config = usize, sequential = [several(y), target], input = (x: (T, *config), y: (S, 4)))]
    pub struct Pairs {
        #[hyper([target; 2])]
        several: Vec<Pair>,
        #[hyper(target(config))]
        target: Widened,
    }

    #[derive(HyperTarget)]
    #[hyper(config = usize, sequential = [fc], input = (T, *config))]
    pub struct Widened {
        #[hyper(linear(*config, 4))]
        fc: Linear,
    }

    #[derive(HyperTarget)]
    #[hyper(sequential = [conv, relu, flatten, all, fc, adapted], input = (1, 4, 4))]
    pub struct Chain {
        #[hyper(conv2d(1, 2, 3, stride = 1))]
        conv: Conv2d,
        #[hyper([[linear(8, 8); 2], [linear(8, 8); 2]])]
        all: Vec<Vec<Linear>>,
        #[hyper(linear(2 * 2 * 2, 4))]
        fc: Linear,
        #[hyper(linear(4, 4), role = lora(2, 4.))]
        adapted: Linear,
    }

    #[derive(HyperTarget)]
    #[hyper(config = usize, sequential_t)]
    pub struct AtRunTime {
        #[hyper(linear(*config, 2))]
        fc: Linear,
        #[hyper(layer_norm(2, 1e-5))]
        norm: LayerNorm,
        #[hyper(linear(2, 2), tie(weight = fc.weight), role = train)]
        tied: Linear,
    }

    #[derive(HyperTarget)]
    pub struct Plain {
        #[hyper(linear(4, 2))]
        fc: Linear,
    }

    impl hypernn::nn::Module for Plain {
        fn forward(&self, xs: &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> {
            hypernn::nn::Module::forward(&self.fc, xs)
        }
    }

    hypernn::hypernetwork! {
        pub struct OfChain for Chain { embedding: table(1, 2), generator: linear, mode: static }

        pub struct OfAtRunTime for AtRunTime {
            embedding: table(1, 2), generator: heads, mode: static, config: usize,
        }

        pub struct Dynamic for Plain {
            embedding: rnn(4, 1, 2), generator: linear.conditioned(4), mode: dynamic,
        }

        pub struct OfConstructor for Linear {
            target: constructor, embedding: table(1, 2), generator: heads, mode: static,
        }
    }
}

#[test]
fn methods_of_every_type_are_not_called() {
    let hyper = blanket::Dynamic::new(variables()).unwrap();
    assert_eq!(hyper.forward(&inputs(4)).unwrap().dims(), [3, 2]);
    let params = hyper.generate_params(&inputs(4)).unwrap();
    assert_eq!(params.flat().unwrap().dims(), [3, 10]);
    assert_eq!(blanket::OfChain::NUM_TARGET_PARAMS, 20 + 4 * 72 + 36 + 16);
    assert!(blanket::OfAtRunTime::new(&3, variables()).is_err());
    let built = |vb: VarBuilder<'_>| hypernn::nn::linear(4, 2, vb);
    let pairs = blanket::Pairs::with_config(&4, variables()).unwrap();
    let pair = || Tensor::ones((2, 3, 4), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(pairs.forward(&pair(), &pair()).unwrap().dims(), [2, 11, 4]);
    assert!(blanket::Pairs::with_config(&3, variables()).is_err());
    assert!(blanket::OfConstructor::new(variables(), built).unwrap().target().is_ok());
}

/// What is out of use can be declared without a word, and its use is reported once, at the user's own.
mod deprecated {
    use hypernn::nn::Linear;
    use hypernn::{HyperTarget, hypernetwork};

    #[deprecated]
    #[derive(HyperTarget)]
    #[hyper(sequential)]
    pub struct Old {
        #[deprecated]
        #[hyper(linear(4, 2))]
        fc: Linear,
    }

    #[derive(HyperTarget)]
    pub struct Around {
        #[allow(deprecated)]
        pub old: Old,
        #[deprecated]
        #[hyper(linear(2, 2))]
        pub fc: Linear,
    }

    hypernetwork! {
        #[allow(deprecated)]
        pub struct OfOld for Old { embedding: table(5, 2), generator: linear, mode: static }

        #[deprecated]
        pub struct OldHyper for Around { embedding: table(4, 2), generator: linear, mode: static }
    }
}

#[test]
fn what_is_deprecated_can_be_a_target() {
    assert_eq!(deprecated::OfOld::NUM_TARGET_PARAMS, 10);
    #[allow(deprecated)]
    let count = deprecated::OldHyper::NUM_TARGET_PARAMS;
    assert_eq!(count, 16);
}

/// Several declarations in one call, under conditions, with attributes and documentation everywhere.
mod conditional {
    use hypernn::nn::Linear;
    use hypernn::{HyperTarget, hypernetwork};

    /// Documentation.
    #[derive(HyperTarget)]
    #[cfg_attr(all(), hyper(sequential))]
    #[cfg_attr(any(), hyper(nothing))]
    pub struct Net {
        /// Documentation.
        #[cfg(all())]
        #[cfg_attr(all(), hyper(linear(4, 2)))]
        fc: Linear,
        #[cfg(any())]
        #[hyper(linear(1, 2))]
        absent: Linear,
    }

    hypernetwork! {
        #[cfg(all())]
        #[derive(Debug)]
        pub struct One for Net {
            /// Documentation.
            #[cfg(any())]
            embedding: table(1, 2),
            #[cfg(not(any()))]
            embedding: table(5, 2),
            #[cfg_attr(all(), cfg(all()))]
            generator: linear,
            #[allow(unused_imports)]
            mode: static,
            #[cfg(any())]
            mode: dynamic,
        }

        #[cfg(any())]
        pub struct One for Nothing { embedding: none }

        /// Two.
        #[cfg_attr(all(), must_use, derive(Debug))]
        pub struct Two for Net { embedding: table(10, 2), generator: linear, mode: static }
    }
}

#[test]
fn conditions_hold_for_all_of_a_declaration() {
    assert_eq!(conditional::One::NUM_PARAMS, 5 * 2 + 2 * 3);
    assert_eq!(conditional::Two::NUM_PARAMS, 10 * 2 + 3);
    assert!(conditional::One::new(variables()).unwrap().forward(&inputs(4)).is_ok());
    assert!(conditional::Two::new(variables()).unwrap().target().is_ok());
}

/// Every kind of fragment that a macro of the user's hands on.
macro_rules! fragments {
    (
        $(#[$attr:meta])* $vis:vis $name:ident, $hyper:ident, $field:ident: $ty:ty = $layer:expr,
        $array:ty = $repeat:expr, $norm:expr, $input:expr, $step:ident, $text:literal, $value:expr,
        $target:path, $generator:expr, $embedding:tt
    ) => {
        $(#[$attr])*
        #[derive(HyperTarget)]
        #[hyper(sequential = [$field, $step, array, norm], input = $input)]
        $vis struct $name {
            #[hyper($layer, name = $text)]
            $field: $ty,
            #[hyper($repeat)]
            array: $array,
            #[hyper($norm)]
            norm: hypernn::nn::LayerNorm,
            #[hyper(value = $value)]
            value: usize,
        }

        hypernn::hypernetwork! {
            $(#[$attr])*
            $vis struct $hyper for $target {
                embedding: table $embedding,
                generator: $generator,
                mode: static,
            }
        }
    };
}

mod fragmented {
    use hypernn::HyperTarget;
    use hypernn::nn::{LayerNormConfig, Linear};

    fragments!(
        /// Documentation.
        #[must_use]
        pub(super) Net, HyperNet, first: Linear = linear(4, 2), [Linear; 2] = [linear(2, 2); 2],
        layer_norm(2, LayerNormConfig { eps: 1e-3, ..Default::default() }), (4), relu, "named", 7,
        self::Net, mlp([3], tanh), (2, 2)
    );

    impl Net {
        pub(super) fn value(&self) -> usize {
            self.value
        }
    }
}

#[test]
fn fragments_of_a_macro_are_what_they_hold() {
    assert_eq!(fragmented::HyperNet::NUM_TARGET_PARAMS, 10 + 2 * 6 + 4);
    let net = fragmented::HyperNet::new(variables()).unwrap().target().unwrap();
    assert_eq!(net.value(), 7);
    let layout = fragmented::Net::layout().unwrap();
    assert_eq!(layout.params()[0].name, "named.weight");
}

/// Items of the user's own by the names of the derive's and of the traits it implements.
mod own_items {
    use hypernn::HyperTarget;
    use hypernn::nn::Linear;

    #[derive(HyperTarget)]
    #[hyper(sequential)]
    pub struct Net {
        #[hyper(linear(4, 2))]
        fc: Linear,
    }

    #[allow(dead_code)]
    impl Net {
        pub const NAME: usize = 1;
        pub const NUM_PARAMS: usize = 2;
        pub const INPUT_SHAPE: usize = 3;
        pub const OUTPUT_SHAPE: usize = 4;

        pub fn new() {}
        pub fn layout() {}
        pub fn pack(&self) {}
        pub fn unpack() {}
        pub fn build() {}
        pub fn visit(&self) {}
        pub fn reused(&self) {}
        pub fn forward(&self) {}
        pub fn with_config() {}
    }

    hypernn::hypernetwork! {
        pub struct HyperNet for Net { embedding: table(5, 2), generator: linear, mode: static }
    }
}

#[test]
fn a_target_may_have_items_of_these_names() {
    let hyper = own_items::HyperNet::new(variables()).unwrap();
    assert_eq!(hyper.forward(&inputs(4)).unwrap().dims(), [3, 2]);
    assert_eq!(<own_items::Net as HyperTarget>::layout().unwrap().num_params(), 10);
    assert_eq!((own_items::Net::NUM_PARAMS, <own_items::Net as FixedTarget>::NUM_PARAMS), (2, 10));
    assert_eq!(own_items::HyperNet::NUM_TARGET_PARAMS, 10);
}

/// A type parameter that no field holds.
mod phantom {
    use std::marker::PhantomData;

    use hypernn::HyperTarget;
    use hypernn::nn::Linear;

    #[derive(HyperTarget)]
    pub struct Net<B: ?Sized> {
        #[hyper(linear(4, 2))]
        pub fc: Linear,
        kind: PhantomData<B>,
        #[hyper([target; 2])]
        pub kinds: [PhantomData<fn(&B)>; 2],
    }

    hypernn::hypernetwork! {
        pub struct HyperNet for Net<dyn std::fmt::Debug> {
            embedding: table(5, 2), generator: linear, mode: static,
        }
    }
}

#[test]
fn a_field_may_hold_nothing() {
    let net = phantom::HyperNet::new(variables()).unwrap().target().unwrap();
    assert_eq!((net.fc.weight().dims(), net.kinds.len()), (&[2, 4][..], 2));
    assert_eq!(phantom::Net::<str>::NUM_PARAMS, 10);
    assert_eq!(phantom::Net::<str>::new(variables()).unwrap().pack().unwrap().dims(), [10]);
}
