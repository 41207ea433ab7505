//! Gradients of several batches over parameters that are generated once are those of the joined batch.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::backprop::GradStore;
use candle_core::{DType, Module, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use hypernn::nn::{Conv2d, LayerNorm, Linear};
use hypernn::{GeneratedParams, HyperTarget, hypernetwork, recompute};
use hypernn_tests::{by_name, device, input, message, relative_error, variables, weighted_sum};

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(1, 3, 2))]
    conv: Conv2d,
    #[hyper(linear(27, 6))]
    hidden: Linear,
    #[hyper(layer_norm(6, 1e-5))]
    norm: LayerNorm,
    #[hyper(linear(6, 4))]
    inner: candle_nn::Linear,
    #[hyper(tensor([4]))]
    factor: Tensor,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = self.conv.forward(xs)?.tanh()?.flatten_from(1)?;
        let ys = self.norm.forward(&self.hidden.forward(&ys)?)?;
        self.inner.forward(&ys)?.broadcast_mul(&self.factor)
    }
}

#[derive(Clone, HyperTarget)]
struct OfSets {
    #[hyper(linear(4, 6))]
    hidden: Linear,
    #[hyper(layer_norm(6, 1e-5))]
    norm: LayerNorm,
    #[hyper(linear(6, 2))]
    out: Linear,
}

impl Module for OfSets {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.norm.forward(&self.hidden.forward(xs)?.tanh()?)?)
    }
}

hypernetwork! {
    struct Static for Net { embedding: table(7, 3), generator: linear, mode: static }

    struct Encoded for OfSets { embedding: encoder(3, [8], tanh, 5, 3), generator: linear, mode: dynamic }

    struct Recurrent for OfSets { embedding: rnn(3, 5, 3), generator: mlp([6], tanh), mode: dynamic }

    struct Roles for OfSets {
        roles: [("hidden.weight", lora(2, 4.)), ("hidden.bias", train), ("norm.*", freeze)],
        embedding: table(5, 3),
        generator: linear,
        mode: static,
    }
}

/// Gradients of one pass over all rows, and of passes over parts of them, are the same, of as many variables.
fn assert_joined(vars: &[Var], joined: &GradStore, summed: &GradStore) -> Result<()> {
    let mut reached = 0;
    for var in vars {
        let (expected, found) = (joined.get(var), summed.get(var));
        assert_eq!(expected.is_some(), found.is_some(), "{:?}", var.dims());
        let Some((expected, found)) = expected.zip(found) else { continue };
        let error = relative_error(found, expected)?;
        assert!(error < 1e-10, "{error} of {:?}", var.dims());
        reached += 1;
    }
    assert!(reached > 1, "{reached} gradients");
    Ok(())
}

/// Both ways, for rows that are cut into parts; of each set as many rows in each part.
fn compare<T: Module>(
    vars: &VarMap,
    more: &[Var],
    generate: impl Fn() -> Result<GeneratedParams<T>>,
    parts: &[Tensor],
    whole: &Tensor,
) -> Result<()> {
    let loss = |params: &GeneratedParams<T>, xs: &Tensor| {
        params.forward(xs)?.sqr()?.sum_all()? + params.forward(xs)?.sum_all()?
    };
    let joined = loss(&generate()?, whole)?.backward()?;
    let mut passes = generate()?.micro_batches()?;
    for part in parts {
        let loss = loss(passes.params(), part)?;
        passes.backward(&loss)?;
    }
    let vars: Vec<_> = by_name(vars).into_values().chain(more.iter().cloned()).collect();
    assert_joined(&vars, &joined, &passes.finish()?)
}

#[test]
fn the_sum_is_that_of_the_joined_batch() -> Result<()> {
    let (vars, vb) = variables(1, DType::F64);
    let hyper = Static::new(vb)?;
    let xs = input(&[6, 1, 4, 4], 2, DType::F64)?;
    let parts = [xs.narrow(0, 0, 1)?, xs.narrow(0, 1, 3)?, xs.narrow(0, 4, 2)?];
    compare(&vars, &[], || hyper.generate_params(), &parts, &xs)
}

/// An input that is trained gets its gradient as well, from every part.
#[test]
fn other_variables_get_the_sum_of_theirs() -> Result<()> {
    let (vars, vb) = variables(2, DType::F64);
    let hyper = Static::new(vb)?;
    let xs = Var::from_tensor(&input(&[6, 1, 4, 4], 2, DType::F64)?)?;
    let parts = xs.chunk(3, 0)?;
    compare(&vars, std::slice::from_ref(&xs), || hyper.generate_params(), &parts, &xs)
}

#[test]
fn sets_have_gradients_of_their_own() -> Result<()> {
    let (vars, vb) = variables(3, DType::F64);
    let (encoded, recurrent) = (Encoded::new(vb.pp("a"))?, Recurrent::new(vb.pp("b"))?);
    // Rows of both sets in each part: set after set.
    let xs = input(&[2, 6, 4], 2, DType::F64)?;
    let parts: Vec<_> =
        xs.chunk(3, 1)?.iter().map(|part| part.flatten(0, 1)).collect::<Result<_>>()?;
    let whole = xs.flatten(0, 1)?;
    let condition = Var::from_tensor(&input(&[2, 3], 4, DType::F64)?)?;
    let more = [condition.clone()];
    let of_a = || encoded.generate_params(condition.as_tensor());
    compare(&vars, &more, of_a, &parts, &whole)?;
    compare(&vars, &more, || recurrent.generate_params(condition.as_tensor()), &parts, &whole)
}

/// Trained tensors, which nothing generates, and factors of adapters.
#[test]
fn trained_tensors_and_adapters_are_summed() -> Result<()> {
    let base = VarMap::new();
    let builder = || VarBuilder::from_varmap(&base, DType::F64, device());
    OfSets::new(builder())?;
    let (vars, vb) = variables(4, DType::F64);
    let hyper = Roles::new_from(vb, builder())?;
    for (i, var) in by_name(&vars).values().enumerate() {
        var.set(&(var.as_tensor() + (input(var.dims(), i as u64, DType::F64)? * 0.3)?)?)?;
    }
    let xs = input(&[6, 4], 2, DType::F64)?;
    compare(&vars, &[], || hyper.generate_params(), &xs.chunk(2, 0)?, &xs)
}

/// What is generated in another dtype has gradients in the generator's.
#[test]
fn a_target_has_a_dtype_of_its_own() -> Result<()> {
    let (vars, vb) = variables(5, DType::F32);
    let hyper = Static::new(vb)?.with_target_dtype(DType::F64)?;
    let xs = input(&[6, 1, 4, 4], 2, DType::F64)?;
    let joined = weighted_sum(&hyper.generate_params()?.forward(&xs)?)?.backward()?;
    let mut passes = hyper.generate_params()?.micro_batches()?;
    let loss = weighted_sum(&passes.params().forward(&xs)?)?;
    passes.backward(&loss)?;
    let summed = passes.finish()?;
    for var in by_name(&vars).values() {
        let (expected, found) = (joined.get(var), summed.get(var));
        assert_eq!(expected.is_some(), found.is_some());
        let Some((expected, found)) = expected.zip(found) else { continue };
        assert!(relative_error(found, expected)? < 1e-5);
    }
    Ok(())
}

/// A block that is computed again in the backward.
#[derive(HyperTarget)]
struct Again {
    block: OfSets,
}

impl Module for Again {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let block = self.block.clone();
        recompute(std::slice::from_ref(xs), move |xs| block.forward(&xs[0]))
    }
}

hypernetwork! {
    struct HyperAgain for Again { embedding: table(5, 3), generator: linear, mode: static }
}

#[test]
fn blocks_are_computed_again() -> Result<()> {
    let (vars, vb) = variables(7, DType::F64);
    let hyper = HyperAgain::new(vb)?;
    let xs = input(&[6, 4], 2, DType::F64)?;
    compare(&vars, &[], || hyper.generate_params(), &xs.chunk(3, 0)?, &xs)
}

#[test]
fn no_loss_is_an_error() -> Result<()> {
    let (_, vb) = variables(6, DType::F32);
    let passes = Static::new(vb)?.generate_params()?.micro_batches()?;
    assert_eq!(
        message(passes.finish().map(drop)),
        "no gradient has reached the parameters of Net: `backward` takes losses that are computed with `params()`"
    );
    Ok(())
}
