//! Forwards in attributes as nobody is expected to write them: odd nesting, names in each other's way, what is empty.

#![allow(clippy::unwrap_used)]

use std::marker::PhantomData;

use candle_core::{DType, Result, Tensor};
use hypernn::flow::{Given, Join, SampleShape};
use hypernn::nn::{
    Activation, AttentionMask, BatchNorm, LayerNorm, Linear, Module, ModuleT, VarBuilder, VarMap,
    attention,
};
use hypernn::{HyperTarget, LayerInfo, ShapedTarget, seeded};
use hypernn_tests::device;

fn vb() -> VarBuilder<'static> {
    seeded::var_builder(&VarMap::new(), 0, DType::F32, device())
}

fn new<T: HyperTarget<Config = ()>>() -> Result<T> {
    T::new(vb())
}

fn randn(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1., shape, device())
}

fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    let values = |xs: &Tensor| xs.flatten_all()?.to_vec1::<f32>();
    Ok(a.dims() == b.dims() && values(a)? == values(b)?)
}

/// The same name in two blocks beside each other, in each other's operands, and in a repetition.
#[derive(HyperTarget)]
#[hyper(
    sequential = [
        residual([x = a, relu, add(x)]),
        residual([x = b, residual([tanh, add(x)])]),
        outer = a,
        repeat(2, [x = b, tanh, add([x, a], outer)]),
        repeat(0, [a, relu]),
        add([], []),
        concat(0, [residual([residual([residual([a])])])], [outer]),
    ],
    input = 4,
)]
struct Nested {
    #[hyper(linear(4, 4))]
    a: Linear,
    #[hyper(linear(4, 4))]
    b: Linear,
}

#[test]
fn names_and_blocks_in_blocks() -> Result<()> {
    let (net, xs) = (new::<Nested>()?, randn(&[2, 4])?);
    let (a, b) = (|xs: &Tensor| net.a.forward(xs), |xs: &Tensor| net.b.forward(xs));
    let x = a(&xs)?;
    let ys = ((x.relu()? + &x)? + &xs)?;
    let x = b(&ys)?;
    // The innermost block adds what it was given to `x` beside its own input.
    let inner = ((x.tanh()? + &x)? + &x)?;
    let ys = (inner + &ys)?;
    let outer = a(&ys)?;
    let mut ys = outer.clone();
    for _ in 0..2 {
        let x = b(&ys)?;
        // The current value comes first: no block begins with it.
        ys = ((x.tanh()? + a(&x)?)? + &outer)?;
    }
    let ys = (&ys + &ys)?;
    let once = (a(&ys)? + &ys)?;
    let twice = (once + &ys)?;
    let ys = Tensor::cat(&[&(twice + &ys)?, &outer], 1)?;
    assert!(same(&net.forward(&xs)?, &ys)?);
    Ok(())
}

/// Words of Rust, of the grammar and of the generated code as names.
#[derive(HyperTarget)]
#[hyper(
    sequential = [r#type, r#in = relu, train = skip, add(r#in), mul([repeat], [r#ref, r#type]), add(train)],
    input = (xs: (T, 4), r#ref: (T, 4)),
    output = (r#match = [], xs),
)]
struct Words {
    #[hyper(linear(4, 4))]
    r#type: Linear,
    #[hyper(linear(4, 4))]
    skip: Linear,
    #[hyper(linear(4, 4))]
    repeat: Linear,
}

#[test]
fn words_as_names() -> Result<()> {
    let (net, xs, other) = (new::<Words>()?, randn(&[1, 2, 4])?, randn(&[1, 2, 4])?);
    let relu = net.r#type.forward(&xs)?.relu()?;
    let train = net.skip.forward(&relu)?;
    let ys = (&train + relu)?;
    let ys = ((net.repeat.forward(&ys)? * net.r#type.forward(&other)?)? + train)?;
    let (found, back) = net.forward(&xs, &other)?;
    assert!(same(&found, &ys)? && same(&back, &xs)?);
    assert_eq!(Words::network(&()).unwrap().nodes()[1].name, "ref");
    Ok(())
}

/// A tuple struct: fields by number, in blocks and operands.
#[derive(HyperTarget)]
#[hyper(sequential = [0, residual([1, relu]), mul(2), concat(0, [0], [])], input = 3)]
struct Numbers(
    #[hyper(linear(3, 3))] Linear,
    #[hyper(linear(3, 3))] Linear,
    #[hyper(tensor([3]))] Tensor,
);

#[test]
fn fields_without_names() -> Result<()> {
    let (net, xs) = (new::<Numbers>()?, randn(&[2, 3])?);
    let ys = net.0.forward(&xs)?;
    let ys = (net.1.forward(&ys)?.relu()? + ys)?.broadcast_mul(&net.2)?;
    let ys = Tensor::cat(&[&net.0.forward(&ys)?, &ys], 1)?;
    assert!(same(&net.forward(&xs)?, &ys)?);
    Ok(())
}

/// What may be there or not, what is empty, and containers in containers.
#[derive(HyperTarget)]
#[hyper(
    sequential = [
        residual([there]),
        not_there,
        none,
        repeat(empty),
        residual([grid, residual([repeat(array)])]),
        add([there], [not_there]),
    ],
    input = (T, 4),
)]
struct Containers<const MORE: bool> {
    #[hyper(if MORE { linear(4, 4) })]
    there: Option<Linear>,
    #[hyper(if !MORE { linear(4, 4) })]
    not_there: Option<Linear>,
    #[hyper([linear(4, 4); 0])]
    none: Vec<Linear>,
    #[hyper([layer_norm(4); 0])]
    empty: [LayerNorm; 0],
    #[hyper([[linear(4, 4), linear(4, 4)], [linear(4, 4), linear(4, 4)]])]
    grid: Vec<Vec<Linear>>,
    #[hyper([if MORE { linear(4, 4) }; 2])]
    array: [Option<Linear>; 2],
}

#[test]
fn containers_and_what_is_empty() -> Result<()> {
    let (net, xs) = (new::<Containers<true>>()?, randn(&[1, 2, 4])?);
    let there = net.there.as_ref().unwrap();
    let first = (there.forward(&xs)? + &xs)?;
    let mut ys = first.clone();
    for layer in net.grid.iter().flatten() {
        ys = layer.forward(&ys)?;
    }
    let mut inner = ys.clone();
    for layer in net.array.iter().flatten() {
        inner = layer.forward(&inner)?;
    }
    let ys = ((inner + ys)? + first)?;
    let ys = (there.forward(&ys)? + ys)?;
    assert!(same(&net.forward(&xs)?, &ys)?);
    assert_eq!(Containers::<false>::OUTPUT_SHAPE.to_string(), "[T, 4]");
    assert_eq!(new::<Containers<false>>()?.forward(&xs)?.dims(), [1, 2, 4]);
    Ok(())
}

/// A marker, a bound, a type parameter by the name of a size, and fields under conditions.
#[derive(HyperTarget)]
#[cfg_attr(test, hyper(sequential = [residual([first]), act, second], input = (T, 3)))]
#[cfg_attr(not(test), hyper(sequential = [first]))]
struct Marked<T, M>
where
    T: Module,
{
    first: T,
    #[cfg(test)]
    #[hyper(linear(3, 2))]
    second: Linear,
    #[cfg(not(test))]
    #[hyper(linear(3, 7))]
    third: Linear,
    #[hyper(value = Activation::Relu)]
    act: Activation,
    #[hyper(value = PhantomData)]
    marker: PhantomData<M>,
}

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Inner {
    #[hyper(linear(3, 3))]
    fc: Linear,
}

#[test]
fn markers_and_conditions() -> Result<()> {
    let (net, xs) = (new::<Marked<Inner, String>>()?, randn(&[2, 3])?);
    let _ = net.marker;
    let ys = net.second.forward(&(net.first.fc.forward(&xs)? + &xs)?.relu()?)?;
    assert!(same(&net.forward(&xs)?, &ys)?);
    assert_eq!(Marked::<Inner, u8>::INPUT_SHAPE.to_string(), "[T, 3]");
    Ok(())
}

/// A weighted mean of any number of values.
struct Weighted<const N: usize>([f64; N]);

impl<const N: usize> Weighted<N> {
    const fn info(&self) -> LayerInfo {
        LayerInfo::new("weighted")
    }

    const fn gives(&self, inputs: &[SampleShape]) -> Given {
        Given::Shape(inputs[0])
    }
}

impl<const N: usize> Join for Weighted<N> {
    fn join(&self, xs: &[&Tensor]) -> Result<Tensor> {
        let mut sum = xs[0].zeros_like()?;
        for (xs, weight) in xs.iter().zip(self.0) {
            sum = (sum + (*xs * weight)?)?;
        }
        Ok(sum)
    }
}

/// What a macro of the user's writes, with constants of the struct's own in steps.
macro_rules! network {
    ($name:ident, $($field:ident),*; $width:expr, $step:ident, [$($weight:expr),*]) => {
        #[derive(HyperTarget)]
        #[hyper(
            sequential = [
                join(Weighted([$($weight),*]), $([$field, $step]),*),
                reshape([Self::HALF, 2]),
                flatten,
            ],
            input = $width,
        )]
        struct $name {
            $(#[hyper(linear($width, $width))] $field: Linear,)*
        }

        impl $name {
            const HALF: usize = $width / 2;
        }
    };
}

network!(OfMacro, left, right; 6, relu, [0.25, 0.75]);

#[test]
fn chains_in_macros() -> Result<()> {
    let (net, xs) = (new::<OfMacro>()?, randn(&[2, 6])?);
    let left = (net.left.forward(&xs)?.relu()? * 0.25)?;
    let ys = (left + (net.right.forward(&xs)?.relu()? * 0.75)?)?;
    let difference = (net.forward(&xs)? - ys)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(difference < 1e-6);
    Ok(())
}

#[derive(Clone)]
struct Depth {
    depth: usize,
    width: usize,
}

impl Depth {
    fn below(&self) -> Self {
        Self { depth: self.depth - 1, ..self.clone() }
    }
}

/// A target in itself, as deep as its configuration says, which its steps read as well.
#[derive(HyperTarget)]
#[hyper(
    config = Depth,
    sequential = [fc, residual([below(other)]), repeat(config.depth, [relu]), add(other)],
    input = (xs: (config.width), other: (config.width)),
)]
struct Recursive {
    #[hyper(linear(config.width, config.width))]
    fc: Linear,
    #[hyper(if config.depth > 0 { target(config.below()) })]
    below: Option<Box<Self>>,
    #[hyper(value = config.clone())]
    config: Depth,
}

impl Recursive {
    fn by_hand(&self, xs: &Tensor, other: &Tensor) -> Result<Tensor> {
        let ys = self.fc.forward(xs)?;
        let below = self.below.as_ref().map_or(Ok(ys.clone()), |net| net.by_hand(&ys, other))?;
        let ys = (below + ys)?;
        (if self.config.depth > 0 { ys.relu()? } else { ys }) + other
    }
}

#[test]
fn a_target_in_itself() -> Result<()> {
    let net = Recursive::with_config(&Depth { depth: 3, width: 4 }, vb())?;
    let (xs, other) = (randn(&[2, 4])?, randn(&[2, 4])?);
    assert!(same(&net.forward(&xs, &other)?, &net.by_hand(&xs, &other)?)?);
    let network = Recursive::network(&Depth { depth: 3, width: 4 }).unwrap();
    assert_eq!(network.output_shape().to_string(), "[4]");
    Ok(())
}

/// In training and not, with several inputs, outputs and a nested target that takes both.
#[derive(HyperTarget)]
#[hyper(
    sequential_t = [norm, add(y)],
    input = (x: (4), y: (4)),
)]
struct Normed {
    #[hyper(batch_norm(4))]
    norm: BatchNorm,
}

#[derive(HyperTarget)]
#[hyper(
    sequential_t = [fc, first = normed(y), list(y), dropout(0.5)],
    input = (x: (3), y: (4)),
    output = (first, last = []),
)]
struct Trained {
    #[hyper(linear(3, 4))]
    fc: Linear,
    normed: Normed,
    #[hyper([target; 2])]
    list: [Normed; 2],
}

#[test]
fn training_through_all_of_them() -> Result<()> {
    let (net, x, y) = (new::<Trained>()?, randn(&[5, 3])?, randn(&[5, 4])?);
    let normed = |net: &Normed, xs: &Tensor| net.norm.forward_t(xs, false)? + &y;
    let first = normed(&net.normed, &net.fc.forward(&x)?)?;
    let last = normed(&net.list[1], &normed(&net.list[0], &first)?)?;
    let (found_first, found_last) = net.forward_t(&x, &y, false)?;
    assert!(same(&found_first, &first)? && same(&found_last, &last)?);
    // In training half of the values are 0.
    let (_, dropped) = net.forward_t(&x, &y, true)?;
    let zeros = dropped.flatten_all()?.to_vec1::<f32>()?.iter().filter(|x| **x == 0.).count();
    assert!(zeros > 0, "{dropped}");
    Ok(())
}

/// Tensors at the beginning of blocks, for one sample as for many, and a field that stands in several places.
#[derive(HyperTarget)]
#[hyper(
    sequential = [
        add([positions, take(0)], []),
        shared,
        concat(0, [token], []),
        attention([shared, split_heads(2)], [split_heads(2)], [shared, split_heads(2)], causal = true),
        merge_heads,
    ],
    input = (3, 4),
)]
struct Tokens {
    #[hyper(tensor([1, 3, 4]))]
    positions: Tensor,
    #[hyper(tensor([1, 4]))]
    token: Tensor,
    #[hyper(linear(4, 4))]
    shared: Linear,
}

#[test]
fn tensors_and_shared_layers() -> Result<()> {
    let (net, xs) = (new::<Tokens>()?, randn(&[2, 3, 4])?);
    let ys = net.shared.forward(&net.positions.broadcast_add(&xs)?)?;
    let ys = Tensor::cat(&[&net.token.broadcast_as((2, 1, 4))?, &ys], 1)?;
    let heads = |xs: &Tensor| xs.reshape((2, 4, 2, 2))?.transpose(1, 2)?.contiguous();
    let (shared, plain) = (heads(&net.shared.forward(&ys)?)?, heads(&ys)?);
    let ys = attention(&shared, &plain, &shared, &AttentionMask::causal(), 1. / 2f64.sqrt())?;
    let ys = ys.transpose(1, 2)?.reshape((2, 4, 4))?;
    assert!(same(&net.forward(&xs)?, &ys)?);
    assert!(Tokens::OUTPUT_SHAPE.is(&[4, 4]));
    Ok(())
}

/// A U-Net, a level in a level: what lies below is as wide as what lies above.
#[derive(HyperTarget)]
#[hyper(
    config = Depth,
    sequential_t = [skip = [down, relu], below, norm, concat(1, skip), up],
    input = (3, config.width),
)]
struct Level {
    #[hyper(linear(config.width, config.width + 2))]
    down: Linear,
    #[hyper(if config.depth > 0 { target(Depth { depth: config.depth - 1, width: config.width + 2 }) })]
    below: Option<Box<Self>>,
    #[hyper(batch_norm(3))]
    norm: BatchNorm,
    #[hyper(linear(2 * (config.width + 2), config.width))]
    up: Linear,
}

impl Level {
    fn by_hand(&self, xs: &Tensor) -> Result<Tensor> {
        let skip = self.down.forward(xs)?.relu()?;
        let ys = self.below.as_ref().map_or(Ok(skip.clone()), |below| below.by_hand(&skip))?;
        self.up.forward(&Tensor::cat(&[&self.norm.forward_t(&ys, false)?, &skip], 2)?)
    }
}

#[test]
fn a_level_in_a_level() -> Result<()> {
    let sizes = Depth { depth: 3, width: 4 };
    let (net, xs) = (Level::with_config(&sizes, vb())?, randn(&[2, 3, 4])?);
    assert!(same(&net.forward_t(&xs, false)?, &net.by_hand(&xs)?)?);
    assert_eq!(Level::network(&sizes).unwrap().output_shape().to_string(), "[3, 4]");
    Ok(())
}

/// A target on the heap has the shapes that it has elsewhere.
#[derive(HyperTarget)]
#[hyper(sequential = [fc, add(y)], input = (x: (T, 3), y: (T, 3)))]
struct Pair {
    #[hyper(linear(3, 3))]
    fc: Linear,
}

#[derive(HyperTarget)]
#[hyper(sequential = [pair(y), pair([pair(y)])], input = (x: (T, 3), y: (T, 3)))]
struct OnTheHeap {
    pair: Box<Pair>,
}

#[test]
fn a_target_on_the_heap() -> Result<()> {
    let (net, xs, y) = (new::<OnTheHeap>()?, randn(&[1, 2, 3])?, randn(&[1, 2, 3])?);
    let ys = net.pair.forward(&xs, &y)?;
    let ys = net.pair.forward(&ys, &net.pair.forward(&ys, &y)?)?;
    assert!(same(&net.forward(&xs, &y)?, &ys)?);
    assert_eq!(OnTheHeap::OUTPUT_SHAPE.to_string(), "[T, 3]");
    Ok(())
}
