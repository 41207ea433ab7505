//! Where pixels, windows and taps lie.

use super::padded::PaddedAxis;
use super::windows::Axis;

/// All sums of one value of each list, in the order of the lists.
pub(super) fn sums_of(lists: [Vec<usize>; 3]) -> Vec<usize> {
    lists.iter().fold(vec![0], |sums, list| {
        let with = |sum: usize| list.iter().map(move |value| sum + value);
        sums.into_iter().flat_map(with).collect()
    })
}

/// The list with each value times `step`.
pub(super) fn times(list: &[usize], step: usize) -> Vec<usize> {
    list.iter().map(|value| value * step).collect()
}

/// Pixels of one axis that the same taps see, and these taps: value `positions[pixel] + back[tap]` of the
/// padded outputs is what the tap sees the pixel for.
pub(super) struct StridePhase {
    pub(super) pixels: Vec<usize>,
    pub(super) positions: Vec<usize>,
    pub(super) taps: Vec<usize>,
    pub(super) back: Vec<usize>,
}

impl Axis {
    /// The axis of the images with its padding, as far as windows see.
    pub(super) fn padded_pixels(&self) -> PaddedAxis {
        PaddedAxis {
            pixels: self.pixels,
            before: self.padding,
            len: self.pixels + 2 * self.padding,
        }
    }

    /// The axis of the outputs with zeros around it, as far as taps see a pixel from.
    pub(super) fn padded_positions(&self) -> PaddedAxis {
        let positions = (self.pixels + self.padding).div_ceil(self.stride).max(self.positions);
        PaddedAxis {
            pixels: self.positions,
            before: self.overlap(),
            len: self.overlap() + positions,
        }
    }

    /// How many positions later a window still sees a pixel.
    fn overlap(&self) -> usize {
        self.dilation * (self.taps - 1) / self.stride
    }

    /// The pixels and taps that are this much more than a multiple of the stride.
    pub(super) fn stride_phase(&self, phase: usize) -> StridePhase {
        let (stride, padding, dilation) = (self.stride, self.padding, self.dilation);
        let pixels = (0..self.pixels).filter(|pixel| (pixel + padding) % stride == phase);
        let taps = (0..self.taps).filter(|tap| tap * dilation % stride == phase);
        StridePhase {
            positions: pixels.clone().map(|pixel| (pixel + padding) / stride).collect(),
            pixels: pixels.collect(),
            back: taps.clone().map(|tap| self.overlap() - tap * dilation / stride).collect(),
            taps: taps.collect(),
        }
    }
}
