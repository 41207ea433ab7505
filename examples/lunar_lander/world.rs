//! The landers: episodes of gmgn's environment that can be taken up again.

use anyhow::{Result, ensure};
use gmgn::env::Env;
use gmgn::envs::box2d::{LunarLanderConfig, LunarLanderEnv};
use hypernn_examples::random::rng_of;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// What a lander sees, and what it can do.
pub const OBSERVATIONS: usize = 8;
pub const ACTIONS: usize = 4;

/// The environment itself never ends an episode by time.
const LIMIT: usize = 1000;

/// An episode, as far as it was flown. The world is deterministic: seed and actions are its state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Flight {
    /// The number of the episode among those of its lander.
    pub episode: u64,
    /// What was done.
    pub actions: Vec<u8>,
}

/// What an action led to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The reward.
    pub reward: f32,
    /// How the episode ended, if it did.
    pub end: Option<End>,
}

/// How an episode ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It landed, crashed or flew out.
    Over,
    /// It was stopped at the limit: what would have come is worth something.
    Limit,
}

/// A lander, which flies one episode after the other; each is drawn from seed, lander and number.
pub struct Lander {
    world: LunarLanderEnv,
    stream: [u64; 3],
    flight: Flight,
    observation: Vec<f32>,
    score: f64,
}

impl Lander {
    /// At the start of its first episode; landers of different streams meet different moons.
    pub fn new(stream: [u64; 3]) -> Result<Self> {
        Self::resume(stream, Flight::default())
    }

    /// Where a flight had come to.
    pub fn resume(stream: [u64; 3], flight: Flight) -> Result<Self> {
        let world = LunarLanderEnv::new(LunarLanderConfig::default())?;
        let mut lander =
            Self { world, stream, flight: Flight::default(), observation: Vec::new(), score: 0. };
        lander.start(flight.episode)?;
        for action in flight.actions {
            ensure!(lander.act(action)?.end.is_none(), "the flight on file goes on after its end");
        }
        Ok(lander)
    }

    /// Starts an episode.
    fn start(&mut self, episode: u64) -> Result<()> {
        let [seed, purpose, number] = self.stream;
        let drawn = rng_of([seed, purpose, number, episode]).random();
        self.observation = self.world.reset(Some(drawn))?.obs;
        self.flight = Flight { episode, actions: Vec::new() };
        self.score = 0.;
        Ok(())
    }

    /// Starts the next episode.
    pub fn start_next(&mut self) -> Result<()> {
        self.start(self.flight.episode + 1)
    }

    /// One step of a fiftieth of a second.
    pub fn act(&mut self, action: u8) -> Result<Outcome> {
        let step = self.world.step(&i64::from(action))?;
        self.flight.actions.push(action);
        self.observation = step.obs;
        self.score += step.reward;
        let at_limit = self.flight.actions.len() >= LIMIT;
        let end = if step.terminated { Some(End::Over) } else { at_limit.then_some(End::Limit) };
        Ok(Outcome { reward: step.reward as f32, end })
    }

    /// What it sees now.
    pub fn observation(&self) -> &[f32] {
        &self.observation
    }

    /// The sum of this episode's rewards so far.
    pub fn score(&self) -> f64 {
        self.score
    }

    /// This episode so far.
    pub fn flight(&self) -> &Flight {
        &self.flight
    }
}
