//! SmolLM2-135M-Instruct of a GGUF file beside transformers and candle-transformers.
//!
//! It runs where `HYPERNN_SMOLLM2` names the file and `HYPERNN_PYTHON` a Python that has torch, transformers, gguf and
//! safetensors:
//!
//! ```sh
//! HYPERNN_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf HYPERNN_PYTHON=python3 \
//!     cargo test --release -p hypernn-models --test smollm2 -- --nocapture
//! ```

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use candle_core::{DType, IndexOp, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama;
use common::{distance, named, row};
use hypernn::gguf::Gguf;
use hypernn::{HyperTarget, Pretrained};
use hypernn_models::{
    Cache, Decoder, DecoderConfig, GenerateOptions, Sampling, generate, left_padded, tokenizer,
};
use hypernn_tests::device;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    records: Vec<Record>,
    texts: Vec<Text>,
    prompt_ms: f64,
    token_ms: f64,
}

#[derive(Deserialize)]
struct Record {
    prompt: String,
    ids: Vec<u32>,
    continuation: Vec<u32>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

/// What transformers says of the file, and its logits for each prompt.
fn reference(python: &Path, model: &Path) -> (Reference, Vec<Tensor>) {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smollm2.py");
    let status = Command::new(python).arg(script).arg(model).arg(folder.path()).status().unwrap();
    assert!(status.success(), "the script failed: {status}");
    let json = std::fs::read_to_string(folder.path().join("reference.json")).unwrap();
    let logits = folder.path().join("reference.safetensors");
    let logits: HashMap<_, _> = candle_core::safetensors::load(logits, device()).unwrap();
    let mut logits: Vec<_> = logits.into_iter().collect();
    logits.sort_by(|(first, _), (second, _)| first.cmp(second));
    (serde_json::from_str(&json).unwrap(), logits.into_iter().map(|(_, logits)| logits).collect())
}

struct Model {
    config: DecoderConfig,
    decoder: Decoder,
    vb: VarBuilder<'static>,
}

impl Model {
    fn open(path: &Path) -> Self {
        let config = DecoderConfig::from_gguf(&Gguf::open(path).unwrap()).unwrap();
        let vb = Pretrained::open(path).unwrap().var_builder(DType::F32, device()).unwrap();
        let decoder = Decoder::with_config(&config, vb.clone()).unwrap();
        Self { config, decoder, vb }
    }

    fn options(&self, max_new_tokens: usize) -> GenerateOptions {
        GenerateOptions { max_new_tokens, stop: Vec::new(), sampling: Sampling::Greedy, seed: 0 }
    }

    fn logits(&self, ids: &[u32]) -> Tensor {
        self.decoder.forward_with(&row(ids), None).unwrap().i(0).unwrap()
    }
}

#[test]
fn smollm2_is_as_transformers_and_candle_have_it() {
    let (Some(path), Some(python)) = (named("HYPERNN_SMOLLM2"), named("HYPERNN_PYTHON")) else {
        return;
    };
    let (reference, theirs) = reference(&python, &path);
    let model = Model::open(&path);
    println!("{}", tokens(&path, &reference));
    println!("{}", logits(&model, &reference, &theirs));
    println!("{}", beside_candle(&model, &reference));
    println!("{}", continuations(&model, &reference));
    println!("{}", speed(&model, &reference));
}

fn tokens(path: &Path, reference: &Reference) -> String {
    let tokenizer = tokenizer::from_gguf(&Gguf::open(path).unwrap()).unwrap();
    for Text { text, ids } in &reference.texts {
        let ours = tokenizer::encode(&tokenizer, text, false).unwrap();
        assert_eq!(ours, *ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ours, false).unwrap(), *text);
    }
    format!("tokens: {} texts as by its own tokenizer", reference.texts.len())
}

fn logits(model: &Model, reference: &Reference, theirs: &[Tensor]) -> String {
    let distances = reference.records.iter().zip(theirs).map(|(record, theirs)| {
        let distance = distance(&model.logits(&record.ids), theirs);
        assert!(distance < 1e-3, "{:?}: {distance}", record.prompt);
        distance
    });
    let largest = distances.fold(0., f64::max);
    // In a batch with padding, the last of each.
    let prompts: Vec<_> = reference.records.iter().map(|record| record.ids.clone()).collect();
    let (ids, mask) = left_padded(&prompts, 0, device()).unwrap();
    let last = model.decoder.hidden(&ids, mask.as_ref()).unwrap();
    let last = last.i((.., last.dim(1).unwrap() - 1)).unwrap().contiguous().unwrap();
    let last = model.decoder.head(&last).unwrap();
    let in_batch = theirs.iter().enumerate().map(|(at, theirs)| {
        let theirs = theirs.i(theirs.dim(0).unwrap() - 1).unwrap();
        distance(&last.i(at).unwrap(), &theirs)
    });
    let in_batch = in_batch.fold(0., f64::max);
    assert!(in_batch < 1e-3, "in a batch: {in_batch}");
    let size = theirs[0].abs().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    format!(
        "logits: {} prompts, at most {largest:.2e} from transformers', {in_batch:.2e} in a batch; mean size {size:.1}",
        theirs.len()
    )
}

fn beside_candle(model: &Model, reference: &Reference) -> String {
    let DecoderConfig { hidden_size, intermediate_size, vocab_size, num_hidden_layers, .. } =
        model.config;
    let config = llama::Config {
        hidden_size,
        intermediate_size,
        vocab_size,
        num_hidden_layers,
        num_attention_heads: model.config.num_attention_heads,
        num_key_value_heads: model.config.num_key_value_heads,
        rms_norm_eps: model.config.rms_norm_eps,
        rope_theta: model.config.rope_theta as f32,
        max_position_embeddings: 512,
        tie_word_embeddings: true,
        use_flash_attn: false,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
    };
    let theirs = llama::Llama::load(model.vb.clone(), &config).unwrap();
    let distances = reference.records.iter().map(|record| {
        let mut cache = llama::Cache::new(false, DType::F32, &config, device()).unwrap();
        let theirs = theirs.forward(&row(&record.ids), 0, &mut cache).unwrap();
        let ours = model.logits(&record.ids).i(record.ids.len() - 1).unwrap();
        let distance = distance(&ours, &theirs.i(0).unwrap());
        assert!(distance < 1e-4, "{:?}: {distance}", record.prompt);
        distance
    });
    format!("candle-transformers: at most {:.2e} from its logits", distances.fold(0., f64::max))
}

fn continuations(model: &Model, reference: &Reference) -> String {
    let prompts: Vec<_> = reference.records.iter().map(|record| record.ids.clone()).collect();
    let count = reference.records[0].continuation.len();
    let together = generate(&model.decoder, &prompts, &model.options(count)).unwrap();
    for (record, together) in reference.records.iter().zip(&together) {
        let Record { prompt, ids, continuation } = record;
        assert_eq!(together, continuation, "{prompt:?} in a batch");
        let alone =
            generate(&model.decoder, std::slice::from_ref(ids), &model.options(count)).unwrap();
        assert_eq!(alone[0], *continuation, "{prompt:?} alone");
        // Without a cache: what each prefix of the whole text says comes next.
        let whole: Vec<u32> = ids.iter().chain(continuation).copied().collect();
        let next = model.logits(&whole).argmax(1).unwrap().to_vec1::<u32>().unwrap();
        assert_eq!(
            next[ids.len() - 1..whole.len() - 1],
            continuation[..],
            "{prompt:?} without a cache"
        );
    }
    format!(
        "continuations: {} of {count} tokens equal, alone, in a batch and without a cache",
        reference.records.len()
    )
}

/// The fastest of three: milliseconds a token of a prompt of 256, and of 32 tokens behind it.
fn speed(model: &Model, reference: &Reference) -> String {
    let ids: Vec<u32> = (0..256).map(|at| at * 97 % 40_000 + 100).collect();
    let run = || {
        let mut cache = Cache::new(&model.config);
        let start = Instant::now();
        let hidden = model.decoder.hidden_cached(&row(&ids), None, &mut cache).unwrap();
        // As transformers does: the head at all positions.
        let mut logits = model.decoder.head(&hidden).unwrap().i((0, 255)).unwrap();
        let prompt = start.elapsed().as_secs_f64() * 1000. / 256.;
        let start = Instant::now();
        for _ in 0..32 {
            let next = logits.argmax(0).unwrap().to_scalar::<u32>().unwrap();
            let hidden = model.decoder.hidden_cached(&row(&[next]), None, &mut cache).unwrap();
            logits = model.decoder.head(&hidden).unwrap().i((0, 0)).unwrap();
        }
        (prompt, start.elapsed().as_secs_f64() * 1000. / 32.)
    };
    let runs: Vec<_> = (0..3).map(|_| run()).collect();
    let prompt = runs.iter().map(|(prompt, _)| *prompt).fold(f64::MAX, f64::min);
    let token = runs.iter().map(|(_, token)| *token).fold(f64::MAX, f64::min);
    format!(
        "tokens a second: prompt {:.0}, generation {:.1}; transformers {:.0} and {:.1}",
        1000. / prompt,
        1000. / token,
        1000. / reference.prompt_ms,
        1000. / reference.token_ms
    )
}
