//! The arithmetic of a window that slides along an axis.

use crate::check::{MOST_VALUES, Problem, product, sum};
use crate::flow::{Given, SampleShape, Size};

/// A kernel along one axis.
#[derive(Clone, Copy)]
pub(super) struct SlidingWindow {
    pub(super) taps: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) dilation: usize,
    /// Pixels that a transposed convolution adds at the end; 0 for any other.
    pub(super) output_padding: usize,
}

#[allow(clippy::result_large_err, reason = "for the compiler, or on the way to an error")]
impl SlidingWindow {
    /// The number of places that the window takes on a line of pixels.
    pub(super) const fn positions(&self, pixels: usize) -> Result<usize, Problem> {
        let (padded, span) = (self.padded(pixels), self.span());
        if padded > MOST_VALUES {
            return Err(self.too_large(pixels));
        }
        if pixels == 0 || span > padded {
            let problem = Problem::new("the kernel spans ").number(span);
            let problem = problem.text(" with dilation, the input only ").number(padded);
            return Err(problem.text(" with padding"));
        }
        // A stride of 0 is found by the layer's check.
        let stride = if self.stride == 0 { 1 } else { self.stride };
        Ok((padded - span) / stride + 1)
    }

    /// The number of places of `pixels` pixels with the zeros on both sides.
    const fn padded(&self, pixels: usize) -> usize {
        sum(&[pixels, self.padding, self.padding])
    }

    /// The number of pixels from the first to the last under the kernel.
    const fn span(&self) -> usize {
        sum(&[product(&[self.dilation, self.taps.saturating_sub(1)]), 1])
    }

    const fn too_large(&self, pixels: usize) -> Problem {
        let problem = Problem::new("padding ").number(self.padding).text(" on both sides of ");
        problem.number(pixels).text(" pixels is more than any memory holds")
    }

    /// The number of pixels under a window that takes this number of places: a transposed
    /// convolution's output.
    pub(super) const fn pixels(&self, positions: usize) -> Result<usize, Problem> {
        let steps = product(&[positions.saturating_sub(1), self.stride]);
        let span = sum(&[steps, self.span(), self.output_padding]);
        if span > MOST_VALUES {
            let problem =
                Problem::new("the output of ").number(positions).text(" steps with stride ");
            let problem = problem.number(self.stride).text(", dilation ").number(self.dilation);
            let problem = problem.text(" and output padding ").number(self.output_padding);
            return Err(problem.text(" is larger than any memory"));
        }
        if positions == 0 || span <= sum(&[self.padding, self.padding]) {
            let problem = Problem::new("the output spans ").number(span);
            let problem = problem.text(", padding ").number(self.padding);
            return Err(problem.text(" on both sides leaves nothing of it"));
        }
        Ok(span - 2 * self.padding)
    }

    const fn along(&self, length: usize, transposed: bool) -> Result<usize, Problem> {
        if transposed { self.pixels(length) } else { self.positions(length) }
    }

    /// What a convolution of `AXES` axes to `channels` gives for one sample `[C, …]`.
    pub(super) const fn gives<const AXES: usize>(
        &self,
        channels: usize,
        input: &SampleShape,
        transposed: bool,
    ) -> Given {
        let mut shape = SampleShape::channels(channels, AXES);
        let mut i = 1;
        while i <= AXES {
            match input.size(i) {
                Size::Known(length) => match self.along(length, transposed) {
                    Ok(length) => shape = shape.with(i, Size::Known(length)),
                    Err(problem) => return Given::Problem(problem),
                },
                size if self.keeps_length() => shape = shape.with(i, size),
                _ => {}
            }
            i += 1;
        }
        Given::Shape(shape)
    }

    /// Whether it gives as many pixels as it takes, however many these are.
    const fn keeps_length(&self) -> bool {
        let padding = sum(&[self.padding, self.padding]);
        self.stride == 1 && self.output_padding == 0 && sum(&[padding, 1]) == self.span()
    }
}

/// What a convolution of `AXES` axes takes: `[C, …]`.
pub(super) const fn takes<const AXES: usize>(channels: usize) -> SampleShape {
    SampleShape::channels(channels, AXES)
}
