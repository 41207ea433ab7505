//! Finite differences, and the loop over sets that several sets must equal.

use std::sync::OnceLock;

use candle_core::{DType, Device, IndexOp, Result, Tensor, Var};

use crate::param::watch_weights;

/// A layer under test: from its weights and an input to its output.
pub(crate) type Forward = dyn Fn(&[Tensor], &Tensor) -> Result<Tensor>;

/// One that may borrow what it needs.
pub(crate) type AnyForward<'a> = dyn Fn(&[Tensor], &Tensor) -> Result<Tensor> + 'a;

/// One configuration of a layer.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The shapes of the weights of one set.
    pub(crate) weights: Vec<Vec<usize>>,
    /// The shape of the input of one set.
    pub(crate) xs: Vec<usize>,
    /// From numbers in -1..1 to inputs.
    pub(crate) input: fn(f64) -> f64,
    pub(crate) ours: Box<Forward>,
    pub(crate) candles: Box<Forward>,
}

/// The device of all tests that hold for any: the CPU, or with `HYPERNN_TEST_DEVICE=cuda` the first card.
#[allow(clippy::panic)]
pub(crate) fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| match std::env::var("HYPERNN_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => match Device::new_cuda(0) {
            Ok(device) => device,
            Err(err) => panic!("HYPERNN_TEST_DEVICE is cuda, but there is no card: {err}"),
        },
        Ok(other) => panic!("HYPERNN_TEST_DEVICE is `{other}`, expected cpu or cuda"),
    })
}

/// Numbers in -1..1, the same for the same seed.
pub(crate) fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.
    };
    (0..count).map(|_| next()).collect()
}

fn variable(dims: &[usize], seed: u64, map: fn(f64) -> f64) -> Result<Var> {
    let values = numbers(dims.iter().product(), seed).into_iter().map(map).collect();
    Var::from_vec(values, dims, device())
}

fn with_sets(dims: &[usize], sets: Option<usize>) -> Vec<usize> {
    sets.into_iter().chain(dims.iter().copied()).collect()
}

impl Case {
    /// Weights, then the input; without `sets` the weights are shared.
    pub(crate) fn variables(&self, sets: Option<usize>) -> Result<Vec<Var>> {
        let weights =
            self.weights.iter().enumerate().map(|(i, dims)| {
                // Away from zero, so that gains and slopes matter.
                variable(&with_sets(dims, sets), i as u64 + 1, |x| {
                    if x < 0. { x - 0.2 } else { x + 0.2 }
                })
            });
        let mut dims = self.xs.clone();
        dims[0] *= sets.unwrap_or(1);
        weights.chain([variable(&dims, 100, self.input)]).collect()
    }
}

fn tensors(variables: &[Var]) -> Vec<Tensor> {
    variables.iter().map(|variable| variable.as_tensor().clone()).collect()
}

fn run(forward: &AnyForward<'_>, inputs: &[Tensor]) -> Result<Tensor> {
    forward(&inputs[..inputs.len() - 1], &inputs[inputs.len() - 1])
}

/// A sum of the outputs with weights of either sign.
fn loss(ys: &Tensor) -> Result<Tensor> {
    let factors = Tensor::from_vec(numbers(ys.elem_count(), 999), ys.shape(), device())?;
    (ys * factors)?.sum_all()
}

/// Gradients of all inputs; none counts as zero.
fn gradients(loss: &Tensor, variables: &[Var]) -> Result<Vec<Tensor>> {
    let grads = loss.backward()?;
    let grad = |variable: &Var| match grads.get(variable) {
        Some(grad) => Ok(grad.clone()),
        None => variable.zeros_like(),
    };
    variables.iter().map(grad).collect()
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

/// The largest relative difference.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    if a.dims() != b.dims() {
        candle_core::bail!("shape {:?} against {:?}", a.dims(), b.dims());
    }
    let pairs = values(a)?.into_iter().zip(values(b)?);
    Ok(pairs.map(|(a, b)| (a - b).abs() / (1. + b.abs())).fold(0., largest))
}

/// The larger one, where not a number is largest.
fn largest(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The largest relative difference between each input's gradient and finite differences.
pub(crate) fn gradient_errors(forward: &AnyForward<'_>, variables: &[Var]) -> Result<Vec<f64>> {
    let inputs = tensors(variables);
    let grads = gradients(&loss(&run(forward, &inputs)?)?, variables)?;
    let detached: Vec<_> = inputs.iter().map(|input| input.copy()).collect::<Result<_>>()?;
    let detached: Vec<_> = detached.iter().map(Tensor::detach).collect();
    let mut errors = Vec::new();
    for (i, grad) in grads.iter().enumerate() {
        // All values on the CPU, some elsewhere, where a forward pass takes far longer.
        let step = if device().is_cpu() { 1 } else { grad.elem_count().div_ceil(4).max(1) };
        let sample = || (0..grad.elem_count()).step_by(step);
        let slopes = sample().map(|at| slope(forward, &detached, i, at));
        let slopes = Tensor::new(slopes.collect::<Result<Vec<_>>>()?, device())?;
        let sample = Tensor::from_iter(sample().map(|at| at as u32), device())?;
        errors.push(distance(&grad.flatten_all()?.index_select(&sample, 0)?, &slopes)?);
    }
    Ok(errors)
}

/// The central difference in one value of one input.
fn slope(forward: &AnyForward<'_>, inputs: &[Tensor], input: usize, at: usize) -> Result<f64> {
    const STEP: f64 = 1e-5;
    let moved = |by: f64| {
        let mut inputs = inputs.to_vec();
        let mut numbers = values(&inputs[input])?;
        numbers[at] += by;
        inputs[input] = Tensor::from_vec(numbers, inputs[input].shape(), device())?;
        loss(&run(forward, &inputs)?)?.to_scalar::<f64>()
    };
    Ok((moved(STEP)? - moved(-STEP)?) / (2. * STEP))
}

/// The largest relative difference of outputs and gradients between several sets at once and a loop
/// over them.
pub(crate) fn sets_error(case: &Case, sets: usize) -> Result<f64> {
    let variables = case.variables(Some(sets))?;
    let inputs = tensors(&variables);
    let together = run(&case.ours, &inputs)?;
    let rows = case.xs[0];
    let one = |set: usize| {
        let mut inputs: Vec<_> = inputs.iter().map(|w| w.i(set)).collect::<Result<_>>()?;
        let last = inputs.len() - 1;
        inputs[last] = variables[last].narrow(0, set * rows, rows)?;
        run(&case.ours, &inputs)
    };
    let apart = Tensor::cat(&(0..sets).map(one).collect::<Result<Vec<_>>>()?, 0)?;
    let mut worst = distance(&together, &apart)?;
    let expected = gradients(&loss(&apart)?, &variables)?;
    for (found, expected) in gradients(&loss(&together)?, &variables)?.iter().zip(&expected) {
        worst = largest(worst, distance(found, expected)?);
    }
    Ok(worst)
}

/// Whether a forward over several sets counts as one that looks at its weights, as one of the target's own
/// that asks the layer for them does.
pub(crate) fn looks_at_weights(case: &Case) -> Result<bool> {
    let inputs = tensors(&case.variables(Some(3))?);
    let (ys, looked) = watch_weights(|| run(&case.ours, &inputs));
    ys.map(|_| looked)
}

/// The largest relative difference from candle's own layer, in f32.
pub(crate) fn candle_error(case: &Case) -> Result<f64> {
    let inputs = tensors(&case.variables(None)?);
    let inputs = inputs.iter().map(|input| input.to_dtype(DType::F32));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    distance(&run(&case.ours, &inputs)?, &run(&case.candles, &inputs)?)
}
