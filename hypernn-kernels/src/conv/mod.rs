//! Convolutions in two dimensions, for one or several sets of weights: each output is summed up over the pixels of
//! its window where they lie.
//!
//! All three products of a convolution, that of the outputs and those of both gradients, are of one kind: lists of
//! offsets say which values each sum takes, and where it goes (Dukhan, "The Indirect Convolution Algorithm",
//! arXiv:1907.02129). The side that takes less to pack is packed. What differs are the lists:
//!
//! | Product | Sides | Summed over | Columns |
//! |---|---|---|---|
//! | Outputs | weights, images | channels and taps | outputs, positions |
//! | Gradient of the images | weights, gradients of outputs | outputs and taps | channels, pixels |
//! | Gradient of the weights | gradients of outputs, images | positions | outputs, channels and taps |
//!
//! Pixels `stride` apart are seen by the same taps, so the gradients of images are one product for each
//! of the `stride × stride` phases. Where windows see padding, images are copied between zeros.
//!
//! Parts of the batch, which depend on the number of threads alone, are shared out; the sum over a set's parts is in
//! their order.

mod offsets;
mod padded;
mod product;
mod weight_grads;
mod windows;

use std::ops::Range;

pub use windows::{Axis, Windows};

use crate::error::{Error, Result, count, ensure_at_least};
use crate::executor::{Executor, for_products, map_parts};
use crate::float::Float;
use crate::microkernel::{Operand, multiples};
use offsets::{StridePhase, sums_of, times};
use padded::PaddedImage;
use product::{WeightProduct, Weights};
use weight_grads::WeightGrads;

/// Positions of a run of images: below, products spend their time on the weights.
const RUN_POSITIONS: usize = 256;

/// Values of a run of images: beyond, they no longer lie in the cache.
const RUN_VALUES: usize = 1 << 17;

/// The sizes of one convolution, and how it is shared out.
///
/// Images are `[sets × images, groups × in, height, width]`, weights `[sets, groups × out, in, taps…]`, outputs
/// `[sets × images, groups × out, positions…]`, all row-major.
///
/// ```
/// use hypernn_kernels::conv::{Axis, Channels, Convolution, Windows};
/// use hypernn_kernels::executor::Sequential;
///
/// // Each output is the sum of a pixel and the next, plus the bias.
/// let height = Axis { pixels: 1, positions: 1, taps: 1, stride: 1, padding: 0, dilation: 1 };
/// let width = Axis { pixels: 3, positions: 2, taps: 2, ..height };
/// let windows = Windows { sets: 1, groups: 1, height, width };
/// let conv = Convolution::new(windows, 1, Channels { inputs: 1, outputs: 1 }, &Sequential)?;
/// let (images, weights) = ([1f32, 2., 4.], [1., 1.]);
/// assert_eq!(conv.forward(&images, &weights, Some(&[0.5]))?, [3.5, 6.5]);
///
/// let grad = [1., 10.];
/// assert_eq!(conv.image_grads(&weights, &grad)?, [1., 11., 10.]);
/// assert_eq!(conv.weight_grads(&images, &grad)?, [21., 42.]);
/// # Ok::<_, hypernn_kernels::Error>(())
/// ```
pub struct Convolution<'e> {
    windows: Windows,
    images_per_set: usize,
    channels: Channels,
    images_per_run: usize,
    /// The number of parts into which the images of a set are cut.
    parts_per_set: usize,
    executor: &'e dyn Executor,
}

/// Channels of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// The number of the images' channels.
    pub inputs: usize,
    /// The number of the outputs' channels.
    pub outputs: usize,
}

/// Consecutive images of one set, which one thread computes.
struct ImageBlock {
    set: usize,
    images: Range<usize>,
}

/// Products with the weights, from images to images.
struct Pass {
    products: Vec<WeightProduct>,
    /// The layout of the images that windows see.
    padded: PaddedImage,
    /// The values of one image that windows see.
    from: usize,
    /// The values of one image that is computed.
    to: usize,
}

/// The slices of a pass.
#[derive(Clone, Copy)]
struct Slices<'a, T> {
    images: &'a [T],
    weights: &'a [T],
    bias: Option<&'a [T]>,
}

/// The values of images, weights and outputs can be counted.
fn check_sizes(windows: &Windows, images: usize, channels: Channels) -> Result<()> {
    let (Channels { inputs, outputs }, Windows { sets, groups, height, width }) =
        (channels, *windows);
    let [high, wide] = [height, width].map(|axis| axis.pixels + 2 * axis.padding);
    count("convolution", &[sets, images, groups, inputs, high, wide])?;
    count("convolution", &[sets, images, groups, outputs, height.positions, width.positions])?;
    count("convolution", &[sets, groups, outputs, inputs, height.taps, width.taps])?;
    Ok(())
}

impl<'e> Convolution<'e> {
    /// The convolution of windows over `images_per_set` images for each set of weights.
    ///
    /// # Errors
    /// There are no sets, groups, channels, pixels, positions or taps, a stride or a dilation is 0, a window reaches
    /// beyond the padding, or there are more values than can be counted.
    pub fn new(
        windows: Windows,
        images_per_set: usize,
        channels: Channels,
        executor: &'e dyn Executor,
    ) -> Result<Self> {
        windows.check()?;
        let Channels { inputs, outputs } = channels;
        if inputs == 0 || outputs == 0 {
            return Err(Error::Windows { what: "there are no channels" });
        }
        if images_per_set > 0 && windows.pixels() == 0 {
            return Err(Error::Windows { what: "there are no pixels" });
        }
        check_sizes(&windows, images_per_set.max(1), channels)?;
        let images = windows.sets * images_per_set * windows.groups;
        let products = images * outputs * windows.positions();
        let products = products.saturating_mul(inputs).saturating_mul(windows.taps());
        let executor = for_products(executor, products);
        let image = windows.groups * inputs * windows.pixels();
        let run = RUN_POSITIONS.div_ceil(windows.positions()).min(RUN_VALUES / image.max(1));
        Ok(Self::cut(windows, images_per_set, channels, run, executor))
    }

    /// The convolution that computes `run` images at a time.
    fn cut(
        windows: Windows,
        images_per_set: usize,
        channels: Channels,
        run: usize,
        executor: &'e dyn Executor,
    ) -> Self {
        Self {
            windows,
            images_per_set,
            channels,
            images_per_run: run.clamp(1, images_per_set.max(1)),
            parts_per_set: executor.threads().max(1).div_ceil(windows.sets),
            executor,
        }
    }

    fn images(&self) -> usize {
        self.windows.sets * self.images_per_set
    }

    fn check(&self, slice: &'static str, found: usize, expected: usize) -> Result<()> {
        ensure_at_least("convolution", slice, found, expected)
    }

    fn check_images(&self, found: usize) -> Result<()> {
        self.check("the images", found, self.images() * self.input_len())
    }

    fn check_weights(&self, found: usize) -> Result<()> {
        self.check("the weights", found, self.windows.sets * self.weights_per_set())
    }

    fn check_grad(&self, found: usize) -> Result<()> {
        self.check("the gradient", found, self.images() * self.output_len())
    }

    /// The values of one output image.
    fn output_len(&self) -> usize {
        self.windows.groups * self.channels.outputs * self.windows.positions()
    }

    fn input_len(&self) -> usize {
        self.windows.groups * self.channels.inputs * self.windows.pixels()
    }

    /// The length of a weight matrix's rows.
    fn inner(&self) -> usize {
        self.channels.inputs * self.windows.taps()
    }

    fn weights_per_set(&self) -> usize {
        self.windows.groups * self.channels.outputs * self.inner()
    }

    /// All images as parts, set by set.
    fn parts(&self) -> Vec<ImageBlock> {
        let per_set = self.images_per_set;
        let per_part = per_set.div_ceil(self.parts_per_set).max(1);
        let of_set = |set| {
            let starts = (0..per_set).step_by(per_part);
            let range = move |start: usize| start..per_set.min(start + per_part);
            starts.map(range).map(move |range| {
                let images = set * per_set + range.start..set * per_set + range.end;
                ImageBlock { set, images }
            })
        };
        (0..self.windows.sets).flat_map(of_set).collect()
    }

    /// Each part with its own of `images`, of `len` values each.
    fn share_out<'a, T>(
        &self,
        mut images: &'a mut [T],
        len: usize,
    ) -> Vec<(ImageBlock, &'a mut [T])> {
        let with_images = |part: ImageBlock| {
            let (of_part, behind) =
                std::mem::take(&mut images).split_at_mut(part.images.len() * len);
            images = behind;
            (part, of_part)
        };
        self.parts().into_iter().map(with_images).collect()
    }

    /// A part's images, as many at a time as are computed together.
    fn runs(&self, part: &ImageBlock) -> impl Iterator<Item = Range<usize>> {
        let (end, per_run) = (part.images.end, self.images_per_run);
        let starts = part.images.clone().step_by(per_run);
        starts.map(move |start| start..end.min(start + per_run))
    }

    fn padded_images(&self) -> PaddedImage {
        let Windows { groups, height, width, .. } = &self.windows;
        let planes = groups * self.channels.inputs;
        PaddedImage { planes, height: height.padded_pixels(), width: width.padded_pixels() }
    }

    fn padded_outputs(&self) -> PaddedImage {
        let Windows { groups, height, width, .. } = &self.windows;
        let (height, width) = (height.padded_positions(), width.padded_positions());
        PaddedImage { planes: groups * self.channels.outputs, height, width }
    }

    /// Where the first of a run's outputs go, one for each position.
    fn output_places(&self) -> Vec<usize> {
        let images = multiples(self.images_per_run, self.output_len());
        sums_of([images, multiples(self.windows.positions(), 1), vec![0]])
    }

    /// Where the values of windows lie behind the first.
    fn window_terms(&self) -> Vec<usize> {
        let (layout, Windows { height, width, .. }) = (self.padded_images(), &self.windows);
        let rows = multiples(height.taps, height.dilation * layout.row());
        sums_of([
            multiples(self.channels.inputs, layout.plane()),
            rows,
            multiples(width.taps, width.dilation),
        ])
    }

    /// Where the windows of a run begin.
    fn window_columns(&self) -> Vec<usize> {
        let (layout, Windows { height, width, .. }) = (self.padded_images(), &self.windows);
        let images = multiples(self.images_per_run, layout.image());
        let rows = multiples(height.positions, height.stride * layout.row());
        sums_of([images, rows, multiples(width.positions, width.stride)])
    }

    /// The product of the outputs, with weights `[groups, outputs, channels × taps]`.
    fn outputs(&self) -> WeightProduct {
        WeightProduct {
            terms: self.window_terms(),
            columns: self.window_columns(),
            places: self.output_places(),
            channels: multiples(self.channels.outputs, self.windows.positions()),
            columns_per_image: self.windows.positions(),
            weight_terms: multiples(self.inner(), 1),
            weight_columns: multiples(self.channels.outputs, self.inner()),
        }
    }

    /// The products of the images' gradients, one for each phase of the stride that something sees.
    fn image_grad_products(&self) -> Vec<WeightProduct> {
        let Windows { height, width, .. } = &self.windows;
        let rows = (0..height.stride).map(|phase| height.stride_phase(phase));
        let columns: Vec<_> = (0..width.stride).map(|phase| width.stride_phase(phase)).collect();
        let products = rows.flat_map(|rows| {
            let product = |columns| self.image_grads_of(&rows, columns);
            columns.iter().map(product).collect::<Vec<_>>()
        });
        products.filter(|product| !product.terms.is_empty()).collect()
    }

    fn image_grads_of(&self, rows: &StridePhase, columns: &StridePhase) -> WeightProduct {
        let (Channels { inputs, outputs }, width) = (self.channels, &self.windows.width);
        let (layout, images) = (self.padded_outputs(), self.images_per_run);
        let taps = times(&rows.taps, width.taps);
        let back = times(&rows.back, layout.row());
        let positions = times(&rows.positions, layout.row());
        let pixels = times(&rows.pixels, width.pixels);
        WeightProduct {
            terms: sums_of([multiples(outputs, layout.plane()), back, columns.back.clone()]),
            columns: sums_of([
                multiples(images, layout.image()),
                positions,
                columns.positions.clone(),
            ]),
            places: sums_of([multiples(images, self.input_len()), pixels, columns.pixels.clone()]),
            channels: multiples(inputs, self.windows.pixels()),
            columns_per_image: rows.pixels.len() * columns.pixels.len(),
            weight_terms: sums_of([multiples(outputs, self.inner()), taps, columns.taps.clone()]),
            weight_columns: multiples(inputs, self.windows.taps()),
        }
    }

    /// A set's weights, those of each group.
    fn groups<'a, T: Float>(
        &self,
        product: &WeightProduct,
        weights: &'a [T],
        set: usize,
    ) -> Vec<Weights<'a, T>> {
        let groups = weights[set * self.weights_per_set()..][..self.weights_per_set()]
            .chunks_exact(self.channels.outputs * self.inner());
        groups.map(|group| product.weights(group)).collect()
    }

    /// The output images; the bias is `[sets, groups × outputs]`. What lies behind a slice's values is left out.
    ///
    /// # Errors
    /// A slice has fewer values than the sizes say, or the executor left out a part.
    pub fn forward<T: Float>(
        &self,
        images: &[T],
        weights: &[T],
        bias: Option<&[T]>,
    ) -> Result<Vec<T>> {
        self.check_images(images.len())?;
        self.check_weights(weights.len())?;
        if let Some(bias) = bias {
            let Windows { sets, groups, .. } = self.windows;
            self.check("the bias", bias.len(), sets * groups * self.channels.outputs)?;
        }
        let (products, padded) = (vec![self.outputs()], self.padded_images());
        let pass = Pass { products, padded, from: self.input_len(), to: self.output_len() };
        self.compute(&pass, Slices { images, weights, bias })
    }

    /// The gradient of the images, from that of the outputs.
    ///
    /// # Errors
    /// A slice has fewer values than the sizes say, or the executor left out a part.
    pub fn image_grads<T: Float>(&self, weights: &[T], grad: &[T]) -> Result<Vec<T>> {
        self.check_weights(weights.len())?;
        self.check_grad(grad.len())?;
        let (products, padded) = (self.image_grad_products(), self.padded_outputs());
        let pass = Pass { products, padded, from: self.output_len(), to: self.input_len() };
        self.compute(&pass, Slices { images: grad, weights, bias: None })
    }

    fn compute<T: Float>(&self, pass: &Pass, slices: Slices<'_, T>) -> Result<Vec<T>> {
        let mut out = vec![T::default(); self.images() * pass.to];
        let parts = self.share_out(&mut out, pass.to);
        map_parts(parts, self.executor, |(part, out)| self.compute_part(pass, out, &part, slices))?;
        Ok(out)
    }

    fn compute_part<T: Float>(
        &self,
        pass: &Pass,
        mut out: &mut [T],
        part: &ImageBlock,
        slices: Slices<'_, T>,
    ) {
        let Slices { images, weights, bias } = slices;
        let (groups, outputs) = (self.windows.groups, self.channels.outputs);
        let bias = bias.map_or(&[][..], |bias| &bias[part.set * groups * outputs..]);
        let weights = |product| (product, self.groups(product, weights, part.set));
        let products: Vec<_> = pass.products.iter().map(weights).collect();
        let (mut padded, mut block) = (Vec::new(), Vec::new());
        for run in self.runs(part) {
            let values = pass.padded.pad(self.of(images, &run, pass.from), &mut padded);
            for group in 0..groups {
                let values = &values[group * pass.padded.image() / groups..];
                let out = &mut out[group * pass.to / groups..];
                let bias = bias.chunks_exact(outputs).nth(group).unwrap_or_default();
                for (product, weights) in &products {
                    product.compute(out, run.len(), &weights[group], values, bias, &mut block);
                }
            }
            out = &mut out[run.len() * pass.to..];
        }
    }

    fn of<'a, T>(&self, values: &'a [T], images: &Range<usize>, len: usize) -> &'a [T] {
        &values[images.start * len..images.end * len]
    }

    /// The gradient of the weights, from that of the outputs.
    ///
    /// # Errors
    /// A slice has fewer values than the sizes say, or the executor left out a part.
    pub fn weight_grads<T: Float>(&self, images: &[T], grad: &[T]) -> Result<Vec<T>> {
        self.check_images(images.len())?;
        self.check_grad(grad.len())?;
        let parts = self.parts();
        let parts_of_set = (parts.len() / self.windows.sets).max(1);
        let lists = WeightGrads::new(self);
        let sums_of = |part| self.sums_of_part(&lists, &part, images, grad);
        let mut sums = map_parts(parts, self.executor, sums_of)?;
        let mut grads = vec![T::default(); self.windows.sets * self.weights_per_set()];
        let sets = grads.chunks_exact_mut(self.weights_per_set());
        for (grads, sums) in sets.zip(sums.chunks_mut(parts_of_set)) {
            let Some((sums, others)) = sums.split_first_mut() else { continue };
            for other in others {
                sums.iter_mut().zip(other).for_each(|(sum, other)| *sum += *other);
            }
            lists.place(grads, sums);
        }
        Ok(grads)
    }

    /// The sums of a part: for each group and panel of the packed side, those of each column of the
    /// other.
    fn sums_of_part<T: Float>(
        &self,
        lists: &WeightGrads,
        part: &ImageBlock,
        pixels: &[T],
        grad: &[T],
    ) -> Vec<T> {
        let per_group = lists.sums::<T>();
        let mut sums = vec![T::default(); self.windows.groups * per_group];
        let (layout, mut padded) = (self.padded_images(), Vec::new());
        let groups = [self.output_len(), layout.image()].map(|image| image / self.windows.groups);
        for images in self.runs(part) {
            let windows = layout.pad(self.of(pixels, &images, self.input_len()), &mut padded);
            let values = [self.of(grad, &images, self.output_len()), windows];
            let count = images.len() * self.windows.positions();
            for (group, sums) in sums.chunks_exact_mut(per_group).enumerate() {
                let side = |side: usize| Operand {
                    values: &values[side][group * groups[side]..],
                    terms: &lists.positions[side][..count],
                    columns: &lists.columns[side],
                };
                lists.add_products(sums, side);
            }
        }
        sums
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::executor::{ScopedThreads, Sequential};

    fn axis(pixels: usize, taps: usize, stride: usize, padding: usize, dilation: usize) -> Axis {
        let span = dilation * (taps - 1) + 1;
        let positions = (pixels + 2 * padding - span) / stride + 1;
        Axis { pixels, positions, taps, stride, padding, dilation }
    }

    static TWO_THREADS: ScopedThreads = ScopedThreads::new(2);

    fn taps(height: &Axis, width: &Axis) -> impl Iterator<Item = (usize, usize)> {
        let width = width.taps;
        (0..height.taps).flat_map(move |y| (0..width).map(move |x| (y, x)))
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
        channels: Channels,
        pixels: Vec<f64>,
        weights: Vec<f64>,
        bias: Vec<f64>,
    }

    impl Case {
        fn new(windows: Windows, channels: [usize; 2]) -> Self {
            let Windows { sets, groups, .. } = windows;
            let [inputs, outputs] = channels;
            let channels = Channels { inputs, outputs };
            let images = sets * IMAGES_PER_SET;
            Self {
                windows,
                channels,
                pixels: numbers(images * groups * inputs * windows.pixels(), 1),
                weights: numbers(sets * groups * outputs * inputs * windows.taps(), 2),
                bias: numbers(sets * groups * outputs, 3),
            }
        }

        /// On two threads where there are several runs.
        fn direct(&self, run: usize) -> Convolution<'static> {
            let executor: &dyn Executor =
                if run < IMAGES_PER_SET { &TWO_THREADS } else { &Sequential };
            Convolution::cut(self.windows, IMAGES_PER_SET, self.channels, run, executor)
        }

        /// Value by value, as the definition says.
        fn expected(&self) -> Vec<f64> {
            let Windows { sets, groups, height, width } = self.windows;
            let mut ys = Vec::new();
            for image in 0..sets * IMAGES_PER_SET {
                for channel in 0..groups * self.channels.outputs {
                    for y in 0..height.positions {
                        ys.extend((0..width.positions).map(|x| self.output(image, channel, y, x)));
                    }
                }
            }
            ys
        }

        fn output(&self, image: usize, channel: usize, y: usize, x: usize) -> f64 {
            let Windows { groups, height, width, .. } = self.windows;
            let Channels { inputs, outputs } = self.channels;
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
                let found = case
                    .direct(run)
                    .forward(&case.pixels, &case.weights, Some(&case.bias))
                    .unwrap();
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
                let ys = direct.forward(&case.pixels, &case.weights, None).unwrap();
                let grad = numbers(ys.len(), 4);
                let of_images = direct.image_grads(&case.weights, &grad).unwrap();
                let of_weights = direct.weight_grads(&case.pixels, &grad).unwrap();
                let expected = dot(&ys, &grad);
                let context = format!("{:?}, runs of {run}", case.windows);
                assert_eq!(dot(&of_images, &case.pixels), expected, "{context}");
                assert_eq!(dot(&of_weights, &case.weights), expected, "{context}");
            }
        }
    }

    fn message<T>(found: Result<T>) -> Option<String> {
        found.err().map(|error| error.to_string())
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        let good = axis(5, 3, 1, 1, 1);
        let new = |sets, groups, width| {
            let windows = Windows { sets, groups, height: good, width };
            let channels = Channels { inputs: 1, outputs: 1 };
            message(Convolution::new(windows, 1, channels, &Sequential))
        };
        let expected = |what: &str| Some(format!("convolution: {what}"));
        assert_eq!(new(1, 1, good), None);
        assert_eq!(new(0, 1, good), expected("there are no sets or no groups"));
        assert_eq!(new(1, 0, good), expected("there are no sets or no groups"));
        let none = expected("an axis has no positions, taps, stride or dilation");
        assert_eq!(
            new(1, 1, Axis { pixels: 0, padding: 4, ..good }),
            expected("there are no pixels")
        );
        assert_eq!(new(1, 1, Axis { positions: 0, ..good }), none);
        assert_eq!(new(1, 1, Axis { taps: 0, ..good }), none);
        assert_eq!(new(1, 1, Axis { stride: 0, ..good }), none);
        assert_eq!(new(1, 1, Axis { dilation: 0, ..good }), none);
        let beyond = expected("windows reach beyond the padding");
        assert_eq!(new(1, 1, Axis { positions: 6, ..good }), beyond);
        assert_eq!(new(1, 1, Axis { padding: 0, ..good }), beyond);
        assert_eq!(new(1, 1, Axis { dilation: usize::MAX, ..good }), beyond);
        let large = Axis { padding: 1 << 62, ..good };
        assert_eq!(new(1, 1, large), expected("more values than can be counted"));
    }

    #[test]
    fn slices_that_are_too_short_are_refused() {
        let case = Case::new(
            Windows { sets: 2, groups: 1, height: axis(5, 3, 1, 1, 1), width: axis(4, 2, 1, 0, 1) },
            [2, 3],
        );
        let conv = case.direct(1);
        let (images, weights, bias) = (&case.pixels, &case.weights, &case.bias);
        let grad = conv.forward(images, weights, Some(bias)).unwrap();
        let short = |values: &[f64]| values[1..].to_vec();
        let expected = |slice, values: &[f64]| {
            let (found, expected) = (values.len() - 1, values.len());
            Some(format!("convolution: {slice} has {found} values, expected {expected}"))
        };
        let found = conv.forward(&short(images), weights, None);
        assert_eq!(message(found), expected("the images", images));
        let found = conv.forward(images, &short(weights), None);
        assert_eq!(message(found), expected("the weights", weights));
        let found = conv.forward(images, weights, Some(&short(bias)));
        assert_eq!(message(found), expected("the bias", bias));
        assert_eq!(
            message(conv.image_grads(&short(weights), &grad)),
            expected("the weights", weights)
        );
        assert_eq!(
            message(conv.image_grads(weights, &short(&grad))),
            expected("the gradient", &grad)
        );
        assert_eq!(
            message(conv.weight_grads(&short(images), &grad)),
            expected("the images", images)
        );
        assert_eq!(
            message(conv.weight_grads(images, &short(&grad))),
            expected("the gradient", &grad)
        );
    }

    #[test]
    fn no_images_give_no_outputs() {
        let case = Case::new(all_windows()[0], [2, 3]);
        let conv = Convolution::new(case.windows, 0, case.channels, &TWO_THREADS).unwrap();
        assert!(conv.forward(&[], &case.weights, Some(&case.bias)).unwrap().is_empty());
        assert!(conv.image_grads(&case.weights, &[]).unwrap().is_empty());
        assert_eq!(conv.weight_grads::<f64>(&[], &[]).unwrap(), vec![0.; case.weights.len()]);
    }

    #[test]
    fn channels_there_are_none_of_are_refused() {
        for (inputs, outputs) in [(0, 1), (1, 0)] {
            let found =
                Convolution::new(all_windows()[0], 1, Channels { inputs, outputs }, &Sequential);
            assert_eq!(message(found), Some("convolution: there are no channels".to_owned()));
        }
    }
}
