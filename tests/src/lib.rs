//! What the integration tests share: their device, variables from a seed, numbers, distances, finite differences.

pub mod dynamic;
pub mod files;
pub mod golden;
pub mod launches;
pub mod llama;
pub mod parallel;
pub mod rustc;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use candle_core::{DType, Device, Error, Result, Tensor, Var, bail};
use candle_nn::{VarBuilder, VarMap};

/// The device of all tests that hold for any: the CPU, or with `HYPERNN_TEST_DEVICE=cuda` the first card.
///
/// # Panics
/// The variable says something else, or there is no card.
#[allow(clippy::panic, reason = "tests that were asked to run elsewhere must not run here")]
pub fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| match std::env::var("HYPERNN_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => match Device::new_cuda(0) {
            Ok(device) => device,
            Err(err) => {
                panic!("HYPERNN_TEST_DEVICE is cuda, but there is no card: {}", plain(&err))
            }
        },
        Ok(other) => panic!("HYPERNN_TEST_DEVICE is `{other}`, expected cpu or cuda"),
    })
}

/// A builder over fresh variables drawn from `seed`, and the variables.
pub fn variables(seed: u64, dtype: DType) -> (VarMap, VarBuilder<'static>) {
    variables_on(device(), seed, dtype)
}

/// Variables from a seed, in a dtype, on a device, and the builder that makes them.
pub fn variables_on(device: &Device, seed: u64, dtype: DType) -> (VarMap, VarBuilder<'static>) {
    let vars = VarMap::new();
    let vb = hypernn::seeded::var_builder(&vars, seed, dtype, device);
    (vars, vb)
}

/// The variables by name, in alphabetical order.
pub fn by_name(vars: &VarMap) -> BTreeMap<String, Var> {
    let data = vars.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    data.iter().map(|(name, var)| (name.clone(), var.clone())).collect()
}

/// The variable `name`.
///
/// # Errors
/// There is none of that name.
pub fn variable(vars: &VarMap, name: &str) -> Result<Var> {
    match by_name(vars).remove(name) {
        Some(var) => Ok(var),
        None => bail!("no variable `{name}`"),
    }
}

/// Whether an optimiser moves the variable of this name; bases and buffers are kept as they are.
pub fn is_trained(name: &str) -> bool {
    !name.starts_with("base.") && !name.starts_with("buffers.")
}

/// Numbers in -1..1, the same for the same seed.
pub fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.
    };
    (0..count).map(|_| next()).collect()
}

/// A tensor of [`numbers`].
///
/// # Errors
/// candle's own.
pub fn input(dims: &[usize], seed: u64, dtype: DType) -> Result<Tensor> {
    let values = numbers(dims.iter().product(), seed);
    // Cast on the CPU: candle can't cast an empty tensor on CUDA.
    Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(dtype)?.to_device(device())
}

/// The values in flat order.
///
/// # Errors
/// candle's own.
pub fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

/// A sum of the values with factors of either sign, different for each.
///
/// # Errors
/// candle's own.
pub fn weighted_sum(ys: &Tensor) -> Result<Tensor> {
    (ys * input(ys.dims(), 999, ys.dtype())?.to_device(ys.device())?)?.sum_all()
}

/// `max |found - expected| / max |expected|`; not a number where any value is none.
///
/// # Errors
/// The shapes differ.
pub fn relative_error(found: &Tensor, expected: &Tensor) -> Result<f64> {
    if found.dims() != expected.dims() {
        bail!("shape {:?}, expected {:?}", found.dims(), expected.dims());
    }
    let (found, expected) = (values(found)?, values(expected)?);
    let largest = |numbers: &mut dyn Iterator<Item = f64>| {
        numbers.fold(0., |a: f64, b| if b.is_nan() || b.abs() > a { b.abs() } else { a })
    };
    let difference = largest(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
    let scale = largest(&mut expected.iter().copied());
    Ok(if difference == 0. { 0. } else { difference / scale })
}

/// The gradients of the trained variables, by name; none counts as zero.
///
/// # Errors
/// candle's own.
pub fn gradients(vars: &VarMap, loss: &Tensor) -> Result<BTreeMap<String, Tensor>> {
    let grads = loss.backward()?;
    let grad = |var: &Var| grads.get(var).cloned().map_or_else(|| var.zeros_like(), Ok);
    let trained = by_name(vars).into_iter().filter(|(name, _)| is_trained(name));
    trained.map(|(name, var)| Ok((name, grad(&var)?))).collect()
}

/// The largest error of the trained variables' gradients against finite differences, relative to
/// each gradient's largest value.
///
/// # Errors
/// The loss's own, or a gradient that is zero everywhere where the loss does depend on the variable.
pub fn gradient_error(vars: &VarMap, loss: &dyn Fn() -> Result<Tensor>) -> Result<f64> {
    let mut worst: f64 = 0.;
    for (name, grad) in gradients(vars, &loss()?)? {
        let var = variable(vars, &name)?;
        let sample = sample(&grad)?;
        let slopes = slopes(&var, &sample, loss)?;
        let error = relative_error(&grad.flatten_all()?.index_select(&sample, 0)?, &slopes)?;
        if error.is_nan() {
            bail!("the gradient of `{name}` or its finite difference is not a number");
        }
        worst = worst.max(error);
    }
    Ok(worst)
}

/// The values of a variable to look at: all on the CPU; elsewhere, where a forward pass of a small network takes far
/// longer, some of each, with the one whose gradient is largest, by which errors are measured.
fn sample(grad: &Tensor) -> Result<Tensor> {
    const ELSEWHERE: usize = 4;
    let count = grad.elem_count();
    let step = if grad.device().is_cpu() { 1 } else { count.div_ceil(ELSEWHERE).max(1) };
    let mut sample: Vec<_> = (0..count as u32).step_by(step).collect();
    if step > 1 {
        let sizes: Vec<_> = values(grad)?.into_iter().map(f64::abs).collect();
        sample.extend(
            (0..count as u32).max_by(|&a, &b| sizes[a as usize].total_cmp(&sizes[b as usize])),
        );
    }
    Tensor::new(sample, grad.device())
}

/// The central difference in each of these values of a variable.
fn slopes(var: &Var, sample: &Tensor, loss: &dyn Fn() -> Result<Tensor>) -> Result<Tensor> {
    const STEP: f64 = 1e-5;
    let start = values(&var.copy()?)?;
    let at = |index: usize, by: f64| {
        let mut moved = start.clone();
        moved[index] += by;
        var.set(&Tensor::from_vec(moved, var.shape(), var.device())?)?;
        loss()?.to_scalar::<f64>()
    };
    let slope = |index| Ok((at(index, STEP)? - at(index, -STEP)?) / (2. * STEP));
    let sample = sample.to_vec1::<u32>()?;
    let slopes = sample.into_iter().map(|index| slope(index as usize));
    let slopes = slopes.collect::<Result<Vec<_>>>()?;
    var.set(&Tensor::from_vec(start, var.shape(), var.device())?)?;
    Tensor::new(slopes, var.device())
}

/// The message of what must have failed, one line, without a backtrace.
///
/// # Panics
/// It succeeded.
#[allow(clippy::panic, reason = "a test that expects an error has none to look at")]
pub fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("this succeeded, an error was expected"),
        Err(err) => plain(&err),
    }
}

fn plain(err: &Error) -> String {
    match err {
        Error::WithBacktrace { inner, .. } => plain(inner),
        err => err.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}
