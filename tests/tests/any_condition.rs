//! Whatever the condition, zero included, a dynamic hypernetwork starts at the scale of candle's own
//! init, and its variables get gradients of ordinary size.

#![allow(missing_docs)]

use std::collections::BTreeMap;

use candle_core::{DType, Module, Result, Tensor};
use hypernn::nn::{Linear, Optimizer, SGD};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::dynamic::{Embedding, Generator, Sizes, kinds, network};
use hypernn_tests::{gradients, input, values, variables};

const WIDTHS: [usize; 3] = [1, 2, 8];
const SCALES: [f64; 6] = [0., 1e-3, 0.1, 1., 30., 1e3];
const SEEDS: u64 = 6;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(16, 24))]
    first: Linear,
    #[hyper(linear(24, 16))]
    second: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(xs)?.tanh()?)
    }
}

/// candle's standard deviations: Kaiming's for weights, a uniform distribution's for biases.
fn deviations() -> [f64; 4] {
    [(2f64 / 16.).sqrt(), (1f64 / 48.).sqrt(), (2f64 / 24.).sqrt(), (1f64 / 72.).sqrt()]
}

/// Four conditions of this root mean square.
fn conditions(width: usize, scale: f64) -> Result<Tensor> {
    let xs = input(&[4, width], 4, DType::F64)?;
    let rms = xs.sqr()?.mean_keepdim(1)?.sqrt()?;
    xs.broadcast_div(&rms)? * scale
}

/// What one network does with conditions.
struct Start {
    /// The mean and the mean square of all values, each divided by candle's deviation.
    mean: f64,
    square: f64,
    /// The norm of each variable's gradient.
    grads: BTreeMap<String, f64>,
}

fn start(kinds: (Embedding, Generator), seed: u64, condition: &Tensor) -> Result<Start> {
    let sizes = Sizes { width: condition.dim(1)?, num_embeddings: 32, embedding_dim: 16 };
    let (vars, vb) = variables(seed, DType::F64);
    let params = network::<Net>(kinds, sizes, vb)?.generate_params(condition)?;
    let (mut sum, mut squares, mut count) = (0., 0., 0.);
    for ((_, tensor), deviation) in params.tensors().zip(deviations()) {
        for value in values(tensor)? {
            sum += value / deviation;
            squares += (value / deviation).powi(2);
            count += 1.;
        }
    }
    let ys = params.forward(&input(&[8, 16], 1, DType::F64)?)?;
    let loss = (ys - input(&[8, 16], 2, DType::F64)?)?.sqr()?.mean_all()?;
    let grads = gradients(&vars, &loss)?
        .into_iter()
        .map(|(name, grad)| Ok((name, grad.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())));
    Ok(Start { mean: sum / count, square: squares / count, grads: grads.collect::<Result<_>>()? })
}

/// Every kind of network that takes a vector.
fn of_vectors() -> impl Iterator<Item = (Embedding, Generator)> {
    kinds().into_iter().filter(|(embedding, _)| *embedding != Embedding::Tasks)
}

/// Means over seeds.
fn mean_start(kinds: (Embedding, Generator), condition: &Tensor) -> Result<Start> {
    let mut mean = Start { mean: 0., square: 0., grads: BTreeMap::new() };
    for seed in 0..SEEDS {
        let start = start(kinds, seed, condition)?;
        mean.mean += start.mean / SEEDS as f64;
        mean.square += start.square / SEEDS as f64;
        for (name, grad) in start.grads {
            *mean.grads.entry(name).or_default() += grad / SEEDS as f64;
        }
    }
    Ok(mean)
}

/// Whether a variable is multiplied by a condition that enters as it is: like any layer's, its gradient
/// grows with its input.
fn meets_the_condition(name: &str, (embedding, generator): (Embedding, Generator)) -> bool {
    use Embedding::{Encoder, Gru, Lstm, Rnn};
    let in_embedding = matches!(embedding, Encoder | Rnn | Gru | Lstm)
        && (name == "embedding.0.weight" || name.starts_with("embedding.cell.weight_ih"));
    let in_generator = !matches!(
        generator,
        Generator::Linear
            | Generator::Mlp
            | Generator::LowRank
            | Generator::Heads
            | Generator::LinearCosSin
    ) && (name == "generator.weight" || name == "generator.0.weight");
    in_embedding || in_generator
}

#[test]
fn any_condition_starts_at_candles_scale_with_ordinary_gradients() -> Result<()> {
    for kinds in of_vectors() {
        for width in WIDTHS {
            let usual = mean_start(kinds, &conditions(width, 1.)?)?;
            for scale in SCALES {
                let found = mean_start(kinds, &conditions(width, scale)?)?;
                let what = format!("{kinds:?}, width {width}, scale {scale}");
                // Narrow generators have few directions to average over.
                let bound = match kinds.1 {
                    Generator::Linear
                    | Generator::Heads
                    | Generator::LinearConditioned
                    | Generator::HeadsConditioned
                    | Generator::LinearCosSin => 1.25,
                    _ => 2.,
                };
                assert!(
                    found.square > 1. / bound && found.square < bound,
                    "{what}: {}",
                    found.square
                );
                assert!(found.mean.abs() < 0.2, "{what}: mean {}", found.mean);
                for (name, grad) in &found.grads {
                    let growth = if meets_the_condition(name, kinds) { scale.max(1.) } else { 1. };
                    let usual = usual.grads[name];
                    assert!(
                        *grad < 5. * growth * usual + 1e-12,
                        "{what}: {name} {grad}, usually {usual}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// Half precision has no room for what keeps a division by zero away.
#[test]
fn a_condition_of_zero_in_half_precision() -> Result<()> {
    for dtype in [DType::F16, DType::BF16] {
        for kinds in of_vectors() {
            let sizes = Sizes { width: 2, num_embeddings: 8, embedding_dim: 4 };
            let hyper = network::<Net>(kinds, sizes, variables(0, dtype).1)?;
            for scale in [0., 1., 1e3] {
                let condition = conditions(2, scale)?.to_dtype(dtype)?;
                let flat = values(&hyper.generate_params(&condition)?.flat()?)?;
                assert!(flat.iter().all(|x| x.is_finite()), "{kinds:?} {dtype:?} {scale}");
                assert!(flat.iter().any(|x| *x != 0.), "{kinds:?} {dtype:?} {scale}");
            }
        }
    }
    Ok(())
}

/// The square of a small number is zero in f16.
#[test]
fn tables_of_width_one_in_half_precision() -> Result<()> {
    hypernetwork! {
        struct Narrow for Net { embedding: table(808, 1), generator: linear, mode: static }
    }
    for seed in 0..20 {
        let (vars, vb) = variables(seed, DType::F16);
        Narrow::new(vb)?;
        let table = hypernn_tests::variable(&vars, "embedding.weight")?;
        assert!(values(&table)?.iter().all(|x| x.abs() == 1.), "seed {seed}");
    }
    Ok(())
}

hypernetwork! {
    /// Of a hyperparameter λ.
    struct OfLambda for Net {
        embedding: encoder(1, [16], tanh, 32, 8), generator: linear, mode: dynamic,
    }
}

#[test]
fn training_at_a_hyperparameter_of_zero_does_not_diverge() -> Result<()> {
    let (vars, vb) = variables(0, DType::F32);
    let hyper = OfLambda::new(vb)?;
    let trained = vars.all_vars();
    let mut optimizer = SGD::new(trained, 0.05)?;
    let xs = input(&[16, 16], 1, DType::F32)?;
    let loss_at = |lambda: f32| {
        let params = hyper.generate_params(&Tensor::new(&[lambda], xs.device())?)?;
        (params.forward(&xs)? - (&xs * (1. - f64::from(lambda)))?)?.sqr()?.mean_all()
    };
    let before = [0., 1e-3, 1.].map(|lambda| loss_at(lambda)?.to_scalar::<f32>());
    for step in 0..300 {
        optimizer.backward_step(&loss_at([0., 1e-3, 0.5, 1.][step % 4])?)?;
    }
    for (lambda, before) in [0., 1e-3, 1.].into_iter().zip(before) {
        let (after, before) = (loss_at(lambda)?.to_scalar::<f32>()?, before?);
        assert!(after < 0.5 * before, "λ {lambda}: {after}, {before} before");
    }
    Ok(())
}
