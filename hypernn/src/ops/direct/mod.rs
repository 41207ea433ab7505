//! A convolution on the CPU: each output is summed up over the pixels of its window where they lie.
//!
//! All three products of a convolution, that of the outputs and those of both gradients, are of one kind
//! (`panels`): lists of offsets say which values each sum takes, and where it goes. The side that takes
//! less to pack is packed. What differs are the lists:
//!
//! | Product | Sides | Summed over | Columns |
//! |---|---|---|---|
//! | Outputs | weights, images | channels and taps | outputs, positions |
//! | Gradient of the images | weights, gradients of outputs | outputs and taps | channels, pixels |
//! | Gradient of the weights | gradients of outputs, images | positions | outputs, channels and taps |
//!
//! Pixels `stride` apart are seen by the same taps, so the gradients of images are one product for each
//! of the `stride × stride` kinds of pixel. Where windows see padding, images are copied between zeros.

mod frame;
mod offsets;
mod product;
mod weight_grads;

use std::ops::Range;

use frame::Frame;
use offsets::{Seen, sums_of, times};
use product::{Product, Weights};
use weight_grads::WeightGrads;

use super::panels::{Side, steps};
use super::pool;
use super::scalar::Scalar;
use super::unfold::Windows;

/// Positions of a run of images: below, products spend their time on the weights.
const RUN_POSITIONS: usize = 256;

/// Values of a run of images: beyond, they no longer lie in the cache.
const RUN_VALUES: usize = 1 << 17;

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

/// Products with the weights, from images to images.
struct Pass {
    products: Vec<Product>,
    /// Of the images that windows see.
    frame: Frame,
    /// The values of one of them.
    from: usize,
    /// Those of one that is computed.
    to: usize,
}

impl Direct {
    /// `channels` are the input and output channels of one group.
    pub(super) fn new(windows: Windows, images_per_set: usize, channels: [usize; 2]) -> Self {
        let inner = channels[0] * windows.taps();
        let images = windows.sets * images_per_set;
        let products = images * windows.groups * channels[1] * inner * windows.positions();
        let threads = pool::threads_for(products);
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

    /// The product of the outputs, with weights `[groups, outputs, channels × taps]`.
    fn outputs(&self) -> Product {
        Product {
            terms: self.window_terms(),
            columns: self.window_columns(),
            places: self.output_places(),
            channels: steps(self.channels[1], self.windows.positions()),
            columns_per_image: self.windows.positions(),
            weight_terms: steps(self.inner(), 1),
            weight_columns: steps(self.channels[1], self.inner()),
        }
    }

    /// The products of the images' gradients, one for each kind of pixel that something sees.
    fn image_grads(&self) -> Vec<Product> {
        let Windows { height, width, .. } = &self.windows;
        let rows = (0..height.stride).map(|more| height.seen(more));
        let columns: Vec<_> = (0..width.stride).map(|more| width.seen(more)).collect();
        let products = rows.flat_map(|rows| {
            let product = |columns| self.image_grads_of(&rows, columns);
            columns.iter().map(product).collect::<Vec<_>>()
        });
        products.filter(|product| !product.terms.is_empty()).collect()
    }

    fn image_grads_of(&self, rows: &Seen, columns: &Seen) -> Product {
        let ([channels, outputs], width) = (self.channels, &self.windows.width);
        let (frame, images) = (self.grad_frame(), self.images_per_run);
        let taps = times(&rows.taps, width.taps);
        let back = times(&rows.back, frame.row());
        let positions = times(&rows.positions, frame.row());
        let pixels = times(&rows.pixels, width.pixels);
        Product {
            terms: sums_of([steps(outputs, frame.plane()), back, columns.back.clone()]),
            columns: sums_of([steps(images, frame.image()), positions, columns.positions.clone()]),
            places: sums_of([steps(images, self.input_len()), pixels, columns.pixels.clone()]),
            channels: steps(channels, self.windows.pixels()),
            columns_per_image: rows.pixels.len() * columns.pixels.len(),
            weight_terms: sums_of([steps(outputs, self.inner()), taps, columns.taps.clone()]),
            weight_columns: steps(channels, self.windows.taps()),
        }
    }

    /// A set's weights, those of each group.
    fn groups<'a, T: Scalar>(
        &self,
        product: &Product,
        weights: &'a [T],
        set: usize,
    ) -> Vec<Weights<'a, T>> {
        let groups = weights[set * self.weights_per_set()..][..self.weights_per_set()]
            .chunks_exact(self.channels[1] * self.inner());
        groups.map(|group| product.weights(group)).collect()
    }

    /// The output images; the bias is `[sets, groups × outputs]`.
    pub(super) fn forward<T: Scalar>(
        &self,
        pixels: &[T],
        weights: &[T],
        bias: Option<&[T]>,
    ) -> Vec<T> {
        let (products, frame) = (vec![self.outputs()], self.image_frame());
        let pass = Pass { products, frame, from: self.input_len(), to: self.output_len() };
        self.compute(&pass, (pixels, weights, bias))
    }

    fn compute<T: Scalar>(&self, pass: &Pass, sides: (&[T], &[T], Option<&[T]>)) -> Vec<T> {
        let images = self.windows.sets * self.images_per_set;
        let mut out = vec![T::default(); images * pass.to];
        let parts = self.share_out(&mut out, pass.to);
        pool::each(parts, self.parallel, |(part, out)| self.compute_part(pass, out, &part, sides));
        out
    }

    fn compute_part<T: Scalar>(
        &self,
        pass: &Pass,
        mut out: &mut [T],
        part: &Part,
        (images, weights, bias): (&[T], &[T], Option<&[T]>),
    ) {
        let (groups, outputs) = (self.windows.groups, self.channels[1]);
        let bias = bias.map_or(&[][..], |bias| &bias[part.set * groups * outputs..]);
        let weights = |product| (product, self.groups(product, weights, part.set));
        let products: Vec<_> = pass.products.iter().map(weights).collect();
        let (mut framed, mut block) = (Vec::new(), Vec::new());
        for run in self.runs(part) {
            let values = pass.frame.around(self.of(images, &run, pass.from), &mut framed);
            for group in 0..groups {
                let values = &values[group * pass.frame.image() / groups..];
                let out = &mut out[group * pass.to / groups..];
                let bias = bias.chunks_exact(outputs).nth(group).unwrap_or_default();
                for (product, weights) in &products {
                    product.compute(out, run.len(), (&weights[group], values, bias), &mut block);
                }
            }
            out = &mut out[run.len() * pass.to..];
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
        let (products, frame) = (self.image_grads(), self.grad_frame());
        let pass = Pass { products, frame, from: self.output_len(), to: self.input_len() };
        self.compute(&pass, (grad, weights, None))
    }

    fn grads_of_weights<T: Scalar>(&self, pixels: &[T], grad: &[T]) -> Vec<T> {
        let parts = self.parts();
        let parts_of_set = (parts.len() / self.windows.sets).max(1);
        let lists = WeightGrads::new(self);
        let sums_of = |part| self.sums_of_part(&lists, &part, pixels, grad);
        let mut sums = pool::each(parts, self.parallel, sums_of);
        let mut grads = vec![T::default(); self.windows.sets * self.weights_per_set()];
        let sets = grads.chunks_exact_mut(self.weights_per_set());
        for (grads, sums) in sets.zip(sums.chunks_mut(parts_of_set)) {
            let Some((sums, others)) = sums.split_first_mut() else { continue };
            for other in others {
                sums.iter_mut().zip(other).for_each(|(sum, other)| *sum += *other);
            }
            lists.place(grads, sums);
        }
        grads
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::unfold::{Axis, taps};

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
