//! From text to tokens: by the model's tokenizer, or byte by byte for a model of random weights.

use anyhow::Result;
use hypernn_models::tokenizer::{self, Tokenizer};

/// What turns text into tokens.
pub enum Words {
    /// The model's own tokenizer.
    Tokens(Box<Tokenizer>),
    /// Each byte is a token.
    Bytes,
}

impl Words {
    /// The tokens of a text.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Tokens(tokenizer) => Ok(tokenizer::encode(tokenizer, text, false)?),
            Self::Bytes => Ok(text.bytes().map(u32::from).collect()),
        }
    }

    /// The text of tokens, without those that end it.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        match self {
            Self::Tokens(tokenizer) => Ok(tokenizer::decode(tokenizer, tokens)?),
            Self::Bytes => {
                let bytes: Vec<_> =
                    tokens.iter().filter_map(|token| u8::try_from(*token).ok()).collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
        }
    }
}
