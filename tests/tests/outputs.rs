//! Forwards that give several tensors.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Result, Tensor};
use hypernn::flow::{Given, Join, SampleShape};
use hypernn::nn::step::{SplitHeads, split_heads};
use hypernn::nn::{BatchNorm, Conv2d, Linear, Module, ModuleT, VarBuilder, VarMap};
use hypernn::target::{ForwardTarget, Outputs};
use hypernn::{HyperTarget, LayerInfo, ShapedTarget, hypernetwork, seeded};
use hypernn_tests::device;

fn vb(vars: &VarMap) -> VarBuilder<'static> {
    seeded::var_builder(vars, 0, DType::F32, device())
}

fn new<T: HyperTarget<Config = ()>>() -> Result<T> {
    T::new(vb(&VarMap::new()))
}

fn randn(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1., shape, device())
}

/// Whether both have the same shapes and values, bit for bit.
fn same<O: Outputs>(a: &O, b: &O) -> bool {
    let values = |xs: &Tensor| xs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (a, b) = (a.tensors(), b.tensors());
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| a.dims() == b.dims() && values(a) == values(b))
}

/// The encoder of a variational autoencoder.
#[derive(HyperTarget)]
#[hyper(
    sequential = [fc, relu],
    input = 6,
    output = (mean = to_mean, log_variance = [to_log_variance, tanh]),
)]
struct Encoder {
    #[hyper(linear(6, 8))]
    fc: Linear,
    #[hyper(linear(8, 3))]
    to_mean: Linear,
    #[hyper(linear(8, 3))]
    to_log_variance: Linear,
}

impl Encoder {
    fn by_hand(&self, xs: &Tensor) -> Result<(Tensor, Tensor)> {
        let hidden = self.fc.forward(xs)?.relu()?;
        Ok((self.to_mean.forward(&hidden)?, self.to_log_variance.forward(&hidden)?.tanh()?))
    }
}

#[test]
fn two_heads_go_on_from_the_end_of_the_chain() -> Result<()> {
    let (net, xs) = (new::<Encoder>()?, randn(&[2, 6])?);
    assert!(same(&net.forward(&xs)?, &net.by_hand(&xs)?));
    assert_eq!(Encoder::OUTPUT_SHAPES.len(), 2);
    assert!(Encoder::OUTPUT_SHAPE.is(&[3]) && Encoder::OUTPUT_SHAPES[1].is(&[3]));
    Ok(())
}

/// Images of any size: scores and boxes of each cell, and the features of two stages, one of which ends the chain.
#[derive(HyperTarget)]
#[hyper(
    sequential_t = [early = [conv1, norm, relu], late = [conv2, relu]],
    input = (3, H, W),
    output = (early, scores = [classify, sigmoid], boxes = regress, late),
)]
struct Detector {
    #[hyper(conv2d(3, 4, 3, padding = 1))]
    conv1: Conv2d,
    #[hyper(batch_norm(4, 1e-5))]
    norm: BatchNorm,
    #[hyper(conv2d(4, 8, 3, padding = 1))]
    conv2: Conv2d,
    #[hyper(conv2d(8, 5, 1))]
    classify: Conv2d,
    #[hyper(conv2d(8, 4, 1))]
    regress: Conv2d,
}

impl Detector {
    fn by_hand(&self, xs: &Tensor, train: bool) -> Result<(Tensor, Tensor, Tensor, Tensor)> {
        let early = self.norm.forward_t(&self.conv1.forward(xs)?, train)?.relu()?;
        let late = self.conv2.forward(&early)?.relu()?;
        let scores = candle_nn::ops::sigmoid(&self.classify.forward(&late)?)?;
        let boxes = self.regress.forward(&late)?;
        Ok((early, scores, boxes, late))
    }
}

#[test]
fn values_with_names_are_outputs() -> Result<()> {
    let (net, xs) = (new::<Detector>()?, randn(&[2, 3, 6, 5])?);
    for train in [false, true] {
        assert!(same(&net.forward_t(&xs, train)?, &net.by_hand(&xs, train)?));
    }
    let shapes: Vec<_> = Detector::OUTPUT_SHAPES.iter().map(ToString::to_string).collect();
    assert_eq!(shapes, ["[4, H, W]", "[5, H, W]", "[4, H, W]", "[8, H, W]"]);
    Ok(())
}

/// Several inputs, of which one is given back, and the end of the chain.
#[derive(HyperTarget)]
#[hyper(
    sequential = [fc, add([context, project])],
    input = (x: (T, 4), context: (T, 6)),
    output = ([], context, [context, project, tanh]),
)]
struct Both {
    #[hyper(linear(4, 8))]
    fc: Linear,
    #[hyper(linear(6, 8))]
    project: Linear,
}

#[test]
fn several_inputs_and_outputs() -> Result<()> {
    let (net, xs, context) = (new::<Both>()?, randn(&[2, 3, 4])?, randn(&[2, 3, 6])?);
    let projected = net.project.forward(&context)?;
    // The operands in their order: what the block gives behind the current value.
    let sum = (net.fc.forward(&xs)? + &projected)?;
    let by_hand = (sum, context.clone(), projected.tanh()?);
    assert!(same(&net.forward(&xs, &context)?, &by_hand));
    let shapes: Vec<_> = Both::OUTPUT_SHAPES.iter().map(ToString::to_string).collect();
    assert_eq!(shapes, ["[T, 8]", "[T, 6]", "[T, 8]"]);
    Ok(())
}

#[test]
fn outputs_are_drawn() {
    let network = Both::network(&()).unwrap();
    let table = "\
x                      [T, 4]
context                [T, 6]
fc       linear(4, 8)  [T, 8]
project  linear(6, 8)  [T, 8]
add                    [T, 8]
project  linear(6, 8)  [T, 8]
tanh                   [T, 8]
0        output        [T, 8]
context  output        [T, 6]
2        output        [T, 8]
";
    assert_eq!(network.to_string(), table);
    assert!(
        network.to_mermaid().contains("n4 --> n7") && network.to_mermaid().contains("n1 --> n8")
    );
    assert_eq!(network.output_shapes().len(), 3);
}

hypernetwork! {
    struct Static for Encoder {
        embedding: table(9, 4),
        generator: linear,
        mode: static,
    }

    struct Tasks for Encoder {
        embedding: tasks(3, 9, 4),
        generator: linear,
        mode: dynamic,
    }

    /// The input is its own condition.
    struct Own for Encoder {
        embedding: encoder(6, [5], tanh, 9, 4),
        generator: linear,
        mode: dynamic,
    }

    struct OfDetector for Detector {
        embedding: tasks(2, 20, 4),
        generator: linear,
        mode: dynamic,
    }
}

#[test]
fn a_static_hypernetwork_gives_them_all() -> Result<()> {
    let (hyper, xs) = (Static::new(vb(&VarMap::new()))?, randn(&[2, 6])?);
    let by_hand = hyper.target()?.by_hand(&xs)?;
    assert!(same(&hyper.forward(&xs)?, &by_hand));
    assert!(same(&hyper.forward_t(&xs, true)?, &by_hand));
    assert!(same(&hyper.forward_aux(&xs)?.0, &by_hand));
    let flat = hyper.target()?.pack()?;
    assert!(same(&Encoder::functional_forward(&flat, &xs)?, &by_hand));
    assert!(same(&Encoder::functional_forward_t(&flat, &xs, true)?, &by_hand));
    Ok(())
}

/// Every output of a set is that of the set by itself.
#[test]
fn several_weight_sets() -> Result<()> {
    let (hyper, xs) = (Tasks::new(vb(&VarMap::new()))?, randn(&[6, 6])?);
    let params = hyper.generate_params(&Tensor::new(&[2u32, 0, 1], device())?)?;
    let (means, log_variances) = params.forward(&xs)?;
    for set in 0..3 {
        let xs = xs.narrow(0, 2 * set, 2)?;
        let (mean, log_variance) = params.set(set)?.forward(&xs)?;
        for (all, alone) in [(&means, mean), (&log_variances, log_variance)] {
            let difference = (all.narrow(0, 2 * set, 2)? - alone)?.abs()?.max_all()?;
            assert!(difference.to_scalar::<f32>()? < 1e-6);
        }
    }
    let (early, scores, boxes, late) = OfDetector::new(vb(&VarMap::new()))?
        .generate_params(&Tensor::new(&[0u32, 1], device())?)?
        .forward_t(&randn(&[4, 3, 6, 5])?, true)?;
    assert_eq!((early.dims(), scores.dims()), (&[4, 4, 6, 5][..], &[4, 5, 6, 5][..]));
    assert_eq!((boxes.dims(), late.dims()), (&[4, 4, 6, 5][..], &[4, 8, 6, 5][..]));
    Ok(())
}

/// Layers that take one set of weights at a time: the outputs of each are joined.
struct OneSet {
    fc: candle_nn::Linear,
}

impl hypernn::Parameters for OneSet {
    fn visit(&self, visitor: &mut hypernn::target::layer::Visitor<'_>) -> Result<()> {
        self.fc.visit(visitor)
    }
}

impl HyperTarget for OneSet {
    type Config = ();

    const NAME: &'static str = "OneSet";

    fn build(_: &(), source: &mut dyn hypernn::target::source::ParamSource) -> Result<Self> {
        let spec = hypernn::nn::spec::linear(2, 2);
        Ok(Self { fc: <candle_nn::Linear as hypernn::HyperLayer<_>>::build(&spec, source)? })
    }
}

/// By hand.
impl ForwardTarget for OneSet {
    type Output = (Tensor, Tensor);

    fn outputs(&self, xs: &Tensor) -> Result<Self::Output> {
        let ys = self.fc.forward(xs)?;
        Ok((ys.relu()?, ys.neg()?))
    }
}

#[test]
fn one_set_after_the_other() -> Result<()> {
    let flat = Tensor::new(&[[1f32, 0., 0., 1., 0., 0.], [0., 1., 1., 0., 5., 0.]], device())?;
    let xs = Tensor::new(&[[1f32, 2.], [3., 4.]], device())?;
    let (relu, negative) = OneSet::functional_forward(&flat, &xs)?;
    assert_eq!(relu.to_vec2::<f32>()?, [[1., 2.], [9., 3.]]);
    assert_eq!(negative.to_vec2::<f32>()?, [[-1., -2.], [-9., -3.]]);
    Ok(())
}

#[test]
fn an_input_that_is_its_own_condition() -> Result<()> {
    let (hyper, xs) = (Own::new(vb(&VarMap::new()))?, randn(&[2, 3, 6])?);
    let state = hyper.zero_state(2)?;
    let ((means, log_variances), _) = hyper.run(&xs, &state)?;
    assert_eq!((means.dims(), log_variances.dims()), (&[2, 3, 3][..], &[2, 3, 3][..]));
    let first = xs.narrow(1, 0, 1)?.squeeze(1)?;
    let ((mean, log_variance), _) = hyper.step(&first, &state)?;
    let of_first = |xs: &Tensor| xs.narrow(1, 0, 1).unwrap().squeeze(1).unwrap();
    assert!(same(&(of_first(&means), of_first(&log_variances)), &(mean, log_variance)));
    let outputs = hyper.forward(&first)?;
    assert!(same(&outputs, &hyper.forward_aux(&first)?.0));
    assert!(same(&outputs, &hyper.forward_t(&first, true)?));
    Ok(())
}

#[derive(Clone)]
struct Sizes {
    width: usize,
    heads: usize,
}

/// Sizes at run time.
#[derive(HyperTarget)]
#[hyper(
    config = Sizes,
    sequential = [fc, relu],
    input = (T, config.width),
    output = (hidden = [], heads = [split]),
)]
struct Configured {
    #[hyper(linear(config.width, 8))]
    fc: Linear,
    #[hyper(value = split_heads(config.heads))]
    split: SplitHeads,
}

#[test]
fn sizes_at_run_time() -> Result<()> {
    let sizes = |heads| Sizes { width: 4, heads };
    let net = Configured::with_config(&sizes(2), vb(&VarMap::new()))?;
    let (hidden, heads) = net.forward(&randn(&[1, 3, 4])?)?;
    assert_eq!((hidden.dims(), heads.dims()), (&[1, 3, 8][..], &[1, 2, 3, 4][..]));
    let network = Configured::network(&sizes(2)).unwrap();
    let shapes: Vec<_> = network.output_shapes().iter().map(ToString::to_string).collect();
    assert_eq!(shapes, ["[T, 8]", "[2, T, 4]"]);
    let error = Configured::with_config(&sizes(3), vb(&VarMap::new())).err().unwrap();
    assert!(error.to_string().starts_with("`split`: 3 heads do not divide 8; `fc` gives [T, 8]"));
    Ok(())
}

/// Two values out of a block that takes them together, and a generic one.
#[derive(HyperTarget)]
#[hyper(sequential = [first], output = (second, plain = []))]
struct Generic<T> {
    first: T,
    #[hyper(tensor([2]))]
    second: Tensor,
}

#[derive(HyperTarget)]
#[hyper(sequential, input = (T, 3))]
struct Inner {
    #[hyper(linear(3, 5))]
    fc: Linear,
}

#[test]
fn generic_targets_and_tensors() -> Result<()> {
    let (second, plain) = new::<Generic<Inner>>()?.forward(&randn(&[4, 2, 3])?)?;
    assert_eq!((second.dims(), plain.dims()), (&[4, 2][..], &[4, 2, 5][..]));
    let shapes: Vec<_> = Generic::<Inner>::OUTPUT_SHAPES.iter().map(ToString::to_string).collect();
    // Nothing is known of what a type parameter stands for.
    assert_eq!(shapes, ["[2]", "[…]"]);
    Ok(())
}

/// A target with several outputs in another: each has a name, and the chain goes on from the first.
#[derive(HyperTarget)]
#[hyper(
    sequential = [(mean, log_variance) = encoder, join(self::Sample, log_variance), decode],
    input = (T, 6),
    output = (pixels = [], mean, log_variance),
)]
struct Autoencoder {
    encoder: Rows,
    #[hyper(linear(3, 6))]
    decode: Linear,
}

/// An encoder of rows.
#[derive(HyperTarget)]
#[hyper(
    sequential = [fc, relu],
    input = (N, 6),
    output = (mean = to_mean, log_variance = to_log_variance),
)]
struct Rows {
    #[hyper(linear(6, 8))]
    fc: Linear,
    #[hyper(linear(8, 3))]
    to_mean: Linear,
    #[hyper(linear(8, 3))]
    to_log_variance: Linear,
}

/// The mean and a deviation: a sample of which the noise is 1.
struct Sample;

impl Sample {
    const fn info(&self) -> LayerInfo {
        LayerInfo::new("sample")
    }

    const fn gives(&self, inputs: &[SampleShape]) -> Given {
        Given::Shape(inputs[0])
    }
}

impl Join for Sample {
    fn join(&self, xs: &[&Tensor]) -> Result<Tensor> {
        xs[0] + (xs[1] * 0.5)?.exp()?
    }
}

/// In training, in a block, with an output that nobody needs.
#[derive(HyperTarget)]
#[hyper(sequential_t = [residual([(_, boxes) = detect, relu, mul([boxes, relu, widen])])], input = (4, H, W))]
struct Nested<T> {
    detect: T,
    #[hyper(conv2d(8, 4, 1))]
    widen: Conv2d,
}

#[derive(HyperTarget)]
#[hyper(
    sequential_t = [features = [conv1, norm, relu]],
    input = (4, H, W),
    output = (features, late = conv2),
)]
struct Stages {
    #[hyper(conv2d(4, 4, 3, padding = 1))]
    conv1: Conv2d,
    #[hyper(batch_norm(4, 1e-5))]
    norm: BatchNorm,
    #[hyper(conv2d(4, 8, 3, padding = 1))]
    conv2: Conv2d,
}

#[test]
fn a_target_with_several_outputs_in_another() -> Result<()> {
    let (net, xs) = (new::<Autoencoder>()?, randn(&[2, 5, 6])?);
    let hidden = net.encoder.fc.forward(&xs)?.relu()?;
    let mean = net.encoder.to_mean.forward(&hidden)?;
    let log_variance = net.encoder.to_log_variance.forward(&hidden)?;
    let pixels = net.decode.forward(&(&mean + (&log_variance * 0.5)?.exp()?)?)?;
    assert!(same(&net.forward(&xs)?, &(pixels, mean, log_variance)));
    let shapes: Vec<_> = Autoencoder::OUTPUT_SHAPES.iter().map(ToString::to_string).collect();
    assert_eq!(shapes, ["[T, 6]", "[T, 3]", "[T, 3]"]);

    let (net, xs) = (new::<Nested<Stages>>()?, randn(&[2, 4, 5, 5])?);
    let (features, late) = net.detect.forward_t(&xs, false)?;
    let ys = ((features.relu()? * net.widen.forward(&late.relu()?)?)? + &xs)?;
    assert!(same(&net.forward_t(&xs, false)?, &ys));
    Ok(())
}

/// By hand, another number of values than the chain has names for.
#[derive(HyperTarget)]
#[hyper(sequential = [(a, b, c) = two, add(b, c)])]
struct Three {
    two: OneSet,
}

#[test]
fn another_number_of_outputs_than_names() -> Result<()> {
    let error = new::<Three>()?.forward(&randn(&[1, 2])?).err().unwrap().to_string();
    assert!(error.starts_with("`two` gives 2 values, expected 3"), "{error}");
    Ok(())
}

/// Sizes at run time, in another target.
#[derive(HyperTarget)]
#[hyper(
    config = Sizes,
    sequential = [(hidden, heads) = inner, widen, add(hidden)],
    input = (T, config.width),
    output = ([], heads),
)]
struct OfConfigured {
    #[hyper(target(config))]
    inner: Configured,
    #[hyper(linear(8, 8))]
    widen: Linear,
}

#[test]
fn sizes_at_run_time_in_another_target() -> Result<()> {
    let sizes = Sizes { width: 4, heads: 2 };
    let net = OfConfigured::with_config(&sizes, vb(&VarMap::new()))?;
    let (ys, heads) = net.forward(&randn(&[1, 3, 4])?)?;
    assert_eq!((ys.dims(), heads.dims()), (&[1, 3, 8][..], &[1, 2, 3, 4][..]));
    let network = OfConfigured::network(&sizes).unwrap();
    let shapes: Vec<_> = network.output_shapes().iter().map(ToString::to_string).collect();
    assert_eq!(shapes, ["[T, 8]", "[2, T, 4]"]);
    Ok(())
}
