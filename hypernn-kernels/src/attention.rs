//! Scaled dot-product attention and its gradients.
//!
//! The weights of some rows of one head are there at a time, and are computed anew for the gradients (Rabe and Staats
//! 2021, *Self-attention Does Not Need O(n²) Memory*): a product for the scores of the rows, the softmax of each row
//! where it lies, and a product with the values.

use std::ops::Range;

use pulp::NullaryFnOnce;

use crate::error::{Result, ensure_len};
use crate::executor::{Executor, for_products, map_parts};
use crate::float::Float;
use crate::heads::Heads;
use crate::matmul::{Matrix, Product};
use crate::simd::dispatch_pass;
use crate::softmax::softmax_in_place;
use crate::uninit::{UninitWriter, write_parts};

/// The rows of weights that are there at a time, for each thread.
const TILE: usize = 64;

/// Queries `[B, H, T, D]`, keys `[B, K, S, D]` and values `[B, K, S, Dv]`; each head of keys serves `H / K`
/// consecutive heads of queries.
///
/// ```
/// use hypernn_kernels::Heads;
/// use hypernn_kernels::attention::{Attention, Mask};
/// use hypernn_kernels::executor::Sequential;
///
/// let (zeros, values) = ([0f32; 2], [2f32, 4.]);
/// let heads = |values| Heads::row_major(values, [1, 1, 2, 1]);
/// let mask = Mask { causal: true, keys: None };
/// let attention = Attention::new(heads(&zeros)?, heads(&zeros)?, heads(&values)?, mask, 1.)?;
/// assert_eq!(attention.forward(&Sequential)?, [2., 3.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a, T> {
    q: Heads<'a, T>,
    k: Heads<'a, T>,
    v: Heads<'a, T>,
    mask: Mask<'a>,
    scale: f64,
}

/// Which keys a query may attend to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mask<'a> {
    /// Those up to its own position, where the queries are the last of the keys.
    pub causal: bool,
    /// Those that are not 0 here, `[B, S]`.
    pub keys: Option<&'a [u8]>,
}

/// Which gradients are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// That of the queries.
    pub q: bool,
    /// That of the keys.
    pub k: bool,
    /// That of the values.
    pub v: bool,
}

/// The gradients of queries, keys and values, row-major; empty where they are not asked for.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// `[B, H, T, D]`.
    pub q: Vec<T>,
    /// `[B, K, S, D]`.
    pub k: Vec<T>,
    /// `[B, K, S, Dv]`.
    pub v: Vec<T>,
}

/// Some rows of one head of queries.
#[derive(Clone)]
struct Tile {
    batch: usize,
    head: usize,
    rows: Range<usize>,
}

impl<'a, T: Float> Attention<'a, T> {
    /// # Errors
    /// A size does not fit the others: the batch, the width or the number of keys; the heads of queries are no multiple
    /// of those of keys; there are fewer keys than queries under a causal mask; or the mask has not a value for each
    /// key.
    pub fn new(
        q: Heads<'a, T>,
        k: Heads<'a, T>,
        v: Heads<'a, T>,
        mask: Mask<'a>,
        scale: f64,
    ) -> Result<Self> {
        let ([batch, heads, queries, width], [_, key_heads, keys, _]) = (q.size(), k.size());
        let ensure = |what, found, expected| ensure_len("attention", what, found, expected);
        ensure("the batch of keys", k.size()[0], batch)?;
        ensure("the batch of values", v.size()[0], batch)?;
        ensure("a key", k.size()[3], width)?;
        ensure("a head of values", v.size()[2], keys)?;
        ensure("an element of the batch of values", v.size()[1], key_heads)?;
        ensure("a head of keys' share of queries", heads, heads / key_heads.max(1) * key_heads)?;
        if mask.causal {
            ensure("a head of queries", queries, queries.min(keys))?;
        }
        if let Some(mask) = mask.keys {
            ensure("the mask", mask.len(), batch * keys)?;
        }
        if queries != 1 {
            return Ok(Self { q, k, v, mask, scale });
        }
        // A single query sees all keys, and those that share a head of keys are rows of one matrix.
        let mask = Mask { causal: false, ..mask };
        Ok(Self { q: q.heads_as_rows(key_heads), k, v, mask, scale })
    }

    /// The outputs, `[B, H, T, Dv]`.
    ///
    /// # Errors
    /// The executor left out a part.
    pub fn forward(&self, executor: &dyn Executor) -> Result<Vec<T>> {
        let [batch, heads, queries, _] = self.q.size();
        let width = self.v.size()[3];
        let of_head = |batch, head| {
            tiles(queries).map(move |rows| (rows.len() * width, Tile { batch, head, rows }))
        };
        let parts = (0..batch).flat_map(|at| (0..heads).flat_map(move |head| of_head(at, head)));
        let executor = for_products(executor, self.multiplications());
        write_parts(parts.collect(), executor, |tile, writer| self.write(&tile, writer))
    }

    /// The gradients, from the outputs, `[B, H, T, Dv]` row-major, and their gradient.
    ///
    /// # Errors
    /// The outputs or their gradient have another size, or the executor left out a part.
    pub fn backward(
        &self,
        ys: Heads<'_, T>,
        grad: Heads<'_, T>,
        asked: Asked,
        executor: &dyn Executor,
    ) -> Result<Gradients<T>> {
        let ([_, key_heads, keys, _], value_width) = (self.k.size(), self.v.size()[3]);
        let [ys, grad] = [ys, grad].map(|side| match side.size()[2] {
            1 => side.heads_as_rows(key_heads),
            _ => side,
        });
        let [batch, heads, queries, width] = self.q.size();
        for size in [ys.size(), grad.size()] {
            let expected = [batch, heads, queries, value_width];
            size.iter().zip(expected).try_for_each(|(&found, expected)| {
                ensure_len("attention", "a side of the gradient", found, expected)
            })?;
        }
        let group = heads / key_heads.max(1);
        let units = batch * key_heads;
        let zeros =
            |asked: bool, len: usize| vec![T::default(); if asked { units * len } else { 0 }];
        let lens = [group * queries * width, keys * width, keys * value_width];
        let mut grads = Gradients {
            q: zeros(asked.q, lens[0]),
            k: zeros(asked.k, lens[1]),
            v: zeros(asked.v, lens[2]),
        };
        let (mut q, mut k, mut v) =
            (cut(&mut grads.q, lens[0]), cut(&mut grads.k, lens[1]), cut(&mut grads.v, lens[2]));
        let parts: Vec<_> = (0..units)
            .map(|unit| {
                let [batch, key_head] = [unit / key_heads, unit % key_heads];
                let grads = [q.next(), k.next(), v.next()].map(Option::unwrap_or_default);
                Part { attention: self, ys, grad, batch, key_head, group, grads }
            })
            .collect();
        let executor = for_products(executor, self.multiplications());
        map_parts(parts, executor, Part::add)?.into_iter().collect::<Result<()>>()?;
        Ok(grads)
    }

    fn multiplications(&self) -> usize {
        let ([batch, heads, queries, width], [_, _, keys, value_width]) =
            (self.q.size(), self.v.size());
        let sizes = [batch, heads, queries, keys, width + value_width];
        sizes.into_iter().fold(1, usize::saturating_mul)
    }

    /// Appends the outputs of some rows; none where a product can't be made, which the sizes that were checked exclude.
    fn write(&self, tile: &Tile, writer: &mut UninitWriter<'_, T>) {
        let mut weights = Vec::new();
        let Ok(keys) = self.weights(tile, &mut weights) else { return };
        if tile.rows.len() == 1 {
            let mut sum = vec![T::default(); self.v.size()[3]];
            let at = [tile.batch, self.key_head(tile)];
            dispatch_pass(WeightedSum { weights: &weights, v: self.v, at, sum: &mut sum });
            return writer.extend_from_slice(&sum);
        }
        let product = || {
            let weights = Matrix::row_major(&weights, [tile.rows.len(), keys])?;
            Product::new(weights, self.of_keys(self.v, tile, keys)?)
        };
        if let Ok(product) = product() {
            product.write_rows(0..tile.rows.len(), T::of(1.), writer);
        }
    }

    fn key_head(&self, tile: &Tile) -> usize {
        tile.head / (self.q.size()[1] / self.k.size()[1])
    }

    /// The first keys or values that belong to the queries of a tile.
    fn of_keys(&self, of: Heads<'a, T>, tile: &Tile, keys: usize) -> Result<Matrix<'a, T>> {
        Ok(of.matrix(tile.batch, self.key_head(tile))?.rows(&(0..keys)))
    }

    fn queries(&self, tile: &Tile) -> Result<Matrix<'a, T>> {
        Ok(self.q.matrix(tile.batch, tile.head)?.rows(&tile.rows))
    }

    /// How many keys a query sees, without what else is masked.
    fn limit(&self, query: usize) -> usize {
        let keys = self.k.size()[2];
        if self.mask.causal { query + 1 + keys - self.q.size()[2] } else { keys }
    }

    /// The weights of a tile's rows, `[rows, keys]`, and the number of keys that its last row sees.
    fn weights(&self, tile: &Tile, weights: &mut Vec<T>) -> Result<usize> {
        let keys = self.limit(tile.rows.end - 1);
        weights.clear();
        weights.resize(tile.rows.len() * keys, T::default());
        let scale = T::of(self.scale);
        if tile.rows.len() == 1 {
            let (head, q) =
                (self.key_head(tile), self.q.row(tile.batch, tile.head, tile.rows.start));
            dispatch_pass(Dots { q, k: self.k, at: [tile.batch, head], scale, out: weights });
        } else {
            let keys = self.of_keys(self.k, tile, keys)?;
            Product::new(self.queries(tile)?, keys.t())?.write_to(weights, scale, false);
        }
        let all = self.k.size()[2];
        let mask = self.mask.keys.map(|mask| &mask[tile.batch * all..][..all]);
        for (row, query) in weights.chunks_exact_mut(keys.max(1)).zip(tile.rows.clone()) {
            let (seen, unseen) = row.split_at_mut(self.limit(query));
            masked_softmax(seen, mask);
            unseen.fill(T::default());
        }
        Ok(keys)
    }
}

/// The softmax of a row over the keys that the mask has, zeros elsewhere.
fn masked_softmax<T: Float>(row: &mut [T], mask: Option<&[u8]>) {
    let Some(mask) = mask else { return softmax_in_place(row) };
    let mask = &mask[..row.len()];
    if mask.iter().all(|&kept| kept == 0) {
        return row.fill(T::default());
    }
    let lowest = T::of(f64::NEG_INFINITY);
    let masked = row.iter_mut().zip(mask).filter(|(_, kept)| **kept == 0);
    masked.for_each(|(x, _)| *x = lowest);
    softmax_in_place(row);
    // Where the row is no number, what is masked is nothing still.
    let masked = row.iter_mut().zip(mask).filter(|(_, kept)| **kept == 0);
    masked.for_each(|(x, _)| *x = T::default());
}

fn tiles(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(TILE).map(move |start| start..rows.min(start + TILE))
}

/// The parts of a gradient, none where it is not asked for or has no values.
fn cut<T>(values: &mut [T], len: usize) -> std::slice::ChunksExactMut<'_, T> {
    values.chunks_exact_mut(len.max(1))
}

/// The gradients of one head of keys and of the heads of queries that it serves.
struct Part<'a, 'b, T> {
    attention: &'b Attention<'a, T>,
    ys: Heads<'b, T>,
    grad: Heads<'b, T>,
    batch: usize,
    key_head: usize,
    /// How many heads of queries it serves.
    group: usize,
    /// Of queries, keys and values.
    grads: [&'b mut [T]; 3],
}

impl<T: Float> Part<'_, '_, T> {
    fn add(mut self) -> Result<()> {
        let queries = self.attention.q.size()[2];
        let (mut weights, mut slopes) = (Vec::new(), Vec::new());
        for head in 0..self.group {
            for rows in tiles(queries) {
                self.add_tile(head, rows, &mut weights, &mut slopes)?;
            }
        }
        Ok(())
    }

    fn add_tile(
        &mut self,
        at: usize,
        rows: Range<usize>,
        weights: &mut Vec<T>,
        slopes: &mut Vec<T>,
    ) -> Result<()> {
        let Self { attention, grad, batch, .. } = *self;
        let (head, count) = (self.key_head * self.group + at, rows.len());
        let tile = Tile { batch, head, rows };
        let keys = attention.weights(&tile, weights)?;
        let grad = grad.matrix(batch, head)?.rows(&tile.rows);
        let [of_q, of_k, of_v] = &mut self.grads;
        let ([.., queries, width], value_width) = (attention.q.size(), attention.v.size()[3]);
        if !of_v.is_empty() {
            let weights = Matrix::row_major(weights, [count, keys])?;
            Product::new(weights.t(), grad)?.write_to(
                &mut of_v[..keys * value_width],
                T::of(1.),
                true,
            );
        }
        if of_q.is_empty() && of_k.is_empty() {
            return Ok(());
        }
        slopes.clear();
        slopes.resize(count * keys, T::default());
        let values = attention.of_keys(attention.v, &tile, keys)?;
        Product::new(grad, values.t())?.write_to(slopes, T::of(1.), false);
        self.of_scores(&tile, keys, weights, slopes);
        let (scale, slopes) = (T::of(attention.scale), Matrix::row_major(slopes, [count, keys])?);
        let [of_q, of_k, _] = &mut self.grads;
        if !of_q.is_empty() {
            let start = (at * queries + tile.rows.start) * width;
            let keys = attention.of_keys(attention.k, &tile, keys)?;
            Product::new(slopes, keys)?.write_to(&mut of_q[start..][..count * width], scale, false);
        }
        if !of_k.is_empty() {
            let product = Product::new(slopes.t(), attention.queries(&tile)?)?;
            product.write_to(&mut of_k[..keys * width], scale, true);
        }
        Ok(())
    }

    /// From the gradients of weights to those of scores: each row's mean under the weights is taken off, which is the
    /// product of its output and its gradient.
    fn of_scores(&self, tile: &Tile, keys: usize, weights: &[T], slopes: &mut [T]) {
        let rows = weights.chunks_exact(keys.max(1)).zip(slopes.chunks_exact_mut(keys.max(1)));
        for ((weights, slopes), query) in rows.zip(tile.rows.clone()) {
            let [ys, grad] =
                [self.ys, self.grad].map(|side| side.row(tile.batch, tile.head, query));
            let mean = T::of(T::dot(ys, grad));
            let pairs = slopes.iter_mut().zip(weights);
            crate::simd::dispatch(|| {
                pairs.for_each(|(slope, &weight)| *slope = weight * (*slope - mean))
            });
        }
    }
}

/// The products of one query and the first keys.
struct Dots<'a, 'b, T> {
    q: &'a [T],
    k: Heads<'a, T>,
    /// The batch and the head.
    at: [usize; 2],
    scale: T,
    out: &'b mut [T],
}

/// Running sums side by side.
const LANES: usize = 16;

impl<T: Float> NullaryFnOnce for Dots<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (q, q_rest) = self.q.as_chunks::<LANES>();
        for (key, out) in self.out.iter_mut().enumerate() {
            let (k, k_rest) = self.k.row(self.at[0], self.at[1], key).as_chunks::<LANES>();
            let mut sums = [T::default(); LANES];
            for (q, k) in q.iter().zip(k) {
                sums = std::array::from_fn(|lane| sums[lane] + q[lane] * k[lane]);
            }
            let rest = q_rest.iter().zip(k_rest).map(|(&q, &k)| q * k);
            *out += (sums.into_iter().chain(rest)).fold(T::default(), |a, b| a + b) * self.scale;
        }
    }
}

/// The sum of the first values, weighted.
struct WeightedSum<'a, 'b, T> {
    weights: &'b [T],
    v: Heads<'a, T>,
    /// The batch and the head.
    at: [usize; 2],
    sum: &'b mut [T],
}

impl<T: Float> NullaryFnOnce for WeightedSum<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (key, &weight) in self.weights.iter().enumerate() {
            let values = self.v.row(self.at[0], self.at[1], key);
            self.sum.iter_mut().zip(values).for_each(|(sum, &value)| *sum += weight * value);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::executor::{ScopedThreads, Sequential};

    const SCALE: f64 = 0.6;

    /// Batch, heads of queries and of keys, queries, keys, their width and that of values.
    type Sizes = [usize; 7];

    const SIZES: [Sizes; 6] = [
        [1, 1, 1, 1, 1, 1, 1],
        [2, 4, 2, 3, 5, 2, 3],
        [1, 2, 1, 1, 4, 17, 16],
        [1, 2, 2, 130, 131, 3, 2],
        [2, 2, 1, 2, 0, 3, 2],
        [0, 2, 1, 2, 3, 3, 2],
    ];

    fn values(count: usize, seed: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f64 / 50. - 1.).collect()
    }

    fn shapes([b, h, k, t, s, d, dv]: Sizes) -> [[usize; 4]; 3] {
        [[b, h, t, d], [b, k, s, d], [b, k, s, dv]]
    }

    fn attention<'a>(
        values: &'a [Vec<f64>; 3],
        sizes: Sizes,
        mask: Mask<'a>,
    ) -> Attention<'a, f64> {
        let shapes = shapes(sizes);
        let heads = |i: usize| Heads::row_major(&values[i], shapes[i]).unwrap();
        Attention::new(heads(0), heads(1), heads(2), mask, SCALE).unwrap()
    }

    /// One query after the other, as the formula says.
    fn by_hand(values: &[Vec<f64>; 3], sizes: Sizes, mask: Mask<'_>) -> Vec<f64> {
        let [b, h, k, t, s, _, dv] = sizes;
        let shapes = shapes(sizes);
        let heads = |i: usize| Heads::row_major(&values[i], shapes[i]).unwrap();
        let mut ys = Vec::new();
        for (batch, head, query) in (0..b * h * t).map(|at| (at / t / h, at / t % h, at % t)) {
            let seen = |key: &usize| {
                (!mask.causal || key + t <= query + s)
                    && mask.keys.is_none_or(|m| m[batch * s + key] > 0)
            };
            let exp = |key: usize| {
                let pairs = heads(0).row(batch, head, query).iter().zip(heads(1).row(
                    batch,
                    head * k / h,
                    key,
                ));
                (SCALE * pairs.map(|(q, k)| q * k).sum::<f64>()).exp()
            };
            let sum: f64 = (0..s).filter(seen).map(exp).sum();
            ys.extend((0..dv).map(|i| {
                let of_key = |key| exp(key) / sum * heads(2).row(batch, head * k / h, key)[i];
                (0..s).filter(seen).map(of_key).sum::<f64>()
            }));
        }
        ys
    }

    fn all_masks(sizes: Sizes) -> (Vec<u8>, [bool; 2]) {
        let [b, .., s, _, _] = sizes;
        // The first key is left out, so that the first causal query may see nothing.
        ((0..b * s).map(|at| u8::from(at % s > 0 && at % 5 != 3)).collect(), [false, sizes[3] <= s])
    }

    fn inputs(sizes: Sizes) -> [Vec<f64>; 3] {
        let mut seed = 0;
        shapes(sizes).map(|shape| {
            seed += 1;
            values(shape.iter().product(), seed)
        })
    }

    fn check(sizes: Sizes, mask: Mask<'_>) {
        let inputs = inputs(sizes);
        let attention = attention(&inputs, sizes, mask);
        let ys = attention.forward(&ScopedThreads::new(3)).unwrap();
        assert_eq!(ys, attention.forward(&Sequential).unwrap());
        let expected = by_hand(&inputs, sizes, mask);
        assert_eq!(ys.len(), expected.len());
        assert!(ys.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{sizes:?} {mask:?}");
        check_gradients(sizes, mask, inputs, &ys);
    }

    /// Along one direction of each input, against central differences.
    fn check_gradients(sizes: Sizes, mask: Mask<'_>, inputs: [Vec<f64>; 3], ys: &[f64]) {
        let [b, h, _, t, .., dv] = sizes;
        let factors = values(ys.len(), 9);
        let heads = |values| Heads::row_major(values, [b, h, t, dv]).unwrap();
        let grads = |asked| {
            let attention = attention(&inputs, sizes, mask);
            attention.backward(heads(ys), heads(&factors), asked, &ScopedThreads::new(2)).unwrap()
        };
        let all = grads(Asked { q: true, k: true, v: true });
        let only_q = grads(Asked { q: true, k: false, v: false });
        assert!(only_q.q == all.q && only_q.k.is_empty() && only_q.v.is_empty());
        assert_eq!(grads(Asked { q: false, k: false, v: true }).v, all.v);
        assert_eq!(grads(Asked { q: false, k: true, v: false }).k, all.k);
        let all = [all.q, all.k, all.v];
        for (i, grad) in all.iter().enumerate() {
            let direction = values(grad.len(), 5);
            let moved = |by: f64| {
                let mut inputs = inputs.clone();
                inputs[i].iter_mut().zip(&direction).for_each(|(x, d)| *x += by * d);
                let ys = by_hand(&inputs, sizes, mask);
                ys.iter().zip(&factors).map(|(y, factor)| y * factor).sum::<f64>()
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let found: f64 = grad.iter().zip(&direction).map(|(grad, d)| grad * d).sum();
            assert!(
                (found - expected).abs() < 1e-7 * (1. + expected.abs()),
                "{sizes:?} {mask:?} {i}: {found} {expected}"
            );
        }
    }

    #[test]
    fn outputs_and_gradients_are_those_by_hand() {
        for sizes in SIZES {
            let (keys, causal) = all_masks(sizes);
            for causal in causal {
                check(sizes, Mask { causal, keys: None });
                check(sizes, Mask { causal, keys: Some(&keys) });
            }
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let values = [0f32; 64];
        let message = |q, k, v, mask: Mask<'_>| {
            let heads = |size| Heads::row_major(&values, size).unwrap();
            Attention::new(heads(q), heads(k), heads(v), mask, 1.).unwrap_err().to_string()
        };
        let (q, none, causal) = ([1, 2, 3, 4], Mask::default(), Mask { causal: true, keys: None });
        let expected = "attention: the batch of keys has 2 values, expected 1";
        assert_eq!(message(q, [2, 1, 3, 4], [1, 1, 3, 4], none), expected);
        let expected = "attention: a key has 3 values, expected 4";
        assert_eq!(message(q, [1, 1, 3, 3], [1, 1, 3, 4], none), expected);
        let expected = "attention: a head of values has 2 values, expected 3";
        assert_eq!(message(q, [1, 1, 3, 4], [1, 1, 2, 4], none), expected);
        let expected = "attention: a head of keys' share of queries has 2 values, expected 0";
        assert_eq!(message(q, [1, 3, 3, 4], [1, 3, 3, 4], none), expected);
        let expected = "attention: a head of queries has 3 values, expected 2";
        assert_eq!(message(q, [1, 1, 2, 4], [1, 1, 2, 4], causal), expected);
        let expected = "attention: the mask has 2 values, expected 3";
        let mask = Mask { causal: false, keys: Some(&[1, 1]) };
        assert_eq!(message(q, [1, 1, 3, 4], [1, 1, 3, 4], mask), expected);
    }
}
