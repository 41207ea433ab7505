//! How a dynamic hypernetwork starts.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Module, Result, Tensor};
use hypernn::embedding::Embedded;
use hypernn::hypernetwork::DynamicHyperNetwork;
use hypernn::nn::{LayerNorm, Linear};
use hypernn::{DynamicAux, HyperTarget, hypernetwork};
use hypernn_tests::dynamic::{Embedding, Generator, Sizes, conditions, kinds, network};
use hypernn_tests::{by_name, device, gradients, input, values, variable, variables, weighted_sum};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(32, 48))]
    first: Linear,
    #[hyper(linear(48, 32))]
    second: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(xs)?.relu()?)
    }
}

/// candle's own standard deviations: Kaiming's for weights, a uniform distribution's for biases.
const DEVIATIONS: [f64; 4] = [
    0.25,                     // √(2/32)
    0.102_062_072_615_965_75, // √(1/(3·32))
    0.204_124_145_231_931_5,  // √(2/48)
    0.083_333_333_333_333_33, // √(1/(3·48))
];

/// The mean square of each set's values, each divided by the deviation of candle's init.
fn mean_squares(hyper: &DynamicHyperNetwork<Net>, condition: &Tensor) -> Result<Vec<f64>> {
    let params = hyper.generate_params(condition)?;
    let mut sums = vec![0.; condition.dim(0)?];
    for ((_, tensor), deviation) in params.tensors().zip(DEVIATIONS) {
        for (set, sum) in sums.iter_mut().enumerate() {
            let values = values(&tensor.get(set)?)?;
            *sum += values.iter().map(|value| (value / deviation).powi(2)).sum::<f64>();
        }
    }
    Ok(sums.into_iter().map(|sum| sum / Net::NUM_PARAMS as f64).collect())
}

/// Numbers in -1..1 to a mean square of one for the row, then scaled.
fn unit_conditions(scale: f64) -> Result<Tensor> {
    let xs = input(&[6, 8], 4, DType::F64)?;
    let rms = xs.sqr()?.mean_keepdim(1)?.sqrt()?;
    xs.broadcast_div(&rms)? * scale
}

/// Where the condition goes through what is normalised, its scale does not matter.
#[test]
fn every_set_starts_at_candles_scale() -> Result<()> {
    use Embedding::{Encoder, Gru, Lstm, Rnn, Table};
    let sizes = Sizes { width: 8, num_embeddings: 64, embedding_dim: 16 };
    for seed in 0..3 {
        for (embedding, generator, scales) in [
            (Rnn, Generator::Linear, &[0.01, 0.1, 1., 10., 1000.][..]),
            (Rnn, Generator::LowRank, &[1.]),
            (Gru, Generator::Linear, &[0.1, 1., 10., 1000.]),
            (Lstm, Generator::Linear, &[0.1, 1., 10., 1000.]),
            (Encoder, Generator::Linear, &[0.1, 1., 10., 1000.]),
            (Encoder, Generator::LinearConditioned, &[1.]),
            (Rnn, Generator::LinearConditioned, &[1.]),
            (Rnn, Generator::LinearCosSin, &[0.1, 1., 10., 1000.]),
            (Table, Generator::LinearConditioned, &[1.]),
            (Table, Generator::LinearCosSin, &[0.1, 1., 10., 1000.]),
        ] {
            let hyper =
                network::<Net>((embedding, generator), sizes, variables(seed, DType::F64).1)?;
            // A low rank has few directions to average over.
            let bound = if generator == Generator::LowRank { 2.5 } else { 1.5 };
            for scale in scales {
                for found in mean_squares(&hyper, &unit_conditions(*scale)?)? {
                    let within = found > 1. / bound && found < bound;
                    assert!(within, "{embedding:?}, {generator:?} at {scale}: {found}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_task_starts_at_candles_scale() -> Result<()> {
    let sizes = Sizes { width: 8, num_embeddings: 64, embedding_dim: 16 };
    let kinds = (Embedding::Tasks, Generator::Linear);
    let hyper = network::<Net>(kinds, sizes, variables(0, DType::F64).1)?;
    for found in mean_squares(&hyper, &Tensor::new(&[0u32, 1, 2, 3, 4], device())?)? {
        assert!(found > 0.8 && found < 1.2, "{found}");
    }
    Ok(())
}

#[derive(HyperTarget)]
struct Square {
    #[hyper(linear(8, 8))]
    layer: Linear,
}

impl Module for Square {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.layer.forward(xs)
    }
}

hypernetwork! {
    struct Exact for Square { embedding: rnn(8, 72, 4), generator: linear, mode: dynamic }
}

hypernetwork! {
    struct Plain for Square {
        embedding: rnn(8, 72, 4),
        generator: linear,
        mode: dynamic,
        init: hyper_nn,
    }
}

fn gains(aux: &DynamicAux<Square>) -> &Tensor {
    match &aux.embedding {
        Embedded::Scaled { gains, .. } => gains,
        _ => unreachable!("rnn scales a table"),
    }
}

/// Under the exact init, what the generator gets does not grow or shrink with the condition.
#[test]
fn gains_are_normalised_under_exact_alone() -> Result<()> {
    for scale in [0.1, 1., 100.] {
        let xs = unit_conditions(scale)?;
        let (_, aux) = Exact::new(variables(0, DType::F64).1)?.forward_aux(&xs)?;
        for square in values(&gains(&aux).sqr()?.mean(1)?)? {
            assert!((square - 1.).abs() < 1e-4, "{square} at {scale}");
        }
        let (_, aux) = Plain::new(variables(0, DType::F64).1)?.forward_aux(&xs)?;
        assert_eq!(values(gains(&aux))?, values(&aux.state.tensors()[0])?);
    }
    Ok(())
}

#[derive(HyperTarget)]
struct Values {
    #[hyper(tensor([6]))]
    values: Tensor,
}

hypernetwork! {
    struct Encoded for Values {
        embedding: table(1, 1),
        generator: linear.conditioned(3).encoding(cos_sin),
        mode: dynamic,
        init: hyper_nn,
    }
}

/// A generator that hands its input on shows the encoding.
#[test]
fn an_encoded_condition_has_a_mean_square_of_one() -> Result<()> {
    let (vars, vb) = variables(0, DType::F64);
    let hyper = Encoded::new(vb)?;
    let picked = Tensor::cat(
        &[Tensor::zeros((6, 1), DType::F64, device())?, Tensor::eye(6, DType::F64, device())?],
        1,
    )?;
    variable(&vars, "generator.weight")?.set(&picked)?;
    variable(&vars, "generator.bias")?.set(&Tensor::zeros(6, DType::F64, device())?)?;
    let condition = Tensor::new(&[[0., 0.5, 1.], [0.1, 0.7, 0.9], [-3., 20., 0.]], device())?;
    let encoded = hyper.generate_params(&condition)?.flat()?;
    for (row, square) in values(&encoded.sqr()?.mean(1)?)?.into_iter().enumerate() {
        assert!((square - 1.).abs() < 1e-12, "row {row}: {square}");
    }
    let root = 2f64.sqrt();
    let expected = [root, 1., 0., 0., 1., root];
    for (found, expected) in values(&encoded.get(0)?)?.into_iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }
    Ok(())
}

#[derive(HyperTarget)]
struct Normed {
    #[hyper(layer_norm(40, 1e-5))]
    norm: LayerNorm,
}

/// What candle starts at a constant starts near it.
#[test]
fn constants_start_near() -> Result<()> {
    let sizes = Sizes { width: 8, num_embeddings: 16, embedding_dim: 16 };
    let kinds = (Embedding::Rnn, Generator::Linear);
    let hyper = network::<Normed>(kinds, sizes, variables(0, DType::F64).1)?;
    let params = hyper.generate_params(&unit_conditions(1.)?)?;
    for ((param, tensor), mean) in params.tensors().zip([1., 0.]) {
        let offsets = (tensor - mean)?;
        let rms = offsets.sqr()?.mean_all()?.to_scalar::<f64>()?.sqrt();
        assert!(rms > 0.05 && rms < 0.2, "{}: {rms}", param.name);
    }
    Ok(())
}

/// A condition of zeros, as a padded row has it.
#[test]
fn zeros_give_finite_values_and_gradients() -> Result<()> {
    let sizes = Sizes { width: 3, num_embeddings: 5, embedding_dim: 3 };
    for kinds in kinds() {
        let (vars, vb) = variables(0, DType::F32);
        let hyper = network::<Net>(kinds, sizes, vb)?;
        let condition = conditions(kinds.0, &[2], 3, DType::F32)?;
        if kinds.0 != Embedding::Tasks {
            condition.set(&condition.zeros_like()?)?;
            vars.data().lock().unwrap().insert("condition".to_owned(), condition.clone());
        }
        let ys = hyper.generate_params(&condition)?.forward(&input(&[4, 32], 1, DType::F32)?)?;
        assert!(values(&ys)?.iter().all(|y| y.is_finite()), "{kinds:?}");
        for (name, grad) in gradients(&vars, &weighted_sum(&ys)?)? {
            assert!(values(&grad)?.iter().all(|x| x.is_finite()), "{kinds:?}: {name}");
        }
        assert!(by_name(&vars).len() > 1);
    }
    Ok(())
}
