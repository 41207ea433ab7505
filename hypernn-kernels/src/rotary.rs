//! Rotary position embeddings: pairs of values turned by angles.

use crate::error::{Error, Result, ensure_len};
use crate::executor::{Executor, for_values};
use crate::float::Float;
use crate::heads::Heads;
use crate::simd::dispatch;
use crate::uninit::{UninitWriter, write_parts};

/// The angles of positions, and which values are a pair.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a, T> {
    /// The cosines, `[rows, width / 2]`, or `[batch, rows, width / 2]`.
    pub cos: &'a [T],
    /// The sines, likewise.
    pub sin: &'a [T],
    /// Values `2i` and `2i + 1` are a pair; else `i` and `width / 2 + i`.
    pub interleaved: bool,
    /// Turns the other way.
    pub back: bool,
}

/// Turns the pairs of `xs [batch, heads, rows, width]`; the result is row-major.
///
/// # Errors
/// There are not as many cosines and sines as the rows have pairs, for one element of the batch or for all; the width is
/// odd; or the executor left out a part.
///
/// ```
/// use hypernn_kernels::Heads;
/// use hypernn_kernels::executor::Sequential;
/// use hypernn_kernels::rotary::{Rotation, rotate};
///
/// let xs = Heads::row_major(&[3f32, 4.], [1, 1, 1, 2])?;
/// let quarter = Rotation { cos: &[0.], sin: &[1.], interleaved: true, back: false };
/// assert_eq!(rotate(xs, quarter, &Sequential)?, [-4., 3.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub fn rotate<T: Float>(
    xs: Heads<'_, T>,
    rotation: Rotation<'_, T>,
    executor: &dyn Executor,
) -> Result<Vec<T>> {
    let [batch, heads, rows, width] = xs.size();
    let pairs = width / 2;
    ensure_len("rotary", "a row", width, 2 * pairs)?;
    let of_rows = rows * pairs;
    let all = if rotation.cos.len() == of_rows { of_rows } else { batch * of_rows };
    ensure_len("rotary", "the cosines", rotation.cos.len(), all)?;
    ensure_len("rotary", "the sines", rotation.sin.len(), all)?;
    let per_batch = if all == of_rows { 0 } else { of_rows };
    let parts = (0..batch).flat_map(|at| (0..heads).map(move |head| (rows * width, (at, head))));
    let len =
        batch.checked_mul(heads * rows * width).ok_or(Error::Overflow { kernel: "rotary" })?;
    write_parts(parts.collect(), for_values(executor, len), |(at, head), writer| {
        for row in 0..rows {
            let start = at * per_batch + row * pairs;
            let angles = [&rotation.cos[start..][..pairs], &rotation.sin[start..][..pairs]];
            rotation.turn(xs.row(at, head, row), angles, writer);
        }
    })
}

impl<T: Float> Rotation<'_, T> {
    /// Appends a row, turned.
    fn turn(&self, xs: &[T], [cos, sin]: [&[T]; 2], writer: &mut UninitWriter<'_, T>) {
        let sign = T::of(if self.back { -1. } else { 1. });
        let angles = cos.iter().zip(sin);
        if self.interleaved {
            let pairs = xs.chunks_exact(2).zip(angles);
            dispatch(|| {
                writer.extend(pairs.flat_map(|(pair, (&cos, &sin))| {
                    let sin = sin * sign;
                    [pair[0] * cos - pair[1] * sin, pair[1] * cos + pair[0] * sin]
                }));
            });
            return;
        }
        let (first, second) = xs.split_at(cos.len());
        let pairs = first.iter().zip(second).zip(angles);
        dispatch(|| {
            writer.extend(pairs.clone().map(|((&a, &b), (&cos, &sin))| a * cos - b * (sin * sign)));
            writer.extend(pairs.map(|((&a, &b), (&cos, &sin))| b * cos + a * (sin * sign)));
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::executor::{ScopedThreads, Sequential};

    /// Turned and turned back, for shared positions and for positions of each element of the batch.
    #[test]
    fn the_way_back_undoes_it() {
        let size = [2, 3, 5, 6];
        let values: Vec<f64> = (0..180).map(f64::from).collect();
        let xs = Heads::row_major(&values, size).unwrap();
        for angles in [15, 30] {
            let angles = (0..angles).map(|i| f64::from(i) * 0.3);
            let (cos, sin): (Vec<_>, Vec<_>) = angles.map(|a: f64| (a.cos(), a.sin())).unzip();
            for interleaved in [false, true] {
                let there = Rotation { cos: &cos, sin: &sin, interleaved, back: false };
                let turned = rotate(xs, there, &ScopedThreads::new(2)).unwrap();
                assert_ne!(turned, values);
                let back = Rotation { back: true, ..there };
                let turned = Heads::row_major(&turned, size).unwrap();
                let found = rotate(turned, back, &Sequential).unwrap();
                assert!(found.iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-12));
            }
        }
    }

    #[test]
    fn angles_that_do_not_fit_are_refused() {
        let xs = Heads::row_major(&[0f32; 24], [2, 1, 3, 4]).unwrap();
        let message = |cos: &[f32], sin: &[f32]| {
            let rotation = Rotation { cos, sin, interleaved: false, back: false };
            rotate(xs, rotation, &Sequential).unwrap_err().to_string()
        };
        assert_eq!(message(&[0.; 5], &[0.; 5]), "rotary: the cosines has 5 values, expected 12");
        assert_eq!(message(&[0.; 6], &[0.; 12]), "rotary: the sines has 12 values, expected 6");
        let odd = Heads::row_major(&[0f32; 3], [1, 1, 1, 3]).unwrap();
        let rotation = Rotation { cos: &[0.], sin: &[0.], interleaved: false, back: false };
        let found = rotate(odd, rotation, &Sequential).unwrap_err().to_string();
        assert_eq!(found, "rotary: a row has 3 values, expected 2");
    }
}
