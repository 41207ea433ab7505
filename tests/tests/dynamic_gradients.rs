//! Gradients of every embedding with every generator, against finite differences in f64.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Module, Result, Tensor};
use hypernn::HyperTarget;
use hypernn::hypernetwork::DynamicHyperNetwork;
use hypernn::nn::Linear;
use hypernn_tests::dynamic::{Embedding, Generator, Sizes, conditions, kinds, network};
use hypernn_tests::{by_name, gradient_error, gradients, input, variables, weighted_sum};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(2, 3))]
    first: Linear,
    #[hyper(linear(3, 2))]
    second: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(xs)?.tanh()?)
    }
}

/// Two steps of two sets, so that the weights on the state count, with two rows per set.
fn loss(hyper: &DynamicHyperNetwork<Net>, conditions: &Tensor, xs: &Tensor) -> Result<Tensor> {
    let start = hyper.zero_state(2)?;
    let (ys, ..) =
        hyper.scan(conditions, &start, (), |net, at, ()| Ok((net.forward(&xs.get(at)?)?, ())))?;
    weighted_sum(&ys)
}

fn check((embedding, generator): (Embedding, Generator)) -> Result<()> {
    let sizes = Sizes { width: 3, num_embeddings: 6, embedding_dim: 2 };
    let (vars, vb) = variables(7, DType::F64);
    let hyper = network::<Net>((embedding, generator), sizes, vb)?;
    // A generator depends faintly on its condition at the start, too faintly for finite differences.
    for (var, seed) in by_name(&vars).values().zip(20..) {
        var.set(&(var.as_tensor() + input(var.dims(), seed, DType::F64)? * 0.3)?)?;
    }
    let conditions = conditions(embedding, &[2, 2], sizes.width, DType::F64)?;
    if embedding != Embedding::Tasks {
        // A variable like the others for what follows.
        vars.data().lock().unwrap().insert("condition".to_owned(), conditions.clone());
    }
    let xs = input(&[2, 4, 2], 5, DType::F64)?;
    let loss = || loss(&hyper, &conditions, &xs);
    let error = gradient_error(&vars, &loss)?;
    assert!(error < 1e-6, "{embedding:?} with {generator:?}: {error:e}");
    let grads = gradients(&vars, &loss()?)?;
    assert_eq!(grads.len(), by_name(&vars).len());
    for (name, grad) in grads {
        // Two steps of two sets use four of the five tasks.
        let reached = grad.abs()?.sum_all()?.to_scalar::<f64>()? > 0.;
        let unused = embedding == Embedding::Tasks && name == "embedding.2.weight";
        assert_eq!(reached, !unused, "{embedding:?} with {generator:?}: {name}");
    }
    Ok(())
}

#[test]
fn every_embedding_with_every_generator() -> Result<()> {
    kinds().into_iter().try_for_each(check)
}
