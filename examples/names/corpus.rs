//! Names by language, in letters of the notebook's alphabet.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use hypernn_examples::data::fetched;
use rand::Rng;
use rand::rngs::StdRng;
use unicode_normalization::UnicodeNormalization;

const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,;'-";

/// What a network chooses from: the letters, and the end of a name.
pub const LETTERS: usize = ALPHABET.len() + 1;
/// The end of a name.
pub const END: u32 = ALPHABET.len() as u32;
/// The number of languages; the network's size depends on it.
pub const LANGUAGES: usize = 18;
/// What a network sees at each letter: language and letter, each as a vector with a single one.
pub const WIDTH: usize = LANGUAGES + LETTERS;

/// A name as numbers of letters.
pub type Name = Vec<u32>;

/// The names of one language.
pub struct Language {
    /// Its name, that of its file.
    pub name: String,
    /// Names to train on.
    pub train: Vec<Name>,
    /// Every tenth of the sorted names; never trained on.
    pub held_out: Vec<Name>,
}

/// All languages.
pub struct Corpus(pub Vec<Language>);

impl Corpus {
    /// Reads a folder of files `LANGUAGE.txt`, one name a line; without one, what was fetched.
    pub fn load(folder: Option<&Path>) -> Result<Self> {
        match folder {
            Some(folder) => Self::read(folder),
            None => Self::read(&fetched::path("names", "Akan.txt")?.with_file_name("")),
        }
    }

    fn read(folder: &Path) -> Result<Self> {
        let files = files(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        ensure!(
            files.len() == LANGUAGES,
            "{} has {} files *.txt, expected one for each of {LANGUAGES} languages",
            folder.display(),
            files.len()
        );
        Ok(Self(files.iter().map(|path| Language::load(path)).collect::<Result<_>>()?))
    }

    /// Keeps only some of the names that are held out.
    pub fn shorten(&mut self, held_out: usize) {
        self.0.iter_mut().for_each(|language| language.held_out.truncate(held_out));
    }

    /// The number of names to train on.
    pub fn num_train(&self) -> usize {
        self.0.iter().map(|language| language.train.len()).sum()
    }

    /// A language, and a name of it to train on: any language, then any of its names.
    pub fn draw(&self, rng: &mut StdRng) -> (usize, &Name) {
        let language = rng.random_range(0..self.0.len());
        let names = &self.0[language].train;
        (language, &names[rng.random_range(0..names.len())])
    }
}

/// The files `*.txt` in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    Ok(paths)
}

impl Language {
    fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let language = Self::new(name, &text);
        ensure!(
            !language.train.is_empty() && !language.held_out.is_empty(),
            "{} has too few names: at least ten are needed",
            path.display()
        );
        Ok(language)
    }

    /// A name that occurs several times is drawn as often, or is held out.
    fn new(name: String, text: &str) -> Self {
        let names: Vec<_> = text.lines().map(plain_text).filter(|name| !name.is_empty()).collect();
        let sorted: BTreeSet<_> = names.iter().collect();
        let held_out: BTreeSet<_> = sorted.into_iter().skip(9).step_by(10).collect();
        let train = names.iter().filter(|name| !held_out.contains(name));
        let numbers = |name: &String| letters(name);
        Self {
            name,
            train: train.map(numbers).collect(),
            held_out: held_out.into_iter().map(numbers).collect(),
        }
    }
}

/// Without accents, and without what the alphabet does not have.
fn plain_text(line: &str) -> String {
    line.trim().nfd().filter(|&letter| ALPHABET.contains(letter)).collect()
}

fn letters(name: &str) -> Name {
    name.chars().filter_map(|letter| ALPHABET.find(letter)).map(|at| at as u32).collect()
}

/// A name to read.
pub fn text(name: &[u32]) -> String {
    name.iter().filter_map(|&letter| ALPHABET.chars().nth(letter as usize)).collect()
}

/// What a network sees of a name, `[1, letters, WIDTH]`.
pub fn inputs(language: usize, name: &[u32], device: &Device) -> Result<Tensor> {
    let mut rows = vec![0f32; name.len() * WIDTH];
    for (row, &letter) in rows.chunks_exact_mut(WIDTH).zip(name) {
        row[language] = 1.;
        row[LANGUAGES + letter as usize] = 1.;
    }
    Ok(Tensor::from_vec(rows, (1, name.len(), WIDTH), device)?)
}

/// The letter after each, `[letters, 1]`.
pub fn next_letters(name: &[u32], device: &Device) -> Result<Tensor> {
    let next: Vec<u32> = name[1..].iter().copied().chain([END]).collect();
    Ok(Tensor::from_vec(next, (name.len(), 1), device)?)
}
