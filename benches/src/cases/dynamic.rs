//! 8-256-32, 10,528 parameters, from 32 embeddings of width 4 that are scaled by the hidden state of an
//! RNN cell over the input: a set of weights for each of a batch's rows.

use candle_core::{D, Result, Tensor};
use candle_nn::Init;
use hypernn::embedding;
use hypernn::generated::TargetPlan;
use hypernn::generator::{self, GeneratorShape};
use hypernn::hypernetwork::{Declared, DynamicHyperNetwork};
use hypernn::init::InitScheme;
use hypernn::nn::step::relu;
use hypernn::nn::{Linear, LinearSpec, Module, VarBuilder};
use hypernn::target::layer::Visitor;
use hypernn::target::source::{ParamSource, scoped};
use hypernn::{ChunkPlan, Condition, HyperLayer, HyperTarget, Parameters, hypernetwork};

use super::by_hand::{self, Generator, linear_shapes};
use super::{Network, Who, input};
use crate::Policy;

const INPUTS: usize = 8;
/// Embeddings, and their width.
const SIZES: (usize, usize) = (32, 4);

hypernetwork! {
    struct Hyper for Policy {
        embedding: rnn(INPUTS, SIZES.0, SIZES.1),
        generator: linear,
        mode: dynamic,
        init: hyper_nn,
    }
}

/// The target without the derive.
struct PolicyByHand {
    hidden: Linear,
    out: Linear,
}

const HIDDEN: LinearSpec = hypernn::nn::spec::linear(INPUTS, 256);
const OUT: LinearSpec = hypernn::nn::spec::linear(256, 32);

impl HyperTarget for PolicyByHand {
    type Config = ();

    const NAME: &'static str = "PolicyByHand";

    const TAKES_SETS: bool = true;

    fn build(_: &(), source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self {
            hidden: scoped(source, "hidden", |source| Linear::build(&HIDDEN, source))?,
            out: scoped(source, "out", |source| Linear::build(&OUT, source))?,
        })
    }
}

impl Parameters for PolicyByHand {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.hidden.visit(visitor)?;
        self.out.visit(visitor)
    }
}

impl Module for PolicyByHand {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.hidden.forward(xs)?.apply(&relu)?)
    }
}

type NoMacros = DynamicHyperNetwork<PolicyByHand>;

fn no_macros(vb: &VarBuilder<'_>) -> Result<NoMacros> {
    let plan = TargetPlan::new(&())?;
    let shape = GeneratorShape {
        num_embeddings: SIZES.0,
        embedding_dim: SIZES.1,
        plan: ChunkPlan::new(plan.num_params(), SIZES.0),
    };
    let declared = Declared { name: "HyperByHand", shape, scheme: InitScheme::HyperNn };
    let embedding = embedding::spec::rnn(INPUTS, SIZES.0, SIZES.1);
    let generator = generator::spec::linear;
    let conditions = (Condition::Vector(INPUTS), Condition::None);
    NoMacros::new(plan, &declared, conditions, &embedding, &generator, vb.clone())
}

/// The dynamic hypernetwork in plain candle.
struct ByHand {
    input: candle_nn::Linear,
    recurrent: candle_nn::Linear,
    generator: Generator,
    shapes: Vec<Vec<usize>>,
}

impl ByHand {
    fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let shapes = linear_shapes(&[(INPUTS, 256), (256, 32)]);
        let [input, recurrent] = rnn_cell(INPUTS, SIZES.0, &vb.pp("embedding.cell"))?;
        let generator = Generator::new(SIZES.0, SIZES.1, None, &shapes, vb)?;
        Ok(Self { input, recurrent, generator, shapes })
    }

    /// `[G, …]` each.
    fn tensors(&self, xs: &Tensor) -> Result<Vec<Tensor>> {
        let sets = xs.dim(0)?;
        let state = Tensor::zeros((sets, SIZES.0), xs.dtype(), xs.device())?;
        let state = (self.input.forward(xs)? + self.recurrent.forward(&state)?)?.tanh()?;
        let table = self.generator.embedding.unsqueeze(0)?;
        let rows = table.broadcast_mul(&state.unsqueeze(D::Minus1)?)?;
        let flat = self.generator.forward(&rows.flatten_to(1)?)?.reshape((sets, ()))?;
        by_hand::cut(&flat, &self.shapes)
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let tensors = self.tensors(xs)?;
        let layer = |xs: &Tensor, weight: &Tensor, bias: &Tensor| {
            xs.matmul(&weight.t()?)?.broadcast_add(&bias.unsqueeze(1)?)
        };
        let hidden = layer(&xs.unsqueeze(1)?, &tensors[0], &tensors[1])?.relu()?;
        layer(&hidden, &tensors[2], &tensors[3])?.squeeze(1)
    }
}

/// The two layers of an RNN cell, named as PyTorch names them.
pub(super) fn rnn_cell(
    inputs: usize,
    hidden: usize,
    vb: &VarBuilder<'_>,
) -> Result<[candle_nn::Linear; 2]> {
    let bound = 1. / (hidden as f64).sqrt();
    let get = |dims: &[usize], name: &str| {
        vb.get_with_hints(dims, name, Init::Uniform { lo: -bound, up: bound })
    };
    let layer = |weight, bias| candle_nn::Linear::new(weight, Some(bias));
    let input = layer(get(&[hidden, inputs], "weight_ih")?, get(&[hidden], "bias_ih")?);
    Ok([input, layer(get(&[hidden, hidden], "weight_hh")?, get(&[hidden], "bias_hh")?)])
}

pub(super) fn network(who: Who, batch: usize, vb: &VarBuilder<'_>) -> Result<Option<Network>> {
    let xs = input(&[batch, INPUTS], vb)?;
    let condition = xs.clone();
    Ok(Some(match who {
        Who::Hypernn => {
            let generate = move |hyper: &Hyper| hyper.generate_params(&condition);
            Network::hyper(Hyper::new(vb.clone())?, generate, move |hyper| hyper.forward(&xs))
        }
        Who::NoMacros => {
            let generate = move |hyper: &NoMacros| hyper.generate_params(&condition);
            Network::hyper(no_macros(vb)?, generate, move |hyper| hyper.forward(&xs))
        }
        Who::ByHand => {
            let generate = move |hyper: &ByHand| hyper.tensors(&condition);
            Network::hyper(ByHand::new(vb)?, generate, move |hyper| hyper.forward(&xs))
        }
        Who::Plain | Who::PlainCandle => return Ok(None),
    }))
}
