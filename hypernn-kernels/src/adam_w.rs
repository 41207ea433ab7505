//! A step of AdamW, in one pass over a variable's values.
//!
//! Composed of tensor operations it writes some fifteen tensors of the variable's size in each step. The same sums,
//! in the same order and rounded alike, take no memory but that of the variable and its moments.

use pulp::NullaryFnOnce;

use crate::error::{Result, ensure_len};
use crate::executor::{Executor, for_values, map_parts};
use crate::float::Float;
use crate::simd::dispatch_pass;

/// The values that one thread takes at a time.
const RUN: usize = 1 << 14;

/// The settings of AdamW, after Loshchilov and Hutter, *Decoupled Weight Decay Regularization* (2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The learning rate.
    pub learning_rate: f64,
    /// How much of the mean of gradients stays in each step.
    pub beta1: f64,
    /// How much of the mean of their squares does.
    pub beta2: f64,
    /// What is added to the root of the mean of squares.
    pub eps: f64,
    /// How much of a value, times the learning rate, is taken off it in each step.
    pub weight_decay: f64,
}

/// The values of a variable and the moments that belong to them, of one length.
#[derive(Debug)]
pub struct Variable<'a, T> {
    /// The values.
    pub values: &'a mut [T],
    /// The running mean of each value's gradients; zeros before the first step.
    pub first_moment: &'a mut [T],
    /// The running mean of the squares of gradients, one for each value.
    pub second_moment: &'a mut [T],
}

/// Moves a variable against a gradient; `steps` counts this one.
///
/// From [`PARALLEL_VALUES`](crate::executor::PARALLEL_VALUES) on, the values are shared out among threads.
///
/// # Errors
/// The slices have different lengths, and nothing has moved; or the executor left out a part.
///
/// ```
/// use hypernn_kernels::adam_w::{Settings, Variable, step};
/// use hypernn_kernels::executor::Sequential;
///
/// let settings =
///     Settings { learning_rate: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0. };
/// let (mut values, mut first, mut second) = ([1f64, 2.], [0.; 2], [0.; 2]);
/// for steps in 1..=3 {
///     let variable = Variable {
///         values: &mut values,
///         first_moment: &mut first,
///         second_moment: &mut second,
///     };
///     step(variable, &[5., -5.], &settings, steps, &Sequential)?;
/// }
/// // Where gradients stay the same, each step is as long as the learning rate.
/// assert!((values[0] - 0.7).abs() < 1e-6 && (values[1] - 2.3).abs() < 1e-6);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn step<T: Float>(
    variable: Variable<'_, T>,
    grads: &[T],
    settings: &Settings,
    steps: usize,
    executor: &dyn Executor,
) -> Result<()> {
    let Variable { values, first_moment, second_moment } = variable;
    let len = values.len();
    ensure_len("adam_w", "the gradient", grads.len(), len)?;
    ensure_len("adam_w", "the first moment", first_moment.len(), len)?;
    ensure_len("adam_w", "the second moment", second_moment.len(), len)?;
    let factors = &Factors::new(settings, steps);
    let moments = first_moment.chunks_mut(RUN).zip(second_moment.chunks_mut(RUN));
    let runs = values.chunks_mut(RUN).zip(moments).zip(grads.chunks(RUN));
    let runs = runs.map(|((values, (first, second)), grads)| Move {
        factors,
        values,
        first,
        second,
        grads,
    });
    map_parts(runs.collect(), for_values(executor, len), dispatch_pass)?;
    Ok(())
}

/// `beta` to the number of steps, which a file may say to be any.
///
/// ```
/// use hypernn_kernels::adam_w::power;
///
/// assert_eq!((power(0.5, 3), power(0.5, usize::MAX)), (0.125, 0.));
/// ```
pub fn power(beta: f64, steps: usize) -> f64 {
    beta.powi(i32::try_from(steps).unwrap_or(i32::MAX))
}

/// A factor and its complement.
struct Mean<T> {
    old: T,
    new: T,
    /// Undoes the start at zero.
    scale: T,
}

impl<T: Float> Mean<T> {
    fn new(beta: f64, steps: usize) -> Self {
        let scale = 1. / (1. - power(beta, steps));
        Self { old: T::of(beta), new: T::of(1. - beta), scale: T::of(scale) }
    }

    /// The next mean, and the same without the start's share.
    #[inline(always)]
    fn next(&self, mean: T, value: T) -> (T, T) {
        let mean = scaled(mean, self.old) + scaled(value, self.new);
        (mean, scaled(mean, self.scale))
    }
}

/// As candle multiplies by a number, so that zeros get the same sign.
#[inline(always)]
fn scaled<T: Float>(value: T, factor: T) -> T {
    value * factor + T::default()
}

struct Factors<T> {
    first: Mean<T>,
    second: Mean<T>,
    decay: T,
    eps: T,
    learning_rate: T,
}

impl<T: Float> Factors<T> {
    fn new(settings: &Settings, steps: usize) -> Self {
        let Settings { learning_rate, beta1, beta2, eps, weight_decay } = *settings;
        Self {
            first: Mean::new(beta1, steps),
            second: Mean::new(beta2, steps),
            decay: T::of(1. - learning_rate * weight_decay),
            eps: T::of(eps),
            learning_rate: T::of(learning_rate),
        }
    }
}

/// The step of some values of a variable.
struct Move<'a, T> {
    factors: &'a Factors<T>,
    values: &'a mut [T],
    first: &'a mut [T],
    second: &'a mut [T],
    grads: &'a [T],
}

impl<T: Float> NullaryFnOnce for Move<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { factors, values, first, second, grads } = self;
        let moments = first.iter_mut().zip(second);
        for ((value, (first, second)), &grad) in values.iter_mut().zip(moments).zip(grads) {
            let (mean, mean_hat) = factors.first.next(*first, grad);
            let (square, square_hat) = factors.second.next(*second, grad * grad);
            let direction = mean_hat / (square_hat.sqrt() + factors.eps);
            *value = scaled(*value, factors.decay) - scaled(direction, factors.learning_rate);
            (*first, *second) = (mean, square);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::ops::Range;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::executor::{PARALLEL_VALUES, ScopedThreads, Sequential};

    const SETTINGS: Settings =
        Settings { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };

    /// Values, and their first and second moments.
    fn state(len: usize) -> [Vec<f32>; 3] {
        let wave = |factor: f32| (0..len).map(move |i| (i as f32 * factor).sin());
        [wave(0.3).collect(), wave(0.7).collect(), wave(0.9).map(f32::abs).collect()]
    }

    fn moved(len: usize, executor: &dyn Executor) -> [Vec<f32>; 3] {
        let mut all = state(len);
        let [values, first_moment, second_moment] = &mut all;
        let grads: Vec<_> = (0..len).map(|i| (i as f32 * 1.1).cos()).collect();
        let variable = Variable { values, first_moment, second_moment };
        step(variable, &grads, &SETTINGS, 3, executor).unwrap();
        all
    }

    /// Counts how often it is asked.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Executor for Counting {
        fn threads(&self) -> usize {
            2
        }

        fn execute(&self, parts: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
            self.0.fetch_add(1, Ordering::Relaxed);
            work(0..parts);
        }
    }

    #[test]
    fn a_variable_below_the_threshold_is_moved_by_the_calling_thread() {
        let asked = |len| {
            let executor = Counting::default();
            moved(len, &executor);
            executor.0.into_inner()
        };
        assert_eq!([2 * RUN, PARALLEL_VALUES - 1, PARALLEL_VALUES].map(asked), [0, 0, 1]);
    }

    #[test]
    fn threads_move_a_variable_as_one_does() {
        for len in [0, 1, RUN + 3, PARALLEL_VALUES + 5] {
            assert_eq!(moved(len, &ScopedThreads::new(3)), moved(len, &Sequential));
        }
    }

    /// As the paper says, in f64.
    #[test]
    fn a_step_is_that_of_the_paper() {
        let Settings { learning_rate, beta1, beta2, eps, weight_decay } = SETTINGS;
        let (value, first, second, grad) = (0.5, 0.2, 0.3, -1.5f64);
        let (mut values, mut first_moment, mut second_moment) = ([value], [first], [second]);
        let variable = Variable {
            values: &mut values,
            first_moment: &mut first_moment,
            second_moment: &mut second_moment,
        };
        step(variable, &[grad], &SETTINGS, 3, &Sequential).unwrap();
        let (mean, square) =
            (beta1 * first + (1. - beta1) * grad, beta2 * second + (1. - beta2) * grad * grad);
        let unbiased = (mean / (1. - beta1.powi(3)), square / (1. - beta2.powi(3)));
        let direction = unbiased.0 / (unbiased.1.sqrt() + eps);
        let expected = value - learning_rate * (direction + weight_decay * value);
        for (found, expected) in [(values, expected), (first_moment, mean), (second_moment, square)]
        {
            assert!((found[0] - expected).abs() < 1e-15, "{found:?} {expected}");
        }
    }

    #[test]
    fn slices_of_other_lengths_are_refused() {
        let message = |[values, first, second, grads]: [usize; 4]| {
            let [mut values, mut first, mut second] =
                [values, first, second].map(|len| vec![1f32; len]);
            let variable = Variable {
                values: &mut values,
                first_moment: &mut first,
                second_moment: &mut second,
            };
            let error = step(variable, &vec![0.; grads], &SETTINGS, 1, &Sequential).unwrap_err();
            assert!(values.iter().all(|value| *value == 1.));
            error.to_string()
        };
        assert_eq!(message([2, 2, 2, 1]), "adam_w: the gradient has 1 values, expected 2");
        assert_eq!(message([2, 3, 2, 2]), "adam_w: the first moment has 3 values, expected 2");
        assert_eq!(message([2, 2, 0, 2]), "adam_w: the second moment has 0 values, expected 2");
    }
}
