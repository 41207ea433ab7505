//! Windows that slide over images.

use std::ops::Range;

use crate::error::{Error, Result};

/// How a window slides along one axis.
///
/// ```
/// use hypernn_kernels::conv::Axis;
///
/// // Of five pixels between two zeros, a window of three sees the odd ones.
/// let axis = Axis { pixels: 5, positions: 3, taps: 3, stride: 2, padding: 1, dilation: 1 };
/// assert_eq!((axis.pixel(0, 0), axis.pixel(1, 0), axis.pixel(2, 0)), (None, Some(0), Some(1)));
/// // The first tap sees a pixel from the second position on.
/// assert_eq!(axis.reach(0), (1..3, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Pixels of the image.
    pub pixels: usize,
    /// The number of the window's positions.
    pub positions: usize,
    /// Pixels that the window sees at each position.
    pub taps: usize,
    /// Pixels from one position to the next.
    pub stride: usize,
    /// Zeros before the first pixel and behind the last.
    pub padding: usize,
    /// Pixels from one tap to the next.
    pub dilation: usize,
}

impl Axis {
    /// The positions at which a tap sees a pixel and not padding, and the first such pixel.
    ///
    /// # Panics
    /// The stride is 0.
    pub fn reach(&self, tap: usize) -> (Range<usize>, usize) {
        let shift = tap * self.dilation;
        let start = self.padding.saturating_sub(shift).div_ceil(self.stride);
        let Some(last) = (self.pixels + self.padding).checked_sub(shift + 1) else {
            return (0..0, 0);
        };
        let end = (last / self.stride + 1).min(self.positions);
        if start >= end {
            return (0..0, 0);
        }
        (start..end, start * self.stride + shift - self.padding)
    }

    /// The pixel that a tap sees at a position, unless that is padding.
    ///
    /// # Panics
    /// The stride is 0.
    pub fn pixel(&self, tap: usize, position: usize) -> Option<usize> {
        let (reach, first) = self.reach(tap);
        reach.contains(&position).then(|| first + (position - reach.start) * self.stride)
    }
}

/// How windows slide over a batch of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Sets of weights, each for its own images.
    pub sets: usize,
    /// Groups of channels, each with weights of its own.
    pub groups: usize,
    /// The axis from the top down.
    pub height: Axis,
    /// The axis from left to right.
    pub width: Axis,
}

impl Axis {
    /// What there is none of, or what is wrong with it.
    fn problem(&self) -> Option<&'static str> {
        let Self { pixels, positions, taps, stride, padding, dilation } = *self;
        if [positions, taps, stride, dilation].contains(&0) {
            return Some("an axis has no positions, taps, stride or dilation");
        }
        let last_tap = dilation.checked_mul(taps - 1);
        let last = stride.checked_mul(positions - 1).zip(last_tap);
        let end = last.and_then(|(position, tap)| position.checked_add(tap)?.checked_add(1));
        let padded = padding.checked_mul(2).and_then(|both| both.checked_add(pixels));
        match end.zip(padded) {
            Some((end, padded)) if end <= padded => None,
            _ => Some("windows reach beyond the padding"),
        }
    }
}

impl Windows {
    /// Whether a convolution can be computed.
    ///
    /// # Errors
    /// There are no sets, groups, positions or taps, or a window reaches beyond the padding.
    pub(super) fn check(&self) -> Result<()> {
        if self.sets == 0 || self.groups == 0 {
            return Err(Error::Windows { what: "there are no sets or no groups" });
        }
        let problem = self.height.problem().or_else(|| self.width.problem());
        problem.map_or(Ok(()), |what| Err(Error::Windows { what }))
    }

    /// Pixels that a window sees of one channel.
    pub fn taps(&self) -> usize {
        self.height.taps * self.width.taps
    }

    /// The number of pixels of one channel.
    pub fn pixels(&self) -> usize {
        self.height.pixels * self.width.pixels
    }

    /// The number of the window's positions.
    pub fn positions(&self) -> usize {
        self.height.positions * self.width.positions
    }
}
