//! Generation: alone and in a batch, with and without a cache.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use candle_core::{DType, IndexOp, Tensor};
use common::{decoder, distance, message, small};
use hypernn_models::{Cache, Decoder, GenerateOptions, Sampling, generate, left_padded};
use hypernn_tests::device;

fn options(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, stop: Vec::new(), sampling: Sampling::Greedy, seed: 0 }
}

/// The whole text through the decoder for each token.
fn without_cache(decoder: &Decoder, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut text = prompt.to_vec();
    for _ in 0..count {
        let ids = Tensor::new(&text[..], device()).unwrap().unsqueeze(0).unwrap();
        let logits = decoder.forward_with(&ids, None).unwrap().i((0, text.len() - 1)).unwrap();
        text.push(logits.argmax(0).unwrap().to_scalar().unwrap());
    }
    text.split_off(prompt.len())
}

fn prompts() -> [Vec<u32>; 4] {
    [vec![3, 1, 4, 1, 5], vec![9], vec![2, 6, 5], vec![8, 9, 7]]
}

#[test]
fn a_batch_goes_on_as_each_prompt_does_alone_and_without_a_cache() {
    for window in [None, Some(3)] {
        let config = hypernn_models::DecoderConfig { sliding_window: window, ..small() };
        let decoder = decoder(&config, 5);
        let together = generate(&decoder, &prompts(), &options(9)).unwrap();
        for (prompt, text) in prompts().iter().zip(&together) {
            let alone = generate(&decoder, std::slice::from_ref(prompt), &options(9)).unwrap();
            assert_eq!(alone[0], *text);
            assert_eq!(without_cache(&decoder, prompt, 9), *text);
        }
        // They do not all say the same.
        assert!(together.iter().any(|text| text != &together[0]));
        assert!(together.iter().all(|text| text.iter().any(|token| *token != text[0])));
    }
}

#[test]
fn logits_of_a_padded_batch_are_those_of_each_row() {
    let decoder = decoder(&small(), 5);
    let (ids, mask) = left_padded(&prompts(), 28, device()).unwrap();
    let logits = decoder.forward_with(&ids, mask.as_ref()).unwrap();
    for (row, prompt) in prompts().iter().enumerate() {
        let alone = Tensor::new(&prompt[..], device()).unwrap().unsqueeze(0).unwrap();
        let alone = decoder.forward_with(&alone, None).unwrap().i(0).unwrap();
        let start = ids.dim(1).unwrap() - prompt.len();
        assert!(distance(&logits.i((row, start..)).unwrap(), &alone) < 1e-12);
    }
}

#[test]
fn a_text_ends_where_it_says_so() {
    let decoder = decoder(&small(), 5);
    let all = generate(&decoder, &prompts(), &options(9)).unwrap();
    let stop = all[0][3];
    let stopping = GenerateOptions { stop: vec![stop], ..options(9) };
    let stopped = generate(&decoder, &prompts(), &stopping).unwrap();
    for (all, stopped) in all.iter().zip(&stopped) {
        let end = all.iter().position(|token| *token == stop).unwrap_or(all.len());
        assert_eq!(stopped[..], all[..end]);
    }
    assert!(stopped[0].len() <= 3);
    assert!(stopped.iter().any(|text| text.len() > stopped[0].len()));
}

#[test]
fn each_text_fills_the_context_by_itself() {
    let (config, decoder) = (small(), decoder(&small(), 5));
    let context = config.max_position_embeddings;
    let texts = generate(&decoder, &prompts(), &options(100)).unwrap();
    for (prompt, text) in prompts().iter().zip(&texts) {
        // The last token is what the full context says comes next.
        assert_eq!(prompt.len() + text.len(), context + 1);
        let alone = generate(&decoder, std::slice::from_ref(prompt), &options(100)).unwrap();
        assert_eq!(alone[0], *text);
    }
    let full = vec![1; context];
    assert_eq!(generate(&decoder, &[full], &options(5)).unwrap()[0].len(), 1);
}

#[test]
fn a_text_at_random_depends_on_its_seed() {
    let decoder = decoder(&small(), 5);
    let sampling = Sampling::Random { temperature: 3., top_k: Some(20), top_p: Some(0.95) };
    let texts = |seed| {
        let options = GenerateOptions { sampling, seed, ..options(12) };
        generate(&decoder, &[vec![1, 2], vec![1, 2]], &options).unwrap()
    };
    assert_eq!(texts(1), texts(1));
    assert_ne!(texts(1), texts(2));
    assert_ne!(texts(1)[0], texts(1)[1]);
}

#[test]
fn what_can_not_be_gone_on_with() {
    let decoder = decoder(&small(), 5);
    let failed = |prompts: &[Vec<u32>]| message(generate(&decoder, prompts, &options(3)));
    let expected = "prompt 1 has 25 tokens, expected at most 24, the model's context";
    assert_eq!(failed(&[vec![1], vec![1; 25]]), expected);
    assert_eq!(failed(&[vec![1], vec![]]), "prompt 1 is empty, expected at least one token");
    assert_eq!(failed(&[]), "no prompt is given");
    let expected = "prompt 1 has token 29, expected one of the vocabulary, below 29";
    assert_eq!(failed(&[vec![1], vec![28, 29]]), expected);
    let long = Tensor::zeros((1, 25), DType::U32, device()).unwrap();
    let expected = "decoder: a sequence of 25 tokens, expected at most 24, the model's context";
    assert_eq!(message(decoder.forward_with(&long, None)), expected);
}

#[test]
fn masks_and_caches_that_do_not_fit() {
    let decoder = decoder(&small(), 5);
    let ids = Tensor::zeros((2, 3), DType::U32, device()).unwrap();
    let mask = Tensor::ones((2, 4), DType::U8, device()).unwrap();
    let expected = "the mask is U8 of shape [2, 4], expected U8 of shape [2, 3]";
    assert_eq!(message(decoder.forward_with(&ids, Some(&mask))), expected);
    let expected = "decoder: the tokens have shape [3], expected [batch, length]";
    assert_eq!(message(decoder.forward_with(&ids.i(0).unwrap(), None)), expected);
    let mut cache = Cache::new(decoder.config());
    decoder.hidden_cached(&ids, None, &mut cache).unwrap();
    let expected = "cache: it has 2 sequences, the tokens are 1";
    let failed = decoder.hidden_cached(&ids.narrow(0, 0, 1).unwrap(), None, &mut cache);
    assert_eq!(message(failed), expected);
    let mut other = Cache::new(&hypernn_models::DecoderConfig { num_hidden_layers: 3, ..small() });
    let expected = "cache: it is that of a decoder of 3 blocks, this one has 2";
    assert_eq!(message(decoder.hidden_cached(&ids, None, &mut other)), expected);
    let failed = decoder.blocks(1..3, &decoder.embed(&ids).unwrap(), None);
    assert_eq!(message(failed), "decoder: blocks 1..3 of 2 are asked for");
}
