//! 32-64-32 from 32 embeddings of width 4, batch 64.

use candle_core::{Result, Tensor};
use hypernn::generated::TargetPlan;
use hypernn::generator::GeneratorShape;
use hypernn::hypernetwork::{Declared, StaticHyperNetwork};
use hypernn::init::InitScheme;
use hypernn::nn::step::relu;
use hypernn::nn::{Linear, LinearSpec, Module, VarBuilder};
use hypernn::target::layer::Visitor;
use hypernn::target::source::{ParamSource, scoped};
use hypernn::{ChunkPlan, HyperLayer, HyperTarget, Parameters, embedding, generator, hypernetwork};

use super::by_hand::{self, linear_shapes};
use super::flat::{self, Sizes};
use super::{Network, Who, input};

const BATCH: usize = 64;

#[derive(HyperTarget)]
#[hyper(sequential = [hidden, relu, out])]
struct Net {
    #[hyper(linear(32, 64))]
    hidden: Linear,
    #[hyper(linear(64, 32))]
    out: Linear,
}

hypernetwork! {
    struct Hyper for Net {
        embedding: table(32, 4),
        generator: linear,
        mode: static,
        init: hyper_nn,
    }
}

/// The target without the derive.
struct NetByHand {
    hidden: Linear,
    out: Linear,
}

const HIDDEN: LinearSpec = hypernn::nn::spec::linear(32, 64);
const OUT: LinearSpec = hypernn::nn::spec::linear(64, 32);

impl HyperTarget for NetByHand {
    type Config = ();

    const NAME: &'static str = "NetByHand";

    const TAKES_SETS: bool = true;

    fn build(_: &(), source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self {
            hidden: scoped(source, "hidden", |source| Linear::build(&HIDDEN, source))?,
            out: scoped(source, "out", |source| Linear::build(&OUT, source))?,
        })
    }
}

impl Parameters for NetByHand {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.hidden.visit(visitor)?;
        self.out.visit(visitor)
    }
}

impl Module for NetByHand {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.hidden.forward(xs)?.apply(&relu)?)
    }
}

type HyperByHand = StaticHyperNetwork<NetByHand>;

fn hypernetwork_by_hand(vb: &VarBuilder<'_>) -> Result<HyperByHand> {
    let plan = TargetPlan::new(&())?;
    let shape = GeneratorShape {
        num_embeddings: 32,
        embedding_dim: 4,
        plan: ChunkPlan::new(plan.num_params(), 32),
    };
    let declared = Declared { name: "HyperByHand", shape, scheme: InitScheme::HyperNn };
    let (embedding, generator) = (embedding::spec::table(32, 4), generator::spec::linear);
    HyperByHand::new(plan, &declared, &embedding, &generator, vb.clone())
}

/// The target over a flat vector.
pub(super) fn flat(who: Who, vb: &VarBuilder<'_>) -> Result<Option<Network>> {
    let (shapes, xs) = (linear_shapes(&[(32, 64), (64, 32)]), input(&[BATCH, 32], vb)?);
    flat::network::<Net>(who, Sizes { shapes, target: by_hand::mlp, xs, stdev: 0.1 }, vb)
}

pub(super) fn network(who: Who, vb: &VarBuilder<'_>) -> Result<Option<Network>> {
    let xs = input(&[BATCH, 32], vb)?;
    let shapes = linear_shapes(&[(32, 64), (64, 32)]);
    Ok(Some(match who {
        Who::Hypernn => {
            let hyper = Hyper::new(vb.clone())?;
            Network::hyper(hyper, |hyper| hyper.generate_params(), move |hyper| hyper.forward(&xs))
        }
        Who::NoMacros => {
            let hyper = hypernetwork_by_hand(vb)?;
            let generate = |hyper: &HyperByHand| hyper.generate_params();
            Network::hyper(hyper, generate, move |hyper| hyper.forward(&xs))
        }
        Who::ByHand => by_hand::hypernetwork(32, 4, None, shapes, by_hand::mlp, xs, vb)?,
        Who::Plain => {
            let net = Net::new(vb.clone())?;
            Network::new(move || net.forward(&xs))
        }
        Who::PlainCandle => by_hand::plain(&shapes, by_hand::mlp, xs, vb)?,
    }))
}
