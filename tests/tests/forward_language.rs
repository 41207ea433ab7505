//! Forwards of more than one layer after the other: residuals, branches, values with names, several inputs.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Result, Tensor};
use hypernn::flow::{Given, Join, SampleShape};
use hypernn::nn::step::{SplitHeads, split_heads};
use hypernn::nn::{BatchNorm, Conv2d, LayerNorm, Linear, Module, ModuleT, VarMap};
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

#[derive(HyperTarget)]
#[hyper(
    sequential_t = [
        stem,
        residual([conv1, norm, relu, conv2]),
        residual([wider], skip = [down]),
        relu,
    ],
    input = (3, H, W),
)]
struct Residual {
    #[hyper(conv2d(3, 8, 3, padding = 1))]
    stem: Conv2d,
    #[hyper(conv2d(8, 8, 3, padding = 1))]
    conv1: Conv2d,
    #[hyper(batch_norm(8, 1e-5))]
    norm: BatchNorm,
    #[hyper(conv2d(8, 8, 1))]
    conv2: Conv2d,
    #[hyper(conv2d(8, 16, 3, stride = 2, padding = 1))]
    wider: Conv2d,
    #[hyper(conv2d(8, 16, 1, stride = 2))]
    down: Conv2d,
}

#[test]
fn a_block_is_added_to_its_input() -> Result<()> {
    let (net, xs) = (new::<Residual>()?, randn(&[2, 3, 8, 8])?);
    let by_hand = net.stem.forward(&xs)?;
    let block = net.norm.forward_t(&net.conv1.forward(&by_hand)?, false)?.relu()?;
    let by_hand = (net.conv2.forward(&block)? + by_hand)?;
    let by_hand = (net.wider.forward(&by_hand)? + net.down.forward(&by_hand)?)?.relu()?;
    assert!(same(&net.forward_t(&xs, false)?, &by_hand)?);
    assert_eq!(Residual::INPUT_SHAPE.to_string(), "[3, H, W]");
    // A stride makes other sizes of those that have a name.
    assert_eq!(Residual::OUTPUT_SHAPE.to_string(), "[16, _, _]");
    Ok(())
}

#[derive(HyperTarget)]
#[hyper(
    sequential = [
        skip = [fc1, relu],
        add([a], [b, tanh], skip),
        concat(0, skip, [], [fc2]),
        mul(gate),
        repeat(2, [before = wide, relu, add(before)]),
        repeat(more),
    ],
    input = 4,
)]
struct Branches {
    #[hyper(linear(4, 8))]
    fc1: Linear,
    #[hyper(linear(8, 8))]
    a: Linear,
    #[hyper(linear(8, 8))]
    b: Linear,
    #[hyper(linear(8, 4))]
    fc2: Linear,
    #[hyper(tensor([20]))]
    gate: Tensor,
    #[hyper(linear(20, 20))]
    wide: Linear,
    #[hyper([linear(20, 20); 3])]
    more: Vec<Linear>,
}

#[test]
fn branches_and_values_with_names() -> Result<()> {
    let (net, xs) = (new::<Branches>()?, randn(&[3, 4])?);
    let skip = net.fc1.forward(&xs)?.relu()?;
    let ys = ((net.a.forward(&skip)? + net.b.forward(&skip)?.tanh()?)? + &skip)?;
    let ys = Tensor::cat(&[&skip, &ys, &net.fc2.forward(&ys)?], 1)?;
    let mut ys = ys.broadcast_mul(&net.gate)?;
    for _ in 0..2 {
        let before = net.wide.forward(&ys)?;
        ys = (before.relu()? + before)?;
    }
    for layer in &net.more {
        ys = layer.forward(&ys)?;
    }
    assert!(same(&net.forward(&xs)?, &ys)?);
    assert!(Branches::OUTPUT_SHAPE.is(&[20]));
    Ok(())
}

hypernetwork! {
    struct HyperBranches for Branches {
        embedding: tasks(3, 16, 4),
        generator: linear,
        mode: dynamic,
    }
}

/// A bare tensor is that of each set's samples.
#[test]
fn weight_sets() -> Result<()> {
    let vb = seeded::var_builder(&VarMap::new(), 0, DType::F32, device());
    let (hyper, xs) = (HyperBranches::new(vb)?, randn(&[6, 4])?);
    let params = hyper.generate_params(&Tensor::new(&[0u32, 1, 2], device())?)?;
    let ys = params.forward(&xs)?;
    for set in 0..3 {
        let alone = params.set(set)?.forward(&xs.narrow(0, 2 * set, 2)?)?;
        let difference = (ys.narrow(0, 2 * set, 2)? - alone)?.abs()?.max_all()?;
        assert!(difference.to_scalar::<f32>()? < 1e-5);
    }
    Ok(())
}

/// The mean of two values, of a user's own.
struct Mean;

impl Mean {
    const fn info(&self) -> LayerInfo {
        LayerInfo::new("mean")
    }

    const fn gives(&self, inputs: &[SampleShape]) -> Given {
        Given::Shape(inputs[0])
    }
}

impl Join for Mean {
    fn join(&self, xs: &[&Tensor]) -> Result<Tensor> {
        (xs[0] + xs[1])? / 2.
    }
}

/// Two inputs, each with a length of its own.
#[derive(HyperTarget)]
#[hyper(
    sequential = [norm, join(self::Mean, [context, project], [])],
    input = (x: (T, 8), context: (T, S)),
)]
struct Two<const S: usize> {
    #[hyper(layer_norm(8, 1e-5))]
    norm: LayerNorm,
    #[hyper(linear(S, 8))]
    project: Linear,
}

#[derive(HyperTarget)]
#[hyper(
    sequential = [fc, two(memory), others(memory), concat(1, [memory, out])],
    input = (x: (N, 4), memory: (N, 6)),
)]
struct Outer {
    #[hyper(linear(4, 8))]
    fc: Linear,
    two: Two<6>,
    #[hyper([target; 2])]
    others: Vec<Two<6>>,
    #[hyper(linear(6, 5))]
    out: Linear,
}

#[test]
fn several_inputs() -> Result<()> {
    let (net, xs, memory) = (new::<Outer>()?, randn(&[2, 3, 4])?, randn(&[2, 3, 6])?);
    let two = |two: &Two<6>, xs: &Tensor| -> Result<Tensor> {
        (two.project.forward(&memory)? + two.norm.forward(xs)?)? / 2.
    };
    let ys = two(&net.two, &net.fc.forward(&xs)?)?;
    assert!(same(&net.two.forward(&net.fc.forward(&xs)?, &memory)?, &ys)?);
    let ys = two(&net.others[1], &two(&net.others[0], &ys)?)?;
    let ys = Tensor::cat(&[ys, net.out.forward(&memory)?], 2)?;
    assert!(same(&net.forward(&xs, &memory)?, &ys)?);
    assert_eq!(<Two<6> as ShapedTarget>::INPUT_SHAPES.len(), 2);
    assert_eq!(Two::<6>::OUTPUT_SHAPE.to_string(), "[T, 8]");
    assert_eq!(Outer::OUTPUT_SHAPE.to_string(), "[N, 13]");
    let error = net.join(&[&xs]).err().unwrap().to_string();
    assert!(error.starts_with("Outer: 1 inputs, expected 2"), "{error}");
    Ok(())
}

/// A letter that a constant has is that constant.
const Q: usize = 3;

#[derive(HyperTarget)]
#[hyper(sequential, input = (Q, R, 4))]
struct Letters {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

#[test]
fn a_letter_is_a_constant_where_there_is_one() {
    assert_eq!(Letters::INPUT_SHAPE.to_string(), "[3, R, 4]");
    assert_eq!(Letters::OUTPUT_SHAPE.to_string(), "[3, R, 2]");
}

#[test]
fn the_steps_with_their_shapes() {
    let network = Branches::network(&()).unwrap();
    let table = "\
input                   [4]
fc1     linear(4, 8)    [8]
relu                    [8]
a       linear(8, 8)    [8]
b       linear(8, 8)    [8]
tanh                    [8]
add                     [8]
fc2     linear(8, 4)    [4]
concat                  [20]
gate    tensor([20])    [20]
mul                     [20]
wide    linear(20, 20)  [20]
relu                    [20]
add                     [20]
more    linear(20, 20)  [20]
";
    assert_eq!(network.to_string(), table);
    let drawing = network.to_mermaid();
    for line in ["n1[\"fc1<br/>linear(4, 8)<br/>[8]\"]", "n2 --> n6", "n3 --> n6", "n5 --> n6"] {
        assert!(drawing.contains(line), "{line} is not in\n{drawing}");
    }
    assert!(Two::<3>::network(&()).unwrap().nodes()[1].name == "context");
}

/// The compiler's limits for constants are far from a hundred steps.
#[derive(HyperTarget)]
#[hyper(sequential = [residual([f0, tanh]), f1, relu, f2, relu, f0, relu, residual([f1, tanh]), f2, relu, f0, relu, f1, relu, residual([f2, tanh]), f0, relu, f1, relu, f2, relu, residual([f0, tanh]), f1, relu, f2, relu, f0, relu, residual([f1, tanh]), f2, relu, f0, relu, f1, relu, residual([f2, tanh]), f0, relu, f1, relu, f2, relu, residual([f0, tanh]), f1, relu, f2, relu, f0, relu, residual([f1, tanh]), f2, relu, f0, relu, f1, relu, residual([f2, tanh]), f0, relu, f1, relu, f2, relu, residual([f0, tanh]), f1, relu, f2, relu, f0, relu, residual([f1, tanh]), f2, relu, f0, relu, f1, relu, residual([f2, tanh]), f0, relu, f1, relu, f2, relu, residual([f0, tanh]), f1, relu, f2, relu, f0, relu, residual([f1, tanh]), f2, relu, f0, relu, f1, relu, residual([f2, tanh]), f0, relu, f1, relu, f2, relu, residual([f0, tanh]), f1, relu, f2, relu, f0, relu, residual([f1, tanh]), f2, relu, f0, relu, f1, relu, residual([f2, tanh]), f0, relu, f1, relu, f2, relu, residual([f0, tanh]), f1, relu, f2, relu, f0, relu, residual([f1, tanh]), f2, relu, f0, relu, f1, relu, residual([f2, tanh]), f0, relu, f1, relu, f2, relu, residual([f0, tanh]), f1, relu, f2, relu, f0, relu, residual([f1, tanh]), f2, relu, f0, relu, f1, relu, residual([f2, tanh]), f0, relu, f1, relu, f2, relu, residual([f0, tanh]), f1, relu, f2, relu, f0, relu, residual([f1, tanh]), f2, relu, f0, relu, f1, relu, residual([f2, tanh]), f0, relu, f1, relu, f2, relu, residual([f0, tanh]), f1, relu, f2, relu, f0, relu, residual([f1, tanh]), f2, relu, f0, relu, f1, relu, residual([f2, tanh]), f0, relu, f1, relu, f2, relu, deep], input = (T, 8))]
struct Long {
    #[hyper(linear(8, 8))]
    f0: Linear,
    #[hyper(linear(8, 8))]
    f1: Linear,
    #[hyper(linear(8, 8))]
    f2: Linear,
    #[hyper([linear(8, 8); 1000])]
    deep: Vec<Linear>,
}

#[test]
fn hundreds_of_steps() -> Result<()> {
    assert_eq!(Long::OUTPUT_SHAPE.to_string(), "[T, 8]");
    assert_eq!(new::<Long>()?.forward(&randn(&[1, 2, 8])?)?.dims(), [1, 2, 8]);
    Ok(())
}

#[derive(Clone)]
struct Sizes {
    width: usize,
    heads: usize,
    inner: usize,
}

/// Sizes at run time: those of a nested target follow from its configuration, and steps with such sizes are fields.
#[derive(HyperTarget)]
#[hyper(
    config = Sizes,
    sequential = [
        residual([norm, attention([q, heads], [k, heads], [v, heads]), merge_heads]),
        residual([mlp]),
    ],
    input = (T, config.width),
)]
struct Configured {
    #[hyper(layer_norm(config.width, 1e-5))]
    norm: LayerNorm,
    #[hyper(linear(config.width, config.width))]
    q: Linear,
    #[hyper(linear(config.width, config.width))]
    k: Linear,
    #[hyper(linear(config.width, config.width))]
    v: Linear,
    #[hyper(value = split_heads(config.heads))]
    heads: SplitHeads,
    #[hyper(target(config))]
    mlp: Mlp,
}

#[derive(HyperTarget)]
#[hyper(config = Sizes, sequential = [up, relu, down])]
struct Mlp {
    #[hyper(linear(config.width, config.inner))]
    up: Linear,
    #[hyper(linear(config.inner, 8))]
    down: Linear,
}

#[test]
fn sizes_at_run_time() -> Result<()> {
    let vars = VarMap::new();
    let vb = || hypernn::nn::VarBuilder::from_varmap(&vars, DType::F32, device());
    let sizes = |width, heads| Sizes { width, heads, inner: 16 };
    let net = Configured::with_config(&sizes(8, 2), vb())?;
    assert_eq!(net.forward(&randn(&[1, 3, 8])?)?.dims(), [1, 3, 8]);
    let network = Configured::network(&sizes(8, 2)).unwrap();
    assert_eq!(network.output_shape().to_string(), "[T, 8]");
    let error = |sizes| {
        let error = Configured::with_config(&sizes, vb()).err().unwrap();
        error.to_string().lines().next().unwrap().to_owned()
    };
    assert_eq!(error(sizes(8, 3)), "`heads`: 3 heads do not divide 8; `q` gives [T, 8]");
    assert_eq!(
        error(sizes(6, 2)),
        "`residual`: `mlp` gives […, 8], but `residual` gives [T, 6]: write 6 in place of 8, or give the skip layers of its own: `skip = […]`"
    );
    Ok(())
}

/// Steps read the configuration that the target keeps: in their arguments, in counts and in options.
#[derive(HyperTarget)]
#[hyper(
    config = Sizes,
    sequential = [
        residual([
            attention(
                [q, split_heads(config.heads)],
                [k, split_heads(config.heads)],
                [v, split_heads(config.heads)],
                scale = 1. / config.heads as f64,
            ),
            merge_heads,
        ]),
        repeat(config.inner, [residual([out, tanh])]),
        reshape([config.heads * 12]),
    ],
    input = (3, config.width),
    output = ([], by_head = [reshape([config.heads, 12])]),
)]
struct Kept {
    #[hyper(linear(config.width, config.width))]
    q: Linear,
    #[hyper(linear(config.width, config.width))]
    k: Linear,
    #[hyper(linear(config.width, config.width))]
    v: Linear,
    #[hyper(linear(config.width, config.width))]
    out: Linear,
    #[hyper(value = std::sync::Arc::new(config.clone()))]
    config: std::sync::Arc<Sizes>,
}

/// The same with numbers.
#[derive(HyperTarget)]
#[hyper(
    sequential = [
        residual([
            attention([q, split_heads(2)], [k, split_heads(2)], [v, split_heads(2)], scale = 0.5),
            merge_heads,
        ]),
        repeat(3, [residual([out, tanh])]),
        reshape([24]),
    ],
    input = (3, 8),
    output = ([], by_head = [reshape([2, 12])]),
)]
struct Numbers {
    #[hyper(linear(8, 8))]
    q: Linear,
    #[hyper(linear(8, 8))]
    k: Linear,
    #[hyper(linear(8, 8))]
    v: Linear,
    #[hyper(linear(8, 8))]
    out: Linear,
}

#[test]
fn steps_read_the_configuration() -> Result<()> {
    let sizes = |heads| Sizes { width: 8, heads, inner: 3 };
    let vb = || seeded::var_builder(&VarMap::new(), 0, DType::F32, device());
    let xs = randn(&[2, 3, 8])?;
    let (ys, by_head) = Kept::with_config(&sizes(2), vb())?.forward(&xs)?;
    let (expected, expected_by_head) = Numbers::new(vb())?.forward(&xs)?;
    assert!(same(&ys, &expected)? && same(&by_head, &expected_by_head)?);
    let network = Kept::network(&sizes(2)).unwrap();
    assert_eq!(network.output_shapes()[1].to_string(), "[2, 12]");
    let error = Kept::with_config(&sizes(3), vb()).err().unwrap().to_string();
    assert!(
        error.starts_with("`split_heads`: 3 heads do not divide 8; `q` gives [3, 8]"),
        "{error}"
    );
    Ok(())
}

hypernetwork! {
    struct HyperKept for Kept {
        config: Sizes,
        embedding: table(20, 8),
        generator: linear,
        mode: static,
    }
}

/// The configuration that is kept serves generated parameters as well.
#[test]
fn steps_read_the_configuration_over_generated_parameters() -> Result<()> {
    let sizes = Sizes { width: 8, heads: 2, inner: 3 };
    let vb = seeded::var_builder(&VarMap::new(), 0, DType::F32, device());
    let (hyper, xs) = (HyperKept::new(&sizes, vb)?, randn(&[2, 3, 8])?);
    let (ys, by_head) = hyper.forward(&xs)?;
    let (expected, expected_by_head) =
        Numbers::functional_forward(&hyper.generate_params()?.flat()?, &xs)?;
    assert!(same(&ys, &expected)? && same(&by_head, &expected_by_head)?);
    Ok(())
}
