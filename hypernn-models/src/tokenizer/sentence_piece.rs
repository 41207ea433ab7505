//! SentencePiece's BPE, as Llama 2 has it: spaces are a letter, `▁`, and letters that are no token are bytes.

use candle_core::{Error, Result};
use hypernn::gguf::Gguf;
use tokenizers::Tokenizer;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence};

use super::gguf::{ensure_one_each, token, vocabulary};

const SCORES: &str = "tokenizer.ggml.scores";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";

/// What SentencePiece writes for a space.
const SPACE: &str = "▁";

/// The tokenizer of a file, without the tokens that stand for themselves.
pub(super) fn from_gguf(file: &Gguf, tokens: &[&str]) -> Result<Tokenizer> {
    let vocabulary = vocabulary(tokens)?;
    let scores: Vec<f64> = file.get(SCORES)?;
    ensure_one_each(SCORES, scores.len(), tokens)?;
    let unknown = token(tokens, UNKNOWN, file.find(UNKNOWN)?.unwrap_or(0))?;
    let merges = merges(tokens, &scores, &vocabulary);
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .unk_token(unknown.to_owned())
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(Error::msg)?;
    let space_before = file.find("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer.with_normalizer(Some(normalizer(space_before)?)).map_err(Error::msg)?;
    tokenizer.with_decoder(Some(decoder(space_before)?));
    Ok(tokenizer)
}

/// All pairs of tokens that make a token, those of the best scores first: SentencePiece merges the two neighbours whose
/// token has the best score, and has no list of merges.
fn merges(tokens: &[&str], scores: &[f64], vocabulary: &Vocab) -> Merges {
    let mut found = Vec::new();
    for (token, score) in tokens.iter().zip(scores) {
        let cuts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        let ids = cuts.filter_map(|(first, second)| {
            Some((*vocabulary.get(first)?, *vocabulary.get(second)?))
        });
        found.extend(ids.map(|ids| (*score, ids)));
    }
    found.sort_by(|(left, ids), (right, others)| right.total_cmp(left).then(ids.cmp(others)));
    let text = |id: u32| tokens[id as usize].to_owned();
    found.into_iter().map(|(_, (first, second))| (text(first), text(second))).collect()
}

fn normalizer(space_before: bool) -> Result<Sequence> {
    let spaces = Replace::new(" ", SPACE).map_err(Error::msg)?;
    let mut steps: Vec<NormalizerWrapper> = vec![spaces.into()];
    if space_before {
        steps.insert(0, Prepend::new(SPACE.to_owned()).into());
    }
    Ok(Sequence::new(steps))
}

fn decoder(space_before: bool) -> Result<DecoderSequence> {
    let spaces = Replace::new(SPACE, " ").map_err(Error::msg)?;
    let mut steps: Vec<DecoderWrapper> =
        vec![spaces.into(), ByteFallback::new().into(), Fuse::new().into()];
    if space_before {
        steps.push(Strip::new(' ', 1, 0).into());
    }
    Ok(DecoderSequence::new(steps))
}
