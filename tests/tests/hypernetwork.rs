//! `hypernetwork!` with `mode: static`: constants, every forward, buffers, configurations, parts of
//! the user's own.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Module, ModuleT, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::nn::{BatchNorm, Dropout, Linear};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::{
    by_name, device, gradient_error, gradients, input, values, variable, variables, weighted_sum,
};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(5, 7))]
    first: Linear,
    #[hyper(linear(7, 2))]
    second: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(xs)?.tanh()?)
    }
}

hypernetwork! {
    /// The documentation of a type that the macro emits.
    #[derive()]
    struct HyperNet for Net {
        embedding: table(6, 3),
        generator: linear,
        mode: static,
    }
}

hypernetwork! {
    struct Deep for Net {
        embedding: table(3, 4),
        generator: mlp([8, 6], gelu),
        mode: static,
        init: exact,
    }
}

hypernetwork! {
    struct Whole for Net { embedding: table(2, 2), generator: heads, mode: static, init: hyper_nn }
}

fn hyper_net(seed: u64) -> Result<HyperNet> {
    HyperNet::new(variables(seed, DType::F32).1)
}

#[test]
fn constants_are_what_is_built() -> Result<()> {
    const TARGET: usize = 5 * 7 + 7 + 7 * 2 + 2;
    assert_eq!(HyperNet::NUM_TARGET_PARAMS, TARGET);
    assert_eq!(HyperNet::NUM_PARAMS, 6 * 3 + (3 + 1) * TARGET.div_ceil(6));
    assert_eq!(HyperNet::RATIO, HyperNet::NUM_PARAMS as f64 / TARGET as f64);
    assert_eq!((HyperNet::CHUNKS.rows(), HyperNet::CHUNKS.chunk()), (6, 10));
    assert_eq!(Deep::NUM_PARAMS, 3 * 4 + 5 * 8 + 9 * 6 + 7 * TARGET.div_ceil(3));
    assert_eq!(Whole::NUM_PARAMS, 2 * 2 + (4 + 1) * TARGET);
    let deep = Deep::new(variables(0, DType::F32).1)?;
    let whole = Whole::new(variables(0, DType::F32).1)?;
    assert_eq!(hyper_net(0)?.num_params(), HyperNet::NUM_PARAMS);
    assert_eq!(deep.num_params(), Deep::NUM_PARAMS);
    assert_eq!(whole.num_params(), Whole::NUM_PARAMS);
    assert_eq!(whole.num_target_params(), TARGET);
    Ok(())
}

/// Every name, and no other, with its shape.
#[test]
fn variables_have_stable_names() -> Result<()> {
    let (vars, vb) = variables(0, DType::F32);
    let hyper = Deep::new(vb)?;
    let expected = [
        ("embedding.weight", vec![3, 4]),
        ("generator.0.bias", vec![8]),
        ("generator.0.weight", vec![8, 4]),
        ("generator.1.bias", vec![6]),
        ("generator.1.weight", vec![6, 8]),
        ("generator.2.bias", vec![20]),
        ("generator.2.weight", vec![20, 6]),
    ];
    let found: Vec<_> =
        by_name(&vars).into_iter().map(|(name, var)| (name, var.dims().to_vec())).collect();
    assert_eq!(found, expected.map(|(name, dims)| (name.to_owned(), dims)));
    assert_eq!(hyper.named_tensors().count(), found.len());
    Ok(())
}

#[test]
fn debug_tells_the_parts_and_sizes() -> Result<()> {
    let expected = "HyperNet { target: Net (58 parameters in 4 tensors), embedding: table(6, 3), \
                    generator: linear, mode: static, chunks: 6 of 10, surplus 2, \
                    parameters: 58 (100.0% of the target's) }";
    assert_eq!(format!("{:?}", hyper_net(0)?), expected);
    let deep = Deep::new(variables(0, DType::F32).1)?;
    let expected = "Deep { target: Net (58 parameters in 4 tensors), embedding: table(3, 4), \
                    generator: mlp([8, 6], gelu), mode: static, chunks: 3 of 20, surplus 2, \
                    parameters: 246 (424.1% of the target's) }";
    assert_eq!(format!("{deep:?}"), expected);
    let params = hyper_net(0)?.generate_params()?;
    let expected = "GeneratedParams { target: Net, sets: None, parameters: 58 }";
    assert_eq!(format!("{params:?}"), expected);
    Ok(())
}

#[test]
fn every_forward_is_the_same() -> Result<()> {
    let (hyper, xs) = (hyper_net(1)?, input(&[4, 5], 2, DType::F32)?);
    let expected = values(&hyper.forward(&xs)?)?;
    let params = hyper.generate_params()?;
    assert_eq!(values(&params.forward(&xs)?)?, expected);
    assert_eq!(values(&params.forward(&xs)?)?, expected);
    assert_eq!(values(&params.clone().detach().forward(&xs)?)?, expected);
    assert_eq!(values(&hyper.forward_t(&xs, true)?)?, expected);
    assert_eq!(values(&params.forward_t(&xs, false)?)?, expected);
    assert_eq!(values(&hyper.target()?.forward(&xs)?)?, expected);
    assert_eq!(values(&Net::functional_forward(&params.flat()?, &xs)?)?, expected);
    let module: &dyn Module = &hyper;
    assert_eq!(values(&module.forward(&xs)?)?, expected);
    assert_eq!(values(&xs.apply(&hyper)?)?, expected);
    Ok(())
}

#[test]
fn forward_aux_gives_parameters_and_embeddings() -> Result<()> {
    let (vars, vb) = variables(1, DType::F32);
    let (hyper, xs) = (HyperNet::new(vb)?, input(&[4, 5], 2, DType::F32)?);
    let (ys, aux) = hyper.forward_aux(&xs)?;
    assert_eq!(values(&ys)?, values(&hyper.forward(&xs)?)?);
    let flat = hyper.generate_params()?.flat()?;
    assert_eq!(values(&aux.params.flat()?)?, values(&flat)?);
    assert_eq!(values(&aux.embedding)?, values(variable(&vars, "embedding.weight")?.as_tensor())?);
    assert_eq!(aux.params.num_sets(), None);
    Ok(())
}

#[test]
fn detached_parameters_give_no_gradient() -> Result<()> {
    let (vars, vb) = variables(1, DType::F32);
    let params = HyperNet::new(vb)?.generate_params()?;
    let grads = params.detach().flat()?.sum_all()?.backward()?;
    assert!(by_name(&vars).values().all(|var| grads.get(var).is_none()));
    let grads = params.flat()?.sum_all()?.backward()?;
    assert!(by_name(&vars).values().all(|var| grads.get(var).is_some()));
    Ok(())
}

/// The values depend on the seed alone; another seed gives others.
#[test]
fn the_same_seed_gives_the_same_network() -> Result<()> {
    let flat = |seed| values(&hyper_net(seed)?.generate_params()?.flat()?);
    assert_eq!(flat(5)?, flat(5)?);
    assert_ne!(flat(5)?, flat(6)?);
    Ok(())
}

/// Two hypernetworks of one target exchange parameters, for they mean the same.
#[test]
fn two_hypernetworks_for_one_target() -> Result<()> {
    let (vars, vb) = variables(1, DType::F32);
    let (hyper, deep) = (HyperNet::new(vb.pp("a"))?, Deep::new(vb.pp("b"))?);
    let xs = input(&[4, 5], 2, DType::F32)?;
    let ys = deep.generate_params()?.forward(&xs)?;
    assert_eq!(values(&ys)?, values(&deep.forward(&xs)?)?);
    assert_ne!(values(&ys)?, values(&hyper.forward(&xs)?)?);
    assert_eq!(hyper.layout().hash(), deep.layout().hash());
    assert!(by_name(&vars).keys().all(|name| name.starts_with("a.") || name.starts_with("b.")));
    Ok(())
}

#[derive(HyperTarget)]
struct Normed {
    #[hyper(linear(3, 4))]
    linear: Linear,
    #[hyper(batch_norm(4, 1e-5))]
    norm: BatchNorm,
    #[hyper(value = Dropout::new(0.5))]
    dropout: Dropout,
}

impl ModuleT for Normed {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let ys = self.norm.forward_t(&self.linear.forward(xs)?, train)?;
        self.dropout.forward(&ys, train)
    }
}

hypernetwork! {
    struct HyperNormed for Normed { embedding: table(4, 3), generator: linear, mode: static }
}

#[test]
fn training_differs_from_use() -> Result<()> {
    let hyper = HyperNormed::new(variables(3, DType::F64).1)?;
    let xs = input(&[8, 3], 4, DType::F64)?;
    let eval = values(&hyper.forward_t(&xs, false)?)?;
    assert_eq!(values(&hyper.forward_t(&xs, false)?)?, eval);
    let train = values(&hyper.forward_t(&xs, true)?)?;
    // Dropout alone sets values to zero exactly.
    let zeros = |values: &[f64]| values.iter().filter(|value| **value == 0.).count();
    assert_eq!(zeros(&eval), 0);
    assert!(zeros(&train) > 0 && zeros(&train) < train.len());
    Ok(())
}

/// A gain starts at one, and moves by a tenth of what is generated.
#[test]
fn a_tensor_that_starts_at_a_constant_can_move() -> Result<()> {
    let (vars, vb) = variables(3, DType::F64);
    let hyper = HyperNormed::new(vb)?;
    let gain = || -> Result<Tensor> {
        Ok(hyper.target()?.norm.weight_and_bias().map(|(weight, _)| weight.clone()).unwrap())
    };
    assert_eq!(values(&gain()?)?, [1.; 4]);
    let bias = variable(&vars, "generator.bias")?;
    bias.set(&(bias.as_tensor() + 2.)?)?;
    close(&values(&gain()?)?, &[1.2; 4]);
    Ok(())
}

/// The running statistics are those of two training steps in a row, kept between them.
#[test]
fn running_statistics_stay_with_the_hypernetwork() -> Result<()> {
    let (vars, vb) = variables(3, DType::F64);
    let hyper = HyperNormed::new(vb)?;
    let (mean, var) = (
        variable(&vars, "buffers.norm.running_mean")?,
        variable(&vars, "buffers.norm.running_var")?,
    );
    let mut expected = (values(&mean)?, values(&var)?);
    assert_eq!(expected, (vec![0.; 4], vec![1.; 4]));
    for step in 0..2 {
        let xs = input(&[8, 3], step, DType::F64)?;
        follow(&mut expected, &hyper.target()?.linear.forward(&xs)?)?;
        hyper.forward_t(&xs, true)?;
        close(&values(&mean)?, &expected.0);
        close(&values(&var)?, &expected.1);
    }
    hyper.forward_t(&input(&[8, 3], 9, DType::F64)?, false)?;
    close(&values(&mean)?, &expected.0);
    assert_eq!(HyperNormed::NUM_PARAMS, hyper.num_params());
    Ok(())
}

/// One step of candle's running statistics, whose momentum is 0.1: the variance is the unbiased one.
fn follow((mean, var): &mut (Vec<f64>, Vec<f64>), hidden: &Tensor) -> Result<()> {
    let columns = hidden.t()?.to_vec2::<f64>()?;
    for (i, column) in columns.iter().enumerate() {
        let count = column.len() as f64;
        let batch_mean = column.iter().sum::<f64>() / count;
        let squares = column.iter().map(|x| (x - batch_mean).powi(2)).sum::<f64>();
        mean[i] = 0.9 * mean[i] + 0.1 * batch_mean;
        var[i] = 0.9 * var[i] + 0.1 * squares / (count - 1.);
    }
    Ok(())
}

fn close(found: &[f64], expected: &[f64]) {
    let far = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-12;
    assert!(!found.iter().zip(expected).any(far), "{found:?}, expected {expected:?}");
}

/// A target that is no `Module`: the methods that need one are not there, the others are.
#[derive(HyperTarget)]
#[hyper(forward(fn scores(&self, xs: &Tensor, scale: f64) -> Result<Tensor>))]
struct Scorer {
    #[hyper(linear(3, 2))]
    linear: Linear,
}

impl Scorer {
    fn scores(&self, xs: &Tensor, scale: f64) -> Result<Tensor> {
        self.linear.forward(xs)? * scale
    }
}

hypernetwork! {
    struct HyperScorer for Scorer { embedding: table(2, 2), generator: linear, mode: static }
}

#[test]
fn a_target_with_another_forward() -> Result<()> {
    let hyper = HyperScorer::new(variables(1, DType::F32).1)?;
    let xs = input(&[4, 3], 2, DType::F32)?;
    let expected = values(&hyper.target()?.scores(&xs, 3.)?)?;
    let flat = hyper.generate_params()?.flat()?;
    assert_eq!(values(&Scorer::functional_scores(&flat, &xs, 3.)?)?, expected);
    Ok(())
}

#[derive(HyperTarget)]
#[hyper(config = usize)]
struct Layers {
    #[hyper([linear(2, 2); *config])]
    layers: Vec<Linear>,
}

impl Module for Layers {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs)?.tanh())
    }
}

hypernetwork! {
    struct HyperLayers for Layers {
        embedding: table(3, 2),
        generator: linear,
        mode: static,
        config: usize,
    }
}

#[test]
fn sizes_known_at_run_time() -> Result<()> {
    let xs = input(&[4, 2], 2, DType::F32)?;
    for depth in [1usize, 2, 5] {
        let hyper = HyperLayers::new(&depth, variables(1, DType::F32).1)?;
        let network = &hyper;
        assert_eq!(network.num_target_params(), 6 * depth);
        assert_eq!((network.chunks().rows(), network.chunks().chunk()), (3, 2 * depth));
        assert_eq!(network.num_params(), 3 * 2 + 3 * 2 * depth);
        let target = hyper.target()?;
        assert_eq!(target.layers.len(), depth);
        assert_eq!(values(&target.forward(&xs)?)?, values(&hyper.forward(&xs)?)?);
    }
    Ok(())
}

/// An embedding of the user's own: rows of a fixed table times one learned row.
mod own {
    use candle_core::{Result, Tensor};
    use candle_nn::{Init, VarBuilder};
    use hypernn::embedding::{Embedding, EmbeddingInfo, EmbeddingSpec};
    use hypernn::init::InitScheme;

    #[derive(Clone, Copy)]
    pub struct Scaled {
        pub rows: usize,
    }

    impl Scaled {
        pub const fn info(&self) -> EmbeddingInfo {
            EmbeddingInfo::new(self.rows, 2).params(2)
        }
    }

    impl std::fmt::Display for Scaled {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "Scaled({})", self.rows)
        }
    }

    impl EmbeddingSpec for Scaled {
        fn build(&self, _: InitScheme, vb: VarBuilder<'_>) -> Result<Box<dyn Embedding>> {
            let row = vb.get_with_hints((1, 2), "row", Init::Const(1.))?;
            let angles = Tensor::arange(0u32, self.rows as u32, vb.device())?;
            let angles = angles.to_dtype(vb.dtype())?.unsqueeze(1)?;
            let table = Tensor::cat(&[angles.sin()?, angles.cos()?], 1)?;
            Ok(Box::new(Row { row, table: (table * 2f64.sqrt())? }))
        }
    }

    #[derive(Debug)]
    struct Row {
        row: Tensor,
        table: Tensor,
    }

    impl Embedding for Row {
        fn forward(&self) -> Result<Tensor> {
            self.table.broadcast_mul(&self.row)
        }
    }
}

hypernetwork! {
    struct Own for Net { embedding: own::Scaled { rows: 6 }, generator: linear, mode: static }
}

#[test]
fn an_embedding_of_the_users_own() -> Result<()> {
    let (vars, vb) = variables(1, DType::F64);
    let hyper = Own::new(vb)?;
    assert_eq!(Own::NUM_PARAMS, 2 + 3 * 10);
    assert_eq!(hyper.num_params(), Own::NUM_PARAMS);
    assert!(format!("{hyper:?}").contains("embedding: Scaled(6), "));
    let xs = input(&[4, 5], 2, DType::F64)?;
    let error = gradient_error(&vars, &|| weighted_sum(&hyper.forward(&xs)?))?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}

#[derive(HyperTarget)]
struct Tied {
    #[hyper(linear_no_bias(3, 4))]
    encode: Linear,
    #[hyper(linear_no_bias(3, 4), tie(weight = encode.weight))]
    again: Linear,
}

impl Tied {
    fn outputs(&self, xs: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.encode.forward(xs)?.tanh()?, self.again.forward(xs)?.sqr()?))
    }
}

hypernetwork! {
    struct HyperTied for Tied { embedding: table(3, 2), generator: linear, mode: static }
}

/// A tied tensor's gradient is the sum of those of its uses.
#[test]
fn tied_weights_have_the_gradient_of_both_uses() -> Result<()> {
    assert_eq!(Tied::NUM_PARAMS, 12);
    let (vars, vb) = variables(1, DType::F64);
    let (hyper, xs) = (HyperTied::new(vb)?, input(&[4, 3], 2, DType::F64)?);
    let losses = || -> Result<(Tensor, Tensor)> {
        let (first, second) = hyper.target()?.outputs(&xs)?;
        Ok((weighted_sum(&first)?, weighted_sum(&second)?))
    };
    let error = gradient_error(&vars, &|| {
        let (first, second) = losses()?;
        first + second
    })?;
    assert!(error < 1e-6, "{error:e}");
    let (first, second) = losses()?;
    for loss in [first, second] {
        for (name, grad) in gradients(&vars, &loss)? {
            assert!(values(&grad)?.iter().any(|value| *value != 0.), "{name}");
        }
    }
    Ok(())
}

/// A builder of the user's own variables may hold other things too.
#[test]
fn a_hypernetwork_below_a_prefix() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device());
    let hyper = HyperNet::new(vb.pp("model").pp("hyper"))?;
    let names: Vec<_> = hyper.named_tensors().map(|(name, _)| name).collect();
    assert_eq!(names, ["embedding.weight", "generator.weight", "generator.bias"]);
    assert!(by_name(&vars).contains_key("model.hyper.generator.bias"));
    Ok(())
}
