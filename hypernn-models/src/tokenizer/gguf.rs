//! A tokenizer of a GGUF file's metadata.

use candle_core::{Context, Error, Result, bail};
use hypernn::gguf::Gguf;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, Tokenizer};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

/// The tokenizer of a GGUF file: byte-level BPE (`tokenizer.ggml.model` is `gpt2`) that splits text as `smollm`
/// (SmolLM2), `llama-bpe` (Llama 3), `qwen2` or `gpt-2` (`tokenizer.ggml.pre`).
///
/// # Errors
/// A key that is missing or of another type, another kind of tokenizer, a token of an unknown type, tokens of one
/// name, or a merge of what are no tokens.
pub fn from_gguf(file: &Gguf) -> Result<Tokenizer> {
    let kind: &str = file.get("tokenizer.ggml.model")?;
    if kind != "gpt2" {
        bail!(
            "GGUF: tokenizer.ggml.model is `{kind}`, expected `gpt2`: take the tokenizer.json of the model"
        );
    }
    let split = Splitting::of(file.get("tokenizer.ggml.pre")?)?;
    let tokens: Vec<&str> = file.get(TOKENS)?;
    let merges: Vec<&str> = file.get(MERGES)?;
    let bpe = bpe(&tokens, &merges, split.ignore_merges())?;
    let mut tokenizer = Tokenizer::new(bpe);
    if split == Splitting::Qwen2 {
        tokenizer.with_normalizer(Some(NFC)).map_err(Error::msg)?;
    }
    tokenizer.with_pre_tokenizer(Some(split.pre_tokenizer()?));
    tokenizer.with_decoder(Some(ByteLevelDecoder::new(false, true, true)));
    add_tokens(&mut tokenizer, &tokens, &file.get::<Vec<i64>>(TYPES)?)?;
    add_begin(&mut tokenizer, &tokens, file, split)?;
    Ok(tokenizer)
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

fn bpe(tokens: &[&str], merges: &[&str], ignore_merges: bool) -> Result<BPE> {
    let mut seen = std::collections::HashSet::new();
    if let Some(at) = tokens.iter().position(|token| !seen.insert(token)) {
        bail!("GGUF: token {at}, `{}`, is there before", tokens[at]);
    }
    let merges = merges.iter().enumerate().map(|(at, merge)| {
        let pair = merge.split_once(' ');
        let (first, second) =
            pair.with_context(|| format!("GGUF: merge {at} is `{merge}`, expected two tokens"))?;
        Ok((first.to_owned(), second.to_owned()))
    });
    let vocabulary = tokens.iter().zip(0u32..).map(|(token, id)| ((*token).to_owned(), id));
    BPE::builder()
        .vocab_and_merges(vocabulary.collect::<Vocab>(), merges.collect::<Result<_>>()?)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(Error::msg)
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
    if types.len() != tokens.len() {
        bail!(
            "GGUF: {TYPES} has {} entries, expected {}, one for each token",
            types.len(),
            tokens.len()
        );
    }
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
fn add_begin(
    tokenizer: &mut Tokenizer,
    tokens: &[&str],
    file: &Gguf,
    split: Splitting,
) -> Result<()> {
    let said: Option<bool> = file.find("tokenizer.ggml.add_bos_token")?;
    if !said.unwrap_or(split == Splitting::Llama3) {
        return Ok(());
    }
    let key = "tokenizer.ggml.bos_token_id";
    let id: u32 = file.get(key)?;
    let Some(token) = tokens.get(id as usize) else {
        bail!("GGUF: `{key}` is {id}, there are {} tokens", tokens.len());
    };
    let template = TemplateProcessing::builder()
        .try_single(vec![format!("{token}:0"), "$A:0".to_owned()])
        .map_err(Error::msg)?
        .special_tokens(vec![((*token).to_owned(), id)])
        .build()
        .map_err(Error::msg)?;
    tokenizer.with_post_processor(Some(template));
    Ok(())
}
