//! Exact initialisation: each generated tensor starts with the mean and standard deviation of
//! candle's own init, for any chunking and generator.

#![allow(missing_docs)]

use candle_core::{DType, Result, Tensor};
use candle_nn::init::NormalOrUniform;
use candle_nn::{Init, VarBuilder};
use hypernn::nn::{
    BatchNorm, Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Embedding, GRU, GroupNorm, LSTM,
    LayerNorm, Linear, PReLU, RmsNorm,
};
use hypernn::target::layout::ParamInfo;
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::{values, variables};

const SEEDS: u64 = 100;

/// How far a mean over seeds may lie from what is expected, in standard errors.
const ERRORS: f64 = 4.;

#[derive(HyperTarget)]
struct Everything {
    #[hyper(linear(12, 16))]
    linear: Linear,
    #[hyper(conv1d(4, 6, 3))]
    conv1d: Conv1d,
    #[hyper(conv2d(3, 8, 3))]
    conv2d: Conv2d,
    #[hyper(conv_transpose1d(6, 4, 3))]
    conv_transpose1d: ConvTranspose1d,
    #[hyper(conv_transpose2d(3, 8, 2))]
    conv_transpose2d: ConvTranspose2d,
    #[hyper(embedding(20, 6))]
    embedding: Embedding,
    #[hyper(layer_norm(16, 1e-5))]
    layer_norm: LayerNorm,
    #[hyper(rms_norm(16, 1e-5))]
    rms_norm: RmsNorm,
    #[hyper(group_norm(2, 8, 1e-5))]
    group_norm: GroupNorm,
    #[hyper(batch_norm(8, 1e-5))]
    batch_norm: BatchNorm,
    #[hyper(prelu(Some(5)))]
    prelu: PReLU,
    #[hyper(lstm(4, 6))]
    lstm: LSTM,
    #[hyper(gru(4, 6))]
    gru: GRU,
    #[hyper(tensor([3, 7]))]
    normal: Tensor,
    #[hyper(tensor([5, 8], init = Init::Uniform { lo: 1., up: 1.5 }))]
    shifted: Tensor,
    #[hyper(tensor([3], init = Init::Const(-0.3)))]
    constant: Tensor,
}

/// The mean and standard deviation that candle documents for an init.
fn moments(param: &ParamInfo) -> (f64, f64) {
    match param.init {
        Init::Const(value) => (value, 0.),
        Init::Randn { mean, stdev } => (mean, stdev),
        Init::Uniform { lo, up } => (0.5 * (lo + up), (up - lo) / 12f64.sqrt()),
        Init::Kaiming { dist, fan, non_linearity } => {
            let std = non_linearity.gain() / (fan.for_shape(&param.shape) as f64).sqrt();
            // A uniform distribution of this deviation reaches √3 times as far.
            assert!(matches!(dist, NormalOrUniform::Normal | NormalOrUniform::Uniform));
            (0., std)
        }
    }
}

/// One number per seed.
#[derive(Default)]
struct Sample(Vec<f64>);

impl Sample {
    /// Asserts that the mean is the expected one within sampling error, which the dispersion over
    /// seeds tells.
    fn check(&self, what: &str, expected: f64) {
        let count = self.0.len() as f64;
        let mean = self.0.iter().sum::<f64>() / count;
        let variance = self.0.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.);
        let bound = ERRORS * (variance / count).sqrt();
        assert!(
            (mean - expected).abs() <= bound,
            "{what}: {mean:.6} over {count} seeds, expected {expected:.6} ± {bound:.6}"
        );
    }
}

/// Means and second moments per tensor, and those of all together.
#[derive(Default)]
struct Statistics {
    means: Vec<Sample>,
    squares: Vec<Sample>,
    pooled: Sample,
}

impl Statistics {
    /// Takes the tensors of one seed; one that starts at a constant must be it exactly.
    fn add(&mut self, params: &[ParamInfo], tensors: &[Tensor]) -> Result<()> {
        self.means.resize_with(params.len(), Sample::default);
        self.squares.resize_with(params.len(), Sample::default);
        let (mut sum, mut count) = (0., 0.);
        for (i, (param, tensor)) in params.iter().zip(tensors).enumerate() {
            let (mean, std) = moments(param);
            if std == 0. {
                exactly(param, tensor, mean)?;
                continue;
            }
            let scaled: Vec<_> = values(tensor)?.iter().map(|x| (x - mean) / std).collect();
            let squares = scaled.iter().map(|x| x * x).sum::<f64>();
            (sum, count) = (sum + squares, count + scaled.len() as f64);
            self.means[i].0.push(scaled.iter().sum::<f64>() / scaled.len() as f64);
            self.squares[i].0.push(squares / scaled.len() as f64);
        }
        self.pooled.0.push(sum / count);
        Ok(())
    }

    fn check(&self, params: &[ParamInfo]) {
        let drawn = params.iter().enumerate().filter(|(_, param)| moments(param).1 > 0.);
        for (i, param) in drawn {
            self.means[i].check(&format!("mean of `{}`", param.name), 0.);
            self.squares[i].check(&format!("variance of `{}`", param.name), 1.);
        }
        self.pooled.check("variance of all", 1.);
    }
}

/// Every value is the constant, as candle would have it in this dtype.
fn exactly(param: &ParamInfo, tensor: &Tensor, value: f64) -> Result<()> {
    let expected = values(&Tensor::full(value, (), tensor.device())?.to_dtype(tensor.dtype())?)?[0];
    for found in values(tensor)? {
        assert_eq!(found, expected, "a value of `{}`", param.name);
    }
    Ok(())
}

/// Builds one network per seed and checks the statistics of its tensors.
fn check(tensors: impl Fn(VarBuilder<'static>) -> Result<Vec<Tensor>>) -> Result<()> {
    let layout = Everything::layout()?;
    let mut statistics = Statistics::default();
    for seed in 0..SEEDS {
        let (_vars, vb) = variables(seed, DType::F32);
        statistics.add(layout.params(), &tensors(vb)?)?;
    }
    statistics.check(layout.params());
    Ok(())
}

/// The expectations are right: a network with variables of its own meets them.
#[test]
fn the_target_itself() -> Result<()> {
    use hypernn::Parameters;
    check(|vb| {
        let mut tensors = Vec::new();
        Everything::new(vb)?.visit(&mut |_, tensor| {
            tensors.push(tensor.clone());
            Ok(())
        })?;
        Ok(tensors)
    })
}

macro_rules! generated {
    ($test:ident, surplus $surplus:literal: table($($sizes:tt)*), $($generator:tt)*) => {
        #[test]
        fn $test() -> Result<()> {
            hypernetwork! {
                struct Hyper for Everything {
                    embedding: table($($sizes)*),
                    generator: $($generator)*,
                    mode: static,
                }
            }
            assert_eq!(Hyper::CHUNKS.surplus(), $surplus);
            check(|vb| {
                let params = Hyper::new(vb)?.generate_params()?;
                Ok(params.tensors().map(|(_, tensor)| tensor.clone()).collect())
            })
        }
    };
}

generated!(linear_with_chunks_that_divide, surplus 0: table(7, 8), linear);
generated!(linear_with_a_ragged_chunk, surplus 1: table(4, 8), linear);
generated!(tanh_with_chunks_that_divide, surplus 0: table(7, 8), mlp([32], tanh));
generated!(tanh_with_a_ragged_chunk, surplus 1: table(4, 8), mlp([16, 24], tanh));
generated!(relu_with_chunks_that_divide, surplus 0: table(7, 8), mlp([32], relu));
generated!(relu_with_a_ragged_chunk, surplus 1: table(4, 8), mlp([32], relu));
generated!(heads, surplus 0: table(3, 4), heads);
