//! Sizes that are known at run time alone: whatever they are, an error with the number, never a panic or
//! an abort.

#![allow(missing_docs)]

use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::{
    Conv1dConfig, Conv2dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig, VarBuilder, VarMap,
};
use hypernn::check::MOST_VALUES;
use hypernn::embedding::spec as embedding;
use hypernn::embedding::spec::{cos_sin, tanh};
use hypernn::flow::{Given, SampleShape};
use hypernn::generated::TargetPlan;
use hypernn::generator::{GeneratorShape, spec as generator};
use hypernn::nn::{self, Linear, spec};
use hypernn::target::adapter::AdapterSize;
use hypernn::target::tensor::tensor;
use hypernn::{ChunkPlan, HyperTarget, LayerInfo, hypernetwork};
use hypernn_tests::{input, message, values, variables, weighted_sum};
use proptest::prelude::*;

/// Small sizes, powers of two, those about the largest, and any other.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        0usize..5,
        (0u32..64).prop_map(|power| 1 << power),
        (0usize..4).prop_map(|less| usize::MAX - less),
        any::<usize>(),
    ]
}

/// What counts of more values than memory holds are cut to.
const MOST: usize = MOST_VALUES + 1;

/// All that a spec says of its sizes, none of which panics; what it counts is cut where it is too large.
macro_rules! ask {
    ($spec:expr, $shapes:expr) => {{
        let spec = $spec;
        let info: LayerInfo = spec.info();
        let (problem, count) = (info.problem, info.num_params);
        prop_assert!(info.num_weights <= count);
        prop_assert!(count <= MOST);
        if problem.is_none() {
            prop_assert!(info.num_weights <= MOST_VALUES);
        }
        for shape in $shapes {
            let given: Given = spec.gives(shape);
            let met = info.takes.meet(shape);
            let written = format!("{given:?} {met:?}");
            prop_assert!(!written.is_empty());
        }
    }};
}

fn shapes(a: usize, b: usize, c: usize) -> [SampleShape; 5] {
    [
        SampleShape::ANY,
        SampleShape::new(&[a, b, c]),
        SampleShape::new(&[a, b]),
        SampleShape::last(a),
        SampleShape::of(&[Some(a), None, Some(b)]),
    ]
}

fn shape_of(plan: ChunkPlan, n: usize, e: usize) -> GeneratorShape {
    GeneratorShape { num_embeddings: n, embedding_dim: e, plan }
}

fn layers(s: &[usize; 8]) -> std::result::Result<(), TestCaseError> {
    let [a, b, c, stride, padding, dilation, groups, rank] = *s;
    let shapes = &shapes(a, b, c);
    ask!(spec::linear(a, b), shapes);
    ask!(spec::linear_no_bias(a, b), shapes);
    let conv = spec::conv1d(a, b, c).stride(stride).padding(padding);
    ask!(conv.dilation(dilation).groups(groups), shapes);
    let conv = spec::conv2d(a, b, c).stride(stride).padding(padding);
    ask!(conv.dilation(dilation).groups(groups), shapes);
    let conv = spec::conv_transpose1d(a, b, c).stride(stride).padding(padding);
    ask!(conv.dilation(dilation).groups(groups).output_padding(rank), shapes);
    let conv = spec::conv_transpose2d(a, b, c).stride(stride).padding(padding);
    ask!(conv.dilation(dilation).output_padding(rank), shapes);
    ask!(spec::embedding(a, b), shapes);
    ask!(spec::layer_norm(a), shapes);
    ask!(spec::rms_norm(a, 1e-5), shapes);
    ask!(spec::batch_norm(a), shapes);
    ask!(spec::prelu(Some(a)), shapes);
    ask!(spec::lstm(a, b), shapes);
    ask!(spec::gru(a, b), shapes);
    if a > 0 {
        ask!(spec::group_norm(a, b, 1e-5), shapes);
    }
    let adapters: [AdapterSize; 6] = [
        spec::linear(a, b).info().adapter(rank),
        spec::conv2d(a, b, c).groups(groups).info().adapter(rank),
        spec::embedding(a, b).info().adapter(rank),
        spec::lstm(a, b).info().adapter(rank),
        spec::gru(a, b).info().adapter(rank),
        tensor([a, b, c]).info().adapter(rank),
    ];
    for adapter in adapters {
        let problem = adapter.check();
        prop_assert!(adapter.num_params() <= MOST, "{problem:?}");
    }
    let of_tensor = tensor([a, b, c]);
    prop_assert!(of_tensor.info().num_params < MOST || of_tensor.info().problem.is_some());
    let ten = SampleShape::new(&[a, b, c, stride, padding, dilation, groups, rank, a, b]);
    prop_assert!(ten.num_values().is_none());
    Ok(())
}

fn parts(s: &[usize; 8]) -> std::result::Result<(), TestCaseError> {
    let [params, n, e, width, hidden, tasks, offset, len] = *s;
    macro_rules! embedding {
        ($($spec:expr),*) => { $(prop_assert!($spec.info().num_params < MOST || $spec.info().problem.is_some());)* };
    }
    embedding!(
        embedding::table(n, e),
        embedding::tasks(tasks, n, e),
        embedding::rnn(width, n, e),
        embedding::gru(width, n, e).encoding(cos_sin),
        embedding::lstm(width, n, e),
        embedding::encoder(width, [hidden, tasks], tanh, n, e),
        embedding::encoder(width, [hidden], tanh, n, e).encoding(cos_sin),
        embedding::perceiver(width, n, e, hidden, tasks),
        embedding::perceiver(width, n, e, hidden, 1).positions(embedding::rotary),
        embedding::transformer(width, n, e, hidden, 1),
        embedding::transformer(width, n, e, hidden, tasks).positions(embedding::unordered),
        embedding::pooled(width, [hidden, tasks], tanh, n, e),
        embedding::pooled(width, [hidden], tanh, n, e).encoding(cos_sin)
    );
    let plan = ChunkPlan::new(params, n);
    let rows = plan.rows_of(offset, len);
    prop_assert!(plan.check().is_some() || rows.start <= rows.end, "{rows:?}");
    prop_assert!(plan.surplus() <= plan.num_values());
    macro_rules! generator {
        ($($spec:expr),*) => { $({
            let spec = $spec;
            let shape = GeneratorShape::new(n, e, params);
            let info = spec.info(shape);
            let shape = shape_of(info.plan, n, e);
            let problem = info.problem.or(shape.check());
            prop_assert!(info.num_params <= MOST, "{problem:?}");
        })* };
    }
    generator!(
        generator::linear,
        generator::heads,
        generator::low_rank(hidden),
        generator::mlp([hidden, tasks], tanh),
        generator::per_module(width, [hidden, tasks], tanh),
        generator::per_module(width, [hidden], tanh).conditioned(width),
        generator::linear.conditioned(width),
        generator::heads.conditioned(width).encoding(cos_sin),
        generator::low_rank(hidden).conditioned(width),
        generator::mlp([hidden], tanh).conditioned(width).encoding(cos_sin)
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn specs_of_layers_count_without_overflow(sizes in prop::array::uniform8(size())) {
        layers(&sizes)?;
    }

    #[test]
    fn specs_of_parts_count_without_overflow(sizes in prop::array::uniform8(size())) {
        parts(&sizes)?;
    }
}

fn empty() -> VarBuilder<'static> {
    VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu)
}

const HUGE: usize = 1 << 40;
const REFUSED: &str = "which the system refuses";

/// candle's constructors, for an ordinary network.
#[test]
fn ordinary_layers() {
    let more = |message: String, parts: &str| {
        let expected = format!("{parts} values are more than any memory holds");
        assert_eq!(message, expected);
    };
    let max = usize::MAX;
    more(message(nn::linear(max, 2, empty())), &format!("linear: {max} × 2"));
    more(message(nn::embedding(HUGE, HUGE, empty())), &format!("embedding: {HUGE} × {HUGE}"));
    let conv = nn::conv2d(4, 4, HUGE, Conv2dConfig::default(), empty());
    more(message(conv), &format!("conv2d: 4 × 4 × {HUGE} × {HUGE}"));
    let conv = nn::conv1d(max, 1, 1, Conv1dConfig::default(), empty());
    more(message(conv), &format!("conv1d: 1 × {max} × 1"));
    let conv = nn::conv_transpose1d(1, max, 1, ConvTranspose1dConfig::default(), empty());
    more(message(conv), &format!("conv_transpose1d: 1 × {max} × 1"));
    let conv = nn::conv_transpose2d(1, 1, max, ConvTranspose2dConfig::default(), empty());
    more(message(conv), &format!("conv_transpose2d: 1 × 1 × {max} × {max}"));
    more(message(nn::layer_norm(max, 1e-5, empty())), &format!("layer_norm: {max}"));
    more(message(nn::rms_norm(max, 1e-5, empty())), &format!("rms_norm: {max}"));
    more(message(nn::batch_norm(max, 1e-5, empty())), &format!("batch_norm: {max}"));
    more(message(nn::group_norm(1, max, 1e-5, empty())), &format!("group_norm: {max}"));
    more(message(nn::prelu(Some(max), empty())), &format!("prelu: {max}"));
    let lstm = nn::lstm(1, HUGE, Default::default(), empty());
    more(message(lstm), &format!("lstm: 4 × {HUGE} × {HUGE}"));
    more(message(nn::gru(max, 1, Default::default(), empty())), &format!("gru: 3 × 1 × {max}"));
}

/// What a machine could count but has no room for.
#[test]
fn memory_that_the_system_refuses() {
    let found = message(nn::linear(1 << 24, 1 << 28, empty()));
    let bytes = 4usize << 52;
    let expected = format!(
        "variable `weight` of shape [268435456, 16777216] in F32 takes {bytes} bytes, {REFUSED}"
    );
    assert_eq!(found, expected);
    for found in [
        message(nn::layer_norm(1 << 52, 1e-5, empty())),
        message(nn::embedding(1 << 26, 1 << 26, empty())),
        message(nn::lstm(1, 1 << 25, Default::default(), empty())),
    ] {
        assert!(found.ends_with(REFUSED), "{found}");
    }
    let (_vars, vb) = variables(0, DType::F32);
    let gru = nn::gru(1, 2, Default::default(), vb);
    for (batch, expected) in [(1 << 52, REFUSED), (usize::MAX, "larger than any memory")] {
        let state = gru.as_ref().map(|gru| message(nn::RNN::zero_state(gru, batch)));
        assert!(state.is_ok_and(|state| state.ends_with(expected)));
    }
}

/// Inputs are small, margins are not.
#[test]
fn convolutions_of_huge_margins() -> Result<()> {
    let xs = Tensor::ones((1, 1, 3), DType::F32, &Device::Cpu)?;
    let weight = Tensor::ones((1, 1, 2), DType::F32, &Device::Cpu)?;
    let conv = |padding, dilation, stride| {
        let config = Conv1dConfig { padding, dilation, stride, ..Default::default() };
        message(nn::Conv1d::new(weight.clone(), None, config).forward(&xs))
    };
    let found = conv(1 << 50, 1, 1);
    let expected = format!("takes {} bytes, {REFUSED}", 4 * ((1usize << 51) + 3));
    assert!(found.starts_with("conv1d: an image between its zeros of shape [1, 1, "), "{found}");
    assert!(found.ends_with(&expected), "{found}");
    // A kernel as wide as the margins leaves a small output.
    assert!(conv(1 << 50, 1 << 50, 1).ends_with(REFUSED));
    let max = usize::MAX;
    let expected =
        format!("conv1d: padding {max} on both sides of 3 pixels is more than any memory holds");
    assert_eq!(conv(max, 1, 1), expected);
    assert!(conv(0, max, 1).starts_with("conv1d: the kernel spans "));
    let stride = max / 2;
    let config = ConvTranspose1dConfig { stride, ..Default::default() };
    let found = message(nn::ConvTranspose1d::new(weight.clone(), None, config).forward(&xs));
    let expected = format!(
        "conv_transpose1d: the output of 3 steps with stride {stride}, dilation 1 and output padding 0 \
         is larger than any memory"
    );
    assert_eq!(found, expected);
    let config = ConvTranspose1dConfig { stride: 1 << 50, ..Default::default() };
    let found = message(nn::ConvTranspose1d::new(weight, None, config).forward(&xs));
    assert!(found.ends_with(REFUSED), "{found}");
    Ok(())
}

/// A single window has no stride, and a single tap no dilation, whatever is said of them: outputs and
/// gradients are those of a stride and a dilation of 1.
#[test]
fn convolutions_of_one_window_or_tap() -> Result<()> {
    let of = |taps: usize, pixels: usize, (stride, dilation), transposed: bool| {
        let images = Var::from_tensor(&input(&[2, 3, pixels, pixels], 1, DType::F64)?)?;
        let weight = Var::from_tensor(&input(&[3, 3, taps, taps], 2, DType::F64)?)?;
        let kernel = weight.as_tensor().clone();
        let ys = if transposed {
            let config = ConvTranspose2dConfig { stride, dilation, ..Default::default() };
            nn::ConvTranspose2d::new(kernel, None, config).forward(&images)?
        } else {
            let config = Conv2dConfig { stride, dilation, ..Default::default() };
            nn::Conv2d::new(kernel, None, config).forward(&images)?
        };
        let grads = weighted_sum(&ys)?.backward()?;
        let grad = |var: &Var| grads.get(var).map(values).transpose();
        Ok::<_, candle_core::Error>((values(&ys)?, grad(&images)?, grad(&weight)?))
    };
    for huge in [1 << 31, HUGE, usize::MAX / 2, usize::MAX] {
        assert_eq!(of(4, 4, (huge, 1), false)?, of(4, 4, (1, 1), false)?, "stride {huge}");
        assert_eq!(of(1, 4, (1, huge), false)?, of(1, 4, (1, 1), false)?, "dilation {huge}");
        assert_eq!(of(4, 1, (huge, 1), true)?, of(4, 1, (1, 1), true)?, "stride {huge}");
        assert_eq!(of(1, 4, (1, huge), true)?, of(1, 4, (1, 1), true)?, "dilation {huge}");
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Sizes {
    inputs: usize,
    outputs: usize,
    layers: usize,
}

#[derive(HyperTarget)]
#[hyper(config = Sizes)]
struct Net {
    #[hyper([linear(config.inputs, config.outputs); config.layers])]
    layers: Vec<Linear>,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs))
    }
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(1, 2), generator: linear, mode: static, config: Sizes }
}

hypernetwork! {
    struct Heads for Net { embedding: table(3, 64), generator: heads, mode: static, config: Sizes }
}

hypernetwork! {
    struct Tasks for Net {
        embedding: tasks(2, 1, 2), generator: linear, mode: dynamic, config: Sizes,
    }
}

const fn sizes(inputs: usize, outputs: usize, layers: usize) -> Sizes {
    Sizes { inputs, outputs, layers }
}

#[test]
fn targets_of_huge_sizes() {
    let max = usize::MAX;
    let of = |sizes| message(HyperNet::new(&sizes, empty()));
    let expected = format!("linear: {max} × 2 values are more than any memory holds");
    assert_eq!(of(sizes(max, 2, 1)), expected);
    assert_eq!(message(Net::with_config(&sizes(max, 2, 1), empty())), expected);
    assert_eq!(
        of(sizes(1 << 30, 1 << 29, 3)),
        format!(
            "`layers.1.weight` of shape [536870912, 1073741824] comes after {} other parameters: \
             together they are more values than any memory holds",
            (1usize << 59) + (1 << 29)
        )
    );
    assert_eq!(of(sizes(2, 2, max)), format!("a list of {max} layers is larger than any memory"));
    assert!(of(sizes(2, 2, 1 << 52)).starts_with("a list of"));
    // The layout is fine, the generator's weight is not.
    let found = of(sizes(1 << 24, 1 << 26, 1));
    assert!(found.starts_with("variable `generator.weight` of shape ["), "{found}");
    assert!(found.ends_with(REFUSED), "{found}");
    let found = message(Heads::new(&sizes(1 << 28, 1 << 28, 1), empty()));
    assert!(found.starts_with("heads: 3 × 64 × 7205759"), "{found}");
}

hypernetwork! {
    struct OfCandle for candle_nn::Linear {
        target: constructor, embedding: table(5, 2), generator: linear, mode: static,
    }
}

/// A constructor's sizes are seen when it asks for its tensors.
#[test]
fn constructors_that_ask_for_huge_tensors() {
    let found = message(OfCandle::new(empty(), |vb| candle_nn::linear(HUGE, HUGE, vb)));
    let expected =
        format!("parameter `weight`: {HUGE} × {HUGE} values are more than any memory holds");
    assert_eq!(found, expected);
}

hypernetwork! {
    struct Wide for Net {
        embedding: rnn(1, 2, 1), generator: linear, mode: dynamic, config: Sizes,
    }
}

/// A million sets of 67 million parameters are 281 terabytes, which is known before any is generated.
#[test]
fn generated_sets_that_memory_does_not_hold() -> Result<()> {
    let (rows, vb) = (1usize << 20, VarBuilder::zeros(DType::F32, &Device::Cpu));
    let hyper = Wide::new(&sizes(8192, 8192, 1), vb)?;
    let condition = Tensor::zeros((rows, 1), DType::F32, &Device::Cpu)?;
    let values = 8192 * 8192 + 8192;
    assert_eq!(
        message(hyper.generate_params(&condition)),
        format!(
            "what Wide generates, of shape [{rows}, {values}] in F32 takes {} bytes, {REFUSED}",
            4 * rows * values
        )
    );
    Ok(())
}

#[derive(HyperTarget)]
#[hyper(config = [usize; 2])]
struct Bent {
    #[hyper(linear(2, 4))]
    fc: Linear,
    #[hyper(value = *config)]
    sizes: [usize; 2],
}

impl Module for Bent {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        nn::step::reshape(self.sizes).forward(&self.fc.forward(xs)?)
    }
}

/// candle counts the values of a shape without a look at the largest number.
#[test]
fn reshaping_to_huge_sizes() -> Result<()> {
    let max = usize::MAX;
    let found =
        nn::step::reshape([max, 2]).info().problem.map(|problem| problem.message().to_owned());
    let expected = format!("reshape: {max} × 2 values are more than any memory holds");
    assert_eq!(found.as_deref(), Some(&*expected));
    let xs = Tensor::ones((3, 2), DType::F32, &Device::Cpu)?;
    let of = |sizes| -> Result<String> {
        let net = Bent::with_config(&sizes, variables(0, DType::F32).1)?;
        Ok(message(net.forward(&xs)))
    };
    for sizes in [[max, 2], [max, 0], [0, max], [max, 1]] {
        let expected = format!("reshape: 3 × {max}");
        assert!(of(sizes)?.starts_with(&expected), "{sizes:?}");
    }
    assert_eq!(Bent::with_config(&[2, 2], variables(0, DType::F32).1)?.forward(&xs)?.rank(), 3);
    Ok(())
}

/// Running statistics are made when the layout is recorded, before any variable is.
#[test]
fn running_statistics_that_memory_does_not_hold() {
    #[derive(HyperTarget)]
    #[hyper(config = usize)]
    struct Normed {
        #[hyper(batch_norm(*config))]
        norm: nn::BatchNorm,
    }

    let found = message(TargetPlan::<Normed>::new(&(1 << 52)));
    assert!(
        found.starts_with("batch_norm: its running statistics of shape [2, 4503599627370496]"),
        "{found}"
    );
    assert!(found.ends_with(REFUSED), "{found}");
}

#[test]
fn tasks_and_sets_of_huge_numbers() -> Result<()> {
    let (_vars, vb) = variables(0, DType::F32);
    let mut hyper = Tasks::new(&sizes(2, 2, 1), vb.clone())?;
    let max = usize::MAX;
    let found = message(hyper.add_tasks(max, vb.clone()));
    assert_eq!(
        found,
        format!("the table of {max} tasks of shape [{max}, 1, 2] in F32 is larger than any memory")
    );
    assert!(message(hyper.add_tasks(1 << 52, vb)).ends_with(REFUSED));
    Ok(())
}
