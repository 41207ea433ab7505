//! A convolution on the CPU, tile by tile: columns are made, multiplied and left while they lie in
//! the cache, and no more of them exist than one tile's.
//!
//! An image is first dealt out into phases, which hold every `stride`-th padded pixel of both axes.
//! What a tap sees at neighbouring positions are then neighbours in one phase, and a line of columns
//! is one copied slice. At the end of a phase's rows, such a slice runs on over a few pixels that no
//! window sees: a line has places for them too, which are left out of outputs and zero in gradients.

use std::ops::Range;

use super::gemm::{Matrix, add_product, product_into};
use super::pool;
use super::scalar::Scalar;
use super::unfold::{Axis, Batch, Windows, taps};

/// Values in the columns of one tile: a quarter of a megabyte in f32.
const COLUMN_VALUES: usize = 1 << 16;

/// The least length of a tile's lines, below which a product spends its time on the weights.
const LEAST_LINE: usize = 256;

/// Products from which on threads gain more than it takes to wake them.
const PARALLEL_PRODUCTS: usize = 1 << 20;

/// The sizes of one convolution, and how it is cut into tiles.
pub(super) struct Tiles {
    windows: Windows,
    /// How the phases lie in the images.
    phases: Windows,
    images_per_set: usize,
    /// Input and output channels of one group.
    channels: [usize; 2],
    images_per_tile: usize,
    rows_per_tile: usize,
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

/// Some of a part's images, dealt out into phases.
struct Run<T> {
    set: usize,
    images: Range<usize>,
    phases: Vec<T>,
}

/// The outputs of one group, in some rows, of a run's images.
struct Tile {
    group: usize,
    rows: Range<usize>,
}

/// What the backward gives; empty where nothing asks for it.
pub(super) struct Grads<T> {
    pub(super) images: Vec<T>,
    pub(super) weights: Vec<T>,
}

impl Axis {
    /// The axis of the phases, as that of a window over `stride` pixels that moves by as many.
    fn phases(&self) -> Self {
        let reach = self.dilation * (self.taps - 1);
        Self {
            positions: self.positions + reach / self.stride,
            taps: self.stride.min(reach + 1),
            dilation: 1,
            ..*self
        }
    }

    /// The phase that holds what a tap sees, and the place of the first of it.
    fn place(&self, tap: usize) -> (usize, usize) {
        let shift = tap * self.dilation;
        (shift % self.stride, shift / self.stride)
    }
}

impl Tiles {
    /// `channels` are the input and output channels of one group.
    pub(super) fn new(windows: Windows, images_per_set: usize, channels: [usize; 2]) -> Self {
        let inner = channels[0] * windows.taps();
        let line = (COLUMN_VALUES / inner).max(LEAST_LINE);
        let images = windows.sets * images_per_set;
        let products = images * windows.groups * channels[1] * inner * windows.positions();
        let threads = if products < PARALLEL_PRODUCTS { 1 } else { pool::threads() };
        Self::cut(windows, images_per_set, channels, line, threads)
    }

    /// Tiles whose lines have at most about `line` places, in parts for so many threads.
    fn cut(
        windows: Windows,
        images_per_set: usize,
        channels: [usize; 2],
        line: usize,
        threads: usize,
    ) -> Self {
        let (height, width) = (windows.height.phases(), windows.width.phases());
        let phases = Windows { sets: 1, groups: 1, height, width };
        let whole = (windows.height.positions - 1) * width.positions + windows.width.positions;
        let rows = if whole <= line { windows.height.positions } else { line / width.positions };
        Self {
            windows,
            phases,
            images_per_set,
            channels,
            images_per_tile: (line / whole).clamp(1, images_per_set.max(1)),
            rows_per_tile: rows.max(1),
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

    /// The values in a line that belong to one image.
    fn span(&self, tile: &Tile) -> usize {
        (tile.rows.len() - 1) * self.phases.width.positions + self.windows.width.positions
    }

    fn line(&self, images: &Range<usize>, tile: &Tile) -> usize {
        images.len() * self.span(tile)
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

    /// A part's images, as many at a time as a tile holds.
    fn runs(&self, part: &Part) -> impl Iterator<Item = Range<usize>> {
        let (end, per_tile) = (part.images.end, self.images_per_tile);
        let starts = part.images.clone().step_by(per_tile);
        starts.map(move |start| start..end.min(start + per_tile))
    }

    fn tiles(&self) -> impl Iterator<Item = Tile> {
        let (height, per_tile) = (self.windows.height.positions, self.rows_per_tile);
        (0..self.windows.groups).flat_map(move |group| {
            let starts = (0..height).step_by(per_tile);
            starts.map(move |start| Tile { group, rows: start..height.min(start + per_tile) })
        })
    }

    /// A run's images as phases: `[channels, phases, images, pixels of a phase]`.
    fn batch(&self, images: &Range<usize>) -> Batch {
        let channels = self.windows.groups * self.channels[0];
        Batch { windows: self.phases, rows: images.len(), channels }
    }

    fn run<T: Scalar>(&self, set: usize, images: Range<usize>, pixels: &[T]) -> Run<T> {
        let len = self.input_len();
        let phases = self.batch(&images).unfold(&pixels[images.start * len..images.end * len]);
        Run { set, images, phases }
    }

    /// Calls `copy` with the place in a run's phases and in a tile's columns of each slice.
    fn each_slice(&self, run: usize, tile: &Tile, mut copy: impl FnMut(usize, usize)) {
        let Windows { height, width, .. } = &self.windows;
        let (phases, span) = (&self.phases, self.span(tile));
        let mut column = 0;
        for channel in 0..self.channels[0] {
            let first = (tile.group * self.channels[0] + channel) * phases.taps();
            for (tap_y, tap_x) in taps(height, width) {
                let ((phase_y, y), (phase_x, x)) = (height.place(tap_y), width.place(tap_x));
                let phase = first + phase_y * phases.width.taps + phase_x;
                let at = (tile.rows.start + y) * phases.width.positions + x;
                for image in 0..run {
                    copy((phase * run + image) * phases.positions() + at, column);
                    column += span;
                }
            }
        }
    }

    /// A tile's columns, `[channels × taps, images × span]`, in a vector that is used again.
    fn columns<'a, T: Scalar>(
        &self,
        run: &Run<T>,
        tile: &Tile,
        columns: &'a mut Vec<T>,
    ) -> Matrix<'a, T> {
        let (span, size) = (self.span(tile), [self.inner(), self.line(&run.images, tile)]);
        columns.resize(size[0] * size[1], T::default());
        self.each_slice(run.images.len(), tile, |phase, column| {
            columns[column..column + span].copy_from_slice(&run.phases[phase..phase + span]);
        });
        Matrix::new(columns, size)
    }

    /// Adds the columns' gradients to those of the phases.
    fn add_columns<T: Scalar>(&self, phases: &mut [T], columns: &[T], run: &Run<T>, tile: &Tile) {
        let span = self.span(tile);
        self.each_slice(run.images.len(), tile, |phase, column| {
            let columns = &columns[column..column + span];
            phases[phase..phase + span].iter_mut().zip(columns).for_each(|(p, &c)| *p += c);
        });
    }

    /// Calls `copy` with the channel, the place in these output images and that in a tile's lines of
    /// each output row.
    fn each_row(
        &self,
        images: &Range<usize>,
        tile: &Tile,
        mut copy: impl FnMut(usize, usize, usize),
    ) {
        let (outputs, width) = (self.channels[1], self.windows.width.positions);
        let span = self.span(tile);
        for output in 0..outputs {
            let channel = tile.group * outputs + output;
            for image in 0..images.len() {
                let plane = image * self.output_len() + channel * self.windows.positions();
                let line = (output * images.len() + image) * span;
                for (step, row) in tile.rows.clone().enumerate() {
                    let place = line + step * self.phases.width.positions;
                    copy(channel, plane + row * width, place);
                }
            }
        }
    }

    /// A tile's lines of outputs, and a set's bias, into the run's output images.
    fn gather<T: Scalar>(
        &self,
        ys: &mut [T],
        lines: &[T],
        bias: Option<&[T]>,
        run: &Run<T>,
        tile: &Tile,
    ) {
        let width = self.windows.width.positions;
        self.each_row(&run.images, tile, |channel, pixel, place| {
            let (ys, lines) = (&mut ys[pixel..pixel + width], &lines[place..place + width]);
            let bias = bias.map_or(T::default(), |bias| bias[channel]);
            ys.iter_mut().zip(lines).for_each(|(y, &value)| *y = value + bias);
        });
    }

    /// The output images' gradients as a tile's lines, `[outputs, images × span]`, in a vector that is
    /// used again.
    fn lines<'a, T: Scalar>(
        &self,
        grad: &[T],
        run: &Run<T>,
        tile: &Tile,
        lines: &'a mut Vec<T>,
    ) -> Matrix<'a, T> {
        let width = self.windows.width.positions;
        let grad = &grad[run.images.start * self.output_len()..];
        let size = [self.channels[1], self.line(&run.images, tile)];
        lines.clear();
        lines.resize(size[0] * size[1], T::default());
        self.each_row(&run.images, tile, |_, pixel, place| {
            lines[place..place + width].copy_from_slice(&grad[pixel..pixel + width]);
        });
        Matrix::new(lines, size)
    }

    /// Of the weights of all sets, `[sets, groups, outputs, channels × taps]`, a tile's.
    fn weight<'a, T>(&self, weights: &'a [T], set: usize, tile: &Tile) -> Matrix<'a, T> {
        let size = [self.channels[1], self.inner()];
        let matrix = set * self.windows.groups + tile.group;
        Matrix::new(&weights[matrix * size[0] * size[1]..], size)
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

    fn forward_part<T: Scalar>(
        &self,
        mut ys: &mut [T],
        part: &Part,
        (pixels, weights, bias): (&[T], &[T], Option<&[T]>),
    ) {
        let bias = bias.map(|bias| &bias[part.set * self.windows.groups * self.channels[1]..]);
        let (mut columns, mut lines) = (Vec::new(), Vec::new());
        for images in self.runs(part) {
            let run = self.run(part.set, images, pixels);
            for tile in self.tiles() {
                let columns = self.columns(&run, &tile, &mut columns);
                lines.resize(self.channels[1] * self.line(&run.images, &tile), T::default());
                product_into(&mut lines, self.weight(weights, run.set, &tile), columns);
                self.gather(ys, &lines, bias, &run, &tile);
            }
            ys = &mut ys[run.images.len() * self.output_len()..];
        }
    }

    /// The gradients of images and weights, each where it is asked for.
    pub(super) fn backward<T: Scalar>(
        &self,
        pixels: &[T],
        weights: &[T],
        grad: &[T],
        ask: [bool; 2],
    ) -> Grads<T> {
        let image_len = if ask[0] { self.input_len() } else { 0 };
        let images = self.windows.sets * self.images_per_set;
        let mut image_grads = vec![T::default(); images * image_len];
        let parts = self.share_out(&mut image_grads, image_len);
        let sums = pool::each(parts, self.parallel, |(part, images)| {
            self.backward_part(images, &part, (pixels, weights, grad), ask)
        });
        let per_set = self.weights_per_set();
        let mut weight_grads =
            vec![T::default(); if ask[1] { self.windows.sets * per_set } else { 0 }];
        if ask[1] {
            for (part, sums) in self.parts().iter().zip(sums) {
                self.add_rows(&mut weight_grads[part.set * per_set..], &sums);
            }
        }
        Grads { images: image_grads, weights: weight_grads }
    }

    fn weights_per_set(&self) -> usize {
        self.windows.groups * self.inner() * self.channels[1]
    }

    /// Writes the gradients of a part's images; gives its share of the weights', `[groups, channels ×
    /// taps, outputs]`.
    fn backward_part<T: Scalar>(
        &self,
        mut image_grads: &mut [T],
        part: &Part,
        (pixels, weights, grad): (&[T], &[T], &[T]),
        [ask_images, ask_weights]: [bool; 2],
    ) -> Vec<T> {
        let mut sums = vec![T::default(); if ask_weights { self.weights_per_set() } else { 0 }];
        let (mut columns, mut lines) = (Vec::new(), Vec::new());
        for images in self.runs(part) {
            let run = self.run(part.set, images, pixels);
            let mut phases = vec![T::default(); if ask_images { run.phases.len() } else { 0 }];
            for tile in self.tiles() {
                let lines = self.lines(grad, &run, &tile, &mut lines);
                if ask_weights {
                    let columns = self.columns(&run, &tile, &mut columns);
                    let len = self.inner() * self.channels[1];
                    // The product is faster that way round.
                    add_product(&mut sums[tile.group * len..][..len], columns, lines.t());
                }
                if ask_images {
                    columns.resize(self.inner() * self.line(&run.images, &tile), T::default());
                    let weight = self.weight(weights, run.set, &tile);
                    product_into(&mut columns, weight.t(), lines);
                    self.add_columns(&mut phases, &columns, &run, &tile);
                }
            }
            if ask_images {
                let (of_run, behind) =
                    image_grads.split_at_mut(run.images.len() * self.input_len());
                self.batch(&run.images).fold_into(of_run, &phases);
                image_grads = behind;
            }
        }
        sums
    }

    /// Adds what [`backward_part`](Self::backward_part) summed up, row-major.
    fn add_rows<T: Scalar>(&self, weights: &mut [T], sums: &[T]) {
        let (inner, outputs) = (self.inner(), self.channels[1]);
        let matrices = weights.chunks_exact_mut(inner * outputs);
        for (weights, sums) in matrices.zip(sums.chunks_exact(inner * outputs)) {
            for (output, row) in weights.chunks_exact_mut(inner).enumerate() {
                let column = sums[output..].iter().step_by(outputs);
                row.iter_mut().zip(column).for_each(|(weight, &sum)| *weight += sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(pixels: usize, taps: usize, stride: usize, padding: usize, dilation: usize) -> Axis {
        let span = dilation * (taps - 1) + 1;
        let positions = (pixels + 2 * padding - span) / stride + 1;
        Axis { pixels, positions, taps, stride, padding, dilation }
    }

    const IMAGES_PER_SET: usize = 3;
    const CHANNELS: [usize; 2] = [2, 3];

    fn cases() -> Vec<Windows> {
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

    /// Whole numbers, so that sums are exact in any order.
    fn numbers(count: usize, seed: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 23) as f64 - 11.).collect()
    }

    struct Case {
        windows: Windows,
        pixels: Vec<f64>,
        weights: Vec<f64>,
        bias: Vec<f64>,
    }

    impl Case {
        fn new(windows: Windows) -> Self {
            let Windows { sets, groups, .. } = windows;
            let [inputs, outputs] = CHANNELS;
            let images = sets * IMAGES_PER_SET;
            Self {
                windows,
                pixels: numbers(images * groups * inputs * windows.pixels(), 1),
                weights: numbers(sets * groups * outputs * inputs * windows.taps(), 2),
                bias: numbers(sets * groups * outputs, 3),
            }
        }

        /// On two threads where there are several tiles.
        fn tiles(&self, line: usize) -> Tiles {
            let threads = if line < LINES[3] { 2 } else { 1 };
            Tiles::cut(self.windows, IMAGES_PER_SET, CHANNELS, line, threads)
        }

        /// Value by value, as the definition says.
        fn expected(&self) -> Vec<f64> {
            let Windows { sets, groups, height, width } = self.windows;
            let mut ys = Vec::new();
            for image in 0..sets * IMAGES_PER_SET {
                for channel in 0..groups * CHANNELS[1] {
                    for y in 0..height.positions {
                        ys.extend((0..width.positions).map(|x| self.output(image, channel, y, x)));
                    }
                }
            }
            ys
        }

        fn output(&self, image: usize, channel: usize, y: usize, x: usize) -> f64 {
            let Windows { groups, height, width, .. } = self.windows;
            let [inputs, outputs] = CHANNELS;
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

    /// One row of outputs at a time, some rows, some images, all at once.
    const LINES: [usize; 4] = [1, 20, 100, 1 << 20];

    #[test]
    fn outputs_are_those_of_the_definition_however_it_is_cut() {
        for case in cases().into_iter().map(Case::new) {
            let expected = case.expected();
            for line in LINES {
                let found = case.tiles(line).forward(&case.pixels, &case.weights, Some(&case.bias));
                assert_eq!(found, expected, "{:?}, lines of {line}", case.windows);
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
        for case in cases().into_iter().map(Case::new) {
            for line in LINES {
                let tiles = case.tiles(line);
                let ys = tiles.forward(&case.pixels, &case.weights, None);
                let grad = numbers(ys.len(), 4);
                let grads = tiles.backward(&case.pixels, &case.weights, &grad, [true, true]);
                let expected = dot(&ys, &grad);
                let context = format!("{:?}, lines of {line}", case.windows);
                assert_eq!(dot(&grads.images, &case.pixels), expected, "{context}");
                assert_eq!(dot(&grads.weights, &case.weights), expected, "{context}");
                let one = tiles.backward(&case.pixels, &case.weights, &grad, [true, false]);
                assert_eq!((one.images, one.weights), (grads.images, Vec::new()), "{context}");
                let one = tiles.backward(&case.pixels, &case.weights, &grad, [false, true]);
                assert_eq!((one.images, one.weights), (Vec::new(), grads.weights), "{context}");
            }
        }
    }
}
