//! A convolution on the CPU, tile by tile: columns are made, multiplied and left while they lie in
//! the cache, and no more of them exist than one tile's.
//!
//! An image is first dealt out into phases, which hold every `stride`-th padded pixel of both axes.
//! What a tap sees at neighbouring positions are then neighbours in one phase, and a line of columns
//! is one copied slice. At the end of a phase's rows, such a slice runs on over a few pixels that no
//! window sees: a line has places for them too, which are left out of outputs and zero in gradients.

use std::ops::Range;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout, Result};

use super::scalar::Scalar;
use super::unfold::{Axis, Batch, Windows, taps};

/// Values in the columns of one tile: a quarter of a megabyte in f32.
const COLUMN_VALUES: usize = 1 << 16;

/// The least length of a tile's lines, below which a product spends its time on the weights.
const LEAST_LINE: usize = 256;

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
}

/// The weights of all sets, `[sets, groups, outputs, channels × taps]`, at an offset.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub(super) values: &'a CpuStorage,
    pub(super) offset: usize,
}

/// Consecutive images of one set, dealt out into phases.
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
        let line = (COLUMN_VALUES / (channels[0] * windows.taps())).max(LEAST_LINE);
        Self::with_line(windows, images_per_set, channels, line)
    }

    /// Tiles whose lines have at most about `line` places.
    fn with_line(
        windows: Windows,
        images_per_set: usize,
        channels: [usize; 2],
        line: usize,
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

    /// Runs of consecutive images, set by set.
    fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (per_set, per_tile) = (self.images_per_set, self.images_per_tile);
        (0..self.windows.sets).flat_map(move |set| {
            let end = (set + 1) * per_set;
            let starts = (set * per_set..end).step_by(per_tile);
            starts.map(move |start| (set, start..end.min(start + per_tile)))
        })
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

    fn run<T: Scalar>(&self, (set, images): (usize, Range<usize>), pixels: &[T]) -> Run<T> {
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
    fn columns<T: Scalar>(&self, run: &Run<T>, tile: &Tile, mut columns: Vec<T>) -> CpuStorage {
        let span = self.span(tile);
        columns.resize(self.inner() * self.line(&run.images, tile), T::default());
        self.each_slice(run.images.len(), tile, |phase, column| {
            columns[column..column + span].copy_from_slice(&run.phases[phase..phase + span]);
        });
        T::to_cpu_storage_owned(columns)
    }

    /// Adds the columns' gradients to those of the phases.
    fn add_columns<T: Scalar>(&self, phases: &mut [T], columns: &[T], run: &Run<T>, tile: &Tile) {
        let span = self.span(tile);
        self.each_slice(run.images.len(), tile, |phase, column| {
            let columns = &columns[column..column + span];
            phases[phase..phase + span].iter_mut().zip(columns).for_each(|(p, &c)| *p += c);
        });
    }

    /// Calls `copy` with the channel, the place in the output images and that in a tile's lines of
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
            for (i, image) in images.clone().enumerate() {
                let plane = image * self.output_len() + channel * self.windows.positions();
                let line = (output * images.len() + i) * span;
                for (step, row) in tile.rows.clone().enumerate() {
                    let place = line + step * self.phases.width.positions;
                    copy(channel, plane + row * width, place);
                }
            }
        }
    }

    /// A tile's lines of outputs, and a set's bias, into the output images.
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

    /// The output images' gradients as a tile's lines, `[outputs, images × span]`.
    fn lines<T: Scalar>(&self, grad: &[T], run: &Run<T>, tile: &Tile) -> CpuStorage {
        let width = self.windows.width.positions;
        let mut lines = vec![T::default(); self.channels[1] * self.line(&run.images, tile)];
        self.each_row(&run.images, tile, |_, pixel, place| {
            lines[place..place + width].copy_from_slice(&grad[pixel..pixel + width]);
        });
        T::to_cpu_storage_owned(lines)
    }

    fn weight_layout(&self, weights: Weights<'_>, set: usize, tile: &Tile) -> Layout {
        let (outputs, inner) = (self.channels[1], self.inner());
        let matrix = set * self.windows.groups + tile.group;
        let offset = weights.offset + matrix * outputs * inner;
        Layout::contiguous_with_offset((1, outputs, inner), offset)
    }

    /// The output images; the bias is `[sets, groups × outputs]`.
    pub(super) fn forward<T: Scalar>(
        &self,
        pixels: &[T],
        weights: Weights<'_>,
        bias: Option<&[T]>,
    ) -> Result<Vec<T>> {
        let images = self.windows.sets * self.images_per_set;
        let mut ys = vec![T::default(); images * self.output_len()];
        let mut scratch = Vec::new();
        let channels = self.windows.groups * self.channels[1];
        for run in self.runs() {
            let run = self.run(run, pixels);
            let bias = bias.map(|bias| &bias[run.set * channels..]);
            for tile in self.tiles() {
                let columns = self.columns(&run, &tile, scratch);
                let columns_layout = self.columns_layout(&run.images, &tile);
                let weight_layout = self.weight_layout(weights, run.set, &tile);
                let product = (weights.values, &weight_layout, &columns, &columns_layout);
                self.gather(&mut ys, &matmul(product)?, bias, &run, &tile);
                scratch = T::cpu_storage_data(columns)?;
            }
        }
        Ok(ys)
    }

    fn columns_layout(&self, images: &Range<usize>, tile: &Tile) -> Layout {
        Layout::contiguous((1, self.inner(), self.line(images, tile)))
    }

    /// The gradients of images and weights, each where it is asked for.
    pub(super) fn backward<T: Scalar>(
        &self,
        pixels: &[T],
        weights: Weights<'_>,
        grad: &[T],
        [ask_images, ask_weights]: [bool; 2],
    ) -> Result<Grads<T>> {
        let per_set = self.windows.groups * self.inner() * self.channels[1];
        let all = if ask_weights { self.windows.sets * per_set } else { 0 };
        let mut grads = Grads { images: Vec::new(), weights: vec![T::default(); all] };
        let mut sums = vec![T::default(); per_set];
        let mut scratch = Vec::new();
        for (set, images) in self.runs() {
            let end = images.end;
            let run = self.run((set, images), pixels);
            let mut phases = vec![T::default(); if ask_images { run.phases.len() } else { 0 }];
            for tile in self.tiles() {
                let lines = self.lines(grad, &run, &tile);
                if ask_weights {
                    let columns = self.columns(&run, &tile, scratch);
                    self.add_weights(&mut sums, (&columns, &lines), &run.images, &tile)?;
                    scratch = T::cpu_storage_data(columns)?;
                }
                if ask_images {
                    let columns = self.column_grads(weights, &lines, &run, &tile)?;
                    self.add_columns(&mut phases, &columns, &run, &tile);
                }
            }
            if ask_images {
                grads.images.extend(self.batch(&run.images).fold(&phases));
            }
            if ask_weights && end == (set + 1) * self.images_per_set {
                self.settle(&mut sums, &mut grads.weights[set * per_set..]);
            }
        }
        Ok(grads)
    }

    /// Adds to the weights' gradients, `[groups, channels × taps, outputs]`: the product is faster
    /// that way round.
    fn add_weights<T: Scalar>(
        &self,
        sums: &mut [T],
        (columns, lines): (&CpuStorage, &CpuStorage),
        images: &Range<usize>,
        tile: &Tile,
    ) -> Result<()> {
        let lines_layout = self.lines_layout(images, tile).transpose(1, 2)?;
        let product = (columns, &self.columns_layout(images, tile), lines, &lines_layout);
        let product: Vec<T> = matmul(product)?;
        let sums = &mut sums[tile.group * product.len()..];
        sums.iter_mut().zip(product).for_each(|(sum, value)| *sum += value);
        Ok(())
    }

    fn lines_layout(&self, images: &Range<usize>, tile: &Tile) -> Layout {
        Layout::contiguous((1, self.channels[1], self.line(images, tile)))
    }

    fn column_grads<T: Scalar>(
        &self,
        weights: Weights<'_>,
        lines: &CpuStorage,
        run: &Run<T>,
        tile: &Tile,
    ) -> Result<Vec<T>> {
        let weight_layout = self.weight_layout(weights, run.set, tile).transpose(1, 2)?;
        matmul((weights.values, &weight_layout, lines, &self.lines_layout(&run.images, tile)))
    }

    /// Writes a set's gradients row-major and starts anew.
    fn settle<T: Scalar>(&self, sums: &mut [T], weights: &mut [T]) {
        let (inner, outputs) = (self.inner(), self.channels[1]);
        let matrices = weights.chunks_exact_mut(inner * outputs);
        for (weights, sums) in matrices.zip(sums.chunks_exact(inner * outputs)) {
            for (output, row) in weights.chunks_exact_mut(inner).enumerate() {
                let column = sums[output..].iter().step_by(outputs);
                row.iter_mut().zip(column).for_each(|(weight, &sum)| *weight = sum);
            }
        }
        sums.fill(T::default());
    }
}

fn matmul<T: Scalar>(
    (lhs, ll, rhs, rl): (&CpuStorage, &Layout, &CpuStorage, &Layout),
) -> Result<Vec<T>> {
    let ((_, m, k), (_, _, n)) = (ll.shape().dims3()?, rl.shape().dims3()?);
    T::cpu_storage_data(lhs.matmul(rhs, (1, m, n, k), ll, rl)?)
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
            [(1, 1), (2, 1), (1, 2), (2, 2)]
                .map(|(sets, groups)| Windows { sets, groups, height, width })
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

        fn tiles(&self, line: usize) -> Tiles {
            Tiles::with_line(self.windows, IMAGES_PER_SET, CHANNELS, line)
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
    fn outputs_are_those_of_the_definition_however_it_is_cut() -> Result<()> {
        for case in cases().into_iter().map(Case::new) {
            let values = CpuStorage::F64(case.weights.clone());
            let weights = Weights { values: &values, offset: 0 };
            let expected = case.expected();
            for line in LINES {
                let found = case.tiles(line).forward(&case.pixels, weights, Some(&case.bias))?;
                assert_eq!(found, expected, "{:?}, lines of {line}", case.windows);
            }
        }
        Ok(())
    }

    fn dot(left: &[f64], right: &[f64]) -> f64 {
        assert_eq!(left.len(), right.len());
        left.iter().zip(right).map(|(left, right)| left * right).sum()
    }

    /// The output is linear in images and in weights: both gradients are its transpose.
    #[test]
    fn the_backward_is_the_transpose_however_it_is_cut() -> Result<()> {
        for case in cases().into_iter().map(Case::new) {
            let values = CpuStorage::F64(case.weights.clone());
            let weights = Weights { values: &values, offset: 0 };
            for line in LINES {
                let tiles = case.tiles(line);
                let ys = tiles.forward(&case.pixels, weights, None)?;
                let grad = numbers(ys.len(), 4);
                let grads = tiles.backward(&case.pixels, weights, &grad, [true, true])?;
                let expected = dot(&ys, &grad);
                let context = format!("{:?}, lines of {line}", case.windows);
                assert_eq!(dot(&grads.images, &case.pixels), expected, "{context}");
                assert_eq!(dot(&grads.weights, &case.weights), expected, "{context}");
                let one = tiles.backward(&case.pixels, weights, &grad, [true, false])?;
                assert_eq!((one.images, one.weights), (grads.images, Vec::new()), "{context}");
                let one = tiles.backward(&case.pixels, weights, &grad, [false, true])?;
                assert_eq!((one.images, one.weights), (Vec::new(), grads.weights), "{context}");
            }
        }
        Ok(())
    }
}
