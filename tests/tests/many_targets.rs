//! One hypernetwork for several different targets, and a hypernetwork whose target is a hypernetwork.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::VarBuilder;
use hypernn::nn::{Conv2d, LayerNorm, Linear};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::{device, gradient_error, input, values, variables, weighted_sum};
use tempfile::TempDir;

/// A network for vectors.
#[derive(HyperTarget)]
struct Vectors {
    #[hyper(linear(3, 4))]
    hidden: Linear,
    #[hyper(layer_norm(4, 1e-5))]
    norm: LayerNorm,
    #[hyper(linear(4, 2))]
    out: Linear,
}

impl Module for Vectors {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.norm.forward(&self.hidden.forward(xs)?)?.tanh()?)
    }
}

/// A network for pictures.
#[derive(HyperTarget)]
struct Pictures {
    #[hyper(conv2d(1, 3, 2))]
    conv: Conv2d,
}

impl Module for Pictures {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.conv.forward(xs)
    }
}

/// Both, as one target.
#[derive(HyperTarget)]
struct Both {
    vectors: Vectors,
    pictures: Pictures,
}

hypernetwork! {
    struct HyperBoth for Both { embedding: table(49, 2), generator: linear, mode: static }
}

hypernetwork! {
    struct HyperPair for (Vectors, candle_nn::Conv2d) {
        target: constructor,
        embedding: table(49, 2),
        generator: linear,
        mode: static,
    }
}

fn loss(vectors: &Vectors, pictures: &impl Module) -> Result<Tensor> {
    let vectors = vectors.forward(&input(&[5, 3], 1, DType::F64)?)?;
    let pictures = pictures.forward(&input(&[2, 1, 3, 3], 2, DType::F64)?)?;
    weighted_sum(&vectors)? + weighted_sum(&pictures)?
}

/// The targets' parameters lie side by side in one flat vector, without padding.
#[test]
fn two_targets_of_one_generator() -> Result<()> {
    assert_eq!(Both::NUM_PARAMS, Vectors::NUM_PARAMS + Pictures::NUM_PARAMS);
    assert_eq!((HyperBoth::CHUNKS.chunk(), HyperBoth::CHUNKS.surplus()), (1, 0));
    let (vars, vb) = variables(1, DType::F64);
    let hyper = HyperBoth::new(vb)?;
    let of_both = || {
        let both = hyper.target()?;
        loss(&both.vectors, &both.pictures)
    };
    let error = gradient_error(&vars, &of_both)?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}

#[test]
fn a_tuple_by_constructor() -> Result<()> {
    let (vars, vb) = variables(1, DType::F64);
    let hyper = HyperPair::new(vb, |vb| {
        let conv = candle_nn::conv2d(1, 3, 2, Default::default(), vb.pp("pictures.conv"))?;
        Ok((Vectors::new(vb.pp("vectors"))?, conv))
    })?;
    let layout = Both::layout()?;
    let mut expected: Vec<_> = layout.params().iter().map(|param| param.name.clone()).collect();
    let network = &hyper;
    let mut found: Vec<_> = network.layout().params().iter().map(|p| p.name.clone()).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    let of_both = || {
        let (vectors, pictures) = hyper.target()?;
        loss(&vectors, &pictures)
    };
    let error = gradient_error(&vars, &of_both)?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}

hypernetwork! {
    struct HyperVectors for Vectors { embedding: table(17, 2), generator: mlp([3], tanh), mode: static }
}

hypernetwork! {
    struct Meta for HyperVectors {
        target: constructor, embedding: table(20, 3), generator: linear, mode: static,
    }
}

hypernetwork! {
    struct DynamicMeta for HyperVectors {
        target: constructor,
        embedding: encoder(3, [4], tanh, 20, 3),
        generator: linear,
        mode: dynamic,
    }
}

/// The inner hypernetwork's variables are generated, and gradients go through both.
#[test]
fn a_hypernetwork_of_a_hypernetwork() -> Result<()> {
    let (vars, vb) = variables(1, DType::F64);
    let meta = Meta::new(vb, |vb: VarBuilder<'_>| HyperVectors::new(vb))?;
    let names: Vec<_> = meta.layout().params().iter().map(|param| param.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "embedding.weight",
            "generator.0.weight",
            "generator.0.bias",
            "generator.1.weight",
            "generator.1.bias",
            "base.norm.weight",
            "base.norm.bias"
        ]
    );
    let xs = input(&[5, 3], 1, DType::F64)?;
    assert_eq!(meta.forward(&xs)?.dims(), [5, 2]);
    let error = gradient_error(&vars, &|| weighted_sum(&meta.forward(&xs)?))?;
    assert!(error < 1e-6, "{error:e}");

    // What it exports is a hypernetwork's own tensors.
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("inner.safetensors");
    meta.export(&path)?;
    let exported = candle_core::safetensors::load(&path, device())?;
    let inner = HyperVectors::new(VarBuilder::from_tensors(exported, DType::F64, device()))?;
    assert_eq!(values(&inner.forward(&xs)?)?, values(&meta.forward(&xs)?)?);
    Ok(())
}

/// A hypernetwork for each condition.
#[test]
fn a_dynamic_hypernetwork_of_a_hypernetwork() -> Result<()> {
    let (vars, vb) = variables(1, DType::F64);
    let meta = DynamicMeta::new(vb, |vb: VarBuilder<'_>| HyperVectors::new(vb))?;
    let xs = input(&[4, 3], 1, DType::F64)?;
    let params = meta.generate_params(&xs.narrow(0, 0, 2)?)?;
    let ys = params.forward(&xs)?;
    for set in 0..2 {
        let alone = params.set(set)?.unpack()?.forward(&xs.narrow(0, 2 * set, 2)?)?;
        assert_eq!(values(&ys.narrow(0, 2 * set, 2)?)?, values(&alone)?);
    }
    let error = gradient_error(&vars, &|| weighted_sum(&meta.forward(&xs)?))?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}
