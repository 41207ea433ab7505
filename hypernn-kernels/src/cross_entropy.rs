//! The cross-entropy of rows of logits and the class of each.

use pulp::NullaryFnOnce;

use crate::error::{Result, ensure_len};
use crate::executor::{Executor, for_values, map_parts};
use crate::float::Float;
use crate::simd::dispatch_pass;
use crate::uninit::{UninitWriter, write_rows};

/// Values whose exponentials are summed up in `T`, before they are added to a sum in f64.
const RUN: usize = 1024;

/// The logarithm of the sum of `eˣ` of each row that has a target; 0 for others.
///
/// A row's loss is this less the logit of its target.
///
/// # Errors
/// There are not `classes` logits for each target, or the executor left out a part.
///
/// ```
/// use hypernn_kernels::cross_entropy::log_sum_exps;
/// use hypernn_kernels::executor::Sequential;
///
/// let logits = [0f64, 0., 1., 2.];
/// assert_eq!(log_sum_exps(&logits, 2, &[Some(1), None], &Sequential)?, [2f64.ln(), 0.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn log_sum_exps<T: Float>(
    logits: &[T],
    classes: usize,
    targets: &[Option<u32>],
    executor: &dyn Executor,
) -> Result<Vec<f64>> {
    check("the logits", logits.len(), classes, targets)?;
    let executor = for_values(executor, logits.len());
    let rows: Vec<_> = logits.chunks_exact(classes.max(1)).zip(targets).collect();
    let per_part = rows.len().div_ceil(executor.threads().max(1)).max(1);
    let parts = map_parts(rows.chunks(per_part).collect(), executor, |rows| {
        let of_row = |(logits, target): &(&[T], &Option<u32>)| {
            target.map_or(0., |_| dispatch_pass(LogSumExp(logits)))
        };
        rows.iter().map(of_row).collect::<Vec<_>>()
    });
    Ok(parts?.concat())
}

/// The gradient of the logits, from that of each row's loss, which is the same for all, and from what
/// [`log_sum_exps`] gave: the softmax, less 1 at the target; zeros in rows without one.
///
/// # Errors
/// There are not `classes` logits for each target, as many sums as targets, or the executor left out a part.
///
/// # Panics
/// A target is no class.
///
/// ```
/// use hypernn_kernels::cross_entropy::gradients;
/// use hypernn_kernels::executor::Sequential;
///
/// let sums = [2f64.ln(), 0.];
/// let grads = gradients(&[0f64, 0., 1., 2.], 2, &[Some(1), None], &sums, 2., &Sequential)?;
/// assert!((grads[0] - 1.).abs() < 1e-12 && (grads[1] + 1.).abs() < 1e-12);
/// assert_eq!(grads[2..], [0., 0.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn gradients<T: Float>(
    logits: &[T],
    classes: usize,
    targets: &[Option<u32>],
    sums: &[f64],
    grad: T,
    executor: &dyn Executor,
) -> Result<Vec<T>> {
    check("the logits", logits.len(), classes, targets)?;
    ensure_len("cross_entropy", "the sums", sums.len(), targets.len())?;
    write_rows(targets.len(), classes, executor, |range, writer| {
        for row in range {
            let logits = &logits[row * classes..][..classes];
            let Some(target) = targets[row] else {
                writer.extend(std::iter::repeat_n(T::default(), classes));
                continue;
            };
            let (sum, target) = (T::of(sums[row]), target as usize);
            let (before, from) = logits.split_at(target);
            dispatch_pass(Probabilities { logits: before, sum, grad, writer });
            writer.extend([((from[0] - sum).exp() - T::of(1.)) * grad].into_iter());
            dispatch_pass(Probabilities { logits: &from[1..], sum, grad, writer });
        }
    })
}

fn check(what: &'static str, len: usize, classes: usize, targets: &[Option<u32>]) -> Result<()> {
    let expected = crate::error::count("cross_entropy", &[targets.len(), classes])?;
    ensure_len("cross_entropy", what, len, expected)
}

struct LogSumExp<'a, T>(&'a [T]);

impl<T: Float> NullaryFnOnce for LogSumExp<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let largest = T::largest(self.0);
        let mut exps = [T::default(); RUN];
        let mut sum = 0.;
        for run in self.0.chunks(RUN) {
            exps.iter_mut().zip(run).for_each(|(exp, &x)| *exp = (x - largest).exp());
            sum += T::sum_in_lanes(&exps[..run.len()]).as_f64();
        }
        largest.as_f64() + sum.ln()
    }
}

struct Probabilities<'a, 'w, T> {
    logits: &'a [T],
    sum: T,
    grad: T,
    writer: &'a mut UninitWriter<'w, T>,
}

impl<T: Float> NullaryFnOnce for Probabilities<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { logits, sum, grad, writer } = self;
        writer.extend(logits.iter().map(|&x| (x - sum).exp() * grad));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::executor::{ScopedThreads, Sequential};

    #[test]
    fn sums_and_gradients_are_those_by_hand() {
        for classes in [1, 5, 1024, 3000] {
            let logits: Vec<f32> = (0..3 * classes).map(|i| (i as f32 * 0.7).sin() * 9.).collect();
            let targets = [Some(0), None, Some(classes as u32 - 1)];
            let sums = log_sum_exps(&logits, classes, &targets, &Sequential).unwrap();
            let grads =
                gradients(&logits, classes, &targets, &sums, 0.5, &ScopedThreads::new(2)).unwrap();
            for (row, target) in targets.iter().enumerate() {
                let logits = logits[row * classes..][..classes].iter().map(|&x| f64::from(x));
                let sum: f64 = logits.clone().map(f64::exp).sum();
                let expected = target.map_or(0., |_| sum.ln());
                assert!((sums[row] - expected).abs() < 1e-6, "{} {expected}", sums[row]);
                for (class, x) in logits.enumerate() {
                    let hot = f64::from(u8::from(*target == Some(class as u32)));
                    let expected = target.map_or(0., |_| 0.5 * (x.exp() / sum - hot));
                    let found = f64::from(grads[row * classes + class]);
                    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn many_rows_are_those_of_few() {
        let logits: Vec<f32> = (0..400 * 500).map(|i| (i as f32 * 0.7).sin() * 9.).collect();
        let targets: Vec<_> = (0..400).map(|row| (row % 3 > 0).then_some(row)).collect();
        let (threads, one) = (ScopedThreads::new(3), Sequential);
        let many = log_sum_exps(&logits, 500, &targets, &threads).unwrap();
        assert_eq!(many, log_sum_exps(&logits, 500, &targets, &one).unwrap());
        assert_eq!(
            gradients(&logits, 500, &targets, &many, 1., &threads).unwrap(),
            gradients(&logits, 500, &targets, &many, 1., &one).unwrap()
        );
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let message = |found: Result<Vec<f64>>| found.unwrap_err().to_string();
        let expected = "cross_entropy: the logits has 3 values, expected 4";
        assert_eq!(message(log_sum_exps(&[0f64; 3], 2, &[None; 2], &Sequential)), expected);
        assert_eq!(
            message(gradients(&[0.; 3], 2, &[None; 2], &[0.; 2], 1., &Sequential)),
            expected
        );
        let expected = "cross_entropy: the sums has 1 values, expected 2";
        assert_eq!(message(gradients(&[0.; 4], 2, &[None; 2], &[0.], 1., &Sequential)), expected);
    }
}
