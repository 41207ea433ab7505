//! A round of flights to learn from.

use anyhow::Result;
use candle_core::{Device, Tensor};
use hypernn::nn::Module;
use rand::Rng;
use rand::rngs::StdRng;

use crate::world::{ACTIONS, End, Lander, OBSERVATIONS};

/// How much less the next step counts, and how far advantages look ahead.
const GAMMA: f32 = 0.999;
const LAMBDA: f32 = 0.98;
/// Rewards are counted in this unit, so that what the critic learns is near one.
const UNIT: f32 = 100.;

/// Who decides, and who judges: modules from `[B, 8]` to `[B, 4]` and `[B, 1]`.
pub struct Crew<'a> {
    /// The logits of the actions.
    pub policy: &'a dyn Module,
    /// What an observation is worth.
    pub critic: &'a dyn Module,
    /// Where both are.
    pub device: &'a Device,
}

impl Crew<'_> {
    fn logits(&self, observations: &[f32]) -> Result<Vec<Vec<f32>>> {
        Ok(self.policy.forward(&rows(observations, self.device)?)?.to_vec2()?)
    }

    fn values(&self, observations: &[f32]) -> Result<Vec<f32>> {
        let values = self.critic.forward(&rows(observations, self.device)?)?;
        Ok(values.flatten_all()?.to_vec1()?)
    }
}

/// What the landers saw, did and got: in each list an entry for each lander at each step, step by step.
#[derive(Default)]
pub struct Rollout {
    /// Eight for each entry.
    pub observations: Vec<f32>,
    /// What was done.
    pub actions: Vec<u32>,
    /// How likely that was.
    pub log_probs: Vec<f32>,
    /// How much better it turned out than the critic thought.
    pub advantages: Vec<f32>,
    /// What the critic should have thought.
    pub returns: Vec<f32>,
    /// The scores of the episodes that ended.
    pub scores: Vec<f64>,
    rewards: Vec<f32>,
    values: Vec<f32>,
    /// Whether the episode ended with the step.
    ends: Vec<bool>,
}

impl Rollout {
    /// Lets the landers fly for `steps` steps each.
    pub fn fly(
        landers: &mut [Lander],
        steps: usize,
        crew: &Crew<'_>,
        rng: &mut StdRng,
    ) -> Result<Self> {
        let mut rollout = Self::default();
        for _ in 0..steps {
            let seen = observations(landers);
            rollout.values.extend(crew.values(&seen)?);
            for (lander, logits) in landers.iter_mut().zip(crew.logits(&seen)?) {
                let (action, log_prob) = sample(&logits, rng);
                rollout.actions.push(u32::from(action));
                rollout.log_probs.push(log_prob);
                rollout.act(lander, action, crew)?;
            }
            rollout.observations.extend(seen);
        }
        rollout.judge(&crew.values(&observations(landers))?);
        Ok(rollout)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.actions.len()
    }

    /// One step of one lander, which starts anew where its episode ends.
    fn act(&mut self, lander: &mut Lander, action: u8, crew: &Crew<'_>) -> Result<()> {
        let outcome = lander.act(action)?;
        let mut reward = outcome.reward / UNIT;
        if outcome.end == Some(End::Limit) {
            reward += GAMMA * crew.values(lander.observation())?[0];
        }
        self.rewards.push(reward);
        self.ends.push(outcome.end.is_some());
        if outcome.end.is_some() {
            self.scores.push(lander.score());
            lander.start_next()?;
        }
        Ok(())
    }

    /// Generalised advantage estimation (Schulman et al. 2016). `last` is what the observations after
    /// the last step are worth.
    fn judge(&mut self, last: &[f32]) {
        let (count, landers) = (self.rewards.len(), last.len());
        self.advantages = vec![0.; count];
        for at in (0..count).rev() {
            let (value, later) = match self.values.get(at + landers) {
                Some(&value) => (value, self.advantages[at + landers]),
                None => (last[at + landers - count], 0.),
            };
            let ahead = if self.ends[at] { 0. } else { GAMMA * (value + LAMBDA * later) };
            self.advantages[at] = self.rewards[at] + ahead - self.values[at];
        }
        self.returns = std::iter::zip(&self.advantages, &self.values).map(|(a, v)| a + v).collect();
    }
}

/// What all landers see.
pub fn observations(landers: &[Lander]) -> Vec<f32> {
    landers.iter().flat_map(|lander| lander.observation().iter().copied()).collect()
}

/// Observations as rows `[B, 8]`.
pub fn rows(observations: &[f32], device: &Device) -> Result<Tensor> {
    let shape = (observations.len() / OBSERVATIONS, OBSERVATIONS);
    Ok(Tensor::from_slice(observations, shape, device)?)
}

/// An action by its probability, and the logarithm of that.
fn sample(logits: &[f32], rng: &mut StdRng) -> (u8, f32) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights = logits.iter().map(|logit| (logit - largest).exp());
    let sum: f32 = weights.clone().sum();
    let mut left = rng.random::<f32>() * sum;
    let chosen = weights.take(ACTIONS - 1).take_while(|weight| {
        left -= weight;
        left >= 0.
    });
    let chosen = chosen.count();
    (chosen as u8, logits[chosen] - largest - sum.ln())
}
