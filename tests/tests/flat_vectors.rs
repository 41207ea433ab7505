//! Targets over a flat vector that something else makes: their layout is recorded once, their tensors are views, and
//! gradients cost no more than the vector, whatever is asked of a layer.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Module, Result, Tensor, Var};
use hypernn::generated::TargetPlan;
use hypernn::nn::{Conv2d, Linear};
use hypernn::target::layer::Visitor;
use hypernn::target::source::{ParamSource, scoped};
use hypernn::{GeneratedParams, HyperLayer, HyperTarget, Parameters};
use hypernn_tests::{input, relative_error, values, weighted_sum};

static BUILDS: AtomicUsize = AtomicUsize::new(0);

/// Counts how often it is built.
struct Counted {
    fc: Linear,
}

impl HyperTarget for Counted {
    type Config = ();

    const NAME: &'static str = "Counted";

    const TAKES_SETS: bool = true;

    fn build((): &(), source: &mut dyn ParamSource) -> Result<Self> {
        BUILDS.fetch_add(1, Ordering::Relaxed);
        let spec = hypernn::nn::spec::linear(3, 2);
        Ok(Self { fc: scoped(source, "fc", |source| Linear::build(&spec, source))? })
    }
}

impl Parameters for Counted {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.fc.visit(visitor)
    }
}

impl Module for Counted {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.fc.forward(xs)
    }
}

/// One build records the layout; after it, each network is one more, and what asks for the layout is none.
#[test]
fn a_layout_is_recorded_once() -> Result<()> {
    let (flat, xs) = (input(&[8], 1, DType::F64)?, input(&[4, 3], 2, DType::F64)?);
    let net = Counted::unpack(&flat)?;
    assert_eq!(BUILDS.load(Ordering::Relaxed), 2);
    for _ in 0..3 {
        assert_eq!(Counted::layout()?.num_params(), 8);
        assert_eq!(values(&net.pack()?)?, values(&flat)?);
    }
    assert_eq!(BUILDS.load(Ordering::Relaxed), 2);
    Counted::functional_forward(&flat, &xs)?;
    Counted::functional_forward(&flat, &xs)?;
    assert_eq!(BUILDS.load(Ordering::Relaxed), 4);
    Ok(())
}

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(1, 2, 2))]
    conv: Conv2d,
    #[hyper(linear(8, 4))]
    hidden: Linear,
    #[hyper(linear_no_bias(4, 3))]
    out: candle_nn::Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = self.conv.forward(xs)?.tanh()?.flatten_from(1)?;
        self.out.forward(&self.hidden.forward(&ys)?)
    }
}

/// The same by `narrow`.
fn by_hand(flat: &Tensor, xs: &Tensor) -> Result<Tensor> {
    let tensor = |at, dims: &[usize]| flat.narrow(0, at, dims.iter().product())?.reshape(dims);
    let ys = xs.conv2d(&tensor(0, &[2, 1, 2, 2])?, 0, 1, 1, 1)?;
    let ys = ys.broadcast_add(&tensor(8, &[1, 2, 1, 1])?)?.tanh()?.flatten_from(1)?;
    let ys = ys.matmul(&tensor(10, &[4, 8])?.t()?)?.broadcast_add(&tensor(42, &[4])?)?;
    ys.matmul(&tensor(46, &[3, 4])?.t()?)
}

#[test]
fn gradients_are_those_of_narrow() -> Result<()> {
    let flat = Var::from_tensor(&input(&[Net::NUM_PARAMS], 1, DType::F64)?)?;
    let xs = input(&[5, 1, 3, 3], 2, DType::F64)?;
    let (found, expected) = (Net::functional_forward(&flat, &xs)?, by_hand(&flat, &xs)?);
    assert!(relative_error(&found, &expected)? < 1e-12);
    let grad = |ys: &Tensor| {
        Ok::<_, candle_core::Error>(weighted_sum(ys)?.backward()?.get(&flat).cloned().unwrap())
    };
    assert!(relative_error(&grad(&found)?, &grad(&expected)?)? < 1e-12);
    Ok(())
}

/// What a layer shows, what is visited and what is packed has the gradient of the vector.
#[test]
fn what_is_shown_has_a_gradient() -> Result<()> {
    let flat = Var::from_tensor(&input(&[Net::NUM_PARAMS], 1, DType::F64)?)?;
    let (net, params) = (Net::unpack(&flat)?, GeneratedParams::<Net>::from_flat(&(), &flat)?);
    let (mut visited, mut listed) = (Vec::new(), Vec::new());
    net.visit(&mut |_, tensor| {
        visited.push(tensor.sqr()?.sum_all()?);
        Ok(())
    })?;
    for (_, tensor) in params.tensors() {
        listed.push(tensor.sqr()?.sum_all()?);
    }
    let expected = (flat.as_tensor() * 2.)?.detach();
    for squares in [visited, listed, vec![net.pack()?.sqr()?.sum_all()?]] {
        let grads = Tensor::stack(&squares, 0)?.sum_all()?.backward()?;
        assert!(relative_error(grads.get(&flat).unwrap(), &expected)? < 1e-12);
    }
    let grads = net.hidden.weight().sqr()?.sum_all()?.backward()?;
    let of_hidden = grads.get(&flat).unwrap().narrow(0, 10, 32)?;
    assert!(relative_error(&of_hidden, &expected.narrow(0, 10, 32)?)? < 1e-12);
    Ok(())
}

/// As of `narrow`, the tensors are views.
#[test]
fn tensors_follow_the_vector() -> Result<()> {
    let flat = Var::from_tensor(&input(&[8], 1, DType::F64)?)?;
    let (net, xs) = (Small::unpack(&flat)?, input(&[4, 3], 2, DType::F64)?);
    flat.set(&(flat.as_tensor() * 2.)?.detach())?;
    let (found, expected) = (net.forward(&xs)?, Small::functional_forward(&flat, &xs)?);
    assert_eq!(values(&found)?, values(&expected)?);
    Ok(())
}

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Small {
    #[hyper(linear(3, 2))]
    fc: Linear,
}

#[derive(HyperTarget)]
#[hyper(config = usize, sequential)]
struct Configured {
    #[hyper(linear(*config, 2))]
    fc: Linear,
}

/// A plan is recorded once for a configuration, and takes vectors of one set and of several.
#[test]
fn a_plan_takes_any_number_of_vectors() -> Result<()> {
    let plan = Arc::new(TargetPlan::<Configured>::new(&3)?);
    let (one, two) = (input(&[8], 1, DType::F64)?, input(&[2, 8], 2, DType::F64)?);
    let xs = input(&[4, 3], 3, DType::F64)?;
    for flat in [one, two] {
        let found = plan.params_from_flat(&flat)?;
        let expected = GeneratedParams::<Configured>::from_flat(&3, &flat)?;
        assert_eq!(found.num_sets(), expected.num_sets());
        assert_eq!(values(&found.forward(&xs)?)?, values(&expected.forward(&xs)?)?);
        assert_eq!(values(&found.flat()?)?, values(&flat)?);
    }
    Ok(())
}
