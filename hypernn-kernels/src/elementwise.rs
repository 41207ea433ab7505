//! Passes over values: activations and their gradients.
//!
//! From [`PARALLEL_VALUES`](crate::executor::PARALLEL_VALUES) on, they are shared out among threads.

use crate::error::{Result, ensure_len};
use crate::executor::Executor;
use crate::float::Float;
use crate::simd::dispatch;
use crate::uninit::write_values;

/// `max(x, 0)`, and NaN where `x` is NaN. Serves half-precision types of the caller's as well.
///
/// # Errors
/// The executor left out a part.
///
/// ```
/// use hypernn_kernels::elementwise::relu;
/// use hypernn_kernels::executor::Sequential;
///
/// assert_eq!(relu(&[-1f32, 0., 2.], &Sequential)?, [0., 0., 2.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn relu<T: Copy + Default + PartialOrd + Send + Sync>(
    xs: &[T],
    executor: &dyn Executor,
) -> Result<Vec<T>> {
    // This way round NaN stays; it is one instruction either way.
    map(xs, executor, |x| if x < T::default() { T::default() } else { x })
}

/// The gradient of [`relu`]'s input, from the input and the gradient of the output: it passes but where `x < 0`, so
/// at 0 and at NaN as well.
///
/// # Errors
/// The slices have different lengths, or the executor left out a part.
///
/// ```
/// use hypernn_kernels::elementwise::relu_grad;
/// use hypernn_kernels::executor::Sequential;
///
/// assert_eq!(relu_grad(&[-1f32, 0., 2.], &[5., 6., 7.], &Sequential)?, [0., 6., 7.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn relu_grad<T: Float>(xs: &[T], grad: &[T], executor: &dyn Executor) -> Result<Vec<T>> {
    zip_map(xs, grad, executor, |x, grad| if x < T::default() { T::default() } else { grad })
}

/// `tanh x`; in f32 by instructions for vectors, to two units in the last place.
///
/// # Errors
/// The executor left out a part.
///
/// ```
/// use hypernn_kernels::elementwise::tanh;
/// use hypernn_kernels::executor::Sequential;
///
/// assert_eq!(tanh(&[-20f32, 0., 20.], &Sequential)?, [-1., 0., 1.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn tanh<T: Float>(xs: &[T], executor: &dyn Executor) -> Result<Vec<T>> {
    map(xs, executor, T::tanh)
}

/// The gradient of [`tanh`]'s input, from the output and its gradient: `grad × (1 - y²)`.
///
/// # Errors
/// The slices have different lengths, or the executor left out a part.
///
/// ```
/// use hypernn_kernels::elementwise::tanh_grad;
/// use hypernn_kernels::executor::Sequential;
///
/// assert_eq!(tanh_grad(&[0f32, 0.5, 1.], &[4., 4., 4.], &Sequential)?, [4., 3., 0.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn tanh_grad<T: Float>(ys: &[T], grad: &[T], executor: &dyn Executor) -> Result<Vec<T>> {
    let one = T::of(1.);
    zip_map(ys, grad, executor, |y, grad| grad * (one - y * y))
}

/// A function of each value.
fn map<T: Copy + Send + Sync>(
    values: &[T],
    executor: &dyn Executor,
    f: impl Fn(T) -> T + Copy + Sync,
) -> Result<Vec<T>> {
    write_values(values.len(), executor, |range, writer| {
        let values = &values[range];
        dispatch(|| writer.extend(values.iter().map(|&value| f(value))));
    })
}

/// A function of each pair of values.
fn zip_map<T: Float>(
    left: &[T],
    right: &[T],
    executor: &dyn Executor,
    f: impl Fn(T, T) -> T + Copy + Sync,
) -> Result<Vec<T>> {
    ensure_len("elementwise", "the gradient", right.len(), left.len())?;
    write_values(left.len(), executor, |range, writer| {
        let pairs = left[range.clone()].iter().zip(&right[range]);
        dispatch(|| writer.extend(pairs.map(|(&left, &right)| f(left, right))));
    })
}

#[cfg(test)]
pub(crate) mod testing {
    /// Around zero, of either sign, where functions saturate, and what is no number.
    pub(crate) fn inputs() -> Vec<f64> {
        let steps = (0..4001).map(|i| (f64::from(i) - 2000.) / 150.);
        let tiny = (1..40).flat_map(|i| [1e-1_f64.powi(i), -1e-1_f64.powi(i)]);
        steps.chain(tiny).chain([1e4, -1e4, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::testing::inputs;
    use super::*;
    use crate::executor::{PARALLEL_VALUES, ScopedThreads, Sequential};

    /// As text, for NaN is unequal to itself.
    fn text(values: &[f64]) -> String {
        format!("{values:?}")
    }

    #[test]
    fn relu_keeps_nan() {
        let xs = [-1., f64::NAN, 2., -f64::NAN, 0., f64::INFINITY, f64::NEG_INFINITY];
        let expected = [0., f64::NAN, 2., f64::NAN, 0., f64::INFINITY, 0.];
        assert_eq!(text(&relu(&xs, &Sequential).unwrap()), text(&expected));
        let grads = relu_grad(&xs, &[3.; 7], &Sequential).unwrap();
        assert_eq!(grads, [0., 3., 3., 3., 3., 3., 0.]);
    }

    #[test]
    fn tanh_and_its_gradient_are_those_of_the_standard_library() {
        let xs: Vec<_> = inputs().into_iter().filter(|x| !x.is_nan()).collect();
        let ys = tanh(&xs, &Sequential).unwrap();
        let grads = tanh_grad(&ys, &vec![2.; xs.len()], &Sequential).unwrap();
        for ((x, y), grad) in xs.iter().zip(&ys).zip(&grads) {
            assert_eq!(*y, x.tanh());
            assert_eq!(*grad, 2. * (1. - y * y));
        }
    }

    #[test]
    fn many_values_are_those_of_few() {
        let xs: Vec<_> = (0..PARALLEL_VALUES + 7).map(|i| (i as f32 * 0.37).sin() * 3.).collect();
        for f in [relu::<f32>, tanh::<f32>] {
            let whole = f(&xs, &ScopedThreads::new(3)).unwrap();
            let few = xs.chunks(1000).flat_map(|xs| f(xs, &Sequential).unwrap());
            assert!(whole.iter().copied().eq(few));
        }
    }

    #[test]
    fn a_gradient_of_another_length_is_an_error() {
        for f in [relu_grad::<f32>, tanh_grad::<f32>] {
            let message = f(&[1., 2.], &[1.], &Sequential).unwrap_err().to_string();
            assert_eq!(message, "elementwise: the gradient has 1 values, expected 2");
        }
    }
}
