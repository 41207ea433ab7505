//! Targets that are chains: their forward, and the shapes along it.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Result, Tensor};
use hypernn::flow::{Given, SampleShape};
use hypernn::nn::{
    Activation, BatchNorm, Conv2d, Dropout, Embedding, LayerNorm, Linear, Module, ModuleT,
    VarBuilder, VarMap,
};
use hypernn::{HyperTarget, LayerInfo, ShapedTarget, hypernetwork, seeded};
use hypernn_tests::device;

fn new<T: HyperTarget<Config = ()>>() -> Result<T> {
    T::new(seeded::var_builder(&VarMap::new(), 0, DType::F32, device()))
}

fn randn(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1., shape, device())
}

fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    Ok(a.dims() == b.dims()
        && a.flatten_all()?.to_vec1::<f32>()? == b.flatten_all()?.to_vec1::<f32>()?)
}

const CLASSES: usize = 10;

#[derive(HyperTarget)]
#[hyper(sequential = [conv, relu, max_pool2d(2), flatten, fc1, relu, fc2], input = (1, 28, 28))]
struct LeNet {
    #[hyper(conv2d(1, 4, 5))]
    conv: Conv2d,
    #[hyper(linear(4 * 12 * 12, 16))]
    fc1: Linear,
    #[hyper(linear(16, CLASSES))]
    fc2: Linear,
}

const _: () = assert!(LeNet::INPUT_SHAPE.is(&[1, 28, 28]) && LeNet::OUTPUT_SHAPE.is(&[CLASSES]));

#[test]
fn the_forward_is_that_of_the_chain() -> Result<()> {
    let (net, xs) = (new::<LeNet>()?, randn(&[3, 1, 28, 28])?);
    let by_hand = net.conv.forward(&xs)?.relu()?.max_pool2d(2)?.flatten_from(1)?;
    let by_hand = net.fc2.forward(&net.fc1.forward(&by_hand)?.relu()?)?;
    assert!(same(&net.forward(&xs)?, &by_hand)?);
    Ok(())
}

hypernetwork! {
    struct HyperLeNet for LeNet {
        embedding: table(16, 4),
        generator: linear,
        mode: static,
    }
}

#[test]
fn a_chain_is_a_target() -> Result<()> {
    let vb = seeded::var_builder(&VarMap::new(), 0, DType::F32, device());
    let (hyper, xs) = (HyperLeNet::new(vb)?, randn(&[3, 1, 28, 28])?);
    assert!(same(&hyper.forward(&xs)?, &hyper.target()?.forward(&xs)?)?);
    Ok(())
}

/// In the fields' order, with fields that have no parameters.
#[derive(HyperTarget)]
#[hyper(sequential)]
struct Plain {
    #[hyper(linear(4, 8))]
    hidden: Linear,
    #[hyper(value = Activation::Relu)]
    activation: Activation,
    #[hyper([linear(8, 8); 2])]
    more: Vec<Linear>,
    #[hyper([linear(8, 6), linear(6, 5)])]
    narrower: [Linear; 2],
    #[hyper(if true { layer_norm(5, 1e-5) })]
    norm: Option<LayerNorm>,
}

#[test]
fn fields_in_order() -> Result<()> {
    let (net, xs) = (new::<Plain>()?, randn(&[3, 4])?);
    let mut by_hand = net.hidden.forward(&xs)?.relu()?;
    for layer in net.more.iter().chain(&net.narrower) {
        by_hand = layer.forward(&by_hand)?;
    }
    let by_hand = net.norm.as_ref().unwrap().forward(&by_hand)?;
    assert!(same(&net.forward(&xs)?, &by_hand)?);
    assert!(net.activation == Activation::Relu);
    // Without an input, a linear layer tells the last dimension.
    assert_eq!(Plain::INPUT_SHAPE.to_string(), "[…, 4]");
    assert_eq!(Plain::OUTPUT_SHAPE.to_string(), "[…, 5]");
    Ok(())
}

#[derive(HyperTarget)]
#[hyper(sequential_t = [conv, norm, relu, drop, dropout(0.5), global_avg_pool2d, fc], input = (3, _, _))]
struct Trained {
    #[hyper(conv2d(3, 8, 3, stride = 2, padding = 1))]
    conv: Conv2d,
    #[hyper(batch_norm(8, 1e-5))]
    norm: BatchNorm,
    #[hyper(value = Dropout::new(0.5))]
    drop: Dropout,
    #[hyper(linear(8, 2))]
    fc: Linear,
}

#[test]
fn a_chain_that_behaves_otherwise_in_training() -> Result<()> {
    let (net, xs) = (new::<Trained>()?, randn(&[4, 3, 9, 9])?);
    let by_hand = net.norm.forward_t(&net.conv.forward(&xs)?, false)?.relu()?;
    let by_hand = net.fc.forward(&by_hand.mean((2, 3))?)?;
    let difference = (net.forward_t(&xs, false)? - by_hand)?.abs()?.max_all()?;
    assert!(difference.to_scalar::<f32>()? < 1e-6);
    assert!(!same(&net.forward_t(&xs, true)?, &net.forward_t(&xs, true)?)?);
    assert!(net.drop.forward(&xs, false).is_ok());
    assert_eq!(Trained::INPUT_SHAPE.to_string(), "[3, _, _]");
    assert!(Trained::OUTPUT_SHAPE.is(&[2]));
    Ok(())
}

/// A target in a target, and one used twice.
#[derive(HyperTarget)]
#[hyper(sequential = [embedding, block, block, head], input = 7)]
struct Nested {
    #[hyper(embedding(20, 4))]
    embedding: Embedding,
    block: Block<4>,
    #[hyper(linear(4, 20))]
    head: Linear,
}

#[derive(HyperTarget)]
#[hyper(sequential = [norm, up, gelu, down])]
struct Block<const N: usize> {
    #[hyper(layer_norm(N, 1e-5))]
    norm: LayerNorm,
    #[hyper(linear(N, 2 * N))]
    up: Linear,
    #[hyper(linear(2 * N, N))]
    down: Linear,
}

#[test]
fn targets_in_a_chain() -> Result<()> {
    let net = new::<Nested>()?;
    let ids = Tensor::zeros((2, 7), DType::U32, device())?;
    assert_eq!(net.forward(&ids)?.dims(), [2, 7, 20]);
    assert_eq!(Block::<4>::INPUT_SHAPE.to_string(), "[…, 4]");
    assert_eq!(Nested::INPUT_SHAPE.to_string(), "[7]");
    // A block says nothing of what stands before its last dimension.
    assert_eq!(Nested::OUTPUT_SHAPE.to_string(), "[…, 20]");
    Ok(())
}

/// A sample without dimensions: one index.
#[derive(HyperTarget)]
#[hyper(sequential, input = ())]
struct OneIndex {
    #[hyper(embedding(20, 4))]
    embedding: Embedding,
}

#[test]
fn a_sample_without_dimensions() -> Result<()> {
    let ids = Tensor::zeros(3, DType::U32, device())?;
    assert_eq!(new::<OneIndex>()?.forward(&ids)?.dims(), [3, 4]);
    assert!(OneIndex::INPUT_SHAPE.is(&[]) && OneIndex::OUTPUT_SHAPE.is(&[4]));
    Ok(())
}

/// Of any target, with steps of the user's own.
#[derive(HyperTarget)]
#[hyper(sequential = [self::Twice, inner, func(|xs| xs.neg()), reshape([2, 2])])]
struct Generic<T> {
    inner: T,
}

struct Twice;

impl Twice {
    const fn info(&self) -> LayerInfo {
        LayerInfo::new("twice")
    }

    const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(*input)
    }
}

impl Module for Twice {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs * 2.
    }
}

#[test]
fn a_chain_over_a_type_parameter() -> Result<()> {
    let (net, xs) = (new::<Generic<Block<4>>>()?, randn(&[3, 4])?);
    let by_hand = net.inner.forward(&(&xs * 2.)?)?.neg()?.reshape((3, 2, 2))?;
    assert!(same(&net.forward(&xs)?, &by_hand)?);
    assert!(<Generic<Block<4>> as ShapedTarget>::OUTPUT_SHAPE.is(&[2, 2]));
    Ok(())
}

/// A tuple struct, by numbers.
#[derive(HyperTarget)]
#[hyper(sequential = [1, tanh, 0])]
struct Tuple(#[hyper(linear(3, 2))] Linear, #[hyper(linear(4, 3))] Linear);

#[test]
fn another_order_than_the_fields() -> Result<()> {
    let (net, xs) = (new::<Tuple>()?, randn(&[5, 4])?);
    assert!(same(&net.forward(&xs)?, &net.0.forward(&net.1.forward(&xs)?.tanh()?)?)?);
    Ok(())
}

#[derive(Clone)]
struct Sizes {
    hidden: usize,
    out: usize,
}

/// Sizes at run time are checked in `new`, with the words of the compiler's errors.
#[derive(HyperTarget)]
#[hyper(config = Sizes, sequential = [hidden, relu, out], input = config.hidden)]
struct Configured {
    #[hyper(linear(8, config.hidden))]
    hidden: Linear,
    #[hyper(linear(config.out, 2))]
    out: Linear,
}

#[test]
fn sizes_at_run_time() -> Result<()> {
    let vars = VarMap::new();
    let vb = || VarBuilder::from_varmap(&vars, DType::F32, device());
    let net = Configured::with_config(&Sizes { hidden: 8, out: 8 }, vb())?;
    assert_eq!(net.forward(&randn(&[3, 8])?)?.dims(), [3, 2]);
    let error = |hidden, out| {
        let error = Configured::with_config(&Sizes { hidden, out }, vb()).err().unwrap();
        error.to_string().lines().next().unwrap().to_owned()
    };
    assert_eq!(error(8, 9), "`out` takes […, 9], but `hidden` gives [8]: write 8 in place of 9");
    assert_eq!(error(9, 9), "`hidden` takes […, 8], but the input is [9]: write 9 in place of 8");
    Ok(())
}
