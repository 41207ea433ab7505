//! Specs count, name, order and initialise parameters as candle's constructors do.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::Init;

use super::super::testing::device;
use super::super::*;
use crate::param::Param;
use crate::structure::layer::{HyperLayer, Parameters};
use crate::structure::source::{ParamSource, ParamSpec};

/// One tensor that was asked for: name, shape, initialisation, and whether it is a buffer.
type Asked = (String, Vec<usize>, String, bool);

#[derive(Default)]
struct Log(Vec<Asked>);

impl Log {
    fn note(&mut self, spec: &ParamSpec<'_>, buffer: bool) -> Result<Tensor> {
        let init = format!("{:?}", spec.init);
        self.0.push((spec.name.to_owned(), spec.dims.to_vec(), init, buffer));
        Tensor::ones(spec.dims, DType::F32, device())
    }
}

impl ParamSource for Log {
    fn enter(&mut self, _: &str) {}

    fn leave(&mut self) {}

    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Param> {
        self.note(spec, false).map(Param::from)
    }

    fn buffer(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        self.note(spec, true)
    }
}

/// A builder that notes what candle's constructor asks for.
struct Backend(std::sync::Arc<std::sync::Mutex<Vec<Asked>>>);

impl var_builder::SimpleBackend for Backend {
    fn get(
        &self,
        shape: candle_core::Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let asked =
            (name.to_owned(), shape.dims().to_vec(), format!("{init:?}"), name.contains("running"));
        self.0.lock().unwrap().push(asked);
        Tensor::ones(shape, dtype, device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name}")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        false
    }
}

fn candles<T>(build: impl FnOnce(VarBuilder<'_>) -> Result<T>) -> Vec<Asked> {
    let log = std::sync::Arc::default();
    let backend = Box::new(Backend(std::sync::Arc::clone(&log)));
    build(VarBuilder::from_backend(backend, DType::F32, device().clone())).unwrap();
    let asked = log.lock().unwrap();
    asked.clone()
}

/// Asserts that `spec` asks what `candle` asks, in both layers, and that counts and visits agree.
macro_rules! same {
    ($spec:expr, $type:ident, $candle:expr) => {{
        let (spec, expected) = ($spec, candles($candle));
        let mut log = Log::default();
        let ours = <$type as HyperLayer<_>>::build(&spec, &mut log).unwrap();
        assert_eq!(log.0, expected);
        let mut log = Log::default();
        <candle_nn::$type as HyperLayer<_>>::build(&spec, &mut log).unwrap();
        assert_eq!(log.0, expected);
        let params = expected.iter().filter(|(.., buffer)| !buffer);
        let count = |(_, dims, ..): &Asked| dims.iter().product::<usize>();
        assert_eq!(spec.info().num_params, params.clone().map(count).sum::<usize>());
        let weights = params.clone().filter(|(name, ..)| name == "weight").map(count);
        assert_eq!(spec.info().num_weights, weights.sum::<usize>());
        let mut visited = Vec::new();
        ours.visit(&mut |name, tensor| {
            visited.push((name.to_owned(), tensor.dims().to_vec()));
            Ok(())
        })
        .unwrap();
        let params: Vec<_> = params.map(|(name, dims, ..)| (name.clone(), dims.clone())).collect();
        assert_eq!(visited, params);
    }};
}

#[test]
fn convolutions_ask_what_candle_asks() {
    let config = Conv1dConfig { groups: 2, ..Default::default() };
    same!(spec::conv1d(4, 6, 3).config(config), Conv1d, |vb| candle_nn::conv1d(
        4, 6, 3, config, vb
    ));
    same!(spec::conv1d_no_bias(4, 6, 3).groups(2), Conv1d, |vb| {
        candle_nn::conv1d_no_bias(4, 6, 3, config, vb)
    });
    let config = Conv2dConfig { groups: 2, ..Default::default() };
    same!(spec::conv2d(4, 6, 3).groups(2), Conv2d, |vb| candle_nn::conv2d(4, 6, 3, config, vb));
    same!(spec::conv2d_no_bias(4, 6, 3).config(config), Conv2d, |vb| {
        candle_nn::conv2d_no_bias(4, 6, 3, config, vb)
    });
    let config = ConvTranspose1dConfig { groups: 2, ..Default::default() };
    same!(spec::conv_transpose1d(4, 6, 3).groups(2), ConvTranspose1d, |vb| {
        candle_nn::conv_transpose1d(4, 6, 3, config, vb)
    });
    same!(spec::conv_transpose1d_no_bias(4, 6, 3).config(config), ConvTranspose1d, |vb| {
        candle_nn::conv_transpose1d_no_bias(4, 6, 3, config, vb)
    });
    let config = ConvTranspose2dConfig { stride: 2, ..Default::default() };
    same!(spec::conv_transpose2d(4, 6, 3), ConvTranspose2d, |vb| {
        candle_nn::conv_transpose2d(4, 6, 3, config, vb)
    });
    same!(spec::conv_transpose2d_no_bias(4, 6, 3).config(config), ConvTranspose2d, |vb| {
        candle_nn::conv_transpose2d_no_bias(4, 6, 3, config, vb)
    });
}

#[test]
fn builders_set_what_they_name() {
    let spec = spec::conv2d(1, 1, 1).stride(2).padding(3).dilation(4);
    let config = Conv2dConfig { stride: 2, padding: 3, dilation: 4, ..Default::default() };
    assert_eq!(spec, spec::conv2d(1, 1, 1).config(config));
    let spec = spec::conv_transpose1d(1, 1, 1).stride(2).padding(3).dilation(4).output_padding(1);
    let config = ConvTranspose1dConfig {
        stride: 2,
        padding: 3,
        dilation: 4,
        output_padding: 1,
        ..Default::default()
    };
    assert_eq!(spec, spec::conv_transpose1d(1, 1, 1).config(config));
    assert_eq!(spec::conv1d(1, 1, 1), spec::conv1d(1, 1, 1).config(Conv1dConfig::default()));
}

#[test]
fn the_others_ask_what_candle_asks() {
    same!(spec::embedding(4, 3), Embedding, |vb| candle_nn::embedding(4, 3, vb));
    same!(spec::layer_norm(3), LayerNorm, |vb| candle_nn::layer_norm(3, 1e-5, vb));
    same!(spec::layer_norm_no_bias(3, 1e-5), LayerNorm, |vb| {
        candle_nn::layer_norm_no_bias(3, 1e-5, vb)
    });
    same!(spec::rms_norm(3, 1e-5), RmsNorm, |vb| candle_nn::rms_norm(3, 1e-5, vb));
    same!(spec::prelu(None), PReLU, |vb| candle_nn::prelu(None, vb));
    same!(spec::prelu(Some(3)), PReLU, |vb| candle_nn::prelu(Some(3), vb));
    same!(spec::batch_norm(3), BatchNorm, |vb| candle_nn::batch_norm(3, 1e-5, vb));
    let config = BatchNormConfig { affine: false, remove_mean: false, ..Default::default() };
    same!(spec::batch_norm(3).config(config), BatchNorm, |vb| {
        candle_nn::batch_norm(3, config, vb)
    });
    same!(spec::group_norm(3, 6, 1e-5), GroupNorm, |vb| candle_nn::group_norm(3, 6, 1e-5, vb));
}

#[test]
fn recurrent_layers_ask_what_candle_asks() {
    let config = LSTMConfig { layer_idx: 2, direction: Direction::Backward, ..Default::default() };
    same!(spec::lstm(3, 2).layer_idx(2).direction(Direction::Backward), LSTM, |vb| {
        candle_nn::lstm(3, 2, config, vb)
    });
    let config = LSTMConfig::default_no_bias();
    same!(spec::lstm(3, 2).no_bias(), LSTM, |vb| candle_nn::lstm(3, 2, config, vb));
    let config = GRUConfig { b_hh_init: None, ..Default::default() };
    same!(spec::gru(3, 2).config(config), GRU, |vb| candle_nn::gru(3, 2, config, vb));
    let config = GRUConfig::default_no_bias();
    same!(spec::gru(3, 2).no_bias(), GRU, |vb| candle_nn::gru(3, 2, config, vb));
}

#[test]
fn an_epsilon_or_a_configuration_ends_a_norm() {
    const NUMBER: LayerNormSpec = Eps(1e-3).layer_norm(spec::layer_norm(3));
    assert_eq!(NUMBER, spec::layer_norm(3).eps(1e-3));
    let config = LayerNormConfig { eps: 1e-3, remove_mean: false, affine: false };
    let whole = Eps(config).layer_norm(spec::layer_norm(3));
    assert_eq!(whole, spec::layer_norm(3).eps(1e-3).remove_mean(false).affine(false));
    const BATCH: BatchNormSpec = Eps(1e-3).batch_norm(spec::batch_norm(3));
    assert_eq!(BATCH, spec::batch_norm(3).eps(1e-3));
    let config = BatchNormConfig { eps: 1e-3, remove_mean: false, affine: false, momentum: 0.5 };
    let spec = spec::batch_norm(3).eps(1e-3).remove_mean(false).affine(false).momentum(0.5);
    assert_eq!(Eps(config).batch_norm(spec::batch_norm(3)), spec);
}

#[test]
fn layers_with_wrong_gradients_are_refused() {
    fn refused<T: HyperLayer<S>, S>(_: S) -> Option<&'static str> {
        T::REFUSED
    }
    let said = [
        refused::<candle_nn::LayerNorm, _>(spec::layer_norm(1)),
        refused::<candle_nn::RmsNorm, _>(spec::rms_norm(1, 0.)),
        refused::<candle_nn::Conv1d, _>(spec::conv1d(1, 1, 1)),
        refused::<candle_nn::ConvTranspose1d, _>(spec::conv_transpose1d(1, 1, 1)),
    ];
    let expected = [
        "candle_nn::LayerNorm drops the gradient of its weight and bias: use hypernn::nn::LayerNorm",
        "candle_nn::RmsNorm drops the gradient of its weight: use hypernn::nn::RmsNorm",
        "candle_nn::Conv1d computes a wrong gradient of its weight: use hypernn::nn::Conv1d",
        "candle_nn::ConvTranspose1d has no gradients: use hypernn::nn::ConvTranspose1d",
    ];
    assert_eq!(said.map(Option::unwrap_or_default), expected);
    assert_eq!(refused::<candle_nn::Conv2d, _>(spec::conv2d(1, 1, 1)), None);
    assert_eq!(refused::<Conv1d, _>(spec::conv1d(1, 1, 1)), None);
}
