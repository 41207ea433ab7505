//! Tokenizers, by the crate [`tokenizers`], and the chats that SmolLM2 was trained on.

mod byte_level;
mod gguf;
mod sentence_piece;

use std::path::Path;

use candle_core::{Context, Error, Result};
pub use tokenizers::Tokenizer;

pub use gguf::from_gguf;

/// That of a `tokenizer.json`.
///
/// # Errors
/// The file can't be read, or is none.
pub fn open(path: impl AsRef<Path>) -> Result<Tokenizer> {
    let path = path.as_ref();
    Tokenizer::from_file(path).map_err(Error::msg).with_context(|| path.display().to_string())
}

/// Text to tokens. Names of special tokens in the text become these, as a chat needs it; `add_special` also puts in
/// front what the tokenizer puts in front of each text. Padding, which a `tokenizer.json` may ask for, is left out.
///
/// # Errors
/// The tokenizer's own.
pub fn encode(tokenizer: &Tokenizer, text: &str, add_special: bool) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode(text, add_special).map_err(Error::msg)?;
    let tokens = encoding.get_ids().iter().zip(encoding.get_attention_mask());
    Ok(tokens.filter(|(_, attended)| **attended != 0).map(|(id, _)| *id).collect())
}

/// Tokens to text, special ones left out.
///
/// # Errors
/// The tokenizer's own.
pub fn decode(tokenizer: &Tokenizer, tokens: &[u32]) -> Result<String> {
    tokenizer.decode(tokens, true).map_err(Error::msg)
}

/// A chat as the text that SmolLM2-Instruct was trained on, up to where its answer begins: pairs of role (`system`,
/// `user`, `assistant`) and content. Where the first is not `system`, the model's own system message comes before.
///
/// Other models have another text, as a Jinja template in `tokenizer_config.json`, or below
/// `tokenizer.chat_template` in the metadata of a GGUF file.
///
/// ```
/// let text = hypernn_models::tokenizer::smollm2_chat(&[("system", "Be brief."), ("user", "Hello")]);
/// assert_eq!(
///     text,
///     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
/// );
/// ```
pub fn smollm2_chat(messages: &[(&str, &str)]) -> String {
    const SYSTEM: (&str, &str) =
        ("system", "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
    let own = messages.first().is_some_and(|(role, _)| *role != "system");
    let all = own.then_some(&SYSTEM).into_iter().chain(messages);
    let mut text = String::new();
    for (role, content) in all {
        text.push_str(&format!("<|im_start|>{role}\n{content}<|im_end|>\n"));
    }
    text + "<|im_start|>assistant\n"
}
