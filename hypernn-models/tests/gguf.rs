//! A decoder of a GGUF file: its configuration, its tensors, and what is refused.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Module, Tensor, Var};
use candle_nn::VarMap;
use common::{distance, message, small, tensors};
use hypernn::gguf::Gguf;
use hypernn::nn::RotaryScaling;
use hypernn::{GeneratedParams, HyperTarget, Pretrained, hypernetwork, nn, seeded};
use hypernn_models::{Decoder, DecoderConfig, GenerateOptions, generate};
use hypernn_tests::device;
use tempfile::TempDir;

hypernetwork! {
    struct Adapters for Decoder {
        config: DecoderConfig,
        roles: [
            ("*.q_proj.weight", lora(2, 4.)),
            ("*.down_proj.weight", lora(2, 4.)),
            ("*", freeze),
        ],
        embedding: table(3, 4),
        generator: linear,
        mode: static,
    }
}

/// llama.cpp's name, and its rows: those of queries and keys lie interleaved in files of `llama`.
fn renamed(
    name: &str,
    tensor: &Tensor,
    config: &DecoderConfig,
    interleaved: bool,
) -> (String, Tensor) {
    let renames = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ];
    let turned = interleaved && (name.contains("q_proj") || name.contains("k_proj"));
    let renamed = renames.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
    if !turned {
        return (renamed, tensor.clone());
    }
    let dims = tensor.dims().to_vec();
    let halves = [&[dims[0] / config.head_dim, 2, config.head_dim / 2], &dims[1..]].concat();
    let rows = tensor.reshape(halves).unwrap().transpose(1, 2).unwrap().contiguous().unwrap();
    (renamed, rows.reshape(dims).unwrap())
}

type Metadata = Vec<(String, Value)>;

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn metadata(architecture: &str, config: &DecoderConfig) -> Metadata {
    let size = |size: usize| Value::U32(size as u32);
    let of = |key: &str, value: Value| (format!("{architecture}.{key}"), value);
    vec![
        ("general.architecture".to_owned(), text(architecture)),
        of("embedding_length", size(config.hidden_size)),
        of("block_count", size(config.num_hidden_layers)),
        of("feed_forward_length", size(config.intermediate_size)),
        of("attention.head_count", size(config.num_attention_heads)),
        of("attention.head_count_kv", size(config.num_key_value_heads)),
        of("context_length", size(config.max_position_embeddings)),
        of("attention.layer_norm_rms_epsilon", Value::F32(0.25)),
        of("rope.freq_base", Value::F32(1000.)),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(2)),
        ("tokenizer.ggml.eot_token_id".to_owned(), Value::U32(3)),
    ]
}

fn write(path: &Path, metadata: &[(String, Value)], tensors: &[(String, Tensor)]) {
    write_as(path, metadata, tensors, GgmlDType::F32);
}

/// With its matrices in this dtype.
fn write_as(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[(String, Tensor)],
    matrices: GgmlDType,
) {
    let quantized = |(name, tensor): &(String, Tensor)| {
        let dtype = if tensor.rank() == 2 { matrices } else { GgmlDType::F32 };
        (name.clone(), QTensor::quantize(tensor, dtype).unwrap())
    };
    let tensors: Vec<_> = tensors.iter().map(quantized).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

/// A small file of this architecture, with its decoder.
fn file(dir: &TempDir, architecture: &str, config: &DecoderConfig) -> PathBuf {
    file_as(dir, architecture, config, GgmlDType::F32)
}

fn file_as(
    dir: &TempDir,
    architecture: &str,
    config: &DecoderConfig,
    matrices: GgmlDType,
) -> PathBuf {
    let path = dir.path().join(format!("{architecture}.gguf"));
    let tensors: Vec<_> = tensors(config, 5, DType::F32)
        .iter()
        .map(|(name, tensor)| renamed(name, tensor, config, architecture == "llama"))
        .collect();
    write_as(&path, &metadata(architecture, config), &tensors, matrices);
    path
}

#[test]
fn a_file_is_the_model_that_it_was_written_from() {
    let dir = tempfile::tempdir().unwrap();
    for (architecture, qkv_bias, tied) in [("llama", false, true), ("qwen2", true, false)] {
        let config = DecoderConfig {
            rms_norm_eps: 0.25,
            qkv_bias,
            tie_word_embeddings: tied,
            eos_token_ids: vec![2, 3],
            ..small()
        };
        let path = file(&dir, architecture, &config);
        let read = DecoderConfig::from_gguf(&Gguf::open(&path).unwrap()).unwrap();
        assert_eq!(read, config);
        let ids = Tensor::new(&[[3u32, 1, 4, 1, 5]], device()).unwrap();
        let logits = |vb| Decoder::with_config(&config, vb).unwrap().forward(&ids).unwrap();
        let ours =
            logits(Pretrained::open(&path).unwrap().var_builder(DType::F32, device()).unwrap());
        assert!(distance(&ours, &logits(common::builder(&config, 5, DType::F32))) < 1e-6);
    }
}

/// Logits, what is generated with a cache, and the adapters' gradients, an adapter for each row.
#[test]
fn a_base_that_stays_quantised_is_the_dequantised_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = DecoderConfig {
        rms_norm_eps: 0.25,
        hidden_size: 32,
        intermediate_size: 64,
        head_dim: 8,
        ..small()
    };
    let ids = Tensor::new(&[[3u32, 1, 4, 1, 5], [9, 2, 6, 5, 3]], device()).unwrap();
    for (architecture, qkv_bias) in [("llama", false), ("qwen2", true)] {
        let config = DecoderConfig { qkv_bias, ..config.clone() };
        let path = file_as(&dir, architecture, &config, GgmlDType::Q4_1);
        let results = [false, true].map(|quantized| {
            let start = Pretrained::open(&path).unwrap();
            let start = if quantized { start.keep_quantized() } else { start };
            let vb = seeded::var_builder(&VarMap::new(), 1, DType::F32, device());
            let hyper = Adapters::new_from(&config, vb, start).unwrap();
            let values = (0..2 * hyper.num_target_params()).map(|at| (at as f32).sin() * 0.3);
            let flat = Tensor::from_iter(values, device()).unwrap().reshape((2, ())).unwrap();
            let flat = Var::from_tensor(&flat).unwrap();
            results(&hyper.params_from_flat(&flat).unwrap(), &ids, &flat)
        });
        let [(logits, texts, gradient), (kept_logits, kept_texts, kept_gradient)] = results;
        assert!(distance(&kept_logits, &logits) < 1e-4, "{}", distance(&kept_logits, &logits));
        assert_eq!(kept_texts, texts);
        assert!(distance(&kept_gradient, &gradient) < 1e-4);
        let rows = |tensor: &Tensor| tensor.chunk(2, 0).unwrap();
        assert!(rows(&gradient).iter().all(|row| distance(row, &row.zeros_like().unwrap()) > 1e-3));
    }
}

/// Logits, greedy tokens, and the gradient of the adapters.
fn results(
    params: &GeneratedParams<Decoder>,
    ids: &Tensor,
    flat: &Var,
) -> (Tensor, Vec<Vec<u32>>, Tensor) {
    let decoder = params.unpack().unwrap();
    let logits = decoder.forward(ids).unwrap();
    let targets = ids.flatten_all().unwrap();
    let loss = nn::cross_entropy(&logits.flatten_to(1).unwrap(), &targets, u32::MAX).unwrap();
    let gradient = loss.backward().unwrap().get(flat).unwrap().clone();
    let options = GenerateOptions::greedy(decoder.config(), 6);
    let texts = generate(&decoder, &ids.to_vec2::<u32>().unwrap(), &options).unwrap();
    (logits, texts, gradient)
}

#[test]
fn settings_that_are_not_there_or_not_supported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.gguf");
    let table =
        ("token_embd.weight".to_owned(), Tensor::zeros((29, 16), DType::F32, device()).unwrap());
    let read = |change: &dyn Fn(&mut Metadata), tensors: &[(String, Tensor)]| {
        let mut metadata = metadata("llama", &small());
        change(&mut metadata);
        write(&path, &metadata, tensors);
        DecoderConfig::from_gguf(&Gguf::open(&path).unwrap())
    };
    let set = |key: &'static str, value: Value| {
        move |metadata: &mut Metadata| {
            metadata.retain(|(known, _)| known != key);
            metadata.push((key.to_owned(), value.clone()));
        }
    };
    let table = [table];
    let failed = |change: &dyn Fn(&mut Metadata)| message(read(change, &table));

    let expected = "GGUF: general.architecture is `mamba`, expected `llama` or `qwen2`";
    assert_eq!(failed(&set("general.architecture", text("mamba"))), expected);
    let without = |metadata: &mut Metadata| metadata.retain(|(key, _)| key != "llama.block_count");
    assert!(
        failed(&without).contains("no `llama.block_count` in its metadata"),
        "{}",
        failed(&without)
    );
    let wrong = set("llama.block_count", text("two"));
    assert!(failed(&wrong).contains("`llama.block_count` in its metadata is the text `two`"));
    let expected = "GGUF: llama.rope.scaling.type is `yarn`, expected `none` or `linear`";
    assert_eq!(failed(&set("llama.rope.scaling.type", text("yarn"))), expected);
    let expected = "hidden_size is 18, expected a multiple of num_attention_heads, 4";
    assert_eq!(failed(&set("llama.embedding_length", Value::U32(18))), expected);

    let linear = |metadata: &mut Metadata| {
        set("llama.rope.scaling.type", text("linear"))(metadata);
        set("llama.rope.scaling.factor", Value::F32(4.))(metadata);
    };
    assert_eq!(read(&linear, &table).unwrap().rope_scaling, RotaryScaling::Linear(4.));

    let norm = ("output_norm.weight".to_owned(), Tensor::zeros(16, DType::F32, device()).unwrap());
    let expected = "GGUF: there is no tensor `token_embd.weight`";
    assert_eq!(message(read(&|_| (), &[norm])), expected);
    let [table] = table;
    let factors = Tensor::new(&[1f32, 8.], device()).unwrap();
    let tensors = [table, ("rope_freqs.weight".to_owned(), factors)];
    let scaling = read(&|_| (), &tensors).unwrap().rope_scaling;
    assert_eq!(scaling, RotaryScaling::PerPair([1., 8.].into()));
}

#[test]
fn a_configuration_that_disagrees_with_the_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "llama", &small());
    let built = |config: &DecoderConfig| {
        let vb = Pretrained::open(&path).unwrap().var_builder(DType::F32, device()).unwrap();
        message(Decoder::with_config(config, vb))
    };
    let narrow = built(&DecoderConfig { intermediate_size: 20, ..small() });
    assert!(narrow.contains("model.layers.0.mlp.gate_proj.weight"), "{narrow}");
    assert!(narrow.contains("[24, 16]") && narrow.contains("[20, 16]"), "{narrow}");
    let deep = built(&DecoderConfig { num_hidden_layers: 3, ..small() });
    assert!(deep.contains("model.layers.2.input_layernorm.weight"), "{deep}");
    let untied = built(&DecoderConfig { tie_word_embeddings: false, ..small() });
    assert!(untied.contains("lm_head.weight"), "{untied}");
}
