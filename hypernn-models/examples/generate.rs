//! Asks a language model in a GGUF file.
//!
//! `cargo run --release --example generate -- SmolLM2-135M-Instruct.Q4_1.gguf "What is the capital of France?"`
//!
//! The question goes in as SmolLM2's chat; `--raw` takes it as the beginning of a text. `--quick` runs a small model
//! with random weights, which says nothing, to see that everything works.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use candle_nn::VarMap;
use clap::Parser;
use hypernn::gguf::Gguf;
use hypernn::{HyperTarget, Pretrained, seeded};
use hypernn_models::tokenizer::{self, Tokenizer};
use hypernn_models::{Decoder, DecoderConfig, GenerateOptions, Generation, Sampling, generate};

/// Asks a language model in a GGUF file.
#[derive(Parser)]
struct Args {
    /// The model: Llama, SmolLM2, Mistral or Qwen2
    #[arg(required_unless_present = "quick")]
    model: Option<PathBuf>,

    /// The question
    #[arg(required_unless_present = "quick")]
    question: Option<String>,

    /// The text goes in as it is, not as a chat
    #[arg(long)]
    raw: bool,

    /// The most tokens of the answer
    #[arg(long, default_value_t = 200)]
    tokens: usize,

    /// Choose at random; below 1, probable tokens more often [default: always the most probable]
    #[arg(long)]
    temperature: Option<f64>,

    /// With a temperature: choose among so many
    #[arg(long, requires = "temperature")]
    top_k: Option<usize>,

    /// With a temperature: choose among those whose probabilities add up to this
    #[arg(long, requires = "temperature")]
    top_p: Option<f64>,

    /// With a temperature: what the random numbers depend on
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// A small model with random weights
    #[arg(long)]
    quick: bool,
}

impl Args {
    fn options(&self, config: &DecoderConfig) -> GenerateOptions {
        let Self { tokens, temperature, top_k, top_p, seed, .. } = *self;
        let random = |temperature| Sampling::Random { temperature, top_k, top_p };
        let sampling = temperature.map_or(Sampling::Greedy, random);
        GenerateOptions { sampling, seed, ..GenerateOptions::greedy(config, tokens) }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    match (&args.model, &args.question) {
        (Some(model), Some(question)) => ask(&args, model, question),
        _ => quick(&args),
    }
}

fn ask(args: &Args, model: &PathBuf, question: &str) -> Result<()> {
    let file = Gguf::open(model)?;
    let (config, tokenizer) = (DecoderConfig::from_gguf(&file)?, tokenizer::from_gguf(&file)?);
    let vb = Pretrained::open(model)?.var_builder(DType::F32, &Device::Cpu)?;
    let decoder = Decoder::with_config(&config, vb)?;
    let prompt = match args.raw {
        true => question.to_owned(),
        false => tokenizer::smollm2_chat(&[("user", question)]),
    };
    let ids = tokenizer::encode(&tokenizer, &prompt, true)?;
    let start = Instant::now();
    let count = answer(&tokenizer, Generation::new(&decoder, &[ids], &args.options(&config))?)?;
    println!("\n\n{:.1} tokens a second", count as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

/// Prints the text as it comes, and gives the number of its tokens.
fn answer(tokenizer: &Tokenizer, generation: Generation<'_>) -> Result<usize> {
    let (mut text, mut shown) = (Vec::new(), 0);
    for tokens in generation {
        text.extend(tokens?.into_iter().flatten());
        let all = tokenizer::decode(tokenizer, &text)?;
        // A letter of several tokens shows once it is whole.
        if !all.ends_with('\u{fffd}') {
            print!("{}", all.get(shown..).context("the text changed")?);
            std::io::stdout().flush()?;
            shown = all.len();
        }
    }
    Ok(text.len())
}

/// Two prompts of a model that was never trained.
fn quick(args: &Args) -> Result<()> {
    let config = DecoderConfig::from_json(
        r#"{
            "model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true
        }"#,
    )?;
    let vb = seeded::var_builder(&VarMap::new(), args.seed, DType::F32, &Device::Cpu);
    let decoder = Decoder::with_config(&config, vb)?;
    let options = GenerateOptions { max_new_tokens: 8, ..args.options(&config) };
    for text in generate(&decoder, &[vec![1, 2, 3], vec![4]], &options)? {
        println!("{text:?}");
    }
    Ok(())
}
