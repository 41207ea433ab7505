//! The recurrent network of hyper-nn's names notebook, 193,467 parameters from 64 embeddings of width 4:
//! a name of eight letters, weights anew for each.

use candle_core::{D, Result, Tensor};
use hypernn::nn::step::relu;
use hypernn::nn::{GRU, GRUState, Linear, RNN, VarBuilder, ops};
use hypernn::{HyperTarget, hypernetwork};

use super::by_hand::{self, Generator, linear_shapes};
use super::dynamic::rnn_cell;
use super::{Network, Who};

/// Letters of the alphabet of names, and languages.
const LETTERS: usize = 59;
const LANGUAGES: usize = 18;
const INPUTS: usize = LANGUAGES + LETTERS;
const NAME: [u32; 8] = [17, 0, 1, 8, 13, 14, 21, 8];
/// Embeddings, and their width.
const SIZES: (usize, usize) = (64, 4);

/// The next letter of a name, from a language, a letter and a state.
#[derive(HyperTarget)]
struct NextLetter {
    #[hyper(gru(INPUTS, 128))]
    rnn: GRU,
    #[hyper([linear(128, 256), linear(256, 256), linear(256, LETTERS)])]
    layers: [Linear; 3],
}

impl NextLetter {
    fn step(&self, xs: &Tensor, state: &GRUState) -> Result<(Tensor, GRUState)> {
        use candle_core::Module;
        let state = self.rnn.step(xs, state)?;
        let [first, second, last] = &self.layers;
        let hidden = second.forward(&first.forward(&state.h)?.apply(&relu)?)?.apply(&relu)?;
        Ok((ops::log_softmax(&last.forward(&hidden)?, D::Minus1)?, state))
    }
}

hypernetwork! {
    struct Hyper for NextLetter {
        embedding: rnn(INPUTS, SIZES.0, SIZES.1),
        generator: linear,
        mode: dynamic,
        init: hyper_nn,
    }
}

/// The name in one language, `[1, 8, …]`, and the letter after each.
fn name(vb: &VarBuilder<'_>) -> Result<(Tensor, Tensor)> {
    let one_hot = |at: usize, width: usize| (0..width).map(move |i| f32::from(u8::from(i == at)));
    let row = |&letter: &u32| one_hot(14, LANGUAGES).chain(one_hot(letter as usize, LETTERS));
    let rows: Vec<_> = NAME.iter().flat_map(row).collect();
    let xs = Tensor::from_vec(rows, (1, NAME.len(), INPUTS), vb.device())?;
    let next: Vec<_> = NAME[1..].iter().copied().chain([LETTERS as u32 - 1]).collect();
    Ok((xs.to_dtype(vb.dtype())?, Tensor::new(next, vb.device())?))
}

fn zeros(width: usize, like: &Tensor) -> Result<Tensor> {
    Tensor::zeros((1, width), like.dtype(), like.device())
}

/// `[1, 8, LETTERS]`.
fn forward(hyper: &Hyper, xs: &Tensor) -> Result<Tensor> {
    let step = |net: &NextLetter, at: usize, state: GRUState| {
        net.step(&xs.narrow(1, at, 1)?.squeeze(1)?, &state)
    };
    let start = GRUState { h: zeros(128, xs)? };
    Ok(hyper.scan(xs, &hyper.zero_state(1)?, start, step)?.0)
}

/// The dynamic hypernetwork of a recurrent network in plain candle.
struct ByHand {
    input: candle_nn::Linear,
    recurrent: candle_nn::Linear,
    generator: Generator,
    shapes: Vec<Vec<usize>>,
}

impl ByHand {
    fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let gru = [vec![3 * 128, INPUTS], vec![3 * 128, 128], vec![3 * 128], vec![3 * 128]];
        let layers = linear_shapes(&[(128, 256), (256, 256), (256, LETTERS)]);
        let shapes = gru.into_iter().chain(layers).collect::<Vec<_>>();
        let [input, recurrent] = rnn_cell(INPUTS, SIZES.0, &vb.pp("embedding.cell"))?;
        let generator = Generator::new(SIZES.0, SIZES.1, None, &shapes, vb)?;
        Ok(Self { input, recurrent, generator, shapes })
    }

    /// The tensors for a letter, and the embedding's next state.
    fn tensors(&self, xs: &Tensor, state: &Tensor) -> Result<(Vec<Tensor>, Tensor)> {
        use candle_core::Module;
        let state = (self.input.forward(xs)? + self.recurrent.forward(state)?)?.tanh()?;
        let rows = self.generator.embedding.broadcast_mul(&state.t()?)?;
        let flat = self.generator.forward(&rows)?.flatten_all()?;
        Ok((by_hand::cut(&flat, &self.shapes)?, state))
    }

    fn forward(&self, name: &Tensor) -> Result<Tensor> {
        let (mut state, mut hidden) = (zeros(SIZES.0, name)?, zeros(128, name)?);
        let mut outputs = Vec::with_capacity(NAME.len());
        for at in 0..NAME.len() {
            let xs = name.narrow(1, at, 1)?.squeeze(1)?;
            let (tensors, next) = self.tensors(&xs, &state)?;
            state = next;
            hidden = gru(&tensors[..4], &xs, &hidden)?;
            let ys = by_hand::mlp(&tensors[4..], &hidden)?;
            outputs.push(ops::log_softmax(&ys, D::Minus1)?);
        }
        Tensor::stack(&outputs, 1)
    }
}

/// A gated recurrent unit: reset, update and new gate, as in PyTorch.
fn gru(tensors: &[Tensor], xs: &Tensor, h: &Tensor) -> Result<Tensor> {
    let from_input = xs.matmul(&tensors[0].t()?)?.broadcast_add(&tensors[2])?.chunk(3, 1)?;
    let from_state = h.matmul(&tensors[1].t()?)?.broadcast_add(&tensors[3])?.chunk(3, 1)?;
    let reset = ops::sigmoid(&(&from_input[0] + &from_state[0])?)?;
    let update = ops::sigmoid(&(&from_input[1] + &from_state[1])?)?;
    let new = (&from_input[2] + (reset * &from_state[2])?)?.tanh()?;
    (&update * h)? - ((&update - 1.)? * new)?
}

pub(super) fn network(who: Who, vb: &VarBuilder<'_>) -> Result<Option<Network>> {
    let (xs, next) = name(vb)?;
    let network = match who {
        Who::Hypernn => {
            let hyper = Hyper::new(vb.clone())?;
            Network::new(move || forward(&hyper, &xs))
        }
        Who::ByHand => {
            let hyper = ByHand::new(vb)?;
            Network::new(move || hyper.forward(&xs))
        }
        Who::NoMacros | Who::Plain | Who::PlainCandle => return Ok(None),
    };
    let loss = move |ys: &Tensor| ys.squeeze(0)?.gather(&next.unsqueeze(1)?, 1)?.sum_all()?.neg();
    Ok(Some(Network { loss: Box::new(loss), clip: Some(10.), ..network }))
}
