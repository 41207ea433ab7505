//! Images padded with zeros, for windows that see more than an image has.

/// One axis of a padded image: so many zeros, the pixels, and zeros up to its length.
#[derive(Clone, Copy)]
pub(super) struct PaddedAxis {
    pub(super) pixels: usize,
    pub(super) before: usize,
    pub(super) len: usize,
}

/// The padding of images `[planes, height, width]`.
#[derive(Clone, Copy)]
pub(super) struct PaddedImage {
    pub(super) planes: usize,
    pub(super) height: PaddedAxis,
    pub(super) width: PaddedAxis,
}

impl PaddedImage {
    /// The step from one row to the next, in values.
    pub(super) fn row(&self) -> usize {
        self.width.len
    }

    /// The step from one plane to the next, in values.
    pub(super) fn plane(&self) -> usize {
        self.height.len * self.row()
    }

    /// The step from one image to the next, in values.
    pub(super) fn image(&self) -> usize {
        self.planes * self.plane()
    }

    fn is_none(&self) -> bool {
        let none = |axis: PaddedAxis| axis.len == axis.pixels;
        none(self.height) && none(self.width)
    }

    /// The images between their zeros, in a vector that is used again; as they are where there are none.
    pub(super) fn pad<'a, T: Copy + Default>(
        &self,
        images: &'a [T],
        padded: &'a mut Vec<T>,
    ) -> &'a [T] {
        if self.is_none() {
            return images;
        }
        let (height, width) = (self.height, self.width);
        let planes = images.len() / (height.pixels * width.pixels);
        // Zeros from the time before are where they were.
        padded.resize(planes * self.plane(), T::default());
        let planes = padded.chunks_exact_mut(self.plane());
        for (padded, plane) in planes.zip(images.chunks_exact(height.pixels * width.pixels)) {
            let rows = padded.chunks_exact_mut(width.len).skip(height.before);
            for (padded, row) in rows.zip(plane.chunks_exact(width.pixels)) {
                padded[width.before..][..width.pixels].copy_from_slice(row);
            }
        }
        padded
    }
}
