//! Tasks: what is asked, in which form, and questions with their answers.
//!
//! Every subject is asked of inputs that others are asked of as well (the plural of "dog", its French, its last
//! letter), so that an input alone says nothing about the answer.

use std::collections::HashMap;

use anyhow::{Context, Result};
use hypernn_examples::data::fetched;
use hypernn_examples::random::rng_of;
use rand::Rng;
use rand::seq::SliceRandom;

use crate::phrases::{FORMS, Form, SUBJECTS, Subject, TRAINED_WORDINGS};

/// An input and its answer, before it is brought into a form.
pub type Pair = (String, String);

/// A question with its answer in the task's form.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What is asked.
    pub input: String,
    /// What is expected.
    pub answer: String,
}

/// A subject in a form, with its questions.
pub struct Task {
    /// What is asked.
    pub subject: &'static Subject,
    /// How it is answered.
    pub form: &'static Form,
    /// Questions to train on.
    pub train: Vec<Question>,
    /// Questions of other inputs to test with.
    pub test: Vec<Question>,
}

impl Task {
    /// As tables name it.
    pub fn name(&self) -> String {
        format!("{}, {}", self.subject.name, self.form.name)
    }

    /// The task in words, in these wordings of subject and form.
    pub fn described(&self, subject: usize, form: usize) -> String {
        match (self.subject.wordings[subject], self.form.wordings[form]) {
            (subject, "") => subject.to_owned(),
            (subject, form) => format!("{subject}, {form}"),
        }
    }

    /// In all wordings to train on.
    pub fn trained_descriptions(&self) -> Vec<String> {
        let wordings = 0..TRAINED_WORDINGS;
        wordings
            .clone()
            .flat_map(|s| wordings.clone().map(move |f| (s, f)))
            .map(|(s, f)| self.described(s, f))
            .collect()
    }

    /// In wordings that no training has seen.
    pub fn tested_description(&self) -> String {
        self.described(TRAINED_WORDINGS, TRAINED_WORDINGS)
    }
}

/// Tasks by what they are for.
pub struct Tasks {
    /// To train on.
    pub train: Vec<Task>,
    /// To choose settings with: pairs of subject and form that are not trained on.
    pub validation: Vec<Task>,
    /// To test with: other such pairs.
    pub held_out: Vec<Task>,
}

/// Bytes of the longest answer: longer ones would fill batches with padding.
const LONGEST: usize = 24;

/// How many tasks and questions there are.
#[derive(Clone, Copy)]
pub struct Counts {
    /// Forms that each subject is trained in.
    pub forms: usize,
    /// Tasks to choose settings with.
    pub validation: usize,
    /// Tasks to test with.
    pub held_out: usize,
    /// Questions of each task to train on.
    pub train: usize,
    /// Questions of each task to test with.
    pub test: usize,
}

impl Counts {
    /// Those of a run whose figures are reported.
    pub const FULL: Self = Self { forms: 6, validation: 5, held_out: 24, train: 40, test: 20 };

    /// Those of a run of seconds.
    pub const QUICK: Self = Self { forms: 2, validation: 2, held_out: 3, train: 6, test: 2 };
}

impl Tasks {
    /// Tasks about the subjects of these pairs, always the same. Each subject's forms are in an order of its own: the
    /// first are held out or kept for choosing, where it is one of these subjects, and the next are trained.
    ///
    /// # Errors
    /// A subject without questions.
    pub fn new(pairs: &HashMap<String, Vec<Pair>>, counts: Counts) -> Result<Self> {
        let subjects = SUBJECTS.iter().filter(|subject| pairs.contains_key(subject.name));
        let mut rng = rng_of([17, 0, 0, 0]);
        let mut subjects: Vec<_> = subjects.collect();
        subjects.shuffle(&mut rng);
        let mut all = Self { train: Vec::new(), validation: Vec::new(), held_out: Vec::new() };
        for (at, subject) in subjects.iter().enumerate() {
            let mut tasks = shuffled(&FORMS, &mut rng).into_iter();
            let mut some = |count: usize| -> Result<Vec<Task>> {
                tasks
                    .by_ref()
                    .take(count)
                    .map(|form| Task::new(subject, form, pairs, counts))
                    .collect()
            };
            all.held_out.extend(some(usize::from(at < counts.held_out))?);
            let is_chosen_with = at + counts.validation >= subjects.len();
            all.validation.extend(some(usize::from(is_chosen_with))?);
            all.train.extend(some(counts.forms)?);
        }
        Ok(all)
    }
}

impl Task {
    fn new(
        subject: &'static Subject,
        form: &'static Form,
        pairs: &HashMap<String, Vec<Pair>>,
        counts: Counts,
    ) -> Result<Self> {
        let pairs = pairs
            .get(subject.name)
            .with_context(|| format!("no questions about {}", subject.name))?;
        // The same inputs in all forms, so that no task's tests are another's training.
        let seed = subject.name.bytes().map(u64::from).sum();
        let pairs = shuffled(pairs, &mut rng_of([18, seed, 0, 0]));
        let question = |(input, answer): &Pair| Question {
            input: input.clone(),
            answer: (form.apply)(answer),
        };
        let (test, train) = pairs.split_at(pairs.len() / 4);
        let some = |pairs: &[&Pair], count| {
            let questions = pairs.iter().map(|pair| question(pair));
            questions.filter(|question| question.answer.len() <= LONGEST).take(count).collect()
        };
        Ok(Self { subject, form, train: some(train, counts.train), test: some(test, counts.test) })
    }
}

fn shuffled<'a, T>(items: &'a [T], rng: &mut impl Rng) -> Vec<&'a T> {
    let mut items: Vec<_> = items.iter().collect();
    items.shuffle(rng);
    items
}

/// The pairs that `data/fetch.sh tasks` has put in place, by subject.
///
/// # Errors
/// They are not there, or a line is no pair.
pub fn fetched_pairs() -> Result<HashMap<String, Vec<Pair>>> {
    let text = String::from_utf8(fetched::read("tasks", "questions.tsv")?)?;
    let mut all: HashMap<String, Vec<Pair>> = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split('\t').map(str::to_owned);
        let (subject, input, answer) = (fields.next(), fields.next(), fields.next());
        let Some(((subject, input), answer)) = subject.zip(input).zip(answer) else {
            anyhow::bail!("questions.tsv: `{line}` is not a subject, an input and an answer");
        };
        all.entry(subject).or_default().push((input, answer));
    }
    Ok(all)
}

/// Pairs about numbers, for a run without data.
pub fn number_pairs() -> HashMap<String, Vec<Pair>> {
    let of = |answer: fn(u32) -> String| (1..40).map(|n| (n.to_string(), answer(n))).collect();
    HashMap::from([
        ("next".to_owned(), of(|n| (n + 1).to_string())),
        ("previous".to_owned(), of(|n| (n - 1).to_string())),
        ("double".to_owned(), of(|n| (2 * n).to_string())),
        ("parity".to_owned(), of(|n| if n % 2 == 0 { "even" } else { "odd" }.to_owned())),
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// No pair of subject and form is in two places, each subject is trained, and no input is trained and tested.
    #[test]
    fn nothing_that_is_tested_is_trained() -> Result<()> {
        let tasks = Tasks::new(&number_pairs(), Counts::QUICK)?;
        assert_eq!([tasks.train.len(), tasks.validation.len(), tasks.held_out.len()], [8, 2, 3]);
        let all: Vec<_> =
            [&tasks.train, &tasks.validation, &tasks.held_out].into_iter().flatten().collect();
        assert_eq!(all.iter().map(|task| task.name()).collect::<HashSet<_>>().len(), all.len());
        for task in &tasks.held_out {
            assert!(tasks.train.iter().any(|other| other.subject.name == task.subject.name));
        }
        let inputs = |questions: &[Question]| {
            questions.iter().map(|q| q.input.clone()).collect::<HashSet<_>>()
        };
        for subject in ["next", "parity"] {
            let of = || all.iter().filter(|task| task.subject.name == subject);
            let trained: HashSet<_> = of().flat_map(|task| inputs(&task.train)).collect();
            assert!(of().all(|task| inputs(&task.test).is_disjoint(&trained)));
        }
        Ok(())
    }
}
