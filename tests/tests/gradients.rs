//! Gradients with respect to the hypernetwork's own variables: through every layer and every
//! generator, and in every order in which backward passes can come.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Layout, Module, Result, Shape, Tensor, Var,
};
use candle_nn::VarMap;
use hypernn::nn::{
    BatchNorm, Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Embedding, GRU, GroupNorm, LSTM,
    LayerNorm, Linear, PReLU, RNN, RmsNorm,
};
use hypernn::{GeneratedParams, HyperTarget, hypernetwork};
use hypernn_tests::{
    device, gradient_error, gradients, input, message, relative_error, values, variables,
    weighted_sum,
};

/// A target of one layer, and its gradients through each generator against finite differences.
macro_rules! layer {
    ($test:ident: $layer:ty = $spec:expr, $forward:expr) => {
        mod $test {
            use super::*;

            #[derive(HyperTarget)]
            struct Target {
                #[hyper(tensor([1]))]
                first: Tensor,
                #[hyper($spec)]
                layer: $layer,
            }

            impl Module for Target {
                fn forward(&self, xs: &Tensor) -> Result<Tensor> {
                    let forward: fn(&$layer, &Tensor) -> Result<Tensor> = $forward;
                    forward(&self.layer, xs)?.broadcast_mul(&self.first)
                }
            }

            hypernetwork! {
                struct Chunks for Target { embedding: table(2, 3), generator: linear, mode: static }
            }

            hypernetwork! {
                struct Hidden for Target {
                    embedding: table(2, 3),
                    generator: mlp([4, 3], tanh),
                    mode: static,
                }
            }

            hypernetwork! {
                struct Heads for Target { embedding: table(2, 1), generator: heads, mode: static }
            }

            /// The loss of each hypernetwork, with rows that start at different values.
            #[test]
            fn through_each_generator() -> Result<()> {
                let zero = Tensor::new(0f64, device())?;
                let (linear, vb) = variables(3, DType::F64);
                let net = Chunks::new(vb)?;
                check(&linear, &|| weighted_sum(&net.forward(&zero)?))?;
                let (mlp, vb) = variables(4, DType::F64);
                let net = Hidden::new(vb)?;
                check(&mlp, &|| weighted_sum(&net.forward(&zero)?))?;
                let (heads, vb) = variables(5, DType::F64);
                let net = Heads::new(vb)?;
                check(&heads, &|| weighted_sum(&net.forward(&zero)?))
            }
        }
    };
}

fn check(vars: &VarMap, loss: &dyn Fn() -> Result<Tensor>) -> Result<()> {
    let error = gradient_error(vars, loss)?;
    assert!(error < 1e-6, "relative error {error:e}");
    Ok(())
}

/// An input of these sizes.
fn xs(dims: &[usize]) -> Result<Tensor> {
    input(dims, 7, DType::F64)
}

layer!(linear: Linear = linear(3, 2), |layer, _| layer.forward(&xs(&[4, 3])?));
layer!(conv1d: Conv1d = conv1d(2, 4, 3, stride = 2, padding = 1, groups = 2), |layer, _| {
    layer.forward(&xs(&[2, 2, 7])?)
});
layer!(conv2d: Conv2d = conv2d(2, 3, 2, stride = 2, dilation = 2), |layer, _| {
    layer.forward(&xs(&[2, 2, 6, 5])?)
});
layer!(conv_transpose1d: ConvTranspose1d = conv_transpose1d(3, 2, 3, stride = 2), |layer, _| {
    layer.forward(&xs(&[2, 3, 4])?)
});
layer!(conv_transpose2d: ConvTranspose2d = conv_transpose2d(2, 3, 2), |layer, _| {
    layer.forward(&xs(&[2, 2, 3, 4])?)
});
layer!(embedding: Embedding = embedding(5, 3), |layer, _| {
    layer.forward(&Tensor::new(&[[0u32, 4, 2], [4, 4, 1]], device())?)
});
layer!(layer_norm: LayerNorm = layer_norm(5, 1e-5), |layer, _| layer.forward(&xs(&[3, 5])?));
layer!(rms_norm: RmsNorm = rms_norm(5, 1e-5), |layer, _| layer.forward(&xs(&[3, 5])?));
layer!(group_norm: GroupNorm = group_norm(2, 4, 1e-5), |layer, _| layer.forward(&xs(&[2, 4, 3])?));
layer!(batch_norm: BatchNorm = batch_norm(3, 1e-5), |layer, _| {
    layer.forward_train(&xs(&[4, 3, 2])?)
});
layer!(prelu: PReLU = prelu(Some(3)), |layer, _| layer.forward(&xs(&[4, 3, 2])?));
layer!(lstm: LSTM = lstm(3, 2), |layer, _| layer.states_to_tensor(&layer.seq(&xs(&[2, 3, 3])?)?));
layer!(gru: GRU = gru(3, 2), |layer, _| layer.states_to_tensor(&layer.seq(&xs(&[2, 3, 3])?)?));
layer!(tensor: Tensor = tensor([2, 3]), |layer, _| xs(&[2, 3])? * layer);

/// Three tensors, of which a loss may use any.
#[derive(HyperTarget)]
struct Three {
    #[hyper(tensor([5]))]
    a: Tensor,
    #[hyper(tensor([2, 3]))]
    b: Tensor,
    #[hyper(tensor([4]))]
    c: Tensor,
}

hypernetwork! {
    struct HyperThree for Three { embedding: table(4, 3), generator: linear, mode: static }
}

fn three() -> Result<(VarMap, HyperThree)> {
    let (vars, vb) = variables(11, DType::F64);
    Ok((vars, HyperThree::new(vb)?))
}

/// A sum over the tensors that `used` names, different for each `factor`.
fn loss(params: &GeneratedParams<Three>, used: &str, factor: f64) -> Result<Tensor> {
    let net = params.unpack()?;
    let named = [('a', &net.a), ('b', &net.b), ('c', &net.c)];
    let mut sum = Tensor::zeros((), DType::F64, params.device())?;
    for (name, tensor) in named {
        if used.contains(name) {
            sum = (sum + weighted_sum(&(tensor * factor)?.sin()?)?)?;
        }
    }
    Ok(sum)
}

type Gradients = std::collections::BTreeMap<String, Tensor>;

/// Asserts that each gradient is the expected one.
fn same(found: &Gradients, expected: &Gradients) -> Result<()> {
    assert!(found.keys().eq(expected.keys()));
    for (name, expected) in expected {
        let error = relative_error(&found[name], expected)?;
        assert!(error < 1e-13, "`{name}`: {error:e}");
    }
    Ok(())
}

/// The gradients of `used` on parameters that nothing else was ever computed from.
fn fresh(vars: &VarMap, hyper: &HyperThree, used: &str, factor: f64) -> Result<Gradients> {
    gradients(vars, &loss(&hyper.generate_params()?, used, factor)?)
}

#[test]
fn tensors_that_the_loss_does_not_reach_have_no_gradient() -> Result<()> {
    let (vars, hyper) = three()?;
    for used in ["a", "b", "c", "ac", "bc"] {
        check(&vars, &|| loss(&hyper.generate_params()?, used, 1.))?;
    }
    let flat = Var::from_tensor(&input(&[Three::NUM_PARAMS], 1, DType::F64)?)?;
    let net = Three::unpack(&flat)?;
    let grads = net.b.sum_all()?.backward()?;
    let expected = [[0.; 5].as_slice(), &[1.; 6], &[0.; 4]].concat();
    assert_eq!(values(grads.get(&flat).unwrap())?, expected);
    Ok(())
}

#[test]
fn a_loss_can_go_backward_twice() -> Result<()> {
    let (vars, hyper) = three()?;
    let loss = loss(&hyper.generate_params()?, "abc", 1.)?;
    let first = gradients(&vars, &loss)?;
    same(&gradients(&vars, &loss)?, &first)?;
    same(&first, &fresh(&vars, &hyper, "abc", 1.)?)
}

#[test]
fn two_losses_over_the_same_parameters() -> Result<()> {
    let (vars, hyper) = three()?;
    let params = hyper.generate_params()?;
    let (one, two) = (loss(&params, "ab", 1.)?, loss(&params, "bc", 2.)?);
    same(&gradients(&vars, &two)?, &fresh(&vars, &hyper, "bc", 2.)?)?;
    same(&gradients(&vars, &one)?, &fresh(&vars, &hyper, "ab", 1.)?)?;
    let mut sum = fresh(&vars, &hyper, "bc", 2.)?;
    for (name, grad) in fresh(&vars, &hyper, "ab", 1.)? {
        sum.insert(name.clone(), (&sum[&name] + grad)?);
    }
    same(&gradients(&vars, &(one + two)?)?, &sum)
}

#[test]
fn backward_on_several_threads_at_once() -> Result<()> {
    let (vars, hyper) = three()?;
    let params = hyper.generate_params()?;
    let tasks = [("ab", 1.), ("bc", 2.), ("abc", 3.), ("c", 4.)];
    let many = |&(used, factor): &(&str, f64)| -> Result<()> {
        let expected = fresh(&vars, &hyper, used, factor)?;
        for _ in 0..100 {
            same(&gradients(&vars, &loss(&params, used, factor)?)?, &expected)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = tasks.iter().map(|task| scope.spawn(|| many(task))).collect();
        started.into_iter().try_for_each(|thread| thread.join().unwrap())
    })
}

/// The identity, whose backward pass fails.
struct Failing;

impl CustomOp1 for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((storage.affine(layout, 1., 0.)?, layout.shape().clone()))
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((storage.affine(layout, 1., 0.)?, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        candle_core::bail!("this gradient can't be computed")
    }
}

/// A loss over `used` whose backward pass fails before or after those tensors have been reached.
fn failing_loss(params: &GeneratedParams<Three>, used: &str, swap: bool) -> Result<Tensor> {
    let rest: String = "abc".chars().filter(|name| !used.contains(*name)).collect();
    let good = loss(params, used, 5.)?;
    let bad = loss(params, &rest, 5.)?.apply_op1(Failing)?;
    if swap { bad + good } else { good + bad }
}

#[test]
fn a_failed_backward_leaves_nothing_behind() -> Result<()> {
    let (vars, hyper) = three()?;
    for failed in ["a", "b", "c", "ab", "bc", "ac"] {
        for (used, swap) in
            ["a", "b", "c", "ab", "abc"].map(|used| [(used, false), (used, true)]).concat()
        {
            let params = hyper.generate_params()?;
            let broken = failing_loss(&params, failed, swap)?;
            assert_eq!(message(broken.backward()), "this gradient can't be computed");
            let found = gradients(&vars, &loss(&params, used, 1.)?)?;
            same(&found, &fresh(&vars, &hyper, used, 1.)?)?;
        }
    }
    Ok(())
}

/// Flat vectors of a dtype that the direct passes do not cover: values and gradients that the dtype
/// holds exactly.
#[test]
fn half_precision_flat_vectors() -> Result<()> {
    for dtype in [DType::F16, DType::BF16] {
        let count = Three::NUM_PARAMS as u32;
        let flat = Tensor::arange(0, count, device())?.to_dtype(dtype)?;
        let flat = Var::from_tensor(&flat)?;
        let net = Three::unpack(&flat)?;
        assert_eq!(net.b.dtype(), dtype);
        assert_eq!(values(&net.pack()?)?, values(&flat)?);
        let loss = ((net.b.sqr()?.sum_all()? * 0.5)? + (net.c * -3.)?.sum_all()?)?;
        let expected: Vec<_> = (0..count)
            .map(|i| {
                if i < 5 {
                    0.
                } else if i < 11 {
                    f64::from(i)
                } else {
                    -3.
                }
            })
            .collect();
        assert_eq!(values(loss.backward()?.get(&flat).unwrap())?, expected);
    }
    Ok(())
}

/// A generator whose values are shifted and scaled, in half precision against float64.
#[test]
fn half_precision_hypernetworks() -> Result<()> {
    for (dtype, bound) in [(DType::F16, 1e-2), (DType::BF16, 5e-2)] {
        let grads = |dtype| {
            let (vars, vb) = variables(13, dtype);
            let net = HyperThree::new(vb)?.target()?;
            gradients(&vars, &(weighted_sum(&net.a)? + weighted_sum(&net.c)?)?)
        };
        let (found, expected) = (grads(dtype)?, grads(DType::F64)?);
        for (name, expected) in expected {
            let error = relative_error(&found[&name], &expected)?;
            assert!(error < bound, "{dtype:?} `{name}`: {error:e}");
        }
    }
    Ok(())
}

#[derive(HyperTarget)]
struct Twice {
    #[hyper(linear(3, 3))]
    layer: Linear,
    #[hyper(linear_no_bias(3, 2))]
    last: Linear,
}

hypernetwork! {
    struct HyperTwice for Twice { embedding: rnn(3, 4, 2), generator: linear, mode: dynamic }
}

/// A layer that is applied twice, and whose weight is also a term of the loss: all uses add up, for
/// one set of weights and for several.
#[test]
fn a_weight_with_several_uses() -> Result<()> {
    let (vars, vb) = variables(5, DType::F64);
    let hyper = HyperTwice::new(vb)?;
    for condition in [xs(&[3])?, xs(&[2, 3])?] {
        check(&vars, &|| {
            let net = hyper.generate_params(&condition)?.unpack()?;
            let hidden = net.layer.forward(&net.layer.forward(&xs(&[4, 3])?)?.tanh()?)?;
            let decay = (net.layer.weight().sqr()?.sum_all()? + net.last.weight().sum_all()?)?;
            weighted_sum(&net.last.forward(&hidden)?)? + decay
        })?;
    }
    Ok(())
}

#[derive(HyperTarget)]
struct Cell {
    #[hyper(gru(3, 2))]
    gru: GRU,
}

impl Module for Cell {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.gru.states_to_tensor(&self.gru.seq(xs)?)
    }
}

hypernetwork! {
    struct HyperCell for Cell { embedding: table(6, 3), generator: linear, mode: static }
}

/// A base that is no variable, but was generated by something else, has its gradient: with the other
/// sign than the bias that it is taken off.
#[test]
fn bases_that_were_generated_are_reached() -> Result<()> {
    let (vars, vb) = variables(3, DType::F64);
    HyperCell::new(vb)?;
    let named = hypernn_tests::by_name(&vars);
    let tensors = named.iter().map(|(name, var)| Ok((name.clone(), var.affine(1., 0.)?)));
    let tensors = tensors.collect::<Result<std::collections::HashMap<_, _>>>()?;
    let device = device();
    let vb = candle_nn::VarBuilder::from_tensors(tensors, DType::F64, device);
    let params = HyperCell::new(vb)?.generate_params()?;
    let xs = xs(&[2, 4, 3])?;
    let grads = weighted_sum(&params.forward(&xs)?)?.backward()?;
    let flat = Var::from_tensor(&params.flat()?.detach())?;
    let of_flat = weighted_sum(&Cell::functional_forward(&flat, &xs)?)?.backward()?;
    for (param, _) in params.tensors().filter(|(param, _)| param.name.contains("bias")) {
        let expected = of_flat.get(&flat).unwrap().narrow(0, param.offset, 6)?.neg()?;
        let found = grads.get(&named[&format!("base.{}", param.name)]).unwrap();
        assert!(relative_error(found, &expected)? < 1e-12, "{}", param.name);
    }
    Ok(())
}
