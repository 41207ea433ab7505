//! Tokenizers that are built from the metadata of a GGUF file.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::File;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Tensor};
use common::message;
use hypernn::gguf::Gguf;
use hypernn_models::tokenizer::{Tokenizer, decode, encode, from_gguf};
use hypernn_tests::device;
use tokenizers::{PaddingParams, PaddingStrategy};

/// A vocabulary of special tokens, the bytes that the texts below have, and some merges.
struct Vocabulary {
    tokens: Vec<(String, i32)>,
    merges: Vec<&'static str>,
}

/// The bytes of a text as byte-level BPE writes them, a letter each.
fn bytes(text: &str) -> Vec<String> {
    let letter = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        0..=0x20 => char::from_u32(0x100 + u32::from(byte)).unwrap(),
        0x7f..=0xa0 => char::from_u32(0x121 + u32::from(byte) - 0x7f).unwrap(),
        0xad => char::from_u32(0x143).unwrap(),
    };
    text.bytes().map(|byte| letter(byte).to_string()).collect()
}

fn vocabulary() -> Vocabulary {
    let mut tokens = vec![
        ("<|endoftext|>".to_owned(), 3),
        ("<|im_start|>".to_owned(), 3),
        ("<tool>".to_owned(), 4),
    ];
    let mut letters = bytes("aehlowrdHW'sN1234567890 \n\t.,!éß🙂二");
    letters.sort_unstable();
    letters.dedup();
    tokens.extend(letters.into_iter().map(|letter| (letter, 1)));
    let merges =
        vec!["h e", "l l", "he ll", "hell o", "Ġ w", "Ġw o", "1 2", "12 3", "' s", "Ġ Ġ", "Ã ©"];
    tokens.extend(merges.iter().map(|merge| (merge.replace(' ', ""), 1)));
    Vocabulary { tokens, merges }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn file(pre: &str, vocabulary: &Vocabulary, more: &[(&str, Value)]) -> Gguf {
    let tokens = vocabulary.tokens.iter().map(|(token, _)| text(token)).collect();
    let types = vocabulary.tokens.iter().map(|(_, kind)| Value::I32(*kind)).collect();
    let merges = vocabulary.merges.iter().map(|merge| text(merge)).collect();
    let metadata = vec![
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text(pre)),
        ("tokenizer.ggml.tokens", Value::Array(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(types)),
        ("tokenizer.ggml.merges", Value::Array(merges)),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
    ];
    written(metadata, more)
}

/// A file with this metadata, some of it in place of what is there before.
fn written<'a>(mut metadata: Vec<(&'a str, Value)>, more: &[(&'a str, Value)]) -> Gguf {
    metadata.retain(|(key, _)| more.iter().all(|(other, _)| key != other));
    metadata.extend_from_slice(more);
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let ones = Tensor::ones(4, DType::F32, device()).unwrap();
    let ones = QTensor::quantize(&ones, GgmlDType::F32).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.gguf");
    let mut file = File::create(&path).unwrap();
    gguf_file::write(&mut file, &metadata, &[("output_norm.weight", &ones)]).unwrap();
    Gguf::open(&path).unwrap()
}

fn tokenizer(pre: &str) -> Tokenizer {
    from_gguf(&file(pre, &vocabulary(), &[])).unwrap()
}

/// The tokens of a text by name.
fn parts(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    parts_of(tokenizer, text, false)
}

fn parts_of(tokenizer: &Tokenizer, text: &str, add_special: bool) -> Vec<String> {
    let ids = encode(tokenizer, text, add_special).unwrap();
    ids.iter().map(|id| tokenizer.id_to_token(*id).unwrap()).collect()
}

#[test]
fn smollm_takes_digits_one_by_one_and_puts_no_space_in_front() {
    let tokenizer = tokenizer("smollm");
    assert_eq!(parts(&tokenizer, "hello"), ["hello"]);
    assert_eq!(
        parts(&tokenizer, "hello world 123"),
        ["hello", "Ġwo", "r", "l", "d", "Ġ", "1", "2", "3"]
    );
    assert_eq!(parts(&tokenizer, "  hello's"), ["Ġ", "Ġ", "hello", "'s"]);
    assert_eq!(parts(&tokenizer, "é"), ["Ã©"]);
    // What is no token in any text is one where it stands for itself.
    assert_eq!(parts(&tokenizer, "<|im_start|>hello<tool>"), ["<|im_start|>", "hello", "<tool>"]);
}

#[test]
fn other_models_split_otherwise() {
    assert_eq!(parts(&tokenizer("gpt-2"), "123 123"), ["123", "Ġ", "123"]);
    assert_eq!(parts(&tokenizer("llama-bpe"), "1234"), ["123", "4"]);
    assert_eq!(parts(&tokenizer("qwen2"), "1234"), ["1", "2", "3", "4"]);
    // A letter and its accent become one letter.
    assert_eq!(parts(&tokenizer("qwen2"), "e\u{301}"), ["Ã©"]);
    // No merge leads there: taken whole.
    let mut vocabulary = vocabulary();
    vocabulary.tokens.push(("world".to_owned(), 1));
    let file = |pre| from_gguf(&file(pre, &vocabulary, &[])).unwrap();
    assert_eq!(parts(&file("llama-bpe"), "world"), ["world"]);
    assert_eq!(parts(&file("smollm"), "world"), ["w", "o", "r", "l", "d"]);
}

#[test]
fn decoding_gives_the_text_back() {
    for pre in ["smollm", "gpt-2", "llama-bpe", "qwen2"] {
        let tokenizer = tokenizer(pre);
        for text in ["hello world", " hello", "a\n\n  w 12.\té🙂二ß!", "he 's"] {
            let tokens = encode(&tokenizer, text, false).unwrap();
            assert_eq!(decode(&tokenizer, &tokens).unwrap(), text);
        }
        let tokens = encode(&tokenizer, "<|im_start|>hello<tool>", false).unwrap();
        assert_eq!(decode(&tokenizer, &tokens).unwrap(), "hello<tool>");
    }
}

#[test]
fn a_text_begins_as_the_file_says() {
    let begins = |pre, more: &[_]| {
        let tokenizer = from_gguf(&file(pre, &vocabulary(), more)).unwrap();
        encode(&tokenizer, "hello", true).unwrap().first() == Some(&1)
    };
    let said = |on| [("tokenizer.ggml.add_bos_token", Value::Bool(on))];
    assert!(!begins("smollm", &[]) && begins("smollm", &said(true)));
    assert!(begins("llama-bpe", &[]) && !begins("llama-bpe", &said(false)));
    let tokenizer = from_gguf(&file("smollm", &vocabulary(), &said(true))).unwrap();
    assert_eq!(encode(&tokenizer, "hello", false).unwrap().len(), 1);
}

/// As the `tokenizer.json` of sentence encoders asks for.
#[test]
fn padding_is_left_out() {
    let mut tokenizer = tokenizer("smollm");
    let strategy = PaddingStrategy::Fixed(8);
    tokenizer.with_padding(Some(PaddingParams { strategy, ..PaddingParams::default() }));
    assert_eq!(tokenizer.encode("hello", false).unwrap().len(), 8);
    assert_eq!(parts(&tokenizer, "hello"), ["hello"]);
}

#[test]
fn files_with_other_tokenizers() {
    let failed = |pre: &str, vocabulary: &Vocabulary, more: &[_]| {
        message(from_gguf(&file(pre, vocabulary, more)))
    };
    let advice = "take the tokenizer.json of the model";
    let expected =
        format!("GGUF: tokenizer.ggml.model is `bert`, expected `gpt2` or `llama`: {advice}");
    let model = [("tokenizer.ggml.model", text("bert"))];
    assert_eq!(failed("smollm", &vocabulary(), &model), expected);
    let expected = format!(
        "GGUF: tokenizer.ggml.pre is `falcon`, expected `smollm`, `llama-bpe`, `qwen2` or `gpt-2`: {advice}"
    );
    assert_eq!(failed("falcon", &vocabulary(), &[]), expected);

    let mut other = vocabulary();
    other.tokens[2].1 = 9;
    let expected = "GGUF: the type of token 2, `<tool>`, is 9, expected 1 to 6";
    assert_eq!(failed("smollm", &other, &[]), expected);
    let mut twice = vocabulary();
    twice.tokens[2].0 = "<|im_start|>".to_owned();
    assert_eq!(failed("smollm", &twice, &[]), "GGUF: token 2, `<|im_start|>`, is there before");
    let mut merges = vocabulary();
    merges.merges[1] = "ll";
    assert_eq!(failed("smollm", &merges, &[]), "GGUF: merge 1 is `ll`, expected two tokens");
    let types = [("tokenizer.ggml.token_type", Value::Array(vec![Value::I32(1)]))];
    let count = vocabulary().tokens.len();
    let expected = format!(
        "GGUF: tokenizer.ggml.token_type has 1 entries, expected {count}, one for each token"
    );
    assert_eq!(failed("smollm", &vocabulary(), &types), expected);
    let begin = [
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
        ("tokenizer.ggml.bos_token_id", Value::U32(1000)),
    ];
    let expected = format!("GGUF: `tokenizer.ggml.bos_token_id` is 1000, there are {count} tokens");
    assert_eq!(failed("smollm", &vocabulary(), &begin), expected);
}

/// A small SentencePiece model and what SentencePiece makes of texts with it; by tests/data/sentencepiece.py.
#[derive(serde::Deserialize)]
struct SentencePiece {
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: Vec<i32>,
    encoded: Vec<Encoded>,
}

#[derive(serde::Deserialize)]
struct Encoded {
    text: String,
    ids: Vec<u32>,
}

impl SentencePiece {
    fn golden() -> Self {
        serde_json::from_str(include_str!("data/sentencepiece.json")).unwrap()
    }

    fn file(&self, more: &[(&str, Value)]) -> Gguf {
        let tokens = self.tokens.iter().map(|token| text(token)).collect();
        let scores = self.scores.iter().map(|score| Value::F32(*score)).collect();
        let types = self.types.iter().map(|kind| Value::I32(*kind)).collect();
        let metadata = vec![
            ("tokenizer.ggml.model", text("llama")),
            ("tokenizer.ggml.tokens", Value::Array(tokens)),
            ("tokenizer.ggml.scores", Value::Array(scores)),
            ("tokenizer.ggml.token_type", Value::Array(types)),
            ("tokenizer.ggml.bos_token_id", Value::U32(1)),
            ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
        ];
        written(metadata, more)
    }
}

#[test]
fn sentence_piece_as_by_its_own_library() {
    let golden = SentencePiece::golden();
    let tokenizer = from_gguf(&golden.file(&[])).unwrap();
    for Encoded { text, ids } in &golden.encoded {
        assert_eq!(&encode(&tokenizer, text, false).unwrap(), ids, "{text:?}");
        assert_eq!(&decode(&tokenizer, ids).unwrap(), text);
    }
}

#[test]
fn a_text_of_sentence_piece_begins_with_its_token() {
    let golden = SentencePiece::golden();
    let begins = |more: &[_]| {
        let tokenizer = from_gguf(&golden.file(more)).unwrap();
        parts_of(&tokenizer, "the", true)
    };
    assert_eq!(begins(&[]), ["<s>", "▁the"]);
    let without = [("tokenizer.ggml.add_bos_token", Value::Bool(false))];
    assert_eq!(begins(&without), ["▁the"]);
    let no_space = [("tokenizer.ggml.add_space_prefix", Value::Bool(false))];
    assert_eq!(begins(&no_space), ["<s>", "t", "h", "e"]);
}

/// llama.cpp puts a space in front of what follows a token that stands for itself, as here.
#[test]
fn tokens_that_stand_for_themselves_cut_a_text_of_sentence_piece() {
    let tokenizer = from_gguf(&SentencePiece::golden().file(&[])).unwrap();
    assert_eq!(parts(&tokenizer, "the<tool>the</s>"), ["▁the", "<tool>", "▁the", "</s>"]);
}

#[test]
fn files_of_sentence_piece_that_do_not_fit() {
    let golden = SentencePiece::golden();
    let failed = |more: &[_]| message(from_gguf(&golden.file(more)));
    let scores = [("tokenizer.ggml.scores", Value::Array(vec![Value::F32(0.)]))];
    let expected = "GGUF: tokenizer.ggml.scores has 1 entries, expected 700, one for each token";
    assert_eq!(failed(&scores), expected);
    let unknown = [("tokenizer.ggml.unknown_token_id", Value::U32(700))];
    let expected = "GGUF: `tokenizer.ggml.unknown_token_id` is 700, there are 700 tokens";
    assert_eq!(failed(&unknown), expected);
}
