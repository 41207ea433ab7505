//! Proximal policy optimisation (Schulman et al. 2017).

use std::time::Instant;

use anyhow::Result;
use candle_core::backprop::GradStore;
use candle_core::{D, Device, Tensor, Var};
use hypernn::nn::{AdamW, Module, Optimizer, ParamsAdamW, VarMap, ops};
use hypernn_examples::random::rng_of;
use rand::seq::SliceRandom;

use crate::agent::{Agent, Critic};
use crate::rollout::{Discount, Rollout, observations, rows};
use crate::run::Run;
use hypernn::HyperTarget;
use crate::world::{Lander, OBSERVATIONS};

/// Trains; the mean score of the evaluation, and the seconds.
pub fn train(run: &Run) -> Result<(f64, f64)> {
    let args = &run.args;
    let start = Instant::now();
    let vars = VarMap::new();
    let agent = Agent::new(args.mode, run.variables(&vars))?;
    let critic_vars = VarMap::new();
    let critic = Critic::new(run.variables(&critic_vars))?;
    println!("{} parameters", agent.num_params());
    let params = |lr| ParamsAdamW { lr, weight_decay: 0., eps: 1e-5, ..Default::default() };
    let (vars, critic_vars) = (sorted(&vars), sorted(&critic_vars));
    let mut actor = AdamW::new(vars.clone(), params(args.learning_rate))?;
    let mut judge = AdamW::new(critic_vars.clone(), params(args.critic_rate))?;
    let seed = args.common.seed;
    let mut landers =
        (0..args.landers).map(|n| Lander::new([seed, 0, n as u64])).collect::<Result<Vec<_>>>()?;
    let rounds = args.steps / (args.landers * args.horizon);
    let discount = Discount { gamma: args.gamma, lambda: args.lambda };
    let (mut flying, mut learning) = (0., 0.);
    for round in 0..rounds {
        let left = 1. - round as f64 / rounds as f64;
        actor.set_learning_rate(args.learning_rate * left);
        judge.set_learning_rate(args.critic_rate * left);
        let mut rng = rng_of([seed, 1, round as u64, 0]);
        let clock = Instant::now();
        let policy = agent.acting()?;
        let rollout =
            Rollout::fly(&mut landers, args.horizon, (&*policy, &critic), discount, &mut rng)?;
        flying += clock.elapsed().as_secs_f64();
        let clock = Instant::now();
        let mut entropies = 0.;
        let mut order: Vec<u32> = (0..rollout.len() as u32).collect();
        for _ in 0..args.epochs {
            order.shuffle(&mut rng);
            for batch in order.chunks(args.batch) {
                let batch = Batch::new(&rollout, batch)?;
                let (loss, entropy) = batch.policy_loss(&agent, args.clip, args.entropy)?;
                entropies = entropy;
                step(&mut actor, &vars, &loss, args.norm)?;
                let values = critic.forward(&batch.observations)?.squeeze(1)?;
                let loss = (values - &batch.returns)?.sqr()?.mean_all()?;
                step(&mut judge, &critic_vars, &loss, args.norm)?;
            }
        }
        learning += clock.elapsed().as_secs_f64();
        let mean = rollout.scores.iter().sum::<f64>() / rollout.scores.len().max(1) as f64;
        println!(
            "round {round}/{rounds}: {} episodes, mean {mean:.1}, entropy {entropies:.3}, flying {flying:.0} learning {learning:.0} s",
            rollout.scores.len()
        );
    }
    let scores = evaluate(&agent, args.flights, seed)?;
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    let std = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / scores.len() as f64).sqrt();
    println!("evaluation: {mean:.1} ± {std:.1}");
    Ok((mean, start.elapsed().as_secs_f64()))
}

fn sorted(vars: &VarMap) -> Vec<Var> {
    let data = vars.data().lock().unwrap();
    let mut named: Vec<_> = data.iter().collect();
    named.sort_by_key(|(name, _)| name.as_str());
    named.into_iter().map(|(_, var)| var.clone()).collect()
}

/// Scores of flights by the most likely action, over moons of their own.
pub fn evaluate(agent: &Agent, flights: usize, seed: u64) -> Result<Vec<f64>> {
    let policy = agent.acting()?;
    let mut landers = (0..flights)
        .map(|number| Lander::new([seed, 2, number as u64]))
        .collect::<Result<Vec<_>>>()?;
    let mut scores = Vec::new();
    while !landers.is_empty() {
        let logits = policy.forward(&rows(&observations(&landers))?)?;
        let actions = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let mut flying = Vec::new();
        for (mut lander, action) in landers.into_iter().zip(actions) {
            match lander.act(action as u8)?.end {
                Some(_) => scores.push(lander.score()),
                None => flying.push(lander),
            }
        }
        landers = flying;
    }
    Ok(scores)
}

fn step(optimizer: &mut AdamW, vars: &[Var], loss: &Tensor, limit: f64) -> Result<()> {
    let mut grads = loss.backward()?;
    clip(&mut grads, vars, limit)?;
    Ok(optimizer.step(&grads)?)
}

/// Scales all gradients so that their norm is at most `limit`.
fn clip(grads: &mut GradStore, vars: &[Var], limit: f64) -> Result<()> {
    let mut squares = 0.;
    for grad in vars.iter().filter_map(|var| grads.get(var)) {
        squares += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let scale = limit / squares.sqrt();
    if scale >= 1. {
        return Ok(());
    }
    for var in vars {
        if let Some(grad) = grads.remove(var) {
            grads.insert(var, (grad * scale)?);
        }
    }
    Ok(())
}

/// Some steps of a rollout.
struct Batch {
    observations: Tensor,
    actions: Tensor,
    log_probs: Tensor,
    advantages: Tensor,
    returns: Tensor,
}

impl Batch {
    fn new(rollout: &Rollout, steps: &[u32]) -> Result<Self> {
        let steps = || steps.iter().map(|&step| step as usize);
        let pick = |values: &[f32]| -> Vec<f32> { steps().map(|step| values[step]).collect() };
        let seen = steps()
            .flat_map(|step| &rollout.observations[step * OBSERVATIONS..][..OBSERVATIONS])
            .copied();
        let actions: Vec<u32> = steps().map(|step| rollout.actions[step]).collect();
        let vector = |values: Vec<f32>| Tensor::new(values, &Device::Cpu);
        Ok(Self {
            observations: rows(&seen.collect::<Vec<_>>())?,
            actions: Tensor::new(actions, &Device::Cpu)?,
            log_probs: vector(pick(&rollout.log_probs))?,
            advantages: vector(standardised(pick(&rollout.advantages)))?,
            returns: vector(pick(&rollout.returns))?,
        })
    }

    /// The clipped objective with a bonus for entropy; the entropy.
    fn policy_loss(&self, agent: &Agent, clip: f64, bonus: f64) -> Result<(Tensor, f32)> {
        let all = ops::log_softmax(&agent.forward(&self.observations)?, D::Minus1)?;
        let log_probs = all.gather(&self.actions.unsqueeze(1)?, 1)?.squeeze(1)?;
        let ratio = (log_probs - &self.log_probs)?.exp()?;
        let clipped = ratio.clamp(1. - clip, 1. + clip)?;
        let gain = (ratio * &self.advantages)?.minimum(&(clipped * &self.advantages)?)?;
        let entropy = (all.exp()? * &all)?.sum(1)?.mean_all()?.neg()?;
        let loss = (gain.mean_all()?.neg()? - (&entropy * bonus)?)?;
        Ok((loss, entropy.to_scalar()?))
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
