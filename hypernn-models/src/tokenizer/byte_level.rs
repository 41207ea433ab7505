//! Byte-level BPE, as GPT-2 has it: text is cut into parts, and what is merged are their bytes, each a letter of its own.

use candle_core::{Context, Error, Result, bail};
use hypernn::gguf::Gguf;
use tokenizers::Tokenizer;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use super::gguf::vocabulary;

/// The tokenizer of a file, without the tokens that stand for themselves; and whether a text begins with a token of its
/// own where the file does not say.
pub(super) fn from_gguf(file: &Gguf, tokens: &[&str]) -> Result<(Tokenizer, bool)> {
    let split = Splitting::of(file.get("tokenizer.ggml.pre")?)?;
    let merges = merges(&file.get::<Vec<&str>>("tokenizer.ggml.merges")?)?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary(tokens)?, merges)
        .ignore_merges(split.ignore_merges())
        .build()
        .map_err(Error::msg)?;
    let mut tokenizer = Tokenizer::new(bpe);
    if split == Splitting::Qwen2 {
        tokenizer.with_normalizer(Some(NFC)).map_err(Error::msg)?;
    }
    tokenizer.with_pre_tokenizer(Some(split.pre_tokenizer()?));
    tokenizer.with_decoder(Some(ByteLevelDecoder::new(false, true, true)));
    Ok((tokenizer, split == Splitting::Llama3))
}

fn merges(merges: &[&str]) -> Result<Merges> {
    let pair = |(at, merge): (usize, &&str)| {
        let pair = merge.split_once(' ');
        let (first, second) =
            pair.with_context(|| format!("GGUF: merge {at} is `{merge}`, expected two tokens"))?;
        Ok((first.to_owned(), second.to_owned()))
    };
    merges.iter().enumerate().map(pair).collect()
}

/// How text is cut before tokens are looked for in its parts.
#[derive(Clone, Copy, PartialEq)]
enum Splitting {
    Gpt2,
    Llama3,
    Qwen2,
    SmolLm,
}

/// The split of Llama 3; Qwen2's takes digits one by one.
macro_rules! llama3_split {
    ($digits:literal) => {
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

impl Splitting {
    fn of(pre: &str) -> Result<Self> {
        match pre {
            "gpt-2" | "gpt2" => Ok(Self::Gpt2),
            "llama-bpe" | "llama3" | "llama-v3" => Ok(Self::Llama3),
            "qwen2" => Ok(Self::Qwen2),
            "smollm" => Ok(Self::SmolLm),
            other => bail!(
                "GGUF: tokenizer.ggml.pre is `{other}`, expected `smollm`, `llama-bpe`, `qwen2` or `gpt-2`: take the tokenizer.json of the model"
            ),
        }
    }

    /// Whether a part that is a token is taken whole, as llama.cpp does for Llama 3.
    fn ignore_merges(self) -> bool {
        self == Self::Llama3
    }

    fn pre_tokenizer(self) -> Result<PreTokenizerWrapper> {
        // No space is put in front; GPT-2's own split, or ours before.
        let bytes = |own_split| ByteLevel::new(false, true, own_split).into();
        let parts = match self {
            Self::Gpt2 => vec![bytes(true)],
            Self::SmolLm => vec![Digits::new(true).into(), bytes(true)],
            Self::Llama3 => vec![split(llama3_split!(r"\p{N}{1,3}"))?, bytes(false)],
            Self::Qwen2 => vec![split(llama3_split!(r"\p{N}"))?, bytes(false)],
        };
        Ok(Sequence::new(parts).into())
    }
}

fn split(pattern: &str) -> Result<PreTokenizerWrapper> {
    let pattern = SplitPattern::Regex(pattern.to_owned());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(Error::msg)?;
    Ok(split.into())
}
