//! A convolution on the CPU: each output is summed up over the pixels of its window where they lie.
//!
//! All three products of a convolution, that of the outputs and those of both gradients, are one kind of
//! sum over a gathered right side (`panels`): lists of offsets say which values of an image each sum
//! takes, and where it goes. What differs are the lists:
//!
//! | Product | Left side | Right side | A sum for each |
//! |---|---|---|---|
//! | Outputs | weights, `[channels × taps, outputs]` | images | position of the window |
//! | Gradient of the images | weights, `[outputs × taps, channels]` | gradients of outputs | pixel |
//! | Gradient of the weights | gradients of outputs, `[positions, outputs]` | images | channel and tap |
//!
//! Pixels `stride` apart are seen by the same taps, so the gradients of images are one product for each
//! of the `stride × stride` kinds of pixel. Where windows see padding, images are copied between zeros.

use std::ops::Range;
use std::slice::ChunksExactMut;

use super::frame::{Frame, Margin};
use super::panels::{self, Panels, Side};
use super::pool;
use super::scalar::Scalar;
use super::unfold::{Axis, Windows};

/// Sums of one channel that are computed before they are put in their places.
const BLOCK: usize = 96;

/// Positions of a run of images: below, products spend their time on the weights.
const RUN_POSITIONS: usize = 256;

/// Values of a run of images: beyond, they no longer lie in the cache.
const RUN_VALUES: usize = 1 << 17;

/// Products from which on threads gain more than it takes to wake them.
const PARALLEL_PRODUCTS: usize = 1 << 20;

/// The sizes of one convolution, and how it is shared out.
pub(super) struct Direct {
    windows: Windows,
    images_per_set: usize,
    /// Input and output channels of one group.
    channels: [usize; 2],
    images_per_run: usize,
    /// Into how many parts the images of a set are cut.
    parts_per_set: usize,
    /// Whether the parts are shared out among candle's threads.
    parallel: bool,
}

/// Consecutive images of one set, which one thread computes.
struct Part {
    set: usize,
    images: Range<usize>,
}

/// What the backward gives; empty where nothing asks for it.
pub(super) struct Grads<T> {
    pub(super) images: Vec<T>,
    pub(super) weights: Vec<T>,
}

/// A product with the weights of one set, over the images of a run.
struct Product<'a, T> {
    weights: Weights<'a, T>,
    /// Where the values of a sum lie behind its column.
    terms: Vec<usize>,
    /// Image by image: where the values of each sum begin.
    columns: Vec<usize>,
    /// Where the first of each column's sums goes.
    places: Vec<usize>,
    /// How far behind it each of the others goes.
    channels: Vec<usize>,
    columns_per_image: usize,
}

/// The weights' side of a product, of each group.
enum Weights<'a, T> {
    Packed(Vec<Panels<T>>),
    /// Where a sum has fewer terms than a column has sums, it takes less to pack the images.
    Spread {
        groups: Vec<&'a [T]>,
        terms: Vec<usize>,
        columns: Vec<usize>,
    },
}

impl<'a, T: Scalar> Weights<'a, T> {
    fn new(groups: Vec<&'a [T]>, terms: Vec<usize>, columns: Vec<usize>) -> Self {
        if terms.len() < columns.len() {
            return Self::Spread { groups, terms, columns };
        }
        let side = |values| Side { values, terms: &terms, columns: &columns };
        Self::Packed(groups.into_iter().map(|group| Panels::pack(side(group))).collect())
    }
}

impl<T: Scalar> Product<'_, T> {
    /// The sums of one group over some images, from `values` to `out`; a bias, where there is one, is
    /// added to those of each channel.
    fn compute(
        &self,
        out: &mut [T],
        (group, images): (usize, usize),
        (values, bias): (&[T], &[T]),
        block: &mut Vec<T>,
    ) {
        let columns = &self.columns[..images * self.columns_per_image];
        for (columns, places) in columns.chunks(BLOCK).zip(self.places.chunks(BLOCK)) {
            let side = Side { values, terms: &self.terms, columns };
            match &self.weights {
                Weights::Packed(panels) => {
                    for panel in panels[group].iter() {
                        let bias = bias.get(panel.columns.clone()).unwrap_or_default();
                        let rows = zeros(block, columns.len(), panel.width);
                        rows.for_each(|row| row[..bias.len()].copy_from_slice(bias));
                        panel.add_product(block, side);
                        let places = &places[..columns.len()];
                        place_columns(out, places, &self.channels[panel.columns], block);
                    }
                }
                Weights::Spread { groups, terms, columns } => {
                    for panel in Panels::pack(side).iter() {
                        let rows = zeros(block, columns.len(), panel.width);
                        rows.zip(bias).for_each(|(row, &bias)| row.fill(bias));
                        panel.add_product(block, Side { values: groups[group], terms, columns });
                        place_rows(out, &self.channels, &places[panel.columns], block);
                    }
                }
            }
        }
    }
}

/// A block of zeros, in a vector that is used again, by its rows.
fn zeros<T: Scalar>(block: &mut Vec<T>, rows: usize, width: usize) -> ChunksExactMut<'_, T> {
    block.clear();
    block.resize(rows * width, T::default());
    block.chunks_exact_mut(width)
}

/// Puts the sums of a block in their places, `rows[row] + columns[column]`, where many columns are
/// neighbours.
fn place_rows<T: Copy>(out: &mut [T], rows: &[usize], columns: &[usize], block: &[T]) {
    let (width, mut first) = (block.len() / rows.len(), 0);
    for run in columns.chunk_by(|column, next| column + 1 == *next) {
        for (sums, start) in block.chunks_exact(width).zip(rows) {
            out[start + run[0]..][..run.len()].copy_from_slice(&sums[first..][..run.len()]);
        }
        first += run.len();
    }
}

/// The same, where many rows are.
fn place_columns<T: Copy>(out: &mut [T], rows: &[usize], columns: &[usize], block: &[T]) {
    let width = block.len() / rows.len();
    let [first, .., last] = *rows else { return place_rows(out, rows, columns, block) };
    for (i, start) in columns.iter().enumerate() {
        let sums = block.chunks_exact(width).map(|sums| sums[i]);
        if last - first + 1 == rows.len() {
            let out = &mut out[start + first..][..rows.len()];
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum);
        } else {
            let out = &mut out[*start..];
            rows.iter().zip(sums).for_each(|(&row, sum)| out[row] = sum);
        }
    }
}

/// All sums of one of each list, in the order of the lists.
fn sums_of(lists: [Vec<usize>; 3]) -> Vec<usize> {
    lists.iter().fold(vec![0], |sums, list| {
        let with = |sum: usize| list.iter().map(move |value| sum + value);
        sums.into_iter().flat_map(with).collect()
    })
}

fn steps(count: usize, step: usize) -> Vec<usize> {
    (0..count).map(|i| i * step).collect()
}

fn times(list: &[usize], step: usize) -> Vec<usize> {
    list.iter().map(|value| value * step).collect()
}

/// Pixels of one axis that the same taps see, and these taps: value `positions[pixel] + back[tap]` of the
/// framed outputs is what the tap sees the pixel for.
struct Seen {
    pixels: Vec<usize>,
    positions: Vec<usize>,
    taps: Vec<usize>,
    back: Vec<usize>,
}

impl Axis {
    /// Of the images, as far as windows see.
    fn frame(&self) -> Margin {
        Margin { pixels: self.pixels, before: self.padding, len: self.pixels + 2 * self.padding }
    }

    /// Of the outputs, as far as taps see a pixel from.
    fn grad_frame(&self) -> Margin {
        let positions = (self.pixels + self.padding).div_ceil(self.stride).max(self.positions);
        Margin { pixels: self.positions, before: self.overlap(), len: self.overlap() + positions }
    }

    /// How many positions later a window still sees a pixel.
    fn overlap(&self) -> usize {
        self.dilation * (self.taps - 1) / self.stride
    }

    /// What is this much more than a multiple of the stride.
    fn seen(&self, more: usize) -> Seen {
        let (stride, padding, dilation) = (self.stride, self.padding, self.dilation);
        let pixels = (0..self.pixels).filter(|pixel| (pixel + padding) % stride == more);
        let taps = (0..self.taps).filter(|tap| tap * dilation % stride == more);
        Seen {
            positions: pixels.clone().map(|pixel| (pixel + padding) / stride).collect(),
            pixels: pixels.collect(),
            back: taps.clone().map(|tap| self.overlap() - tap * dilation / stride).collect(),
            taps: taps.collect(),
        }
    }
}

impl Direct {
    /// `channels` are the input and output channels of one group.
    pub(super) fn new(windows: Windows, images_per_set: usize, channels: [usize; 2]) -> Self {
        let inner = channels[0] * windows.taps();
        let images = windows.sets * images_per_set;
        let products = images * windows.groups * channels[1] * inner * windows.positions();
        let threads = if products < PARALLEL_PRODUCTS { 1 } else { pool::threads() };
        let image = windows.groups * channels[0] * windows.pixels();
        let run = RUN_POSITIONS.div_ceil(windows.positions()).min(RUN_VALUES / image.max(1));
        Self::cut(windows, images_per_set, channels, run, threads)
    }

    /// In runs of so many images, in parts for so many threads.
    fn cut(
        windows: Windows,
        images_per_set: usize,
        channels: [usize; 2],
        run: usize,
        threads: usize,
    ) -> Self {
        Self {
            windows,
            images_per_set,
            channels,
            images_per_run: run.clamp(1, images_per_set.max(1)),
            parts_per_set: threads.div_ceil(windows.sets),
            parallel: threads > 1,
        }
    }

    /// The values of one output image.
    fn output_len(&self) -> usize {
        self.windows.groups * self.channels[1] * self.windows.positions()
    }

    fn input_len(&self) -> usize {
        self.windows.groups * self.channels[0] * self.windows.pixels()
    }

    /// The length of a weight matrix's rows.
    fn inner(&self) -> usize {
        self.channels[0] * self.windows.taps()
    }

    fn weights_per_set(&self) -> usize {
        self.windows.groups * self.channels[1] * self.inner()
    }

    /// All images, set by set.
    fn parts(&self) -> Vec<Part> {
        let per_set = self.images_per_set;
        let per_part = per_set.div_ceil(self.parts_per_set).max(1);
        let of_set = |set| {
            let starts = (0..per_set).step_by(per_part);
            let range = move |start: usize| start..per_set.min(start + per_part);
            starts.map(range).map(move |range| {
                let images = set * per_set + range.start..set * per_set + range.end;
                Part { set, images }
            })
        };
        (0..self.windows.sets).flat_map(of_set).collect()
    }

    /// Each part with its own of some images.
    fn share_out<'a, T>(&self, mut images: &'a mut [T], len: usize) -> Vec<(Part, &'a mut [T])> {
        let with_images = |part: Part| {
            let (of_part, behind) =
                std::mem::take(&mut images).split_at_mut(part.images.len() * len);
            images = behind;
            (part, of_part)
        };
        self.parts().into_iter().map(with_images).collect()
    }

    /// A part's images, as many at a time as are computed together.
    fn runs(&self, part: &Part) -> impl Iterator<Item = Range<usize>> {
        let (end, per_run) = (part.images.end, self.images_per_run);
        let starts = part.images.clone().step_by(per_run);
        starts.map(move |start| start..end.min(start + per_run))
    }

    fn image_frame(&self) -> Frame {
        let Windows { groups, height, width, .. } = &self.windows;
        Frame { planes: groups * self.channels[0], height: height.frame(), width: width.frame() }
    }

    fn grad_frame(&self) -> Frame {
        let Windows { groups, height, width, .. } = &self.windows;
        let (height, width) = (height.grad_frame(), width.grad_frame());
        Frame { planes: groups * self.channels[1], height, width }
    }

    /// Where the first of a run's outputs go, one for each position.
    fn output_places(&self) -> Vec<usize> {
        let images = steps(self.images_per_run, self.output_len());
        sums_of([images, steps(self.windows.positions(), 1), vec![0]])
    }

    /// Where the values of windows lie behind the first.
    fn window_terms(&self) -> Vec<usize> {
        let (frame, Windows { height, width, .. }) = (self.image_frame(), &self.windows);
        let rows = steps(height.taps, height.dilation * frame.row());
        sums_of([steps(self.channels[0], frame.plane()), rows, steps(width.taps, width.dilation)])
    }

    /// Where the windows of a run begin.
    fn window_columns(&self) -> Vec<usize> {
        let (frame, Windows { height, width, .. }) = (self.image_frame(), &self.windows);
        let images = steps(self.images_per_run, frame.image());
        let rows = steps(height.positions, height.stride * frame.row());
        sums_of([images, rows, steps(width.positions, width.stride)])
    }

    /// The product of the outputs with the weights of one set, `[groups, outputs, channels × taps]`.
    fn outputs<'a, T: Scalar>(&self, weights: &'a [T]) -> Product<'a, T> {
        let (terms, columns) = (steps(self.inner(), 1), steps(self.channels[1], self.inner()));
        Product {
            weights: Weights::new(self.groups(weights), terms, columns),
            terms: self.window_terms(),
            columns: self.window_columns(),
            places: self.output_places(),
            channels: steps(self.channels[1], self.windows.positions()),
            columns_per_image: self.windows.positions(),
        }
    }

    fn groups<'a, T>(&self, weights: &'a [T]) -> Vec<&'a [T]> {
        weights.chunks_exact(self.channels[1] * self.inner()).take(self.windows.groups).collect()
    }

    /// The products of the images' gradients, one for each kind of pixel that something sees.
    fn image_grads<'a, T: Scalar>(&self, weights: &'a [T]) -> Vec<Product<'a, T>> {
        let Windows { height, width, .. } = &self.windows;
        let rows = (0..height.stride).map(|more| height.seen(more));
        let columns: Vec<_> = (0..width.stride).map(|more| width.seen(more)).collect();
        let products = rows.flat_map(|rows| {
            let product = |columns| self.image_grads_of(weights, &rows, columns);
            columns.iter().map(product).collect::<Vec<_>>()
        });
        products.filter(|product| !product.terms.is_empty()).collect()
    }

    fn image_grads_of<'a, T: Scalar>(
        &self,
        weights: &'a [T],
        rows: &Seen,
        columns: &Seen,
    ) -> Product<'a, T> {
        let ([channels, outputs], width) = (self.channels, &self.windows.width);
        let (frame, images) = (self.grad_frame(), self.images_per_run);
        let taps = times(&rows.taps, width.taps);
        let weight_terms = sums_of([steps(outputs, self.inner()), taps, columns.taps.clone()]);
        let (back, positions) =
            (times(&rows.back, frame.row()), times(&rows.positions, frame.row()));
        let pixels = times(&rows.pixels, width.pixels);
        let weight_columns = steps(channels, self.windows.taps());
        Product {
            weights: Weights::new(self.groups(weights), weight_terms, weight_columns),
            terms: sums_of([steps(outputs, frame.plane()), back, columns.back.clone()]),
            columns: sums_of([steps(images, frame.image()), positions, columns.positions.clone()]),
            places: sums_of([steps(images, self.input_len()), pixels, columns.pixels.clone()]),
            channels: steps(channels, self.windows.pixels()),
            columns_per_image: rows.pixels.len() * columns.pixels.len(),
        }
    }

    /// The output images; the bias is `[sets, groups × outputs]`.
    pub(super) fn forward<T: Scalar>(
        &self,
        pixels: &[T],
        weights: &[T],
        bias: Option<&[T]>,
    ) -> Vec<T> {
        let images = self.windows.sets * self.images_per_set;
        let mut ys = vec![T::default(); images * self.output_len()];
        let parts = self.share_out(&mut ys, self.output_len());
        pool::each(parts, self.parallel, |(part, ys)| {
            self.forward_part(ys, &part, (pixels, weights, bias))
        });
        ys
    }

    fn forward_part<T: Scalar>(
        &self,
        mut ys: &mut [T],
        part: &Part,
        (pixels, weights, bias): (&[T], &[T], Option<&[T]>),
    ) {
        let outputs = self.channels[1];
        let biases = self.windows.groups * outputs;
        let bias = bias.map_or(&[][..], |bias| &bias[part.set * biases..][..biases]);
        let product = self.outputs(&weights[part.set * self.weights_per_set()..]);
        let (frame, mut framed, mut block) = (self.image_frame(), Vec::new(), Vec::new());
        for images in self.runs(part) {
            let values = frame.around(self.of(pixels, &images, self.input_len()), &mut framed);
            for group in 0..self.windows.groups {
                let values = &values[group * self.channels[0] * frame.plane()..];
                let bias = bias.chunks_exact(outputs).nth(group).unwrap_or_default();
                let ys = &mut ys[group * outputs * self.windows.positions()..];
                product.compute(ys, (group, images.len()), (values, bias), &mut block);
            }
            ys = &mut ys[images.len() * self.output_len()..];
        }
    }

    fn of<'a, T>(&self, values: &'a [T], images: &Range<usize>, len: usize) -> &'a [T] {
        &values[images.start * len..images.end * len]
    }

    /// The gradients of images and weights, each where it is asked for.
    pub(super) fn backward<T: Scalar>(
        &self,
        pixels: &[T],
        weights: &[T],
        grad: &[T],
        [ask_images, ask_weights]: [bool; 2],
    ) -> Grads<T> {
        Grads {
            images: if ask_images { self.grads_of_images(weights, grad) } else { Vec::new() },
            weights: if ask_weights { self.grads_of_weights(pixels, grad) } else { Vec::new() },
        }
    }

    fn grads_of_images<T: Scalar>(&self, weights: &[T], grad: &[T]) -> Vec<T> {
        let images = self.windows.sets * self.images_per_set;
        let mut grads = vec![T::default(); images * self.input_len()];
        let parts = self.share_out(&mut grads, self.input_len());
        pool::each(parts, self.parallel, |(part, images)| {
            self.grads_of_images_part(images, &part, (weights, grad));
        });
        grads
    }

    fn grads_of_images_part<T: Scalar>(
        &self,
        mut grads: &mut [T],
        part: &Part,
        (weights, grad): (&[T], &[T]),
    ) {
        let products = self.image_grads(&weights[part.set * self.weights_per_set()..]);
        let (frame, mut framed, mut block) = (self.grad_frame(), Vec::new(), Vec::new());
        for images in self.runs(part) {
            let values = frame.around(self.of(grad, &images, self.output_len()), &mut framed);
            for group in 0..self.windows.groups {
                let values = &values[group * self.channels[1] * frame.plane()..];
                let grads = &mut grads[group * self.channels[0] * self.windows.pixels()..];
                for product in &products {
                    product.compute(grads, (group, images.len()), (values, &[]), &mut block);
                }
            }
            grads = &mut grads[images.len() * self.input_len()..];
        }
    }

    fn grads_of_weights<T: Scalar>(&self, pixels: &[T], grad: &[T]) -> Vec<T> {
        let parts = self.parts();
        let parts_of_set = (parts.len() / self.windows.sets).max(1);
        let lists = self.weight_grads();
        let sums_of = |part| self.sums_of_part(&lists, &part, pixels, grad);
        let mut sums = pool::each(parts, self.parallel, sums_of);
        let mut grads = vec![T::default(); self.windows.sets * self.weights_per_set()];
        let sets = grads.chunks_exact_mut(self.weights_per_set());
        for (grads, sums) in sets.zip(sums.chunks_mut(parts_of_set)) {
            let Some((sums, others)) = sums.split_first_mut() else { continue };
            for other in others {
                sums.iter_mut().zip(other).for_each(|(sum, other)| *sum += *other);
            }
            self.place_sums(&lists, grads, sums);
        }
        grads
    }

    fn weight_grads(&self) -> WeightGrads {
        let (positions, outputs) = (self.windows.positions(), self.channels[1]);
        WeightGrads {
            positions: [self.output_places(), self.window_columns()],
            columns: [steps(outputs, positions), self.window_terms()],
            places: [steps(outputs, self.inner()), steps(self.inner(), 1)],
            packed: if outputs <= self.inner() { GRADS } else { WINDOWS },
        }
    }

    /// The sums of a part: for each group and panel of the packed side, those of each column of the
    /// other.
    fn sums_of_part<T: Scalar>(
        &self,
        lists: &WeightGrads,
        part: &Part,
        pixels: &[T],
        grad: &[T],
    ) -> Vec<T> {
        let per_group = lists.sums::<T>();
        let mut sums = vec![T::default(); self.windows.groups * per_group];
        let (frame, mut framed) = (self.image_frame(), Vec::new());
        let groups = [self.output_len(), frame.image()].map(|image| image / self.windows.groups);
        for images in self.runs(part) {
            let windows = frame.around(self.of(pixels, &images, self.input_len()), &mut framed);
            let values = [self.of(grad, &images, self.output_len()), windows];
            let count = images.len() * self.windows.positions();
            for (group, sums) in sums.chunks_exact_mut(per_group).enumerate() {
                let side = |side: usize| Side {
                    values: &values[side][group * groups[side]..],
                    terms: &lists.positions[side][..count],
                    columns: &lists.columns[side],
                };
                lists.add_products(sums, side);
            }
        }
        sums
    }

    /// Puts a set's sums in the order of its weights.
    fn place_sums<T: Scalar>(&self, lists: &WeightGrads, weights: &mut [T], mut sums: &[T]) {
        let [packed, spread] = lists.sides().map(|side| lists.places[side].as_slice());
        for weights in weights.chunks_exact_mut(self.channels[1] * self.inner()) {
            for (columns, width) in panels::widths::<T>(packed.len()) {
                let (of_panel, behind) = sums.split_at(spread.len() * width);
                place_columns(weights, spread, &packed[columns], of_panel);
                sums = behind;
            }
        }
    }
}

/// The sides of the product that gives the weights' gradients: the gradients of outputs, and the values
/// that windows see.
const GRADS: usize = 0;
const WINDOWS: usize = 1;

/// Offsets of both sides, and which of them is packed: that with fewer columns.
struct WeightGrads {
    /// Of the positions of a run, which are summed over.
    positions: [Vec<usize>; 2],
    /// Of outputs, and of channels and taps.
    columns: [Vec<usize>; 2],
    /// Of the same, in a weight matrix.
    places: [Vec<usize>; 2],
    packed: usize,
}

impl WeightGrads {
    /// The packed one first.
    fn sides(&self) -> [usize; 2] {
        [self.packed, 1 - self.packed]
    }

    /// How many of one group there are, with those of the zeros behind the last panel.
    fn sums<T: Scalar>(&self) -> usize {
        let [packed, spread] = self.sides().map(|side| self.columns[side].len());
        spread * panels::widths::<T>(packed).map(|(_, width)| width).sum::<usize>()
    }

    fn add_products<'a, T: Scalar>(&self, mut sums: &mut [T], side: impl Fn(usize) -> Side<'a, T>) {
        let [packed, spread] = self.sides().map(side);
        for panel in Panels::pack(packed).iter() {
            let (of_panel, behind) = sums.split_at_mut(spread.columns.len() * panel.width);
            panel.add_product(of_panel, spread);
            sums = behind;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::unfold::taps;

    fn axis(pixels: usize, taps: usize, stride: usize, padding: usize, dilation: usize) -> Axis {
        let span = dilation * (taps - 1) + 1;
        let positions = (pixels + 2 * padding - span) / stride + 1;
        Axis { pixels, positions, taps, stride, padding, dilation }
    }

    const IMAGES_PER_SET: usize = 3;
    /// Few, more outputs than a panel has, and more of them than a sum has terms.
    const CHANNELS: [[usize; 2]; 3] = [[2, 3], [5, 70], [1, 20]];

    fn all_windows() -> Vec<Windows> {
        let axes = [
            axis(7, 3, 1, 1, 1),
            axis(6, 2, 2, 0, 1),
            axis(8, 3, 2, 2, 2),
            axis(9, 2, 3, 1, 4),
            axis(5, 1, 2, 0, 1),
            axis(1, 1, 1, 0, 1),
        ];
        let pairs = axes.iter().flat_map(|height| axes.iter().map(move |width| (height, width)));
        let windows = |(&height, &width): (&Axis, &Axis)| {
            [(1, 1), (2, 1), (1, 2), (2, 2)].map(|(sets, groups)| Windows {
                sets,
                groups,
                height,
                width,
            })
        };
        pairs.flat_map(windows).collect()
    }

    /// More channels with the windows of one set and group.
    fn cases() -> Vec<Case> {
        let windows = all_windows().into_iter();
        let cases = windows.flat_map(|windows| {
            let several = windows.sets * windows.groups > 1;
            let channels = if several { &CHANNELS[..1] } else { &CHANNELS[..] };
            channels.iter().map(move |&channels| Case::new(windows, channels))
        });
        cases.collect()
    }

    /// Whole numbers, so that sums are exact in any order.
    fn numbers(count: usize, seed: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 23) as f64 - 11.).collect()
    }

    struct Case {
        windows: Windows,
        channels: [usize; 2],
        pixels: Vec<f64>,
        weights: Vec<f64>,
        bias: Vec<f64>,
    }

    impl Case {
        fn new(windows: Windows, channels: [usize; 2]) -> Self {
            let Windows { sets, groups, .. } = windows;
            let [inputs, outputs] = channels;
            let images = sets * IMAGES_PER_SET;
            Self {
                windows,
                channels,
                pixels: numbers(images * groups * inputs * windows.pixels(), 1),
                weights: numbers(sets * groups * outputs * inputs * windows.taps(), 2),
                bias: numbers(sets * groups * outputs, 3),
            }
        }

        /// On two threads where there are several direct.
        fn direct(&self, run: usize) -> Direct {
            let threads = if run < IMAGES_PER_SET { 2 } else { 1 };
            Direct::cut(self.windows, IMAGES_PER_SET, self.channels, run, threads)
        }

        /// Value by value, as the definition says.
        fn expected(&self) -> Vec<f64> {
            let Windows { sets, groups, height, width } = self.windows;
            let mut ys = Vec::new();
            for image in 0..sets * IMAGES_PER_SET {
                for channel in 0..groups * self.channels[1] {
                    for y in 0..height.positions {
                        ys.extend((0..width.positions).map(|x| self.output(image, channel, y, x)));
                    }
                }
            }
            ys
        }

        fn output(&self, image: usize, channel: usize, y: usize, x: usize) -> f64 {
            let Windows { groups, height, width, .. } = self.windows;
            let [inputs, outputs] = self.channels;
            let row = image / IMAGES_PER_SET * groups * outputs + channel;
            let mut weights = self.weights[row * inputs * self.windows.taps()..].iter();
            let mut sum = self.bias[row];
            for input in 0..inputs {
                let plane = (image * groups + channel / outputs) * inputs + input;
                for (tap_y, tap_x) in taps(&height, &width) {
                    let weight = weights.next().copied().unwrap_or_default();
                    let pixel_y = (y * height.stride + tap_y * height.dilation)
                        .checked_sub(height.padding)
                        .filter(|&pixel| pixel < height.pixels);
                    let pixel_x = (x * width.stride + tap_x * width.dilation)
                        .checked_sub(width.padding)
                        .filter(|&pixel| pixel < width.pixels);
                    if let (Some(y), Some(x)) = (pixel_y, pixel_x) {
                        let at = plane * self.windows.pixels() + y * width.pixels + x;
                        sum += weight * self.pixels[at];
                    }
                }
            }
            sum
        }
    }

    const RUNS: [usize; 3] = [1, 2, IMAGES_PER_SET];

    #[test]
    fn outputs_are_those_of_the_definition_however_it_is_cut() {
        for case in cases() {
            let expected = case.expected();
            for run in RUNS {
                let found = case.direct(run).forward(&case.pixels, &case.weights, Some(&case.bias));
                assert_eq!(found, expected, "{:?}, runs of {run}", case.windows);
            }
        }
    }

    fn dot(left: &[f64], right: &[f64]) -> f64 {
        assert_eq!(left.len(), right.len());
        left.iter().zip(right).map(|(left, right)| left * right).sum()
    }

    /// The output is linear in images and in weights: both gradients are its transpose.
    #[test]
    fn the_backward_is_the_transpose_however_it_is_cut() {
        for case in cases() {
            for run in RUNS {
                let direct = case.direct(run);
                let ys = direct.forward(&case.pixels, &case.weights, None);
                let grad = numbers(ys.len(), 4);
                let grads = direct.backward(&case.pixels, &case.weights, &grad, [true, true]);
                let expected = dot(&ys, &grad);
                let context = format!("{:?}, runs of {run}", case.windows);
                assert_eq!(dot(&grads.images, &case.pixels), expected, "{context}");
                assert_eq!(dot(&grads.weights, &case.weights), expected, "{context}");
                let one = direct.backward(&case.pixels, &case.weights, &grad, [true, false]);
                assert_eq!((one.images, one.weights), (grads.images, Vec::new()), "{context}");
                let one = direct.backward(&case.pixels, &case.weights, &grad, [false, true]);
                assert_eq!((one.images, one.weights), (Vec::new(), grads.weights), "{context}");
            }
        }
    }
}
