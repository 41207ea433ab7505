//! What an encoder is made of, from Hugging Face's `config.json`.

use std::path::Path;

use candle_core::{Result, Tensor, bail};
use serde::Deserialize;

use crate::config_json;

/// The sizes and settings of an [`Encoder`](super::Encoder), by Hugging Face's names.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    /// The number of tokens that there are.
    pub vocab_size: usize,
    /// The width of a token's hidden state.
    pub hidden_size: usize,
    /// The width inside of the feed-forward layers.
    pub intermediate_size: usize,
    /// The number of blocks.
    pub num_hidden_layers: usize,
    /// The number of heads.
    pub num_attention_heads: usize,
    /// The longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// The number of segments.
    pub type_vocab_size: usize,
    /// What is added to the variance in the norms.
    pub layer_norm_eps: f64,
    /// The activation of the feed-forward layers.
    pub hidden_act: Activation,
}

/// An activation, by Hugging Face's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Φ(x)`, with the error function.
    Gelu,
    /// The same by a hyperbolic tangent.
    #[serde(alias = "gelu_pytorch_tanh")]
    GeluNew,
    /// `max(x, 0)`.
    Relu,
    /// `x / (1 + e⁻ˣ)`.
    #[serde(alias = "swish")]
    Silu,
}

impl Activation {
    pub(super) fn apply(self, xs: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu => xs.gelu_erf(),
            Self::GeluNew => xs.gelu(),
            Self::Relu => hypernn::nn::relu(xs),
            Self::Silu => xs.silu(),
        }
    }
}

/// What of it a layer behind attention or feed-forward needs.
#[derive(Clone, Copy)]
pub struct OutputConfig {
    pub(super) input: usize,
    pub(super) hidden_size: usize,
    pub(super) layer_norm_eps: f64,
}

impl EncoderConfig {
    /// That of a `config.json`.
    ///
    /// # Errors
    /// The file can't be read, or those of [`from_json`](Self::from_json).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        config_json::open(path.as_ref(), Self::from_json)
    }

    /// That of the text of a `config.json`, for the model type `bert`.
    ///
    /// # Errors
    /// The text is no such configuration, or another model type, activation or kind of places; or those of
    /// [`check`](Self::check).
    pub fn from_json(json: &str) -> Result<Self> {
        let model_type = config_json::model_type(json)?;
        if model_type != "bert" {
            bail!("config.json: model_type is `{model_type}`, expected `bert`");
        }
        let config = config_json::parse::<Json>(json)?.config()?;
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
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        config_json::ensure_no_zero(&sizes)?;
        let (width, heads) = (self.hidden_size, self.num_attention_heads);
        if !width.is_multiple_of(heads) {
            bail!("hidden_size is {width}, expected a multiple of num_attention_heads, {heads}");
        }
        Ok(())
    }

    pub(super) fn output_of(&self, input: usize) -> OutputConfig {
        let Self { hidden_size, layer_norm_eps, .. } = *self;
        OutputConfig { input, hidden_size, layer_norm_eps }
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
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    layer_norm_eps: Option<f64>,
    hidden_act: Activation,
    position_embedding_type: Option<String>,
}

fn two() -> usize {
    2
}

impl Json {
    fn config(self) -> Result<EncoderConfig> {
        if let Some(other) = self.position_embedding_type.filter(|kind| kind != "absolute") {
            bail!("config.json: position_embedding_type is `{other}`, expected `absolute`");
        }
        Ok(EncoderConfig {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            max_position_embeddings: self.max_position_embeddings,
            type_vocab_size: self.type_vocab_size,
            layer_norm_eps: self.layer_norm_eps.unwrap_or(1e-12),
            hidden_act: self.hidden_act,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MINILM: &str = r#"{"model_type": "bert", "vocab_size": 30522, "hidden_size": 384,
        "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12,
        "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
        "position_embedding_type": "absolute"}"#;

    fn failed(from: &str, to: &str) -> String {
        assert!(MINILM.contains(from));
        let text = EncoderConfig::from_json(&MINILM.replace(from, to)).unwrap_err().to_string();
        text.lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_sentence_encoder() {
        let config = EncoderConfig::from_json(MINILM).unwrap();
        assert_eq!((config.hidden_size, config.hidden_act), (384, Activation::Gelu));
        let other = EncoderConfig::from_json(&MINILM.replace("\"gelu\"", "\"gelu_new\"")).unwrap();
        assert_eq!(other.hidden_act, Activation::GeluNew);
    }

    #[test]
    fn what_is_not_supported() {
        let expected = "config.json: model_type is `roberta`, expected `bert`";
        assert_eq!(failed("\"bert\"", "\"roberta\""), expected);
        let expected =
            "config.json: position_embedding_type is `relative_key`, expected `absolute`";
        assert_eq!(failed("absolute", "relative_key"), expected);
        let expected = "config.json: unknown variant `mish`, expected one of `gelu`, `gelu_new`, `gelu_pytorch_tanh`, `relu`, `silu`, `swish`";
        assert!(failed("\"gelu\"", "\"mish\"").starts_with(expected));
        let expected = "hidden_size is 385, expected a multiple of num_attention_heads, 12";
        assert_eq!(failed("384", "385"), expected);
        assert_eq!(
            failed("\"num_hidden_layers\": 6", "\"num_hidden_layers\": 0"),
            "num_hidden_layers is 0, expected at least 1"
        );
    }
}
