//! Small models with random weights.

#![allow(dead_code)]

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::{HyperTarget, seeded};
use hypernn_models::{Decoder, DecoderConfig};
use hypernn_tests::device;

/// Two layers, four heads of queries over two of keys, a tied head.
pub fn small() -> DecoderConfig {
    DecoderConfig::from_json(
        r#"{
            "model_type": "llama", "vocab_size": 29, "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 24, "rms_norm_eps": 1e-5, "rope_theta": 1000.0,
            "tie_word_embeddings": true, "eos_token_id": 2
        }"#,
    )
    .unwrap()
}

/// Random tensors for a decoder, of a size at which its logits differ.
pub fn tensors(config: &DecoderConfig, seed: u64, dtype: DType) -> HashMap<String, Tensor> {
    let vars = VarMap::new();
    Decoder::with_config(config, seeded::var_builder(&vars, seed, DType::F64, device())).unwrap();
    let vars = vars.data().lock().unwrap();
    let large = |name: &str| if name.contains("norm") { 1. } else { 2. };
    let tensor = |(name, var): (&String, &candle_core::Var)| {
        let values = (var.as_detached_tensor() * large(name)).unwrap().to_dtype(dtype).unwrap();
        (name.clone(), values)
    };
    vars.iter().map(tensor).collect()
}

pub fn builder(config: &DecoderConfig, seed: u64, dtype: DType) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors(config, seed, dtype), dtype, device())
}

pub fn decoder(config: &DecoderConfig, seed: u64) -> Decoder {
    Decoder::with_config(config, builder(config, seed, DType::F64)).unwrap()
}

/// The largest distance of two tensors' values.
pub fn distance(first: &Tensor, second: &Tensor) -> f64 {
    assert_eq!(first.dims(), second.dims());
    let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap();
    let distance = (wide(first) - wide(second)).unwrap().abs().unwrap().flatten_all().unwrap();
    distance.max(0).unwrap().to_scalar().unwrap()
}

/// The first line of an error, without what the environment may add.
pub fn message<T>(result: candle_core::Result<T>) -> String {
    let text = result.err().map(|err| err.to_string()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The path that a variable of the environment names.
pub fn named(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        println!("skipped: {variable} is not set");
    }
    path
}

/// Tokens as a batch of one.
pub fn row(ids: &[u32]) -> Tensor {
    Tensor::new(ids, device()).unwrap().unsqueeze(0).unwrap()
}
