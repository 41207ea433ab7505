//! The language: documents with needles among filler, and questions about the needles.

use rand::Rng;
use rand::seq::index::sample;
use rand::seq::{IndexedRandom, SliceRandom};

/// Words that have keys.
const WORDS: u32 = 64;
/// Numbers that are keys. A number is one token with the "is" before it, as tokenizers of language models make one of
/// words that often stand together.
const NUMBERS: u32 = 100;
/// Words of filler.
const FILLERS: u32 = 128;

/// The token of no text.
pub const PADDING: u32 = 0;
const THE: u32 = 1;
const KEY: u32 = 2;
const OF: u32 = 3;
const STOP: u32 = 4;
const FIRST_WORD: u32 = 5;
const FIRST_NUMBER: u32 = FIRST_WORD + WORDS;
const FIRST_FILLER: u32 = FIRST_NUMBER + NUMBERS;

/// The number of tokens.
pub const VOCABULARY: u32 = FIRST_FILLER + FILLERS;

/// The tokens of a question.
pub const QUESTION: usize = 4;

/// "the key of WORD is NUMBER".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needle {
    word: u32,
    /// The token of the number.
    pub number: u32,
}

impl Needle {
    /// "the key of WORD".
    pub fn question(self) -> [u32; QUESTION] {
        [THE, KEY, OF, self.word]
    }

    /// A sentence.
    fn sentence(self) -> Vec<u32> {
        [&self.question()[..], &[self.number, STOP]].concat()
    }
}

/// A document, sentence by sentence.
#[derive(Clone, Debug)]
pub struct Document {
    sentences: Vec<Vec<u32>>,
    /// What it says, in another order.
    pub needles: Vec<Needle>,
}

impl Document {
    /// A document of nearly so many tokens, with needles at any places: at most one for `tokens_per_needle` tokens.
    pub fn draw(tokens: usize, tokens_per_needle: usize, rng: &mut impl Rng) -> Self {
        let most = (tokens / tokens_per_needle).clamp(1, WORDS as usize);
        let mut needles = draw_needles(rng.random_range(1..=most), rng);
        let mut sentences: Vec<_> = needles.iter().map(|needle| needle.sentence()).collect();
        let mut count: usize = sentences.iter().map(Vec::len).sum();
        loop {
            let filler = draw_filler(rng);
            count += filler.len();
            if count > tokens {
                break;
            }
            sentences.insert(rng.random_range(0..=sentences.len()), filler);
        }
        needles.shuffle(rng);
        Self { sentences, needles }
    }

    /// So many questions about words of which it says nothing, the same again where there are fewer, each with a number
    /// that nobody expects.
    pub fn not_said(&self, count: usize, rng: &mut impl Rng) -> Vec<Needle> {
        let said = |word: &u32| self.needles.iter().any(|needle| needle.word == *word);
        let words: Vec<_> = (FIRST_WORD..FIRST_NUMBER).filter(|word| !said(word)).collect();
        let needle = |word: &u32| Needle { word: *word, number: FIRST_NUMBER };
        let asked: Vec<_> = words.choose_multiple(rng, count).map(needle).collect();
        asked.iter().copied().cycle().take(count).collect()
    }

    /// All tokens.
    pub fn tokens(&self) -> Vec<u32> {
        self.sentences.concat()
    }

    /// All tokens, with the sentences in another order.
    pub fn in_another_order(&self, rng: &mut impl Rng) -> Vec<u32> {
        let mut sentences = self.sentences.clone();
        sentences.shuffle(rng);
        sentences.concat()
    }

    /// The tokens in chunks of whole sentences, of at most so many tokens, or of one sentence.
    pub fn chunks(&self, most: usize) -> Vec<Vec<u32>> {
        let mut chunks: Vec<Vec<u32>> = Vec::new();
        for sentence in &self.sentences {
            match chunks.last_mut() {
                Some(chunk) if chunk.len() + sentence.len() <= most => chunk.extend(sentence),
                _ => chunks.push(sentence.clone()),
            }
        }
        chunks
    }
}

/// Needles of different words.
fn draw_needles(count: usize, rng: &mut impl Rng) -> Vec<Needle> {
    let words = sample(rng, WORDS as usize, count).into_iter();
    let words: Vec<_> = words.map(|word| FIRST_WORD + word as u32).collect();
    let needle = |word| Needle { word, number: FIRST_NUMBER + rng.random_range(0..NUMBERS) };
    words.into_iter().map(needle).collect()
}

/// Some words that say nothing. Numbers and the words that have keys stand among them, so that they alone are no sign
/// of a needle.
fn draw_filler(rng: &mut impl Rng) -> Vec<u32> {
    let length = rng.random_range(4..9);
    let word = |_| match rng.random_range(0..10) {
        0 => FIRST_WORD + rng.random_range(0..WORDS),
        1 => FIRST_NUMBER + rng.random_range(0..NUMBERS),
        _ => FIRST_FILLER + rng.random_range(0..FILLERS),
    };
    (0..length).map(word).chain([STOP]).collect()
}

/// Tokens as text.
pub fn text(tokens: &[u32]) -> String {
    let texts: Vec<_> = tokens.iter().map(|token| token_text(*token)).collect();
    texts.join(" ").replace(" .", ".")
}

fn token_text(token: u32) -> String {
    match token {
        PADDING => "_".to_owned(),
        THE => "the".to_owned(),
        KEY => "key".to_owned(),
        OF => "of".to_owned(),
        STOP => ".".to_owned(),
        FIRST_WORD..FIRST_NUMBER => name(token - FIRST_WORD, 3),
        FIRST_NUMBER..FIRST_FILLER => format!("is {}", token - FIRST_NUMBER),
        _ => name(token - FIRST_FILLER, 2),
    }
}

/// A made-up name of syllables.
fn name(number: u32, syllables: usize) -> String {
    const CONSONANTS: [char; 13] =
        ['b', 'd', 'f', 'g', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v'];
    const VOWELS: [char; 5] = ['a', 'e', 'i', 'o', 'u'];
    let mut rest = number as usize * 37 + 11;
    let mut name = String::new();
    for _ in 0..syllables {
        name.push(CONSONANTS[rest % CONSONANTS.len()]);
        rest /= CONSONANTS.len();
        name.push(VOWELS[rest % VOWELS.len()]);
        rest = rest / VOWELS.len() + number as usize;
    }
    name
}
