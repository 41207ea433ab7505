//! Checkpoints that version 0.1 wrote load, and give what they gave there.

#![allow(missing_docs)]

use std::path::Path;

use candle_core::{DType, Module, Result, Tensor};
use hypernn::HyperTarget;
use hypernn::nn::Linear;
use hypernn_tests::dynamic::{Embedding, Generator, Sizes, network};
use hypernn_tests::{device, input, relative_error, variables};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(3, 4))]
    hidden: Linear,
    #[hyper(linear(4, 2))]
    out: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.hidden.forward(xs)?.tanh()?)
    }
}

/// Each embedding, and each way in which a generator takes a condition.
const KINDS: [(Embedding, Generator); 7] = [
    (Embedding::Rnn, Generator::LinearConditioned),
    (Embedding::Gru, Generator::Mlp),
    (Embedding::Lstm, Generator::Linear),
    (Embedding::Encoder, Generator::Linear),
    (Embedding::EncoderCosSin, Generator::LowRankConditioned),
    (Embedding::Table, Generator::HeadsConditioned),
    (Embedding::Table, Generator::LinearCosSin),
];

/// Zeros, small and large numbers.
fn conditions() -> Result<Tensor> {
    let xs = input(&[4, 2], 5, DType::F32)?;
    xs.broadcast_mul(&Tensor::new(&[[0f32], [1e-3], [1.], [50.]], device())?)
}

fn sizes() -> Sizes {
    Sizes { width: 2, num_embeddings: 6, embedding_dim: 3 }
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/version_0_1")
}

#[test]
fn files_give_what_they_gave() -> Result<()> {
    let flats = candle_core::safetensors::load(folder().join("generated.safetensors"), device())?;
    for (kinds, number) in KINDS.into_iter().zip(0..) {
        let hyper = network::<Net>(kinds, sizes(), variables(100, DType::F32).1)?;
        let name = format!("{number}");
        hyper.load(folder().join(format!("{name}.safetensors")))?;
        let found = hyper.generate_params(&conditions()?)?.flat()?;
        let error = relative_error(&found, &flats[&name])?;
        assert!(error < 1e-5, "{kinds:?}: {error}");
    }
    Ok(())
}
