//! Who flies: a policy in one of three forms, and the critic that judges it.

use std::path::Path;

use anyhow::Result;
use candle_core::{Tensor, Var};
use hypernn::HyperTarget;
use hypernn::nn::{Linear, Module, VarBuilder};

use crate::run::Mode;
use crate::{DynamicPolicy, HyperPolicy, Policy};

/// A policy: logits `[B, 4]` of observations `[B, 8]`.
pub enum Agent {
    /// Weights from embeddings alone.
    Static(HyperPolicy),
    /// Weights from each observation.
    Dynamic(DynamicPolicy),
    /// Weights of its own.
    Plain(Box<Policy>),
}

impl Agent {
    /// With new variables.
    pub fn new(mode: Mode, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(match mode {
            Mode::Static => Self::Static(HyperPolicy::new(vb)?),
            Mode::Dynamic => Self::Dynamic(DynamicPolicy::new(vb)?),
            Mode::Plain => Self::Plain(Box::new(Policy::new(vb)?)),
        })
    }

    /// The policy for as long as no variable changes: weights that depend on nothing else are
    /// generated once.
    pub fn acting(&self) -> Result<Box<dyn Module + '_>> {
        Ok(match self {
            Self::Static(hyper) => Box::new(hyper.target()?),
            _ => Box::new(|xs: &Tensor| self.forward(xs)),
        })
    }

    /// What is trained of a hypernetwork; of a plain policy it is all that it has.
    pub fn trainable(&self) -> Option<Vec<Var>> {
        match self {
            Self::Static(hyper) => Some(hyper.trainable()),
            Self::Dynamic(hyper) => Some(hyper.trainable()),
            Self::Plain(_) => None,
        }
    }

    /// Saves a hypernetwork; of a plain policy there is nothing to generate.
    pub fn save(&self, path: &Path) -> candle_core::Result<()> {
        match self {
            Self::Static(hyper) => hyper.save(path),
            Self::Dynamic(hyper) => hyper.save(path),
            Self::Plain(_) => Ok(()),
        }
    }
}

impl Module for Agent {
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Static(hyper) => hyper.forward(xs),
            Self::Dynamic(hyper) => hyper.forward(xs),
            Self::Plain(policy) => policy.forward(xs),
        }
    }
}

/// What an observation is worth: a small plain network, used in training alone.
#[derive(HyperTarget)]
#[hyper(sequential = [first, tanh, second, tanh, last], input = 8)]
pub struct Critic {
    #[hyper(linear(8, 64))]
    first: Linear,
    #[hyper(linear(64, 64))]
    second: Linear,
    #[hyper(linear(64, 1))]
    last: Linear,
}
