//! `#[derive(HyperTarget)]`: every kind of field, by exact counts, layouts and values.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::generated::TargetPlan;
use hypernn::nn::{Activation, Linear};
use hypernn::{FixedTarget, GeneratedParams, HyperTarget};
use hypernn_tests::device;

fn variables() -> VarBuilder<'static> {
    VarBuilder::from_varmap(&VarMap::new(), DType::F32, device())
}

/// `0, 1, 2, …` as a flat vector.
fn flat(len: usize) -> Tensor {
    Tensor::arange(0f32, len as f32, device()).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn names<T: HyperTarget<Config = ()>>() -> Vec<(String, usize)> {
    let layout = T::layout().unwrap();
    layout.params().iter().map(|param| (param.name.clone(), param.offset)).collect()
}

fn named(pairs: &[(&str, usize)]) -> Vec<(String, usize)> {
    pairs.iter().map(|(name, offset)| ((*name).to_owned(), *offset)).collect()
}

/// The count agrees with the layout, and packing undoes unpacking.
fn round_trip<T: HyperTarget<Config = ()> + FixedTarget>() {
    assert_eq!(T::layout().unwrap().num_params(), T::NUM_PARAMS);
    let flat = flat(T::NUM_PARAMS);
    let net = T::unpack(&flat).unwrap();
    assert_eq!(values(&net.pack().unwrap()), values(&flat));
    for len in [T::NUM_PARAMS - 1, T::NUM_PARAMS + 1] {
        assert!(T::unpack(&self::flat(len)).is_err());
    }
}

/// The functional forward is the forward over the packed parameters.
fn same_forward<T: HyperTarget<Config = ()> + Module>(width: usize) {
    let net = T::new(variables()).unwrap();
    let xs = Tensor::randn(0f32, 1., (3, width), device()).unwrap();
    let functional = T::functional_forward(&net.pack().unwrap(), &xs).unwrap();
    assert_eq!(values(&functional), values(&net.forward(&xs).unwrap()));
}

#[derive(HyperTarget)]
#[hyper(forward(fn logits(&self, xs: &Tensor) -> Result<Tensor>))]
#[hyper(forward(fn scaled(&self, xs: &Tensor, by: f64) -> Result<(Tensor, Tensor)>))]
pub struct Mlp {
    #[hyper(linear(4, 8))]
    first: Linear,
    #[hyper(value = Activation::Relu)]
    activation: Activation,
    #[hyper(linear_b(8, 2, false), name = "out")]
    second: candle_nn::Linear,
}

impl Mlp {
    fn logits(&self, xs: &Tensor) -> Result<Tensor> {
        self.forward(xs)
    }

    fn scaled(&self, xs: &Tensor, by: f64) -> Result<(Tensor, Tensor)> {
        let ys = self.forward(xs)?;
        Ok(((&ys * by)?, ys))
    }
}

impl Module for Mlp {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.activation.forward(&self.first.forward(xs)?)?)
    }
}

#[test]
fn named_fields() {
    const COUNT: usize = Mlp::NUM_PARAMS;
    assert_eq!(COUNT, 4 * 8 + 8 + 8 * 2);
    assert_eq!(Mlp::NAME, "Mlp");
    let expected = named(&[("first.weight", 0), ("first.bias", 32), ("out.weight", 40)]);
    assert_eq!(names::<Mlp>(), expected);
    round_trip::<Mlp>();
    same_forward::<Mlp>(4);
}

#[test]
fn functions_over_flat_parameters() {
    let (flat, xs) = (flat(Mlp::NUM_PARAMS), Tensor::ones((2, 4), DType::F32, device()).unwrap());
    let expected = values(&Mlp::unpack(&flat).unwrap().forward(&xs).unwrap());
    assert_eq!(values(&Mlp::functional_logits(&flat, &xs).unwrap()), expected);
    let (twice, once) = Mlp::functional_scaled(&flat, &xs, 2.).unwrap();
    assert_eq!(values(&once), expected);
    assert_eq!(values(&twice), expected.iter().map(|y| y * 2.).collect::<Vec<_>>());
}

#[derive(HyperTarget)]
struct Pair(#[hyper(linear(2, 3))] Linear, Mlp, #[hyper(value = 7)] usize);

#[test]
fn a_tuple_struct_with_a_target_inside() {
    assert_eq!(Pair::NUM_PARAMS, 9 + Mlp::NUM_PARAMS);
    let expected = named(&[
        ("0.weight", 0),
        ("0.bias", 6),
        ("1.first.weight", 9),
        ("1.first.bias", 41),
        ("1.out.weight", 49),
    ]);
    assert_eq!(names::<Pair>(), expected);
    assert_eq!(Pair::new(variables()).unwrap().2, 7);
    round_trip::<Pair>();
}

#[derive(HyperTarget)]
struct Residual<T> {
    inner: T,
    #[hyper([target; 2])]
    more: Vec<T>,
    #[hyper(linear(2, 2))]
    out: Linear,
}

#[test]
fn a_type_parameter() {
    assert_eq!(Residual::<Mlp>::NUM_PARAMS, 3 * Mlp::NUM_PARAMS + 6);
    round_trip::<Residual<Mlp>>();
    let boxed = Residual::<Box<Mlp>>::layout().unwrap();
    assert_eq!(boxed.hash(), Residual::<Mlp>::layout().unwrap().hash());
    let net = Residual::<Mlp>::new(variables()).unwrap();
    assert_eq!(
        (net.inner.out_dims(), net.more.len(), net.out.weight().dims()),
        (2, 2, &[2, 2][..])
    );
}

impl Mlp {
    fn out_dims(&self) -> usize {
        self.second.weight().dims()[0]
    }
}

#[derive(HyperTarget)]
struct Square<const N: usize>
where
    [(); 1]: Sized,
{
    #[hyper(linear_no_bias(N, Self::TWICE))]
    up: Linear,
    #[hyper(linear_no_bias(2 * N, N))]
    down: Linear,
}

impl<const N: usize> Square<N> {
    const TWICE: usize = 2 * N;
}

impl<const N: usize> Module for Square<N> {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.down.forward(&self.up.forward(xs)?)
    }
}

#[test]
fn a_const_parameter() {
    assert_eq!((Square::<2>::NUM_PARAMS, Square::<5>::NUM_PARAMS), (16, 100));
    round_trip::<Square<3>>();
    same_forward::<Square<3>>(3);
}

#[derive(HyperTarget)]
struct Labelled<'a> {
    #[hyper(value = "label")]
    label: &'a str,
    #[hyper(linear(Self::WIDTH, 1))]
    layer: Linear,
}

impl Labelled<'_> {
    const WIDTH: usize = 2;
}

#[test]
fn a_lifetime() {
    round_trip::<Labelled<'_>>();
    let net = Labelled::new(variables()).unwrap();
    assert_eq!((net.label, net.layer.weight().dims()), ("label", &[1, 2][..]));
}

const BIAS: bool = true;

#[derive(HyperTarget)]
struct Containers {
    #[hyper([linear(2, 2); 3])]
    alike: Vec<Linear>,
    #[hyper([linear(2, 4), linear_no_bias(4, 2),])]
    listed: [Linear; 2],
    #[hyper(if BIAS { tensor([2, 3]) })]
    some: Option<Tensor>,
    #[hyper(if !BIAS { linear(100, 100) })]
    none: Option<Linear>,
    #[hyper(linear(1, 1))]
    boxed: Box<Linear>,
    #[hyper([target; 2])]
    targets: Box<[Mlp; 2]>,
    #[hyper([[linear(1, 2); 2]; 3])]
    grid: Vec<[Linear; 2]>,
    #[hyper(if BIAS { target })]
    maybe: Option<Box<Mlp>>,
    #[hyper([(if BIAS { linear(1, 1) }), if !BIAS { linear(1, 1) }])]
    mixed: Vec<Option<Linear>>,
    #[hyper(tensor([2], init = candle_nn::Init::Const(1.)))]
    bare: Tensor,
}

#[test]
fn containers() {
    let sizes = [3 * 6, 12 + 8, 6, 0, 2, 2 * Mlp::NUM_PARAMS, 6 * 4, Mlp::NUM_PARAMS, 2, 2];
    assert_eq!(Containers::NUM_PARAMS, sizes.iter().sum::<usize>());
    round_trip::<Containers>();
    let names: Vec<_> = names::<Containers>().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[..2], ["alike.0.weight", "alike.0.bias"]);
    for name in
        ["some", "boxed.weight", "targets.1.out.weight", "grid.2.1.bias", "mixed.0.weight", "bare"]
    {
        assert!(names.iter().any(|found| found == name), "{name} is not in {names:?}");
    }
}

#[test]
fn the_containers_hold_what_was_written() {
    let net = Containers::new(variables()).unwrap();
    let lengths = (net.alike.len(), net.listed.len(), net.targets.len(), net.grid.len());
    assert_eq!(lengths, (3, 2, 2, 3));
    assert_eq!(net.some.map(|some| some.dims().to_vec()), Some(vec![2, 3]));
    assert!(net.none.is_none() && net.maybe.is_some());
    assert_eq!(net.mixed.iter().filter(|layer| layer.is_some()).count(), 1);
    assert_eq!((net.boxed.weight().dims(), values(&net.bare)), (&[1, 1][..], vec![1., 1.]));
}

#[derive(HyperTarget)]
struct Tied {
    #[hyper(linear_no_bias(3, 5))]
    embed: Linear,
    #[hyper(linear(3, 5), tie(weight = embed.weight))]
    head: Linear,
    #[hyper(linear_no_bias(3, 5), tie(weight = head.weight))]
    third: Linear,
}

#[test]
fn a_tied_tensor_counts_once() {
    assert_eq!(Tied::NUM_PARAMS, 15 + 5);
    assert_eq!(names::<Tied>(), named(&[("embed.weight", 0), ("head.bias", 15)]));
    round_trip::<Tied>();
    let net = Tied::unpack(&flat(20)).unwrap();
    assert_eq!(values(net.head.weight()), values(net.embed.weight()));
    assert_eq!(values(net.third.weight()), values(net.embed.weight()));
}

#[derive(Clone)]
pub struct Sizes {
    width: usize,
    depth: usize,
    bias: bool,
}

#[derive(HyperTarget)]
#[hyper(config = Sizes)]
struct Block {
    #[hyper(linear_b(config.width, config.width, config.bias))]
    layer: Linear,
}

#[derive(HyperTarget)]
#[hyper(config = Sizes, forward(fn last(&self, xs: &Tensor) -> Result<Tensor>))]
struct Configured {
    #[hyper([target(config); config.depth])]
    blocks: Vec<Block>,
    #[hyper(target(Sizes { width: 1, ..config.clone() }))]
    small: Block,
    #[hyper(if config.bias { tensor([config.width]) })]
    shift: Option<Tensor>,
    #[hyper(value = config.depth)]
    depth: usize,
    fixed: Mlp,
}

impl Configured {
    fn last(&self, xs: &Tensor) -> Result<Tensor> {
        self.blocks[self.depth - 1].layer.forward(xs)
    }
}

#[test]
fn sizes_known_at_run_time() {
    let config = Sizes { width: 2, depth: 3, bias: true };
    let plan = TargetPlan::<Configured>::new(&config).unwrap();
    assert_eq!(plan.num_params(), 3 * 6 + 2 + 2 + Mlp::NUM_PARAMS);
    let flat = flat(plan.num_params());
    let net = GeneratedParams::<Configured>::from_flat(&config, &flat).unwrap().unpack().unwrap();
    assert_eq!(values(&plan.pack(&net).unwrap()), values(&flat));
    let xs = Tensor::ones((1, 2), DType::F32, device()).unwrap();
    let last = Configured::functional_last(&config, &flat, &xs).unwrap();
    assert_eq!(values(&last), [12. + 13. + 16., 14. + 15. + 17.]);
    assert_eq!(values(net.small.layer.weight()), [18.]);
    assert!(net.shift.is_some());
    assert_eq!(net.fixed.out_dims(), 2);
}

#[derive(HyperTarget)]
#[hyper(config = Sizes)]
struct Stack<T> {
    #[hyper([target(config); config.depth])]
    layers: Vec<T>,
    #[hyper(target(config))]
    last: T,
}

#[test]
fn a_type_parameter_with_a_configuration() {
    let config = Sizes { width: 2, depth: 2, bias: false };
    let net =
        GeneratedParams::<Stack<Block>>::from_flat(&config, &flat(12)).unwrap().unpack().unwrap();
    assert_eq!(net.layers.len(), 2);
    assert_eq!(values(net.last.layer.weight()), [8., 9., 10., 11.]);
    let nested = TargetPlan::<Stack<Stack<Block>>>::new(&config).unwrap();
    assert_eq!(nested.num_params(), 36);
}

#[derive(HyperTarget)]
struct Outer {
    #[hyper(target(Sizes { width: 2, depth: 1, bias: false }))]
    block: Block,
}

#[derive(HyperTarget)]
struct Around {
    outer: Outer,
}

#[test]
fn a_target_may_fix_the_configuration_of_another() {
    assert_eq!(names::<Outer>(), named(&[("block.layer.weight", 0)]));
    assert_eq!(names::<Around>(), named(&[("outer.block.layer.weight", 0)]));
    assert!(Around::new(variables()).unwrap().outer.block.layer.bias().is_none());
    let net = Outer::unpack(&flat(4)).unwrap();
    assert_eq!(values(net.block.layer.weight()), [0., 1., 2., 3.]);
}

/// A layer of the user's own, with a spec of its own.
mod own {
    use candle_core::{Result, Tensor};
    use hypernn::target::source::ParamSource;
    use hypernn::target::tensor::{TensorSpec, tensor};
    use hypernn::{HyperLayer, LayerInfo, Parameters, target::layer::Visitor};

    pub struct Scale(pub Tensor);

    pub struct ScaleSpec(TensorSpec<1>);

    pub const fn scale(width: usize) -> ScaleSpec {
        ScaleSpec(tensor([width]))
    }

    impl ScaleSpec {
        pub const fn info(&self) -> LayerInfo {
            self.0.info()
        }
    }

    impl HyperLayer<ScaleSpec> for Scale {
        fn build(spec: &ScaleSpec, source: &mut dyn ParamSource) -> Result<Self> {
            Tensor::build(&spec.0, source).map(Self)
        }
    }

    impl Parameters for Scale {
        fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
            self.0.visit(visitor)
        }
    }
}

const fn doubled(width: usize) -> usize {
    2 * width
}

#[derive(HyperTarget)]
struct WithOwn {
    #[hyper(own::scale(doubled(3)))]
    scale: own::Scale,
    #[hyper([own::scale(1); 2])]
    scales: [own::Scale; 2],
}

#[test]
fn a_layer_of_the_users_own() {
    assert_eq!(names::<WithOwn>(), named(&[("scale", 0), ("scales.0", 6), ("scales.1", 7)]));
    round_trip::<WithOwn>();
    let net = WithOwn::new(variables()).unwrap();
    assert_eq!((net.scale.0.dims(), net.scales[1].0.dims()), (&[6][..], &[1][..]));
}

/// The macro's output in a scope where every common name means something else.
mod hostile {
    #![no_implicit_prelude]
    #![allow(dead_code, non_camel_case_types, non_snake_case)]

    pub struct Result;
    pub struct Ok;
    pub struct Err;
    pub struct Some;
    pub struct None;
    pub struct Option;
    pub struct Vec;
    pub struct Tensor;
    pub struct Box;
    pub struct Borrow;
    pub struct HyperLayer;
    pub struct usize;
    pub struct str;
    pub mod core {}
    pub mod std {}
    pub mod hypernn {}
    pub fn params() {}
    pub fn linear() {}
    pub fn deny() {}

    #[derive(::hypernn::HyperTarget)]
    #[hyper(forward(fn run(&self, xs: &::candle_core::Tensor) -> ::candle_core::Result<::candle_core::Tensor>))]
    pub struct Net {
        #[hyper(linear(2, 3))]
        pub r#type: ::hypernn::nn::Linear,
        #[hyper(if true { linear(2, 3) })]
        pub Some: ::std::option::Option<::hypernn::nn::Linear>,
        #[hyper([linear(2, 3); 2], name = "several")]
        pub vec: ::std::vec::Vec<::hypernn::nn::Linear>,
        #[hyper(linear(2, 3), tie(weight = r#type.weight))]
        pub tied: ::hypernn::nn::Linear,
        #[hyper(value = 3)]
        pub source: i32,
    }

    impl Net {
        fn run(&self, xs: &::candle_core::Tensor) -> ::candle_core::Result<::candle_core::Tensor> {
            ::candle_core::Module::forward(&self.r#type, xs)
        }
    }

    #[derive(::hypernn::HyperTarget)]
    #[hyper(config = i32)]
    pub struct Inner<T>(pub T);
}

#[test]
fn nothing_in_scope_gets_in_the_way() {
    assert_eq!(hostile::Net::NUM_PARAMS, 4 * 9 + 3);
    assert_eq!(names::<hostile::Net>()[0].0, "type.weight");
    round_trip::<hostile::Net>();
    let xs = Tensor::ones((1, 2), DType::F32, device()).unwrap();
    let ys = hostile::Net::functional_run(&flat(39), &xs).unwrap();
    assert_eq!(values(&ys), [7., 12., 17.]);
    assert_eq!(TargetPlan::<hostile::Inner<Mlp>>::new(&0).unwrap().num_params(), Mlp::NUM_PARAMS);
}

macro_rules! declare {
    ($name:ident, $layer:expr, $width:expr) => {
        #[derive(HyperTarget)]
        #[hyper(config = usize)]
        struct $name {
            #[hyper($layer)]
            first: Linear,
            #[hyper(linear(config + $width, 1))]
            second: Linear,
        }
    };
}

declare!(Declared, linear(2, 2), 1 + 1);

macro_rules! declare_fixed {
    ($name:ident, $constructor:ident, $size:expr, $ty:ty) => {
        #[derive(HyperTarget)]
        struct $name {
            #[hyper($constructor($size, 2))]
            layer: $ty,
        }
    };
}

declare_fixed!(DeclaredFixed, linear, 1 + 1, Linear);

#[test]
fn a_target_declared_by_a_macro() {
    assert_eq!(DeclaredFixed::NUM_PARAMS, 6);
    assert!(DeclaredFixed::unpack(&flat(6)).unwrap().layer.bias().is_some());
    assert_eq!(TargetPlan::<Declared>::new(&1).unwrap().num_params(), 6 + 4);
    let net = GeneratedParams::<Declared>::from_flat(&1, &flat(10)).unwrap().unpack().unwrap();
    assert_eq!((values(net.first.weight()).len(), values(net.second.weight()).len()), (4, 3));
}

/// Values that mean something else in the place of a statement.
#[derive(HyperTarget)]
struct Valued {
    #[hyper(linear(1, 1))]
    #[allow(dead_code)]
    fc: Linear,
    #[hyper(value = if true { 1 } else { 2 } + 3)]
    sum: usize,
    #[hyper(value = { 4 } - 1)]
    difference: usize,
}

#[test]
fn values_are_expressions() -> Result<()> {
    let net = Valued::unpack(&Tensor::zeros(2, DType::F32, device())?)?;
    assert_eq!((net.sum, net.difference), (4, 3));
    Ok(())
}
