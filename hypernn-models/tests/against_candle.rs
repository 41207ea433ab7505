//! Logits beside those of candle-transformers, over the same tensors.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use candle_core::{DType, IndexOp, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models::{bert, llama, mistral, qwen2};
use hypernn::{HyperTarget, seeded};
use hypernn_models::{Cache, Decoder, DecoderConfig, Encoder, EncoderConfig};
use hypernn_tests::device;

/// Two layers, four heads of queries over two of keys; what is added last has the last word.
fn config(model_type: &str, more: &str) -> String {
    format!(
        r#"{{
            "model_type": "{model_type}", "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1000.0,
            "hidden_act": "silu", {more}
        }}"#
    )
}

/// Variables with values that leave no part of the network idle: biases and gains are not the constants that they
/// start with.
fn tensors(config: &DecoderConfig, dtype: DType) -> VarBuilder<'static> {
    let vars = VarMap::new();
    Decoder::with_config(config, seeded::var_builder(&vars, 3, DType::F32, device())).unwrap();
    shaken(&vars, dtype)
}

fn shaken(vars: &VarMap, dtype: DType) -> VarBuilder<'static> {
    let tensors = vars
        .data()
        .lock()
        .unwrap()
        .iter()
        .map(|(name, var)| {
            let noise = Tensor::randn(0f32, 0.2, var.shape(), device()).unwrap();
            (name.clone(), (var.as_tensor() + noise).unwrap().to_dtype(dtype).unwrap())
        })
        .collect();
    VarBuilder::from_tensors(tensors, dtype, device())
}

fn ids(rows: &[&[u32]]) -> Tensor {
    Tensor::new(rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>(), device()).unwrap()
}

fn assert_close(ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.dims(), theirs.dims());
    let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap();
    let distance = (wide(ours) - wide(theirs)).unwrap().abs().unwrap().flatten_all().unwrap();
    let distance = distance.max(0).unwrap().to_scalar::<f64>().unwrap();
    assert!(distance <= tolerance, "they differ by {distance}");
    // Something was compared.
    let size = wide(theirs).abs().unwrap().mean_all().unwrap().to_scalar::<f64>().unwrap();
    assert!(size > 0.05, "the values are of size {size}");
}

/// Last logits of all prefixes, by a model that gives those of the last token.
fn of_prefixes(tokens: &Tensor, mut logits: impl FnMut(&Tensor) -> Result<Tensor>) -> Tensor {
    let rows = (1..=tokens.dim(1).unwrap()).map(|len| {
        let last = logits(&tokens.i((.., ..len)).unwrap()).unwrap();
        last.reshape((tokens.dim(0).unwrap(), 1, ())).unwrap()
    });
    Tensor::cat(&rows.collect::<Vec<_>>(), 1).unwrap()
}

/// Logits by a cache, in pieces of these lengths.
fn cached(decoder: &Decoder, tokens: &Tensor, pieces: &[usize]) -> Tensor {
    let (mut cache, mut start) = (Cache::new(decoder.config()), 0);
    let parts = pieces.iter().map(|len| {
        let piece = tokens.i((.., start..start + len)).unwrap();
        start += len;
        decoder.head(&decoder.hidden_cached(&piece, None, &mut cache).unwrap()).unwrap()
    });
    let logits = Tensor::cat(&parts.collect::<Vec<_>>(), 1).unwrap();
    assert_eq!(cache.len(), tokens.dim(1).unwrap());
    logits
}

fn tokens() -> Tensor {
    ids(&[&[3, 1, 4, 1, 5, 9, 2], &[6, 5, 3, 5, 8, 60, 0]])
}

fn check(json: &str, dtype: DType, tolerance: f64, theirs: impl Fn(VarBuilder<'static>) -> Tensor) {
    let config = DecoderConfig::from_json(json).unwrap();
    let vb = tensors(&config, dtype);
    let decoder = Decoder::with_config(&config, vb.clone()).unwrap();
    let theirs = theirs(vb);
    assert_close(&decoder.forward(&tokens()).unwrap(), &theirs, tolerance);
    assert_close(&cached(&decoder, &tokens(), &[4, 1, 1, 1]), &theirs, tolerance);
    assert_close(&cached(&decoder, &tokens(), &[1, 3, 3]), &theirs, tolerance);
}

fn candle_llama(json: &str, dtype: DType, vb: VarBuilder<'_>) -> Tensor {
    let config: llama::LlamaConfig = serde_json::from_str(json).unwrap();
    let config = config.into_config(false);
    let model = llama::Llama::load(vb, &config).unwrap();
    of_prefixes(&tokens(), |prefix| {
        let mut cache = llama::Cache::new(false, dtype, &config, device())?;
        model.forward(prefix, 0, &mut cache)
    })
}

#[test]
fn llama_with_a_head_of_its_own_and_a_tied_one() {
    for tied in ["true", "false"] {
        let json = config("llama", &format!(r#""tie_word_embeddings": {tied}"#));
        check(&json, DType::F32, 1e-4, |vb| candle_llama(&json, DType::F32, vb));
    }
}

#[test]
fn llama_3_with_its_scaling() {
    let json = config(
        "llama",
        r#""rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32
        }"#,
    );
    check(&json, DType::F32, 1e-4, |vb| candle_llama(&json, DType::F32, vb));
}

/// Half precision rounds at other places than candle does: both are as far from f32.
#[test]
fn llama_in_half_precision() {
    let json = config("llama", r#""tie_word_embeddings": true"#);
    let config = DecoderConfig::from_json(&json).unwrap();
    let vb = tensors(&config, DType::F32);
    let exact = Decoder::with_config(&config, vb.clone()).unwrap().forward(&tokens()).unwrap();
    let size = exact.abs().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    for (dtype, expected) in [(DType::BF16, 0.05), (DType::F16, 0.01)] {
        let vb = vb.clone().set_dtype(dtype);
        let decoder = Decoder::with_config(&config, vb.clone()).unwrap();
        let logits = decoder.forward(&tokens()).unwrap();
        assert_eq!(logits.dtype(), dtype);
        let error = |logits: &Tensor| {
            let error = (logits.to_dtype(DType::F32).unwrap() - &exact).unwrap().abs().unwrap();
            error.mean_all().unwrap().to_scalar::<f32>().unwrap() / size
        };
        let (ours, theirs) = (error(&logits), error(&candle_llama(&json, dtype, vb)));
        assert!(ours < expected && ours < 1.5 * theirs, "{ours} and {theirs} in {dtype:?}");
        let cached = error(&cached(&decoder, &tokens(), &[4, 1, 1, 1]));
        assert!(cached < 1.5 * theirs, "{cached} and {theirs} in {dtype:?}");
    }
}

#[test]
fn qwen2_with_its_biases() {
    for tied in ["true", "false"] {
        let more = format!(
            r#""tie_word_embeddings": {tied}, "sliding_window": 4096, "max_window_layers": 2,
               "use_sliding_window": false"#
        );
        let json = config("qwen2", &more);
        check(&json, DType::F32, 1e-4, |vb| {
            let config = serde_json::from_str(&json).unwrap();
            of_prefixes(&tokens(), |prefix| {
                qwen2::ModelForCausalLM::new(&config, vb.clone())?.forward(prefix, 0)
            })
        });
    }
}

#[test]
fn mistral_with_a_window_that_is_not_reached() {
    let json = config("mistral", r#""sliding_window": 32, "head_dim": 6"#);
    check(&json, DType::F32, 1e-4, |vb| {
        let config: mistral::Config = serde_json::from_str(&json).unwrap();
        of_prefixes(&tokens(), |prefix| {
            mistral::Model::new(&config, vb.clone())?.forward(prefix, 0)
        })
    });
}

/// candle's window holds one token more than its number, Hugging Face's so many.
#[test]
fn mistral_with_a_window() {
    let json = |window| config("mistral", &format!(r#""sliding_window": {window}"#));
    check(&json(3), DType::F32, 1e-4, |vb| {
        let config: mistral::Config = serde_json::from_str(&json(2)).unwrap();
        of_prefixes(&tokens(), |prefix| {
            mistral::Model::new(&config, vb.clone())?.forward(prefix, 0)
        })
    });
}

#[test]
fn bert_with_padding() {
    let json = r#"{
        "model_type": "bert", "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 64, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "initializer_range": 0.02, "pad_token_id": 0
    }"#;
    let config = EncoderConfig::from_json(json).unwrap();
    let vars = VarMap::new();
    Encoder::with_config(&config, seeded::var_builder(&vars, 3, DType::F32, device())).unwrap();
    let vb = shaken(&vars, DType::F32);
    let encoder = Encoder::with_config(&config, vb.clone()).unwrap();
    let model = bert::BertModel::load(vb, &serde_json::from_str(json).unwrap()).unwrap();

    let types = ids(&[&[0, 0, 0, 1, 1, 1, 1], &[0, 0, 1, 1, 1, 0, 0]]);
    let mask = Tensor::new(&[[1u8, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]], device()).unwrap();
    let theirs = model.forward(&tokens(), &types, Some(&mask)).unwrap();
    let ours = encoder.forward_with(&tokens(), Some(&types), Some(&mask)).unwrap();
    let in_front =
        Tensor::new(&[[1u8, 1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1]], device()).unwrap();
    let refused = encoder.forward_with(&tokens(), Some(&types), Some(&in_front));
    let expected = "encoder: row 1 of the mask has padding before a token, expected it behind them, as by `right_padded`";
    assert_eq!(common::message(refused), expected);
    // What stands at the places of padding has no meaning.
    assert_close(&ours.i(0).unwrap(), &theirs.i(0).unwrap(), 1e-4);
    assert_close(&ours.i((1, ..5)).unwrap(), &theirs.i((1, ..5)).unwrap(), 1e-4);

    let theirs = model.forward(&tokens(), &types.zeros_like().unwrap(), None).unwrap();
    assert_close(&encoder.forward(&tokens()).unwrap(), &theirs, 1e-4);
}
