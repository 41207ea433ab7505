//! What a decoder is made of, from the metadata of a GGUF file.

use candle_core::{Context, DType, Result, bail};
use hypernn::gguf::Gguf;
use hypernn::nn::RotaryScaling;

use super::config::{DecoderConfig, head_dim};

/// The architectures of llama.cpp that are this family; Mistral's files say `llama`.
const ARCHITECTURES: [&str; 2] = ["llama", "qwen2"];

/// The table of embeddings, as llama.cpp calls it, and the head that is not tied to it.
const TABLE: &str = "token_embd.weight";
const HEAD: &str = "output.weight";
/// What each frequency of the rotary embedding is divided by, where Llama 3.1 and later have their own scaling.
const FREQUENCIES: &str = "rope_freqs.weight";

impl DecoderConfig {
    /// That of a GGUF file of the architecture `llama` (with Mistral and SmolLM2) or `qwen2`.
    ///
    /// # Errors
    /// Another architecture, a key that is missing or of another type, another scaling of the rotary embedding than
    /// a linear one, or those of [`check`](Self::check).
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        let architecture = file.architecture()?;
        if !ARCHITECTURES.contains(&architecture) {
            bail!("GGUF: general.architecture is `{architecture}`, expected `llama` or `qwen2`");
        }
        let config = Keys { file, architecture }.config()?;
        config.check()?;
        Ok(config)
    }
}

/// The keys of one architecture.
struct Keys<'a> {
    file: &'a Gguf,
    architecture: &'a str,
}

impl Keys<'_> {
    fn size(&self, key: &str) -> Result<Option<usize>> {
        self.file.find(&self.key(key))
    }

    fn needed_size(&self, key: &str) -> Result<usize> {
        self.file.get(&self.key(key))
    }

    fn float(&self, key: &str) -> Result<Option<f64>> {
        self.file.find(&self.key(key))
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn config(&self) -> Result<DecoderConfig> {
        let hidden_size = self.needed_size("embedding_length")?;
        let heads = self.needed_size("attention.head_count")?;
        let head_dim = match self.size("attention.key_length")? {
            Some(head_dim) => head_dim,
            None => head_dim(hidden_size, heads)?,
        };
        Ok(DecoderConfig {
            vocab_size: self.vocab_size()?,
            hidden_size,
            intermediate_size: self.needed_size("feed_forward_length")?,
            num_hidden_layers: self.needed_size("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: self.size("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            max_position_embeddings: self.needed_size("context_length")?,
            rms_norm_eps: self.file.get(&self.key("attention.layer_norm_rms_epsilon"))?,
            rope_theta: self.float("rope.freq_base")?.unwrap_or(10_000.),
            rope_scaling: self.scaling()?,
            sliding_window: self.size("attention.sliding_window")?,
            qkv_bias: self.has("blk.0.attn_q.bias"),
            output_bias: self.has("blk.0.attn_output.bias"),
            mlp_bias: self.has("blk.0.ffn_gate.bias"),
            tie_word_embeddings: !self.has(HEAD),
            eos_token_ids: self.ends()?,
            bos_token_id: self.file.find("tokenizer.ggml.bos_token_id")?,
            recompute: false,
        })
    }

    fn has(&self, tensor: &str) -> bool {
        self.file.shape(tensor).is_some()
    }

    /// The number of rows of the table.
    fn vocab_size(&self) -> Result<usize> {
        let shape = self.file.shape(TABLE).and_then(|shape| shape.first().copied());
        shape.with_context(|| format!("GGUF: there is no tensor `{TABLE}`"))
    }

    fn scaling(&self) -> Result<RotaryScaling> {
        if self.has(FREQUENCIES) {
            let factors = self.file.tensor(FREQUENCIES)?.to_dtype(DType::F64)?;
            return Ok(RotaryScaling::PerPair(factors.flatten_all()?.to_vec1::<f64>()?.into()));
        }
        let key = self.key("rope.scaling.type");
        match self.file.find::<&str>(&key)? {
            None | Some("none") => Ok(RotaryScaling::None),
            Some("linear") => {
                Ok(RotaryScaling::Linear(self.file.get(&self.key("rope.scaling.factor"))?))
            }
            Some(other) => bail!("GGUF: {key} is `{other}`, expected `none` or `linear`"),
        }
    }

    /// The tokens that end a text, and those that end a turn.
    fn ends(&self) -> Result<Vec<u32>> {
        let keys = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
        let mut ends = Vec::new();
        for key in keys {
            ends.extend(self.file.find::<u32>(key)?.filter(|id| !ends.contains(id)));
        }
        Ok(ends)
    }
}
