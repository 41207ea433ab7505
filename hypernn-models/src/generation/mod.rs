//! Texts that a decoder goes on with, token by token.

mod sampling;

use candle_core::{DType, Device, IndexOp, Result, Tensor, bail};

use crate::decoder::{Cache, Decoder, DecoderConfig};
use crate::padding::left_padded;
use sampling::Sampler;
pub use sampling::Sampling;

/// How a text is gone on with.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// The most tokens that are generated for each prompt.
    pub max_new_tokens: usize,
    /// The tokens that end a text; they are not part of it.
    pub stop: Vec<u32>,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// What random numbers depend on, with the number of the prompt in its batch.
    pub seed: u64,
}

impl GenerateOptions {
    /// The most probable token each time, until one that ends a text by the model's configuration.
    pub fn greedy(config: &DecoderConfig, max_new_tokens: usize) -> Self {
        let stop = config.eos_token_ids.clone();
        Self { max_new_tokens, stop, sampling: Sampling::Greedy, seed: 0 }
    }
}

/// The tokens that follow each prompt, without those that end a text.
///
/// Prompts may differ in length: the shorter ones get padding in front, which no token sees, so that each goes on as
/// it would by itself, up to rounding. A text ends by itself where it fills the model's context.
///
/// Over generated parameters, `params.detach().unpack()?` is the decoder, and with several sets each run of
/// `prompts / sets` prompts uses its own: sixteen prompts with sixteen adapters go through the base together.
///
/// ```
/// use candle_core::{DType, Device};
/// use hypernn::HyperTarget;
/// use hypernn::nn::{VarBuilder, VarMap};
/// use hypernn_models::{Decoder, DecoderConfig, GenerateOptions, generate};
///
/// # fn main() -> candle_core::Result<()> {
/// # let config = DecoderConfig::from_json(
/// #     r#"{
/// #         "model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64,
/// #         "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
/// #         "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true
/// #     }"#,
/// # )?;
/// # let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let decoder = Decoder::with_config(&config, vb)?;
/// let prompts = [vec![1, 2, 3], vec![4]];
/// let texts = generate(&decoder, &prompts, &GenerateOptions::greedy(&config, 5))?;
/// assert_eq!((texts.len(), texts[0].len()), (2, 5));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`Generation::new`], or the decoder's own.
pub fn generate(
    decoder: &Decoder,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
) -> Result<Vec<Vec<u32>>> {
    let mut texts = vec![Vec::new(); prompts.len()];
    for tokens in Generation::new(decoder, prompts, options)? {
        for (text, token) in texts.iter_mut().zip(tokens?) {
            text.extend(token);
        }
    }
    Ok(texts)
}

/// A generation in progress: an iterator over the next token of each prompt, none for those whose text has ended.
pub struct Generation<'a> {
    decoder: &'a Decoder,
    options: GenerateOptions,
    cache: Cache,
    rows: Vec<Row>,
    device: Device,
    /// What the decoder sees next, and which of it is no padding.
    next: (Tensor, Option<Tensor>),
    generated: usize,
}

/// The text of one prompt.
struct Row {
    sampler: Sampler,
    /// The number of tokens, the prompt's included.
    len: usize,
    ended: bool,
}

impl std::fmt::Debug for Generation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { options, generated, .. } = self;
        f.debug_struct("Generation")
            .field("options", options)
            .field("prompts", &self.rows.len())
            .field("generated", generated)
            .finish_non_exhaustive()
    }
}

/// Asked of the tokens here, for on a device an index out of range ends the program.
fn check_prompt(at: usize, prompt: &[u32], config: &DecoderConfig) -> Result<()> {
    let (len, context) = (prompt.len(), config.max_position_embeddings);
    if len > context {
        bail!("prompt {at} has {len} tokens, expected at most {context}, the model's context");
    }
    let vocabulary = config.vocab_size;
    if let Some(token) = prompt.iter().find(|token| **token as usize >= vocabulary) {
        bail!("prompt {at} has token {token}, expected one of the vocabulary, below {vocabulary}");
    }
    Ok(())
}

impl<'a> Generation<'a> {
    /// Nothing is computed yet.
    ///
    /// # Errors
    /// There is no prompt, one is empty, longer than the model's context or of a token that is not in its vocabulary, or
    /// a setting is out of range.
    pub fn new(
        decoder: &'a Decoder,
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
    ) -> Result<Self> {
        options.sampling.check()?;
        for (at, prompt) in prompts.iter().enumerate() {
            check_prompt(at, prompt, decoder.config())?;
        }
        let device = decoder.device();
        let next = left_padded(prompts, 0, &device)?;
        let row = |(at, prompt): (usize, &Vec<u32>)| Row {
            sampler: Sampler::new(options.seed, at as u64),
            len: prompt.len(),
            ended: false,
        };
        let rows = prompts.iter().enumerate().map(row).collect();
        let cache = Cache::new(decoder.config());
        Ok(Self { decoder, options: options.clone(), cache, rows, device, next, generated: 0 })
    }

    fn step(&mut self) -> Result<Vec<Option<u32>>> {
        let (ids, mask) = &self.next;
        let hidden = self.decoder.hidden_cached(ids, mask.as_ref(), &mut self.cache)?;
        let last = hidden.i((.., hidden.dim(1)? - 1..))?.contiguous()?;
        let logits =
            self.decoder.head(&last)?.squeeze(1)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let tokens = self.tokens(&logits)?;
        self.generated += 1;
        self.next = self.inputs(&tokens)?;
        Ok(tokens)
    }

    /// The next token of each text that has not ended.
    fn tokens(&mut self, logits: &[Vec<f32>]) -> Result<Vec<Option<u32>>> {
        let context = self.decoder.config().max_position_embeddings;
        let Self { rows, options, .. } = self;
        let token = |(row, logits): (&mut Row, &Vec<f32>)| {
            if row.ended {
                return Ok(None);
            }
            let token = row.sampler.sample(logits, &options.sampling)?;
            let stops = options.stop.contains(&token);
            // A token behind the context is the text's last: nothing can be asked of it.
            row.ended = stops || row.len == context;
            row.len += 1;
            Ok((!stops).then_some(token))
        };
        rows.iter_mut().zip(logits).map(token).collect()
    }

    /// What the decoder sees next. Texts that have ended go on with padding, which takes none of their context.
    fn inputs(&self, tokens: &[Option<u32>]) -> Result<(Tensor, Option<Tensor>)> {
        let ids = Tensor::from_iter(tokens.iter().map(|token| token.unwrap_or(0)), &self.device)?;
        let some_ended = self.rows.iter().any(|row| row.ended);
        let mask = some_ended.then(|| {
            let there = self.rows.iter().map(|row| u8::from(!row.ended));
            Tensor::from_iter(there, &self.device)?.unsqueeze(1)
        });
        Ok((ids.unsqueeze(1)?, mask.transpose()?))
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Vec<Option<u32>>>;

    fn next(&mut self) -> Option<Self::Item> {
        let over = self.generated == self.options.max_new_tokens;
        if over || self.rows.iter().all(|row| row.ended) {
            return None;
        }
        let tokens = self.step();
        if tokens.is_err() {
            self.rows.iter_mut().for_each(|row| row.ended = true);
        }
        Some(tokens)
    }
}
