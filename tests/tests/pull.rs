//! The gradient that a hypernetwork gets from changes of what it generated.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Result, Tensor, Var};
use candle_nn::VarMap;
use hypernn::nn::{LayerNorm, Linear};
use hypernn::{Error, GeneratedParams, HyperTarget, hypernetwork};
use hypernn_tests::parallel::largest_difference;
use hypernn_tests::{by_name, device, message, numbers, variables};

#[derive(HyperTarget)]
#[hyper(sequential = [hidden, relu, norm, out], input = 5)]
struct Net {
    #[hyper(linear(5, 8))]
    hidden: Linear,
    #[hyper(layer_norm(8))]
    norm: LayerNorm,
    #[hyper(linear(8, 2))]
    out: Linear,
}

hypernetwork! {
    struct HyperNet for Net { embedding: tasks(4, 9, 5), generator: mlp([7], tanh), mode: dynamic }
}

fn network(dtype: DType) -> (VarMap, HyperNet) {
    let (vars, vb) = variables(3, dtype);
    (vars, HyperNet::new(vb).unwrap())
}

fn loss(params: &GeneratedParams<Net>) -> Result<Tensor> {
    let dtype = params.flat()?.dtype();
    let xs = Tensor::from_vec(numbers(30, 1), (6, 5), device())?.to_dtype(dtype)?;
    params.forward(&xs)?.sqr()?.mean_all()
}

/// The gradients of all variables that have one.
fn gradients(vars: &VarMap, loss: &Tensor) -> Vec<f64> {
    let grads = loss.backward().unwrap();
    let values = |grad: &Tensor| grad.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    by_name(vars).values().filter_map(|var| grads.get(var)).flat_map(values).collect()
}

/// A client that takes one small step of gradient descent gives the gradient of its loss through the generator: for
/// one client, and for several at once.
#[test]
fn a_step_of_descent_pulls_as_the_gradient() {
    let (vars, hyper) = network(DType::F64);
    for clients in [Tensor::new(2u32, device()), Tensor::new(&[0u32, 3, 1], device())] {
        let params = hyper.generate_params(&clients.unwrap()).unwrap();
        let own = Var::from_tensor(&params.flat().unwrap().detach()).unwrap();
        let grads =
            loss(&hyper.params_from_flat(own.as_tensor()).unwrap()).unwrap().backward().unwrap();
        let delta = (grads.get(&own).unwrap() * -0.01).unwrap();
        let pulled = gradients(&vars, &params.pull(&delta).unwrap());
        let direct: Vec<_> = gradients(&vars, &loss(&params).unwrap());
        let direct: Vec<_> = direct.into_iter().map(|grad| 0.01 * grad).collect();
        assert!(pulled.iter().any(|grad| grad.abs() > 1e-6));
        assert!(largest_difference(&pulled, &direct) < 1e-15);
    }
}

#[test]
fn its_gradient_is_that_of_finite_differences() {
    let (vars, hyper) = network(DType::F64);
    let client = Tensor::new(2u32, device()).unwrap();
    let count = hyper.num_target_params();
    let delta = Tensor::from_vec(numbers(count, 9), count, device()).unwrap();
    let value = || hyper.generate_params(&client).unwrap().pull(&delta).unwrap();
    let grads = value().backward().unwrap();
    let mut checked = 0;
    for var in by_name(&vars).values() {
        let Some(grad) = grads.get(var) else { continue };
        let at = var.as_tensor().copy().unwrap();
        let direction = numbers(var.elem_count(), 4);
        let direction = Tensor::from_vec(direction, var.shape(), device()).unwrap();
        let moved = |step: f64| {
            var.set(&(&at + (&direction * step).unwrap()).unwrap()).unwrap();
            let value = value().to_scalar::<f64>().unwrap();
            var.set(&at).unwrap();
            value
        };
        let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        let along = (grad * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        assert!((along - difference).abs() < 1e-7, "{along}, but {difference} by differences");
        checked += 1;
    }
    assert!(checked > 3);
}

#[test]
fn halves_are_summed_in_f32() {
    let hyper = network(DType::F32).1.with_target_dtype(DType::BF16).unwrap();
    let params = hyper.generate_params(&Tensor::new(0u32, device()).unwrap()).unwrap();
    let delta = params.flat().unwrap().detach();
    let pulled = params.pull(&delta).unwrap();
    let exact = delta.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap();
    let exact = exact.to_scalar::<f64>().unwrap();
    assert_eq!(pulled.dtype(), DType::F32);
    assert!((f64::from(pulled.to_scalar::<f32>().unwrap()) + exact).abs() < 1e-5 * exact);
    assert!(pulled.backward().is_ok());
}

#[test]
fn a_change_that_does_not_fit_is_an_error() {
    let (_, hyper) = network(DType::F32);
    let params = hyper.generate_params(&Tensor::new(0u32, device()).unwrap()).unwrap();
    let count = hyper.num_target_params();
    let zeros = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, device()).unwrap();
    let error = |delta: &Tensor| {
        let err = params.pull(delta).err().unwrap();
        (Error::of(&err).cloned(), message::<()>(Err(err)))
    };
    let (kind, words) = error(&zeros(&[1, count], DType::F32));
    assert_eq!(words, "the change of the parameters of Net has shape [1, 82], expected [82]");
    assert!(matches!(kind, Some(Error::Shape { .. })));
    let (kind, words) = error(&zeros(&[count], DType::F64));
    assert_eq!(words, "the change of the parameters of Net is F64, expected F32");
    assert!(matches!(kind, Some(Error::Dtype { .. })));
    let mut broken = vec![0f32; count];
    (broken[50], broken[60]) = (f32::NAN, f32::INFINITY);
    let (kind, words) = error(&Tensor::new(broken, device()).unwrap());
    assert_eq!(
        words,
        "the change of `norm.weight` of Net: 1 of 8 values are not finite, the first at index 2 is NaN"
    );
    assert!(matches!(kind, Some(Error::NotFinite { .. })));
}
