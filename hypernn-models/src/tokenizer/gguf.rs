//! A tokenizer of a GGUF file's metadata.

use candle_core::{Error, Result, bail};
use hypernn::gguf::Gguf;
use tokenizers::models::bpe::Vocab;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use super::{byte_level, sentence_piece};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";

/// The tokenizer of a GGUF file: byte-level BPE (`tokenizer.ggml.model` is `gpt2`) that splits text as `smollm`
/// (SmolLM2), `llama-bpe` (Llama 3), `qwen2` or `gpt-2` (`tokenizer.ggml.pre`), or SentencePiece's BPE (`llama`: Llama 2,
/// Mistral).
///
/// # Errors
/// A key that is missing or of another type, another kind of tokenizer, a token of an unknown type, tokens of one
/// name, or a merge of what are no tokens.
pub fn from_gguf(file: &Gguf) -> Result<Tokenizer> {
    let tokens: Vec<&str> = file.get(TOKENS)?;
    let (mut tokenizer, begins) = match file.get("tokenizer.ggml.model")? {
        "gpt2" => byte_level::from_gguf(file, &tokens)?,
        "llama" => (sentence_piece::from_gguf(file, &tokens)?, true),
        kind => bail!(
            "GGUF: tokenizer.ggml.model is `{kind}`, expected `gpt2` or `llama`: take the tokenizer.json of the model"
        ),
    };
    add_tokens(&mut tokenizer, &tokens, &file.get::<Vec<i64>>(TYPES)?)?;
    add_begin(&mut tokenizer, &tokens, file, begins)?;
    Ok(tokenizer)
}

/// The numbers of tokens, each of which is there once.
pub(super) fn vocabulary(tokens: &[&str]) -> Result<Vocab> {
    let mut vocabulary = Vocab::new();
    for (token, id) in tokens.iter().zip(0u32..) {
        if vocabulary.insert((*token).to_owned(), id).is_some() {
            bail!("GGUF: token {id}, `{token}`, is there before");
        }
    }
    Ok(vocabulary)
}

/// Checks that a list has an entry for each token.
pub(super) fn ensure_one_each(key: &str, found: usize, tokens: &[&str]) -> Result<()> {
    let expected = tokens.len();
    if found != expected {
        bail!("GGUF: {key} has {found} entries, expected {expected}, one for each token");
    }
    Ok(())
}

/// The token of a number that a key names.
pub(super) fn token<'a>(tokens: &[&'a str], key: &str, id: u32) -> Result<&'a str> {
    let Some(token) = tokens.get(id as usize) else {
        bail!("GGUF: `{key}` is {id}, there are {} tokens", tokens.len());
    };
    Ok(token)
}

/// What a token is, by llama.cpp's numbers.
enum TokenType {
    /// It is made by merges.
    Merged,
    /// It stands for itself in any text, and in what is decoded.
    User,
    /// It stands for itself in any text, and is left out of what is decoded.
    Special,
}

impl TokenType {
    fn of(at: usize, token: &str, found: i64) -> Result<Self> {
        match found {
            // Normal, unused, a byte.
            1 | 5 | 6 => Ok(Self::Merged),
            // Unknown, control.
            2 | 3 => Ok(Self::Special),
            4 => Ok(Self::User),
            _ => bail!("GGUF: the type of token {at}, `{token}`, is {found}, expected 1 to 6"),
        }
    }
}

fn add_tokens(tokenizer: &mut Tokenizer, tokens: &[&str], types: &[i64]) -> Result<()> {
    ensure_one_each(TYPES, types.len(), tokens)?;
    for (at, (token, found)) in tokens.iter().zip(types).enumerate() {
        let special = match TokenType::of(at, token, *found)? {
            TokenType::Merged => continue,
            TokenType::Special => true,
            TokenType::User => false,
        };
        let added = AddedToken::from(*token, special).normalized(false);
        match special {
            true => tokenizer.add_special_tokens([added]),
            false => tokenizer.add_tokens([added]),
        }
        .map_err(Error::msg)?;
    }
    Ok(())
}

/// Puts the token that begins a text in front, where the file says so, or says nothing and the kind does.
fn add_begin(tokenizer: &mut Tokenizer, tokens: &[&str], file: &Gguf, begins: bool) -> Result<()> {
    let said: Option<bool> = file.find("tokenizer.ggml.add_bos_token")?;
    if !said.unwrap_or(begins) {
        return Ok(());
    }
    let key = "tokenizer.ggml.bos_token_id";
    let id: u32 = file.get(key)?;
    let token = token(tokens, key, id)?;
    let template = TemplateProcessing::builder()
        .try_single(vec![format!("{token}:0"), "$A:0".to_owned()])
        .map_err(Error::msg)?
        .special_tokens(vec![(token.to_owned(), id)])
        .build()
        .map_err(Error::msg)?;
    tokenizer.with_post_processor(Some(template));
    Ok(())
}
