//! Sentences that describe sets of digits, and what is seen of them in training.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::digits::Digits;
use crate::phrases::{self, Kind, Phrases};

/// A sentence, and the digits that it describes.
#[derive(Clone, Debug)]
pub struct Description {
    /// The sentence.
    pub text: String,
    /// How it describes them; none where no template does.
    pub kind: Option<Kind>,
    /// What it describes.
    pub digits: Digits,
}

/// Sentences around a phrase, to train on.
const TRAIN: [&str; 32] = [
    "{}",
    "{}!",
    "{}?",
    "Only {}.",
    "Is this {}?",
    "Find {}.",
    "I am looking for {}.",
    "Say yes to {}.",
    "The picture shows {}.",
    "Accept {} and nothing else.",
    "Which of these images show {}?",
    "My favourite digits are {}.",
    "Pick out {} for me.",
    "Answer yes if you see {}.",
    "The task: recognise {}.",
    "Let {} pass, reject the rest.",
    "Can you spot {}?",
    "We need {} today.",
    "Show me {}.",
    "Do you see {}?",
    "Sort out {}, throw the others away.",
    "He writes down {}.",
    "Someone has drawn {}.",
    "Is it true that the image contains {}?",
    "Mark every picture of {}.",
    "Gather {} in this box.",
    "Tell me whether it is {}.",
    "The right answer is {}.",
    "It should be {}.",
    "Give a point for {}.",
    "There must be {} among these.",
    "What I want: {}.",
];

/// Sentences around a phrase, to choose settings with.
const VALIDATION: [&str; 3] =
    ["Collect {} from the pile.", "Would you call this {}?", "Look out for {} in the picture."];

/// Sentences around a phrase, to test on.
const TEST: [&str; 3] =
    ["Please keep {} only.", "We want images of {}, no others.", "Does somebody see {} here?"];

/// Descriptions by what is known of them from training.
pub struct Descriptions {
    /// To train on.
    pub train: Vec<Description>,
    /// Other sets that are not trained on, in both wordings, to choose settings with.
    pub validation: Vec<Description>,
    /// Sets that are trained on, in a wording that is not.
    pub new_wording: Vec<Description>,
    /// Sets that are not trained on, worded as in training.
    pub new_set: Vec<Description>,
    /// Sets that are not trained on, in a wording that is not either.
    pub new_both: Vec<Description>,
    /// Written by hand.
    pub by_hand: Vec<Description>,
}

/// Sentences to train on for each phrase.
const SENTENCES: usize = 10;

/// The shares of the sets to test with, and to choose settings with, in hundredths.
const HELD_OUT: [usize; 2] = [20, 10];

impl Descriptions {
    /// All of them; the same in every run.
    pub fn new() -> Self {
        let mut rng = StdRng::seed_from_u64(0);
        let phrases = phrases::all();
        let [test, validation] = held_out(&phrases, &mut rng);
        let mut found = Self {
            train: Vec::new(),
            validation: Vec::new(),
            new_wording: Vec::new(),
            new_set: Vec::new(),
            new_both: Vec::new(),
            by_hand: by_hand(),
        };
        for phrases in &phrases {
            found.add(phrases, (&test, &validation), &mut rng);
        }
        found
    }

    /// Few of each, for a quick run.
    #[must_use]
    pub fn few(mut self) -> Self {
        let Self { train, validation, new_wording, new_set, new_both, by_hand } = &mut self;
        thin_out(train, 100);
        for others in [validation, new_wording, new_set, new_both, by_hand] {
            thin_out(others, 4);
        }
        self
    }

    fn add(
        &mut self,
        phrases: &Phrases,
        (test, validation): (&BTreeSet<Digits>, &BTreeSet<Digits>),
        rng: &mut StdRng,
    ) {
        let ways = &phrases.wordings;
        let known = sentences(phrases, &ways.train, &TRAIN, SENTENCES, rng);
        let mut once =
            |way: &String, frames| sentences(phrases, std::slice::from_ref(way), frames, 1, rng);
        let (held_back, new) = (once(&ways.validation, &VALIDATION), once(&ways.test, &TEST));
        if test.contains(&phrases.digits) {
            self.new_set.extend(known.into_iter().take(1));
            self.new_both.extend(new);
        } else if validation.contains(&phrases.digits) {
            self.validation.extend(known.into_iter().take(1).chain(held_back));
        } else {
            self.train.extend(known);
            self.new_wording.extend(new);
        }
    }
}

/// Leaves at most so many, from all over.
fn thin_out(descriptions: &mut Vec<Description>, most: usize) {
    let step = descriptions.len().div_ceil(most).max(1);
    *descriptions = descriptions.drain(..).step_by(step).collect();
}

/// Sets to test with, and sets to choose settings with.
fn held_out(phrases: &[Phrases], rng: &mut StdRng) -> [BTreeSet<Digits>; 2] {
    let sets: BTreeSet<_> = phrases.iter().map(|phrases| phrases.digits).collect();
    let mut sets: Vec<_> = sets.into_iter().collect();
    sets.shuffle(rng);
    let counts = HELD_OUT.map(|percent| sets.len() * percent / 100);
    counts.map(|count| sets.split_off(sets.len() - count).into_iter().collect())
}

/// Some of the sentences that the frames make of these wordings.
fn sentences(
    phrases: &Phrases,
    wordings: &[String],
    frames: &[&str],
    count: usize,
    rng: &mut StdRng,
) -> Vec<Description> {
    let frame = |wording: &String| {
        frames.iter().map(|frame| frame.replace("{}", wording)).collect::<Vec<_>>()
    };
    let all: Vec<_> = wordings.iter().flat_map(frame).collect();
    let (kind, digits) = (Some(phrases.kind), phrases.digits);
    let chosen = all.choose_multiple(rng, count);
    chosen.map(|text| Description { text: text.clone(), kind, digits }).collect()
}

/// What no template says.
fn by_hand() -> Vec<Description> {
    const SENTENCES: [(&str, &[u32]); 24] = [
        ("The number of legs of a spider.", &[8]),
        ("How many days does a week have?", &[7]),
        ("The smallest positive digit.", &[1]),
        ("The biggest number of one digit.", &[9]),
        ("A pair.", &[2]),
        ("Nothing at all.", &[0]),
        ("Half a dozen.", &[6]),
        ("Numbers of one digit that exceed five.", &[6, 7, 8, 9]),
        ("Is the number smaller than three?", &[0, 1, 2]),
        ("Either a seven or the number two.", &[2, 7]),
        ("What you get by doubling a whole number.", &[0, 2, 4, 6, 8]),
        ("As many as a cat has lives.", &[9]),
        ("Not zero.", &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("Anything, as long as it is not a nine.", &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("The first three odd numbers.", &[1, 3, 5]),
        ("An odd number, but not one.", &[3, 5, 7, 9]),
        ("5, 6 or 7, nothing else.", &[5, 6, 7]),
        ("The only even prime.", &[2]),
        ("Two, four, six, eight.", &[2, 4, 6, 8]),
        ("Show me fours and nines.", &[4, 9]),
        ("I collect pictures of sixes.", &[6]),
        ("Reject threes, take everything else.", &[0, 1, 2, 4, 5, 6, 7, 8, 9]),
        ("Does it come right after six?", &[7]),
        ("Half of sixteen, or a third of nine.", &[3, 8]),
    ];
    let description = |(text, digits): &(&str, &[u32])| Description {
        text: (*text).to_owned(),
        kind: None,
        digits: Digits::which(|digit| digits.contains(&digit)),
    };
    SENTENCES.iter().map(description).collect()
}
