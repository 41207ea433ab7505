//! Adapters of SmolLM2-135M-Instruct, beside transformers with PEFT and beside llama.cpp.
//!
//! It runs where `HYPERNN_SMOLLM2` names the GGUF file of the model and `HYPERNN_PYTHON` a Python that has torch,
//! transformers, peft, gguf, safetensors and llama_cpp:
//!
//! ```sh
//! HYPERNN_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf HYPERNN_PYTHON=python3 \
//!     cargo test --release -p hypernn-models --test smollm2_adapters -- --nocapture
//! ```

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::File;
use std::path::Path;
use std::process::Command;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{DType, Device};
use common::{distance, named, row};
use hypernn::gguf::Gguf;
use hypernn::nn::{VarBuilder, VarMap};
use hypernn::{GeneratedParams, Pretrained, hypernetwork, seeded};
use hypernn_models::{Decoder, DecoderConfig, GenerateOptions, Sampling, generate, tokenizer};
use hypernn_tests::device;

hypernetwork! {
    struct Adapters for Decoder {
        config: DecoderConfig,
        roles: [("*.q_proj.weight", lora(8, 16.)), ("*.v_proj.weight", lora(8, 16.)), ("*", freeze)],
        embedding: table(1, 4),
        generator: linear,
        mode: static,
    }
}

hypernetwork! {
    /// As the adapter that PEFT makes.
    struct Theirs for Decoder {
        config: DecoderConfig,
        roles: [
            ("*.q_proj.weight", lora(4, 8.)),
            ("*.o_proj.weight", lora(4, 8.)),
            ("*.down_proj.weight", lora(4, 8.)),
            ("*", freeze),
        ],
        embedding: table(1, 4),
        generator: linear,
        mode: static,
    }
}

/// 64 texts that begin alike and differ.
fn prompts(model: &Gguf) -> Vec<Vec<u32>> {
    let starts = [
        "The capital of",
        "A story about",
        "How to live in",
        "In 1969,",
        "def",
        "12 + 7 =",
        "Q: where is",
        "x",
    ];
    let ends = [
        "France",
        "the sea",
        "a small town\n",
        "(n):",
        "9",
        "Übergröße",
        "the moon? A:",
        "quick brown",
    ];
    let tokenizer = tokenizer::from_gguf(model).unwrap();
    let texts = starts.iter().flat_map(|start| ends.map(|end| format!("{start} {end}")));
    texts.map(|text| tokenizer::encode(&tokenizer, &text, false).unwrap()).collect()
}

/// An adapter that changes what the model says.
fn adapter(hyper: &Adapters) -> GeneratedParams<Decoder> {
    let vb = seeded::var_builder(&VarMap::new(), 5, DType::F32, device());
    let bound = hypernn::nn::Init::Uniform { lo: -0.05, up: 0.05 };
    let flat = vb.get_with_hints(hyper.num_target_params(), "flat", bound).unwrap();
    hyper.params_from_flat(&flat).unwrap()
}

/// The model with its tensors in f32: with quantised weights, llama.cpp rounds what they are multiplied by.
fn dequantise(model: &Gguf, path: &Path) {
    let tensors = model.tensor_names().into_iter();
    let wide = |name| QTensor::quantize(&model.tensor(name).unwrap(), GgmlDType::F32).unwrap();
    let tensors: Vec<_> = tensors.map(|name| (name, wide(name))).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let metadata: Vec<_> =
        model.metadata().iter().map(|(key, value)| (key.as_str(), value)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

/// The largest distance from logits in a file, one tensor for each prompt.
fn farthest(params: &GeneratedParams<Decoder>, prompts: &[Vec<u32>], path: &Path) -> f64 {
    let theirs = candle_core::safetensors::load(path, device()).unwrap();
    assert_eq!(theirs.len(), prompts.len());
    let decoder = params.unpack().unwrap();
    let distances = prompts.iter().enumerate().map(|(at, ids)| {
        let ours = decoder.forward_with(&row(ids), None).unwrap().squeeze(0).unwrap();
        distance(&ours, &theirs[&format!("{at:02}")])
    });
    distances.fold(0., f64::max)
}

fn vb() -> VarBuilder<'static> {
    VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu)
}

#[test]
fn adapters_are_as_peft_and_llama_cpp_have_them() {
    let (Some(path), Some(python)) = (named("HYPERNN_SMOLLM2"), named("HYPERNN_PYTHON")) else {
        return;
    };
    let (dir, model) = (tempfile::tempdir().unwrap(), Gguf::open(&path).unwrap());
    let config = DecoderConfig::from_gguf(&model).unwrap();
    let prompts = prompts(&model);
    let at = |name: &str| dir.path().join(name);
    serde_json::to_writer(File::create(at("prompts.json")).unwrap(), &prompts).unwrap();
    let hyper = Adapters::new_from(&config, vb(), Pretrained::open(&path).unwrap()).unwrap();
    let params = adapter(&hyper);
    params.save_peft(at("adapter")).unwrap();
    params.save_gguf_lora(at("adapter.gguf"), &model).unwrap();
    dequantise(&model, &at("f32.gguf"));

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smollm2_adapters.py");
    let status = Command::new(python).arg(script).arg(dir.path()).arg(path.as_path()).status();
    assert!(status.unwrap().success());

    let base = Adapters::new_from(&config, vb(), Pretrained::open(&path).unwrap()).unwrap();
    let base = base.generate_params().unwrap();
    let unadapted = farthest(&base, &prompts, &at("ours.safetensors"));
    assert!(unadapted > 1., "the adapter changes little: {unadapted}");
    let ours = farthest(&params, &prompts, &at("ours.safetensors"));
    assert!(ours < 1e-3, "{ours}");
    let start = Pretrained::open(&path).unwrap();
    let theirs = Theirs::new_from(&config, vb(), start).unwrap().load_peft(at("theirs")).unwrap();
    let theirs = farthest(&theirs, &prompts, &at("theirs.safetensors"));
    assert!(theirs < 1e-3, "{theirs}");
    println!(
        "{} prompts: at most {ours:.2e} from PEFT with an adapter of ours, {theirs:.2e} with one of PEFT's; without an adapter {unadapted:.1}",
        prompts.len()
    );
    println!("llama.cpp: {}", continuations(&params, &prompts, &at("continuations.json")));
}

/// Greedy tokens, in one batch, beside llama.cpp's.
fn continuations(params: &GeneratedParams<Decoder>, prompts: &[Vec<u32>], path: &Path) -> String {
    let theirs: Vec<Vec<u32>> = serde_json::from_reader(File::open(path).unwrap()).unwrap();
    let max_new_tokens = theirs[0].len();
    let options =
        GenerateOptions { max_new_tokens, stop: Vec::new(), sampling: Sampling::Greedy, seed: 0 };
    let ours = generate(&params.unpack().unwrap(), prompts, &options).unwrap();
    for ((ours, theirs), prompt) in ours.iter().zip(&theirs).zip(prompts) {
        assert_eq!(ours, theirs, "{prompt:?}");
    }
    format!("{} continuations of {max_new_tokens} tokens are equal", ours.len())
}
