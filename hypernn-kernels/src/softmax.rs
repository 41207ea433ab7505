//! Probabilities of rows of scores.

use pulp::NullaryFnOnce;

use crate::error::{Result, ensure_len};
use crate::executor::Executor;
use crate::float::Float;
use crate::simd::dispatch_pass;
use crate::uninit::{UninitWriter, write_rows};

/// `eˣ` over its sum for each row of `width` values; a row with NaN is NaN.
///
/// # Errors
/// The values are no whole number of rows, or the executor left out a part.
///
/// ```
/// use hypernn_kernels::executor::Sequential;
/// use hypernn_kernels::softmax::softmax;
///
/// assert_eq!(softmax(&[1f64, 1., 5., 5.], 2, &Sequential)?, [0.5; 4]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn softmax<T: Float>(xs: &[T], width: usize, executor: &dyn Executor) -> Result<Vec<T>> {
    let rows = whole_rows("the input", xs.len(), width)?;
    write_rows(rows, width, executor, |range, writer| {
        let mut row = vec![T::default(); width];
        for xs in xs[range.start * width..range.end * width].chunks_exact(width.max(1)) {
            row.copy_from_slice(xs);
            softmax_in_place(&mut row);
            writer.extend_from_slice(&row);
        }
    })
}

/// The gradient of [`softmax`]'s input, from the output and its gradient: `y (g - Σ y g)` for each row.
///
/// # Errors
/// The slices have different lengths, or no whole number of rows, or the executor left out a part.
///
/// ```
/// use hypernn_kernels::executor::Sequential;
/// use hypernn_kernels::softmax::softmax_grad;
///
/// assert_eq!(softmax_grad(&[0.5f64, 0.5], &[1., 0.], 2, &Sequential)?, [0.25, -0.25]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn softmax_grad<T: Float>(
    ys: &[T],
    grad: &[T],
    width: usize,
    executor: &dyn Executor,
) -> Result<Vec<T>> {
    ensure_len("softmax", "the gradient", grad.len(), ys.len())?;
    let rows = whole_rows("the output", ys.len(), width)?;
    write_rows(rows, width, executor, |range, writer| {
        let range = range.start * width..range.end * width;
        let rows = ys[range.clone()].chunks_exact(width.max(1));
        for (ys, grad) in rows.zip(grad[range].chunks_exact(width.max(1))) {
            dispatch_pass(RowGrad { ys, grad, sum: T::of(T::dot(ys, grad)), writer });
        }
    })
}

/// The softmax of one row.
pub(crate) fn softmax_in_place<T: Float>(row: &mut [T]) {
    dispatch_pass(Row(row));
}

fn whole_rows(what: &'static str, len: usize, width: usize) -> Result<usize> {
    let rows = len.checked_div(width).unwrap_or(0);
    ensure_len("softmax", what, len, rows * width)?;
    Ok(rows)
}

struct Row<'a, T>(&'a mut [T]);

impl<T: Float> NullaryFnOnce for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let largest = T::largest(self.0);
        self.0.iter_mut().for_each(|x| *x = (*x - largest).exp());
        let factor = T::of(1.) / T::sum_in_lanes(self.0);
        self.0.iter_mut().for_each(|x| *x = *x * factor);
    }
}

struct RowGrad<'a, 'w, T> {
    ys: &'a [T],
    grad: &'a [T],
    sum: T,
    writer: &'a mut UninitWriter<'w, T>,
}

impl<T: Float> NullaryFnOnce for RowGrad<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { ys, grad, sum, writer } = self;
        writer.extend(ys.iter().zip(grad).map(|(&y, &grad)| y * (grad - sum)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::executor::{ScopedThreads, Sequential};

    fn scores(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.37).sin() * 20.).collect()
    }

    #[test]
    fn probabilities_are_those_by_hand() {
        for width in [1, 2, 15, 16, 17, 100] {
            let xs = scores(3 * width);
            let ys = softmax(&xs, width, &Sequential).unwrap();
            for (xs, ys) in xs.chunks(width).zip(ys.chunks(width)) {
                let sum: f64 = xs.iter().map(|&x| f64::from(x).exp()).sum();
                for (&x, &y) in xs.iter().zip(ys) {
                    let expected = f64::from(x).exp() / sum;
                    assert!((f64::from(y) - expected).abs() < 4e-6 * expected + 1e-30, "{x}: {y}");
                }
            }
        }
    }

    #[test]
    fn many_rows_are_those_of_few() {
        let xs = scores(700 * 300);
        let few: Vec<_> =
            xs.chunks(300).flat_map(|xs| softmax(xs, 300, &Sequential).unwrap()).collect();
        let many = softmax(&xs, 300, &ScopedThreads::new(3)).unwrap();
        assert_eq!(many, few);
        let grads = softmax_grad(&many, &xs, 300, &ScopedThreads::new(3)).unwrap();
        let few = many.chunks(300).zip(xs.chunks(300));
        let few = few.flat_map(|(ys, grad)| softmax_grad(ys, grad, 300, &Sequential).unwrap());
        assert_eq!(grads, few.collect::<Vec<_>>());
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        let message = |found: Result<Vec<f32>>| found.unwrap_err().to_string();
        let expected = "softmax: the input has 5 values, expected 4";
        assert_eq!(message(softmax(&[0.; 5], 2, &Sequential)), expected);
        let expected = "softmax: the gradient has 1 values, expected 2";
        assert_eq!(message(softmax_grad(&[0.; 2], &[0.], 2, &Sequential)), expected);
        assert!(softmax::<f32>(&[], 0, &Sequential).unwrap().is_empty());
    }
}
