//! Names that a network makes up, and what becomes of its weights meanwhile.

use anyhow::Result;
use candle_core::{Device, Tensor};
use hypernn_examples::plot::WeightTrace;
use hypernn_examples::random::rng_of;
use rand::Rng;
use rand::rngs::StdRng;

use crate::HyperNextLetter;
use crate::corpus::{Corpus, END, inputs, text};
use crate::run::Run;
use crate::train::Speller;

/// Names for each language.
const COUNT: u64 = 4;
/// Longer names are cut here, as in the notebook.
const LONGEST: usize = 20;
/// Below one, likely letters become likelier.
const TEMPERATURE: f64 = 0.5;

/// Some names of each language, each from the first letter of one that was trained on.
pub fn samples(net: &impl Speller, run: &Run) -> Result<Vec<(String, Vec<String>)>> {
    let of_language = |language: usize| {
        let each = (0..COUNT).map(|number| {
            let place = [run.args.run.common.seed, 1, language as u64, number];
            sample(net, &run.corpus, language, &mut rng_of(place), &run.device)
        });
        Ok((run.corpus.0[language].name.clone(), each.collect::<Result<_>>()?))
    };
    (0..run.corpus.0.len()).map(of_language).collect()
}

fn sample(
    net: &impl Speller,
    corpus: &Corpus,
    language: usize,
    rng: &mut StdRng,
    device: &Device,
) -> Result<String> {
    let names = &corpus.0[language].train;
    let mut name = vec![names[rng.random_range(0..names.len())][0]];
    while name.len() < LONGEST {
        let log_probs = net.spell(&inputs(language, &name, device)?)?;
        let letter = draw(&log_probs.get(name.len() - 1)?, rng)?;
        if letter == END {
            break;
        }
        name.push(letter);
    }
    Ok(text(&name))
}

fn draw(log_probs: &Tensor, rng: &mut StdRng) -> Result<u32> {
    let weights = (log_probs / TEMPERATURE)?.exp()?.to_vec1::<f32>()?;
    let mut left = rng.random::<f32>() * weights.iter().sum::<f32>();
    let chosen = weights.iter().position(|weight| {
        left -= weight;
        left < 0.
    });
    Ok(chosen.map_or(END, |letter| letter as u32))
}

/// Draws the generated weights at each letter of a name.
pub fn draw_weights(hyper: &HyperNextLetter, run: &Run) -> Result<()> {
    let language = run.corpus.0.len() / 2;
    let Some(name) = run.corpus.0[language].held_out.iter().max_by_key(|name| name.len()) else {
        return Ok(());
    };
    let xs = inputs(language, name, &run.device)?;
    let (mut state, mut trace) = (hyper.zero_state(1)?, WeightTrace::default());
    for (at, letter) in name.iter().enumerate() {
        let (params, next) = hyper.generate_step(&xs.get_on_dim(1, at)?, &state)?;
        trace.push(text(&[*letter]), &params.flat()?)?;
        state = next;
    }
    let title = "generated weights, less their mean, at each letter";
    trace.draw(&run.out.join("weights.png"), title, HyperNextLetter::NUM_TARGET_PARAMS)
}
