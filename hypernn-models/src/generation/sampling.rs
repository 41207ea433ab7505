//! How the next token is chosen.

use candle_core::{Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How the next token is chosen from its logits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Sampling {
    /// The most probable, the first of several.
    #[default]
    Greedy,
    /// One at random, by its probability.
    Random {
        /// What logits are divided by: below 1 the probable tokens become more so.
        temperature: f64,
        /// Of the most probable tokens, so many.
        top_k: Option<usize>,
        /// Of these the fewest, the most probable first, whose probabilities add up to this (nucleus sampling,
        /// Holtzman et al. 2020).
        top_p: Option<f64>,
    },
}

impl Sampling {
    pub(super) fn check(self) -> Result<()> {
        let Self::Random { temperature, top_k, top_p } = self else { return Ok(()) };
        if !(temperature.is_finite() && temperature > 0.) {
            bail!("sampling: temperature is {temperature}, expected a finite number above 0");
        }
        if top_k == Some(0) {
            bail!("sampling: top_k is 0, expected at least 1");
        }
        match top_p {
            Some(p) if !(p > 0. && p <= 1.) => {
                bail!("sampling: top_p is {p}, expected a number above 0 and at most 1")
            }
            _ => Ok(()),
        }
    }
}

/// Random numbers of one text.
pub(super) struct Sampler {
    rng: StdRng,
}

impl Sampler {
    /// Texts of one seed have numbers of their own.
    pub(super) fn new(seed: u64, row: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed.wrapping_add(row.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        }
    }

    pub(super) fn sample(&mut self, logits: &[f32], sampling: &Sampling) -> Result<u32> {
        if let Some(at) = logits.iter().position(|logit| logit.is_nan()) {
            bail!("the logit of token {at} is NaN");
        }
        let Sampling::Random { temperature, top_k, top_p } = *sampling else {
            return Ok(largest(logits));
        };
        let kept = most_probable(logits, temperature, top_k, top_p);
        let total: f64 = kept.iter().map(|(_, p)| p).sum();
        let mut left = self.rng.random::<f64>() * total;
        for (token, p) in &kept {
            left -= p;
            if left < 0. {
                return Ok(*token);
            }
        }
        Ok(kept.last().map_or(0, |(token, _)| *token))
    }
}

/// The first of the largest.
fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (at, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = at;
        }
    }
    best as u32
}

/// Tokens with what is proportional to their probabilities, the most probable first.
fn most_probable(
    logits: &[f32],
    temperature: f64,
    top_k: Option<usize>,
    top_p: Option<f64>,
) -> Vec<(u32, f64)> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
    order.truncate(top_k.unwrap_or(order.len()));
    let highest = order.first().map_or(0., |token| logits[*token as usize]);
    let weight = |token: u32| (f64::from(logits[token as usize] - highest) / temperature).exp();
    let mut kept: Vec<_> = order.into_iter().map(|token| (token, weight(token))).collect();
    if let Some(top_p) = top_p {
        let enough = kept.iter().map(|(_, p)| p).sum::<f64>() * top_p;
        let mut sum = 0.;
        let below = kept.iter().take_while(|(_, p)| {
            let needed = sum < enough;
            sum += p;
            needed
        });
        let count = below.count();
        kept.truncate(count.max(1));
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LOGITS: [f32; 4] = [0., 2., 1., -1.];

    #[test]
    fn the_first_of_the_largest() {
        assert_eq!(largest(&[1., 3., 3., 2.]), 1);
    }

    #[test]
    fn only_the_most_probable_are_left() {
        let tokens = |k, p| {
            most_probable(&LOGITS, 1., k, p).into_iter().map(|(token, _)| token).collect::<Vec<_>>()
        };
        assert_eq!(tokens(None, None), [1, 2, 0, 3]);
        assert_eq!(tokens(Some(2), None), [1, 2]);
        // Their probabilities are 0.644, 0.237, 0.087 and 0.032.
        assert_eq!(tokens(None, Some(0.6)), [1]);
        assert_eq!(tokens(None, Some(0.7)), [1, 2]);
        assert_eq!(tokens(None, Some(0.9)), [1, 2, 0]);
        // Of two, they are 0.731 and 0.269.
        assert_eq!(tokens(Some(2), Some(0.7)), [1]);
    }

    #[test]
    fn tokens_come_as_often_as_they_are_probable() {
        let sampling = Sampling::Random { temperature: 2., top_k: Some(3), top_p: None };
        let mut sampler = Sampler::new(7, 0);
        let mut counts = [0f64; 4];
        let draws = 20_000;
        for _ in 0..draws {
            counts[sampler.sample(&LOGITS, &sampling).unwrap() as usize] += 1.;
        }
        let weights: Vec<f64> = [0f64, 1., 0.5].iter().map(|logit| logit.exp()).collect();
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(&weights) {
            // Three deviations are at most 0.011.
            assert!((count / f64::from(draws) - weight / total).abs() < 0.011);
        }
        assert_eq!(counts[3], 0.);
    }

    #[test]
    fn settings_out_of_range() {
        let message = |temperature, top_k, top_p| {
            Sampling::Random { temperature, top_k, top_p }.check().unwrap_err().to_string()
        };
        let expected = "sampling: temperature is 0, expected a finite number above 0";
        assert!(message(0., None, None).starts_with(expected));
        assert!(
            message(1., Some(0), None).starts_with("sampling: top_k is 0, expected at least 1")
        );
        let expected = "sampling: top_p is 1.5, expected a number above 0 and at most 1";
        assert!(message(1., None, Some(1.5)).starts_with(expected));
        let nan = Sampler::new(0, 0).sample(&[0., f32::NAN], &Sampling::Greedy).unwrap_err();
        assert!(nan.to_string().starts_with("the logit of token 1 is NaN"));
    }
}
