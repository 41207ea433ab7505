//! Proximal policy optimisation (Schulman et al. 2017).

use anyhow::Result;
use candle_core::{D, DType, Device, Tensor};
use hypernn::HyperTarget;
use hypernn::nn::{AdamW, Module, Optimizer, ParamsAdamW, VarMap, ops};
use hypernn::seeded;
use hypernn_examples::train::{clip, loss_value};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::agent::{Agent, Critic};
use crate::rollout::{Rollout, rows};
use crate::run::Run;
use crate::world::OBSERVATIONS;

/// Passes over a round, and entries in a step.
const EPOCHS: usize = 4;
const BATCH: usize = 64;
/// How far the probability of an action may move before it no longer counts.
const RATIO: f64 = 0.2;
/// What entropy and the critic's error count for in the loss.
const ENTROPY: f64 = 0.01;
const CRITIC: f64 = 0.5;
/// The norm of the gradients is at most this.
const NORM: f64 = 0.5;

/// A policy and its critic, as they learn.
pub struct Learner {
    /// The policy.
    pub agent: Agent,
    /// The critic.
    pub critic: Critic,
    /// The variables of both.
    pub vars: VarMap,
    /// Moves both.
    pub optimizer: AdamW,
}

impl Learner {
    /// With new variables, drawn from the seed.
    pub fn new(run: &Run) -> Result<Self> {
        let vars = VarMap::new();
        let vb = seeded::var_builder(&vars, run.args.run.common.seed, DType::F32, &run.device);
        let critic = Critic::new(vb.pp("critic"))?;
        let of_critic = vars.all_vars();
        let agent = Agent::new(run.args.mode, vb.pp("policy"))?;
        let trained = match agent.trainable() {
            Some(of_agent) => of_critic.into_iter().chain(of_agent).collect(),
            None => vars.all_vars(),
        };
        let adam = ParamsAdamW { weight_decay: 0., eps: 1e-5, ..Default::default() };
        let optimizer = AdamW::new(trained, adam)?;
        Ok(Self { agent, critic, vars, optimizer })
    }

    /// Learns from a round of flights.
    pub fn learn(&mut self, rollout: &Rollout, device: &Device, rng: &mut StdRng) -> Result<()> {
        let mut order: Vec<usize> = (0..rollout.len()).collect();
        for _ in 0..EPOCHS {
            order.shuffle(rng);
            for entries in order.chunks(BATCH) {
                let batch = Batch::new(rollout, entries, device)?;
                let policy = batch.policy_loss(&self.agent)?;
                let critic = batch.critic_loss(&self.critic)?;
                let loss = (policy + (critic * CRITIC)?)?;
                loss_value(&loss)?;
                let mut grads = loss.backward()?;
                clip(&mut grads, &self.vars, NORM)?;
                self.optimizer.step(&grads)?;
            }
        }
        Ok(())
    }
}

/// Some entries of a rollout; all but the first are `[B]`.
struct Batch {
    /// `[B, 8]`
    observations: Tensor,
    actions: Tensor,
    log_probs: Tensor,
    advantages: Tensor,
    returns: Tensor,
}

impl Batch {
    fn new(rollout: &Rollout, entries: &[usize], device: &Device) -> Result<Self> {
        let pick = |values: &[f32]| entries.iter().map(|&at| values[at]).collect::<Vec<_>>();
        let vector = |values: Vec<f32>| Tensor::new(values, device);
        let actions: Vec<_> = entries.iter().map(|&at| rollout.actions[at]).collect();
        let of_entry = |&at: &usize| &rollout.observations[at * OBSERVATIONS..][..OBSERVATIONS];
        let seen: Vec<_> = entries.iter().flat_map(of_entry).copied().collect();
        Ok(Self {
            observations: rows(&seen, device)?,
            actions: Tensor::new(actions, device)?,
            log_probs: vector(pick(&rollout.log_probs))?,
            advantages: vector(standardised(pick(&rollout.advantages)))?,
            returns: vector(pick(&rollout.returns))?,
        })
    }

    /// The clipped objective, with a bonus for entropy.
    fn policy_loss(&self, agent: &Agent) -> candle_core::Result<Tensor> {
        let all = ops::log_softmax(&agent.forward(&self.observations)?, D::Minus1)?;
        let log_probs = all.gather(&self.actions.unsqueeze(1)?, 1)?.squeeze(1)?;
        let ratio = (log_probs - &self.log_probs)?.exp()?;
        let clipped = ratio.clamp(1. - RATIO, 1. + RATIO)?;
        let gain = (ratio * &self.advantages)?.minimum(&(clipped * &self.advantages)?)?;
        let entropy = (all.exp()? * &all)?.sum(1)?.neg()?;
        (gain + (entropy * ENTROPY)?)?.mean_all()?.neg()
    }

    fn critic_loss(&self, critic: &Critic) -> candle_core::Result<Tensor> {
        (critic.forward(&self.observations)?.squeeze(1)? - &self.returns)?.sqr()?.mean_all()
    }
}

/// With mean zero and deviation one.
fn standardised(values: Vec<f32>) -> Vec<f32> {
    let count = values.len() as f32;
    let mean = values.iter().sum::<f32>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / count;
    let scale = 1. / (variance.sqrt() + 1e-8);
    values.into_iter().map(|value| (value - mean) * scale).collect()
}
