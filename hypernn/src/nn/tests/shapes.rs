//! What a spec says that its layer gives is what the layer gives, and what it does not take is an
//! error of the layer too.

use candle_core::{DType, Module, ModuleT, Result, Tensor};

use super::super::testing::device;
use super::super::*;
use crate::flow::{Given, Join, SampleShape};
use crate::structure::layer::HyperLayer;

/// The shape of one sample of `[2, sizes…]` behind a layer.
fn given(sizes: &[usize], forward: impl Fn(&Tensor) -> Result<Tensor>) -> Option<Vec<usize>> {
    let dims: Vec<_> = std::iter::once(2).chain(sizes.iter().copied()).collect();
    let xs = Tensor::zeros(dims, DType::F32, device()).unwrap();
    forward(&xs).ok().map(|ys| ys.dims()[1..].to_vec())
}

/// `takes` and `gives` of a spec or step for a sample of these sizes.
macro_rules! said {
    ($spec:expr, $sizes:expr) => {{
        let met = SampleShape::new($sizes).meet(&$spec.info().takes);
        met.and_then(|met| match $spec.gives(&met) {
            Given::Shape(shape) => Some(shape),
            Given::Problem(_) | Given::Misfit { .. } => None,
        })
    }};
}

/// Asserts both to agree for inputs of these sizes, among which some fit.
macro_rules! agrees {
    ($spec:expr, $type:ident, [$($sizes:expr),+]) => {{
        let spec = $spec;
        let vb = VarBuilder::zeros(DType::F32, device());
        let mut source = crate::structure::source::VarBuilderSource::new(vb);
        let layer = <$type as HyperLayer<_>>::build(&spec, &mut source).unwrap();
        agrees!(@ spec, |xs| layer.forward_t(xs, false), [$($sizes),+]);
    }};
    (@ $spec:expr, $forward:expr, [$($sizes:expr),+]) => {{
        let mut fits = 0;
        $(
            let (said, found) = (said!($spec, &$sizes), given(&$sizes, $forward));
            fits += usize::from(found.is_some());
            let said = said.map(|shape| shape.to_string());
            assert_eq!(said, found.map(|sizes| format!("{sizes:?}")), "{:?}", $sizes);
        )+
        assert!(fits > 0, "nothing fits");
    }};
}

#[test]
fn of_layers() {
    agrees!(spec::linear(4, 6), Linear, [[4], [3, 4], [2, 3, 4], [5], [4, 5]]);
    agrees!(spec::layer_norm(4), LayerNorm, [[4], [3, 4], [5], [4, 5]]);
    agrees!(spec::rms_norm(4, 1e-5), RmsNorm, [[4], [3, 4], [5], [4, 5]]);
    agrees!(spec::group_norm(2, 4, 1e-5), GroupNorm, [[4, 3], [4, 3, 5], [4], [3, 4]]);
    agrees!(spec::batch_norm(4), BatchNorm, [[4], [4, 3], [4, 3, 5], [5], [3, 4]]);
    agrees!(spec::prelu(Some(4)), PReLU, [[4], [4, 3], [5], [3, 4]]);
    agrees!(spec::prelu(None), PReLU, [[4], [4, 3], [5, 2, 1]]);
}

#[test]
fn of_an_embedding() {
    let (spec, ids) = (spec::embedding(4, 6), |xs: &Tensor| {
        let vb = VarBuilder::zeros(DType::F32, device());
        embedding(4, 6, vb)?.forward(&xs.to_dtype(DType::U32)?)
    });
    agrees!(@ spec, ids, [[3], [2, 5]]);
}

#[test]
fn of_convolutions() {
    for (stride, padding, dilation, groups) in
        [(1, 0, 1, 1), (2, 1, 1, 2), (3, 0, 2, 1), (1, 2, 3, 2)]
    {
        let conv1d = spec::conv1d(4, 6, 3).stride(stride).padding(padding);
        let conv1d = conv1d.dilation(dilation).groups(groups);
        agrees!(conv1d, Conv1d, [[4, 9], [4, 8], [4, 1], [3, 9], [4], [4, 9, 9]]);
        let conv2d = spec::conv2d(4, 6, 3).stride(stride).padding(padding);
        let conv2d = conv2d.dilation(dilation).groups(groups);
        agrees!(conv2d, Conv2d, [[4, 9, 8], [4, 7, 9], [4, 9, 1], [3, 9, 9], [4, 9]]);
        let up = spec::conv_transpose1d(4, 6, 3).stride(stride).padding(padding);
        let up = up.dilation(dilation).groups(groups);
        agrees!(up, ConvTranspose1d, [[4, 9], [4, 2], [4, 1], [3, 9], [4]]);
        let up = spec::conv_transpose2d(4, 6, 3).stride(stride).padding(padding);
        let up = up.dilation(dilation).output_padding(stride - 1);
        agrees!(up, ConvTranspose2d, [[4, 9, 8], [4, 1, 2], [3, 9, 9], [4, 9]]);
    }
}

#[test]
fn of_steps() {
    let pool = step::max_pool2d(3);
    agrees!(@ pool, |xs| pool.forward(xs), [[2, 9, 8], [2, 3, 3], [2, 2, 9], [9, 9]]);
    let pool = step::avg_pool2d(2);
    agrees!(@ pool, |xs| pool.forward(xs), [[2, 9, 8], [2, 2, 3], [2, 1, 9], [9, 9]]);
    let pool = step::global_avg_pool2d;
    agrees!(@ pool, |xs| pool.forward(xs), [[2, 9, 8], [9, 9]]);
    let flatten = step::flatten;
    agrees!(@ flatten, |xs| flatten.forward(xs), [[2, 9, 8], [3]]);
    let reshape = step::reshape([2, 6]);
    agrees!(@ reshape, |xs| reshape.forward(xs), [[12], [3, 4], [13]]);
    for keeps in [step::relu, step::gelu, step::silu, step::tanh, step::sigmoid, step::softmax] {
        agrees!(@ keeps, |xs| keeps.forward(xs), [[3], [2, 4]]);
    }
    for (size, stride, padding) in [(3, 2, 1), (3, 1, 1), (2, 3, 0), (3, 2, 0)] {
        let pool = step::max_pool2d(size).stride(stride).padding(padding);
        agrees!(@ pool, |xs| pool.forward(xs), [[2, 9, 8], [2, 3, 3], [2, 1, 9], [9, 9]]);
    }
    let up = step::upsample2d(3);
    agrees!(@ up, |xs| up.forward(xs), [[2, 9, 8], [9, 9]]);
    let flatten = step::flatten_from(1);
    agrees!(@ flatten, |xs| flatten.forward(xs), [[2, 3], [2, 3, 4], [3]]);
    let permute = step::permute([2, 0, 1]);
    agrees!(@ permute, |xs| permute.forward(xs), [[2, 3, 4], [2, 3]]);
    for reduce in [step::mean(0), step::mean(1), step::take(1)] {
        agrees!(@ reduce, |xs| reduce.forward(xs), [[2, 3], [2, 3, 4], [1, 4], [3]]);
    }
    let heads = step::split_heads(3);
    agrees!(@ heads, |xs| heads.forward(xs), [[2, 12], [2, 13], [12]]);
    agrees!(@ step::merge_heads, |xs| step::merge_heads.forward(xs), [[2, 12, 3], [2, 13]]);
    let rotary = step::rotary(1e4);
    agrees!(@ rotary, |xs| rotary.forward(xs), [[2, 5, 4], [2, 5, 3], [5, 4]]);
    let dropout = step::dropout(0.5);
    agrees!(@ dropout, |xs| dropout.forward_t(xs, true), [[3], [2, 4]]);
}

/// The same of steps that take several values.
macro_rules! joins {
    ($step:expr, $($shapes:expr),+) => {{
        let mut fits = 0;
        $(
            let said = match $step.gives(&$shapes.map(|sizes| SampleShape::new(&sizes))) {
                Given::Shape(shape) => Some(shape.to_string()),
                Given::Problem(_) | Given::Misfit { .. } => None,
            };
            let xs = $shapes.map(|sizes| {
                let dims: Vec<_> = std::iter::once(2).chain(sizes).collect();
                Tensor::zeros(dims, DType::F32, device()).unwrap()
            });
            let found = $step.join(&xs.each_ref()).ok().map(|ys| format!("{:?}", &ys.dims()[1..]));
            fits += usize::from(found.is_some());
            assert_eq!(said, found, "{:?}", $shapes);
        )+
        assert!(fits > 0, "nothing fits");
    }};
}

#[test]
fn of_steps_of_several_values() {
    let (add, mul, residual) = (step::add(), step::mul(), step::residual());
    joins!(residual, [[2, 3], [2, 3]], [[2, 3], [1, 3]], [[2, 3], [3, 2]]);
    joins!(add, [[2, 3], [2, 3], [2, 3]], [[2, 3], [1, 3], [2, 1]], [[2, 3], [2, 3], [2, 2]]);
    joins!(mul, [[2, 3], [2, 3]], [[2, 3], [1, 3]], [[2, 1], [1, 3]], [[2, 3], [3, 2]]);
    let concat = step::concat(1);
    joins!(concat, [[2, 3], [2, 1], [2, 4]], [[2, 3], [1, 3], [2, 3]]);
    joins!(concat, [[2, 3, 5], [2, 1, 5]], [[2, 3, 5], [2, 1, 6]]);
    let causal = step::attention().causal(true);
    joins!(
        causal,
        [[4, 5, 6], [2, 5, 6], [2, 5, 3]],
        [[4, 5, 6], [3, 5, 6], [3, 5, 3]],
        [[4, 5, 6], [2, 5, 4], [2, 5, 3]],
        [[4, 5, 6], [2, 4, 6], [2, 4, 3]],
        [[4, 5, 6], [2, 7, 6], [2, 7, 3]],
        [[4, 5, 6], [2, 5, 6], [4, 5, 3]],
        [[4, 5, 6], [2, 5, 6], [2, 6, 3]]
    );
}

/// As candle's own with its edges repeated; the gradient is that of the largest value of each window.
#[test]
fn windows_that_overlap() -> Result<()> {
    let xs = candle_core::Var::from_tensor(&Tensor::randn(0f64, 1., (2, 3, 7, 6), device())?)?;
    let ys = step::max_pool2d(3).stride(2).padding(1).forward(&xs)?;
    let padded = xs.pad_with_same(2, 1, 1)?.pad_with_same(3, 1, 1)?;
    let expected = padded.max_pool2d_with_stride(3, 2)?;
    assert_eq!(ys.dims(), [2, 3, 4, 3]);
    assert_eq!(ys.flatten_all()?.to_vec1::<f64>()?, expected.flatten_all()?.to_vec1::<f64>()?);
    let grads = ys.sum_all()?.backward()?;
    let sum = grads.get(&xs).unwrap().sum_all()?.to_scalar::<f64>()?;
    assert_eq!(sum, (2 * 3 * 4 * 3) as f64);
    Ok(())
}

#[test]
fn steps_compute_what_their_names_say() -> Result<()> {
    let xs = Tensor::randn(0f64, 1., (2, 3, 4), device())?;
    let pairs = [
        (step::relu, xs.relu()?),
        (step::gelu, xs.gelu_erf()?),
        (step::silu, xs.silu()?),
        (step::tanh, xs.tanh()?),
        (step::sigmoid, candle_nn::ops::sigmoid(&xs)?),
        (step::softmax, crate::nn::softmax(&xs)?),
        (step::log_softmax, candle_nn::ops::log_softmax(&xs, 2)?),
    ];
    for (step, expected) in pairs {
        assert_eq!(step.forward(&xs)?.to_vec3::<f64>()?, expected.to_vec3::<f64>()?);
    }
    Ok(())
}

#[test]
fn a_dropout_that_is_no_probability() {
    for p in [-0.1, 1., 2., f32::NAN] {
        let message = step::dropout(p).info().problem.map(|problem| problem.message().to_owned());
        assert_eq!(message.as_deref(), Some("dropout: p is expected from 0 on, and below 1"));
    }
    assert!(step::dropout(0.).info().problem.is_none());
}
