//! The macros' output does not depend on what is in scope, and brings no warnings with it.

#![deny(warnings, future_incompatible, rust_2021_compatibility, rust_2024_compatibility)]
#![allow(missing_docs, clippy::unwrap_used)]

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
            target: by constructor,
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

/// Types of every visibility; two hypernetworks over one target.
mod visibility {
    use hypernn::nn::{Linear, Module};
    use hypernn::{HyperTarget, hypernetwork};

    #[derive(HyperTarget)]
    struct Private {
        #[hyper(linear(4, 2))]
        fc: Linear,
    }

    impl Module for Private {
        fn forward(&self, xs: &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> {
            self.fc.forward(xs)
        }
    }

    hypernetwork! {
        struct First for Private {
            embedding: table(5, 8),
            generator: linear,
            mode: static,
        }
    }

    hypernetwork! {
        pub(super) struct Second for self::Private {
            generator: heads,
            mode: static,
            embedding: table(1, 2)
        }
    }

    #[derive(HyperTarget)]
    pub(crate) struct Shared(#[hyper(linear(4, 2))] pub(super) Linear, Private);

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
fn types_may_be_private() {
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
            target: by constructor,
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
