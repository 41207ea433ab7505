//! Flights to learn from.

use anyhow::Result;
use candle_core::{Device, Tensor};
use hypernn::nn::Module;
use rand::Rng;
use rand::rngs::StdRng;

use crate::world::{ACTIONS, End, Lander, OBSERVATIONS};

/// Rewards are divided by this, so that the critic's values are near one.
const REWARD_UNIT: f32 = 100.;

/// What the landers saw, did and got, step by step; each list has one entry a lander and step.
#[derive(Default)]
pub struct Rollout {
    pub observations: Vec<f32>,
    pub actions: Vec<u32>,
    pub log_probs: Vec<f32>,
    pub advantages: Vec<f32>,
    pub returns: Vec<f32>,
    /// Scores of the episodes that ended.
    pub scores: Vec<f64>,
    rewards: Vec<f32>,
    values: Vec<f32>,
    /// Whether the step was the last of its episode.
    ends: Vec<bool>,
}

/// How future rewards count.
#[derive(Clone, Copy)]
pub struct Discount {
    pub gamma: f32,
    pub lambda: f32,
}

impl Rollout {
    /// Lets the landers fly for `steps` steps each.
    pub fn fly(
        landers: &mut [Lander],
        steps: usize,
        (policy, critic): (&dyn Module, &dyn Module),
        discount: Discount,
        rng: &mut StdRng,
    ) -> Result<Self> {
        let mut rollout = Self::default();
        for _ in 0..steps {
            let observations = observations(landers);
            let xs = rows(&observations)?;
            let logits = policy.forward(&xs)?.to_vec2::<f32>()?;
            rollout.values.extend(critic.forward(&xs)?.flatten_all()?.to_vec1::<f32>()?);
            rollout.observations.extend(observations);
            for (lander, logits) in landers.iter_mut().zip(&logits) {
                let (action, log_prob) = sample(logits, rng);
                rollout.actions.push(u32::from(action));
                rollout.log_probs.push(log_prob);
                rollout.act(lander, action, critic, discount.gamma)?;
            }
        }
        let last = critic.forward(&rows(&observations(landers))?)?.flatten_all()?;
        rollout.judge(&last.to_vec1()?, discount);
        Ok(rollout)
    }

    fn act(
        &mut self,
        lander: &mut Lander,
        action: u8,
        critic: &dyn Module,
        gamma: f32,
    ) -> Result<()> {
        let outcome = lander.act(action)?;
        let mut reward = outcome.reward / REWARD_UNIT;
        if outcome.end == Some(End::Limit) {
            let value = critic.forward(&rows(lander.observation())?)?.flatten_all()?;
            reward += gamma * value.to_vec1::<f32>()?[0];
        }
        self.rewards.push(reward);
        self.ends.push(outcome.end.is_some());
        if outcome.end.is_some() {
            self.scores.push(lander.score());
            lander.next()?;
        }
        Ok(())
    }

    /// Generalised advantage estimation (Schulman et al. 2016); `last` is what the observations after
    /// the last step are worth.
    fn judge(&mut self, last: &[f32], Discount { gamma, lambda }: Discount) {
        let (count, landers) = (self.rewards.len(), last.len());
        self.advantages = vec![0.; count];
        for at in (0..count).rev() {
            let going_on = f32::from(u8::from(!self.ends[at]));
            let (next, later) = match self.values.get(at + landers) {
                Some(&value) => (value, self.advantages[at + landers]),
                None => (last[at + landers - count], 0.),
            };
            let surprise = self.rewards[at] + gamma * going_on * next - self.values[at];
            self.advantages[at] = surprise + gamma * lambda * going_on * later;
        }
        self.returns = std::iter::zip(&self.advantages, &self.values).map(|(a, v)| a + v).collect();
    }

    /// The number of steps.
    pub fn len(&self) -> usize {
        self.actions.len()
    }
}

/// What all landers see.
pub fn observations(landers: &[Lander]) -> Vec<f32> {
    landers.iter().flat_map(|lander| lander.observation().iter().copied()).collect()
}

/// As rows of a tensor.
pub fn rows(observations: &[f32]) -> Result<Tensor> {
    let shape = (observations.len() / OBSERVATIONS, OBSERVATIONS);
    Ok(Tensor::from_slice(observations, shape, &Device::Cpu)?)
}

/// An action drawn by its probability, and the logarithm of that.
fn sample(logits: &[f32], rng: &mut StdRng) -> (u8, f32) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights = logits.iter().map(|logit| (logit - largest).exp());
    let sum: f32 = weights.clone().sum();
    let mut left = rng.random::<f32>() * sum;
    let mut chosen = ACTIONS - 1;
    for (action, weight) in weights.enumerate() {
        left -= weight;
        if left < 0. {
            chosen = action;
            break;
        }
    }
    (chosen as u8, logits[chosen] - largest - sum.ln())
}
