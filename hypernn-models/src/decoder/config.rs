//! What a decoder is made of, from Hugging Face's `config.json`.

use std::path::Path;

use candle_core::{Context, Result, bail};
use serde::Deserialize;

use hypernn::nn::{RotaryConfig, RotaryConvention, RotaryScaling};

use crate::config_json;

/// The sizes and settings of a [`Decoder`](super::Decoder).
///
/// [`from_json`](Self::from_json) reads that of Hugging Face, [`from_gguf`](Self::from_gguf) that of llama.cpp. The
/// fields have Hugging Face's names where it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// The number of tokens that there are.
    pub vocab_size: usize,
    /// The width of a token's hidden state.
    pub hidden_size: usize,
    /// The width inside of the feed-forward layers.
    pub intermediate_size: usize,
    /// The number of blocks.
    pub num_hidden_layers: usize,
    /// The number of heads of queries.
    pub num_attention_heads: usize,
    /// The number of heads of keys and values, each of which serves a group of queries.
    pub num_key_value_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// The longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// What is added to the mean square in the norms.
    pub rms_norm_eps: f64,
    /// The base of the rotary embedding's wavelengths.
    pub rope_theta: f64,
    /// How the rotary embedding is stretched for longer sequences.
    pub rope_scaling: RotaryScaling,
    /// The number of tokens, itself included, that a token sees; all before it where there is none.
    pub sliding_window: Option<usize>,
    /// Whether queries, keys and values have biases, as in Qwen2.
    pub qkv_bias: bool,
    /// Whether the output of the attention has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward layers have biases.
    pub mlp_bias: bool,
    /// Whether the head is the table of embeddings, and no tensor of its own.
    pub tie_word_embeddings: bool,
    /// The tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// Whether the backward pass computes each block anew, so that no block's intermediate values are kept (see
    /// [`recompute`](hypernn::recompute())), which costs one more forward pass. A setting of the program: files have
    /// none.
    pub recompute: bool,
}

impl DecoderConfig {
    /// That of a `config.json`.
    ///
    /// # Errors
    /// The file can't be read, or those of [`from_json`](Self::from_json).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        config_json::open(path.as_ref(), Self::from_json)
    }

    /// That of the text of a `config.json`, for the model types `llama` (Llama 2 and 3, SmolLM2), `mistral` and
    /// `qwen2`.
    ///
    /// ```
    /// # fn main() -> candle_core::Result<()> {
    /// let config = hypernn_models::DecoderConfig::from_json(
    ///     r#"{
    ///         "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
    ///         "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    ///         "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000,
    ///         "hidden_act": "silu", "tie_word_embeddings": true, "eos_token_id": 2
    ///     }"#,
    /// )?;
    /// assert_eq!(config.head_dim, 64);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The text is no such configuration; another model type, activation or scaling of the rotary embedding; or
    /// those of [`check`](Self::check).
    pub fn from_json(json: &str) -> Result<Self> {
        let family = Family::of(&config_json::model_type(json)?)?;
        let config = config_json::parse::<Json>(json)?.config(family)?;
        config.check()?;
        Ok(config)
    }

    /// Looks for sizes that are zero or do not go together.
    ///
    /// # Errors
    /// The first such size, by name.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
            ("sliding_window", self.sliding_window.unwrap_or(1)),
        ];
        config_json::ensure_no_zero(&sizes)?;
        let (heads, groups) = (self.num_attention_heads, self.num_key_value_heads);
        if !heads.is_multiple_of(groups) {
            bail!(
                "num_attention_heads is {heads}, expected a multiple of num_key_value_heads, {groups}"
            );
        }
        if !self.head_dim.is_multiple_of(2) {
            bail!("head_dim is {}, expected an even number", self.head_dim);
        }
        Ok(())
    }

    /// This configuration, with a backward pass that computes each block anew, or not.
    #[must_use]
    pub fn with_recompute(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// The rotary embedding of so many positions.
    pub(crate) fn rotary(&self, max_positions: usize) -> RotaryConfig {
        RotaryConfig {
            head_dim: self.head_dim,
            max_positions,
            theta: self.rope_theta,
            scaling: self.rope_scaling.clone(),
            convention: RotaryConvention::Halves,
        }
    }
}

/// The width of a head where the file has none.
pub(super) fn head_dim(hidden_size: usize, heads: usize) -> Result<usize> {
    if heads == 0 || !hidden_size.is_multiple_of(heads) {
        bail!("hidden_size is {hidden_size}, expected a multiple of num_attention_heads, {heads}");
    }
    Ok(hidden_size / heads)
}

/// Which model of the family a file is of.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    Llama,
    Mistral,
    Qwen2,
}

impl Family {
    fn of(model_type: &str) -> Result<Self> {
        match model_type {
            "llama" => Ok(Self::Llama),
            "mistral" => Ok(Self::Mistral),
            "qwen2" => Ok(Self::Qwen2),
            other => {
                bail!(
                    "config.json: model_type is `{other}`, expected `llama`, `mistral` or `qwen2`"
                )
            }
        }
    }
}

/// What is read of a `config.json`.
#[derive(Deserialize)]
struct Json {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    /// In place of both, since transformers 5.
    rope_parameters: Option<Rope>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
    #[serde(default)]
    eos_token_id: Ids,
    bos_token_id: Option<u32>,
}

/// None, one or several tokens.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Ids {
    #[default]
    None,
    One(u32),
    Several(Vec<u32>),
}

impl Ids {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::None => Vec::new(),
            Self::One(id) => vec![id],
            Self::Several(ids) => ids,
        }
    }
}

#[derive(Deserialize)]
struct Rope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

impl Rope {
    fn scaling(&self) -> Result<RotaryScaling> {
        match self.rope_type.as_deref() {
            None | Some("default") => Ok(RotaryScaling::None),
            Some("linear") => Ok(RotaryScaling::Linear(needed(self.factor, "factor")?)),
            Some("llama3") => Ok(RotaryScaling::Llama3 {
                factor: needed(self.factor, "factor")?,
                low_freq_factor: needed(self.low_freq_factor, "low_freq_factor")?,
                high_freq_factor: needed(self.high_freq_factor, "high_freq_factor")?,
                original_max_positions: needed(
                    self.original_max_position_embeddings,
                    "original_max_position_embeddings",
                )?,
            }),
            Some(other) => bail!(
                "config.json: rope_scaling of type `{other}`, expected `default`, `linear` or `llama3`"
            ),
        }
    }
}

fn needed<T>(value: Option<T>, name: &str) -> Result<T> {
    value.with_context(|| format!("config.json: rope_scaling has no {name}"))
}

impl Json {
    fn config(self, family: Family) -> Result<DecoderConfig> {
        if let Some(other) = self.hidden_act.as_deref().filter(|act| *act != "silu") {
            bail!("config.json: hidden_act is `{other}`, expected `silu`");
        }
        let rope = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref());
        let theta = rope.and_then(|rope| rope.rope_theta).or(self.rope_theta);
        let bias = self.attention_bias.unwrap_or(false);
        let head_dim = match self.head_dim {
            Some(head_dim) => head_dim,
            None => head_dim(self.hidden_size, self.num_attention_heads)?,
        };
        Ok(DecoderConfig {
            sliding_window: self.window(family)?,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim,
            max_position_embeddings: self.max_position_embeddings,
            rms_norm_eps: self.rms_norm_eps,
            rope_theta: theta.unwrap_or(10_000.),
            rope_scaling: rope.map_or(Ok(RotaryScaling::None), Rope::scaling)?,
            qkv_bias: bias || family == Family::Qwen2,
            output_bias: bias && family == Family::Llama,
            mlp_bias: self.mlp_bias.unwrap_or(false),
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(false),
            eos_token_ids: self.eos_token_id.into_vec(),
            bos_token_id: self.bos_token_id,
            recompute: false,
        })
    }

    /// Qwen2 has a window that its files switch off, and that would be for some blocks alone.
    fn window(&self, family: Family) -> Result<Option<usize>> {
        match (family, self.use_sliding_window) {
            (Family::Mistral, _) => Ok(self.sliding_window),
            (Family::Qwen2, Some(true)) => {
                bail!("config.json: use_sliding_window is true, expected false for `qwen2`")
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// SmolLM2's, with more or other lines.
    fn json(model_type: &str, more: &str) -> String {
        format!(
            r#"{{"model_type": "{model_type}", "vocab_size": 100, "hidden_size": 36, "intermediate_size": 64,
                "num_hidden_layers": 2, "num_attention_heads": 9, "num_key_value_heads": 3,
                "max_position_embeddings": 128, "rms_norm_eps": 1e-5 {more}}}"#
        )
    }

    fn read(more: &str) -> DecoderConfig {
        DecoderConfig::from_json(&json("llama", more)).unwrap()
    }

    fn failed(json: &str) -> String {
        let text = DecoderConfig::from_json(json).unwrap_err().to_string();
        text.lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn what_a_file_leaves_out() {
        let config = read("");
        assert_eq!(
            (config.head_dim, config.rope_theta, config.rope_scaling),
            (4, 1e4, RotaryScaling::None)
        );
        assert!(!config.tie_word_embeddings && !config.qkv_bias && config.sliding_window.is_none());
        let alone = json("llama", "").replace(r#""num_key_value_heads": 3,"#, "");
        assert_eq!(DecoderConfig::from_json(&alone).unwrap().num_key_value_heads, 9);
    }

    #[test]
    fn biases_windows_and_ends_of_a_text() {
        let config = read(
            r#", "attention_bias": true, "mlp_bias": true, "eos_token_id": [2, 5], "bos_token_id": 1"#,
        );
        assert!(config.qkv_bias && config.output_bias && config.mlp_bias);
        assert_eq!((config.eos_token_ids, config.bos_token_id), (vec![2, 5], Some(1)));
        assert_eq!(read(r#", "eos_token_id": 7"#).eos_token_ids, [7]);
        let window = r#", "sliding_window": 16"#;
        assert_eq!(read(window).sliding_window, None);
        let read = |kind| DecoderConfig::from_json(&json(kind, window)).unwrap();
        assert_eq!(
            (read("mistral").sliding_window, read("qwen2").sliding_window),
            (Some(16), None)
        );
        assert!(read("qwen2").qkv_bias && !read("qwen2").output_bias && !read("mistral").qkv_bias);
    }

    #[test]
    fn both_forms_of_a_scaling() {
        let llama3 = r#""factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192"#;
        let old = read(&format!(
            r#", "rope_theta": 5e5, "rope_scaling": {{"rope_type": "llama3", {llama3}}}"#
        ));
        let new = read(&format!(
            r#", "rope_parameters": {{"rope_type": "llama3", "rope_theta": 5e5, {llama3}}}"#
        ));
        assert_eq!(old, new);
        assert_eq!(old.rope_theta, 5e5);
        assert!(matches!(
            old.rope_scaling,
            RotaryScaling::Llama3 { original_max_positions: 8192, .. }
        ));
        let linear = read(r#", "rope_scaling": {"type": "linear", "factor": 2.0}"#);
        assert_eq!(linear.rope_scaling, RotaryScaling::Linear(2.));
    }

    #[test]
    fn what_is_not_supported() {
        let expected = "config.json: model_type is `gpt2`, expected `llama`, `mistral` or `qwen2`";
        assert_eq!(failed(&json("gpt2", "")), expected);
        assert_eq!(failed("{}"), "config.json: there is no model_type");
        assert_eq!(failed("{"), "config.json: EOF while parsing an object at line 1 column 1");
        let expected = "config.json: missing field `vocab_size` at line 1 column 23";
        assert_eq!(failed(r#"{"model_type": "llama"}"#), expected);
        let failed = |more| failed(&json("llama", more));
        let expected = "config.json: hidden_act is `gelu`, expected `silu`";
        assert_eq!(failed(r#", "hidden_act": "gelu""#), expected);
        let expected =
            "config.json: rope_scaling of type `yarn`, expected `default`, `linear` or `llama3`";
        assert_eq!(failed(r#", "rope_scaling": {"rope_type": "yarn", "factor": 4.0}"#), expected);
        let expected = "config.json: rope_scaling has no factor";
        assert_eq!(failed(r#", "rope_scaling": {"type": "linear"}"#), expected);
        let qwen = json("qwen2", r#", "use_sliding_window": true"#);
        let expected = "config.json: use_sliding_window is true, expected false for `qwen2`";
        assert_eq!(super::tests::failed(&qwen), expected);
    }

    #[test]
    fn sizes_that_do_not_go_together() {
        let with = |key: &str, value: usize| {
            let text = json("llama", "");
            let at = text.find(&format!("\"{key}\": ")).unwrap() + key.len() + 4;
            let end = at + text[at..].find([',', ' ', '}', '\n']).unwrap();
            failed(&format!("{}{value}{}", &text[..at], &text[end..]))
        };
        let expected = "hidden_size is 37, expected a multiple of num_attention_heads, 9";
        assert_eq!(with("hidden_size", 37), expected);
        assert_eq!(with("hidden_size", 45), "head_dim is 5, expected an even number");
        let expected = "num_attention_heads is 9, expected a multiple of num_key_value_heads, 4";
        assert_eq!(with("num_key_value_heads", 4), expected);
        assert_eq!(with("num_hidden_layers", 0), "num_hidden_layers is 0, expected at least 1");
        let expected = "hidden_size is 36, expected a multiple of num_attention_heads, 0";
        assert_eq!(with("num_attention_heads", 0), expected);
    }

    #[test]
    fn a_file_that_is_not_there() {
        let message = DecoderConfig::open("no/such/config.json").unwrap_err().to_string();
        assert!(message.contains("no/such/config.json"), "{message}");
    }
}
