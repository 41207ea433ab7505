//! What each layer says where it is used wrongly.

use candle_core::{DType, Device, Module, ModuleT, Result, Tensor};

use super::super::testing::device;
use super::super::*;
use super::message;

fn zeros(dims: &[usize]) -> Tensor {
    Tensor::zeros(dims, DType::F32, device()).unwrap()
}

fn says<T>(found: Result<T>) -> String {
    found.map_or_else(|error| message(&error), |_| "no error".to_owned())
}

fn problem(found: Option<crate::check::Problem>) -> String {
    found.map_or_else(|| "no problem".to_owned(), |problem| problem.message().to_owned())
}

#[test]
fn specs_name_the_size_that_is_wrong() {
    let cases = [
        (spec::conv1d(0, 1, 1).info().problem, "conv1d: in_channels is 0, expected at least 1"),
        (spec::conv2d(1, 0, 1).info().problem, "conv2d: out_channels is 0, expected at least 1"),
        (spec::conv2d(1, 1, 0).info().problem, "conv2d: kernel_size is 0, expected at least 1"),
        (
            spec::conv2d(8, 9, 1).groups(3).info().problem,
            "conv2d: groups 3 does not divide in_channels 8",
        ),
        (
            spec::conv1d(9, 8, 1).groups(3).info().problem,
            "conv1d: groups 3 does not divide out_channels 8",
        ),
        (
            spec::conv1d(1, 1, 1).groups(0).info().problem,
            "conv1d: groups is 0, expected at least 1",
        ),
        (
            spec::conv_transpose1d(1, 1, 1).stride(0).info().problem,
            "conv_transpose1d: stride is 0, expected at least 1",
        ),
        (
            spec::conv_transpose2d(1, 1, 1).dilation(0).info().problem,
            "conv_transpose2d: dilation is 0, expected at least 1",
        ),
        (spec::embedding(0, 1).info().problem, "embedding: in_size is 0, expected at least 1"),
        (spec::layer_norm(0).info().problem, "layer_norm: size is 0, expected at least 1"),
        (
            spec::layer_norm(1).eps(-1.).info().problem,
            "layer_norm: eps is negative, expected at least 0",
        ),
        (spec::rms_norm(1, f64::NAN).info().problem, "rms_norm: eps is NaN, expected at least 0"),
        (
            spec::group_norm(2, 8, f64::INFINITY).info().problem,
            "group_norm: eps is infinite, expected at least 0",
        ),
        (
            spec::group_norm(3, 8, 0.).info().problem,
            "group_norm: num_groups 3 does not divide num_channels 8",
        ),
        (
            spec::group_norm(0, 8, 0.).info().problem,
            "group_norm: num_groups is 0, expected at least 1",
        ),
        (spec::batch_norm(1).momentum(1.5).info().problem, "batch_norm: momentum is outside 0..=1"),
        (spec::prelu(Some(0)).info().problem, "prelu: num_channels is 0, expected at least 1"),
        (spec::lstm(0, 1).info().problem, "lstm: in_dim is 0, expected at least 1"),
        (spec::gru(1, 0).info().problem, "gru: hidden_dim is 0, expected at least 1"),
    ];
    for (found, expected) in cases {
        assert_eq!(problem(found), expected);
    }
}

#[test]
fn constructors_return_the_same_problems() {
    let vb = || VarBuilder::zeros(DType::F32, device());
    let config = Conv2dConfig { groups: 3, ..Default::default() };
    let expected = "conv2d: groups 3 does not divide in_channels 8";
    assert_eq!(says(conv2d(8, 9, 1, config, vb())), expected);
    let expected = "layer_norm: eps is negative, expected at least 0";
    assert_eq!(says(layer_norm(4, -1., vb())), expected);
    let expected = "lstm: hidden_dim is 0, expected at least 1";
    assert_eq!(says(LSTM::new(4, 0, LSTMConfig::default(), vb())), expected);
}

#[test]
fn convolutions_name_the_shapes() {
    let layer = Conv2d::new(zeros(&[4, 3, 3, 3]), None, Conv2dConfig::default());
    let cases: [(&[usize], &str); 3] = [
        (
            &[2, 3, 8],
            "conv2d: the input has shape [2, 3, 8], expected [batch, channels, height, width]",
        ),
        (&[2, 1, 8, 8], "conv2d: the input has 1 channels (shape [2, 1, 8, 8]), the layer takes 3"),
        (&[2, 3, 2, 8], "conv2d: the kernel spans 3 with dilation, the input only 2 with padding"),
    ];
    for (dims, expected) in cases {
        assert_eq!(says(layer.forward(&zeros(dims))), expected);
    }
    let config = ConvTranspose1dConfig { padding: 2, ..Default::default() };
    let layer = ConvTranspose1d::new(zeros(&[1, 1, 3]), None, config);
    let expected =
        "conv_transpose1d: the output spans 4, padding 2 on both sides leaves nothing of it";
    assert_eq!(says(layer.forward(&zeros(&[1, 1, 2]))), expected);
}

#[test]
fn a_convolution_checks_its_configuration_without_a_spec() {
    let config = Conv1dConfig { stride: 0, ..Default::default() };
    let layer = Conv1d::new(zeros(&[1, 1, 1]), None, config);
    let expected = "conv1d: stride is 0, expected at least 1";
    assert_eq!(says(layer.forward(&zeros(&[1, 1, 1]))), expected);
}

#[test]
fn a_batch_that_sets_do_not_share_out_is_an_error() {
    let uneven = |layer: &str, rows: usize| {
        format!(
            "{layer}: a batch of {rows} rows can't be shared out among 2 weight sets, expected a multiple"
        )
    };
    let conv = Conv2d::new(zeros(&[2, 1, 1, 1, 1]), None, Conv2dConfig::default());
    assert_eq!(says(conv.forward(&zeros(&[3, 1, 1, 1]))), uneven("conv2d", 3));
    let norm = LayerNorm::new_no_bias(zeros(&[2, 4]), 0.);
    assert_eq!(says(norm.forward(&zeros(&[3, 2, 4]))), uneven("layer_norm", 3));
    assert_eq!(says(norm.forward(&zeros(&[4]))), uneven("layer_norm", 1));
    let norm = GroupNorm::new(zeros(&[2, 4]), zeros(&[2, 4]), 4, 2, 0.).unwrap();
    assert_eq!(says(norm.forward(&zeros(&[3, 4, 1]))), uneven("group_norm", 3));
    let prelu = PReLU::new(zeros(&[2, 1]), true);
    assert_eq!(says(prelu.forward(&zeros(&[3, 1]))), uneven("prelu", 3));
    let table = Embedding::new(zeros(&[2, 4, 1]), 1);
    let indices = zeros(&[3]).to_dtype(DType::U32).unwrap();
    assert_eq!(says(table.forward(&indices)), uneven("embedding", 3));
    let (w_ih, w_hh) = (zeros(&[2, 3, 1]), zeros(&[2, 3, 1]));
    let gru = GRU::from_weights(w_ih, w_hh, None, None, GRUConfig::default()).unwrap();
    assert_eq!(says(gru.seq(&zeros(&[3, 1, 1]))), uneven("gru", 3));
}

#[test]
fn weights_that_do_not_fit_are_errors() {
    let layer = Conv1d::new(zeros(&[2, 1, 1, 1]), Some(zeros(&[3, 1])), Conv1dConfig::default());
    let expected = "conv1d: one weight holds 2 sets, another 3 (shape [3, 1]), expected as many";
    assert_eq!(says(layer.forward(&zeros(&[6, 1, 1]))), expected);
    let layer = Conv1d::new(zeros(&[1, 1]), None, Conv1dConfig::default());
    let expected = "conv1d: the weight has shape [1, 1], expected 3 dimensions, or 4 with the number of sets in front";
    assert_eq!(says(layer.forward(&zeros(&[6, 1, 1]))), expected);
    let (weight, config) = (zeros(&[8, 3]), LSTMConfig::default());
    let expected = "lstm: weight_hh has shape [6, 2], expected 8 rows for 4 gates of width 2";
    assert_eq!(says(LSTM::from_weights(weight, zeros(&[6, 2]), None, None, config)), expected);
    let ones = zeros(&[3]);
    let expected = "batch_norm: weight has shape [4], expected [3], or the number of sets in front";
    let layer = BatchNorm::new(3, ones.clone(), ones.clone(), zeros(&[4]), ones.clone(), 0.);
    assert_eq!(says(layer), expected);
}

#[test]
fn norms_name_the_shapes() {
    let norm = LayerNorm::new_no_bias(zeros(&[4]), 0.);
    let expected = "layer_norm: the input has width 3 (shape [2, 3]), the layer takes 4";
    assert_eq!(says(norm.forward(&zeros(&[2, 3]))), expected);
    let norm = RmsNorm::new(zeros(&[4]), 0.);
    let expected = "rms_norm: the input has width 0 (shape []), the layer takes 4";
    assert_eq!(says(norm.forward(&zeros(&[]))), expected);
    let norm = LayerNorm::new(zeros(&[4]), zeros(&[4]), f64::NAN);
    assert_eq!(says(norm.forward(&zeros(&[2, 4]))), "layer_norm: eps is NaN, expected at least 0");
    let norm = RmsNorm::new(zeros(&[4]), -1.);
    assert_eq!(
        says(norm.forward(&zeros(&[2, 4]))),
        "rms_norm: eps is negative, expected at least 0"
    );
    let norm = GroupNorm::new(zeros(&[4]), zeros(&[4]), 4, 2, 0.).unwrap();
    let expected = "group_norm: the input has shape [2, 4], expected at least 3 dimensions";
    assert_eq!(says(norm.forward(&zeros(&[2, 4]))), expected);
    let expected = "group_norm: the input has 3 channels (shape [2, 3, 1]), the layer takes 4";
    assert_eq!(says(norm.forward(&zeros(&[2, 3, 1]))), expected);
    let norm = BatchNorm::new_no_bias(4, zeros(&[4]), zeros(&[4]), 0.).unwrap();
    let expected = "batch_norm: the input has shape [4], expected at least 2 dimensions";
    assert_eq!(says(norm.forward_t(&zeros(&[4]), false)), expected);
    let expected = "batch_norm: the input has 3 features (shape [2, 3]), the layer takes 4";
    assert_eq!(says(norm.forward_t(&zeros(&[2, 3]), false)), expected);
    let expected =
        "batch_norm: 0 value per feature to train on (shape [0, 4]), expected at least 2";
    assert_eq!(says(norm.forward_t(&zeros(&[0, 4]), true)), expected);
    // One value for each of two sets; for one set alone it is taken, as in candle.
    let norm = BatchNorm::new_no_bias(4, zeros(&[2, 4]), zeros(&[2, 4]), 0.).unwrap();
    let expected =
        "batch_norm: 1 value per feature to train on (shape [2, 4]), expected at least 2";
    assert_eq!(says(norm.forward_t(&zeros(&[2, 4]), true)), expected);
}

#[test]
fn the_others_name_the_shapes() {
    let layer = PReLU::new(zeros(&[3]), false);
    let expected = "prelu: the input has 2 channels (shape [1, 2]), the layer takes 3";
    assert_eq!(says(layer.forward(&zeros(&[1, 2]))), expected);
    let layer = PReLU::new(zeros(&[3]), true);
    let expected = "prelu: the weight has shape [3], expected one slope per set";
    assert_eq!(says(layer.forward(&zeros(&[1, 2]))), expected);
    let vb = VarBuilder::zeros(DType::F32, device());
    let layer = lstm(3, 2, LSTMConfig::default(), vb).unwrap();
    let state = layer.zero_state(1).unwrap();
    let expected = "lstm: the input has shape [1, 2], expected [batch, 3]";
    assert_eq!(says(layer.step(&zeros(&[1, 2]), &state)), expected);
}

/// Tables of zeros on the CPU: on a device nothing looks at indices but candle's kernel, which then stops the
/// device for good.
fn tables_on_the_cpu(dims: &[usize]) -> Embedding {
    let tables = Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
    Embedding::new(tables, dims[dims.len() - 1])
}

#[test]
fn an_index_of_another_set_is_an_error() {
    let layer = tables_on_the_cpu(&[2, 4, 1]);
    for index in [4i64, -1] {
        let indices = Tensor::new(&[0, index], &Device::Cpu).unwrap();
        let expected = format!("embedding: index {index} is out of range, the table has 4 rows");
        assert_eq!(says(layer.forward(&indices)), expected);
    }
}

#[test]
fn candles_layers_without_access_name_the_drop_in() {
    use crate::structure::layer::Parameters;
    let vb = || VarBuilder::zeros(DType::F32, device());
    let visit = |layer: &dyn Parameters| says(layer.visit(&mut |_, _| Ok(())));
    let expected = |name: &str| {
        format!("candle_nn::{name} gives no access to its tensors: use hypernn::nn::{name}")
    };
    let layer = candle_nn::group_norm(1, 1, 0., vb()).unwrap();
    assert_eq!(visit(&layer), expected("GroupNorm"));
    let layer = candle_nn::lstm(1, 1, LSTMConfig::default(), vb()).unwrap();
    assert_eq!(visit(&layer), expected("LSTM"));
    let layer = candle_nn::gru(1, 1, GRUConfig::default(), vb()).unwrap();
    assert_eq!(visit(&layer), expected("GRU"));
}

/// What is given is named, and what was expected, by the layer.
#[test]
fn inputs_of_another_dtype_are_named() {
    let vb = || VarBuilder::zeros(DType::F32, device());
    let xs = |dims: &[usize]| Tensor::zeros(dims, DType::F64, device()).unwrap();
    let conv = conv1d(2, 2, 1, Conv1dConfig::default(), vb()).unwrap();
    let transposed = conv_transpose2d(2, 2, 1, ConvTranspose2dConfig::default(), vb()).unwrap();
    let gru = gru(2, 2, GRUConfig::default(), vb()).unwrap();
    let lstm = lstm(2, 2, LSTMConfig::default(), vb()).unwrap();
    let full = GRUState { h: zeros(&[1, 2]) };
    let cases = [
        ("linear", says(linear(2, 1, vb()).unwrap().forward(&xs(&[3, 2])))),
        ("conv1d", says(conv.forward(&xs(&[1, 2, 3])))),
        ("conv_transpose2d", says(transposed.forward(&xs(&[1, 2, 3, 3])))),
        ("layer_norm", says(layer_norm(2, 1e-5, vb()).unwrap().forward(&xs(&[3, 2])))),
        ("rms_norm", says(rms_norm(2, 1e-5, vb()).unwrap().forward(&xs(&[3, 2])))),
        ("group_norm", says(group_norm(1, 2, 1e-5, vb()).unwrap().forward(&xs(&[3, 2, 1])))),
        ("prelu", says(prelu(None, vb()).unwrap().forward(&xs(&[3, 2])))),
        ("gru", says(gru.step(&xs(&[1, 2]), &full))),
        ("lstm", says(lstm.seq(&xs(&[1, 3, 2])))),
    ];
    for (layer, found) in cases {
        assert_eq!(found, format!("{layer}: the input is F64, but the weight F32"));
    }
    let other = GRUState { h: xs(&[1, 2]) };
    let expected = "gru: the state is F64, but the weight F32";
    assert_eq!(says(gru.step(&zeros(&[1, 2]), &other)), expected);
}

#[test]
fn an_index_that_the_table_has_not_is_named() {
    let table = tables_on_the_cpu(&[4, 2]);
    for index in [-1i64, 4, i64::MIN] {
        let found = says(table.forward(&Tensor::new(&[[0, index]], &Device::Cpu).unwrap()));
        let expected = format!("embedding: index {index} is out of range, the table has 4 rows");
        assert_eq!(found, expected);
    }
    let floating = says(Embedding::new(zeros(&[4, 2]), 2).forward(&zeros(&[3])));
    assert_eq!(floating, "embedding: the indices are F32, expected u8, u32 or i64");
}

/// candle takes 255 in u8 for no row, and gives zeros.
#[test]
fn every_index_in_u8_is_a_row() {
    let ones = zeros(&[256, 2]).ones_like().unwrap();
    let indices = Tensor::new(&[0u8, 255], device()).unwrap();
    let rows = Embedding::new(ones, 2).forward(&indices).unwrap();
    assert_eq!(rows.to_vec2::<f32>().unwrap(), [[1., 1.], [1., 1.]]);
    let indices = indices.to_device(&Device::Cpu).unwrap();
    let found = says(tables_on_the_cpu(&[4, 2]).forward(&indices));
    assert_eq!(found, "embedding: index 255 is out of range, the table has 4 rows");
}

#[test]
fn a_builder_of_integers_is_named() {
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::U32, device());
    let found = says(linear(2, 1, vb.pp("fc")));
    let expected = "fc.weight: the builder's dtype is U32, expected f16, bf16, f32 or f64";
    assert_eq!(found, expected);
}
