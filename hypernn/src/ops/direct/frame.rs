//! Images with zeros around them, for windows that see more than an image has.

/// One axis of a frame: so many zeros, the pixels, and zeros up to its length.
#[derive(Clone, Copy)]
pub(super) struct Margin {
    pub(super) pixels: usize,
    pub(super) before: usize,
    pub(super) len: usize,
}

/// The frame of images `[planes, height, width]`.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) planes: usize,
    pub(super) height: Margin,
    pub(super) width: Margin,
}

impl Frame {
    /// From one row to the next.
    pub(super) fn row(&self) -> usize {
        self.width.len
    }

    /// From one plane to the next.
    pub(super) fn plane(&self) -> usize {
        self.height.len * self.row()
    }

    /// From one image to the next.
    pub(super) fn image(&self) -> usize {
        self.planes * self.plane()
    }

    fn is_bare(&self) -> bool {
        let bare = |margin: Margin| margin.len == margin.pixels;
        bare(self.height) && bare(self.width)
    }

    /// The images between their zeros, in a vector that is used again; as they are where there are none.
    pub(super) fn around<'a, T: Copy + Default>(
        &self,
        images: &'a [T],
        framed: &'a mut Vec<T>,
    ) -> &'a [T] {
        if self.is_bare() {
            return images;
        }
        let (height, width) = (self.height, self.width);
        let planes = images.len() / (height.pixels * width.pixels);
        // Zeros from the time before are where they were.
        framed.resize(planes * self.plane(), T::default());
        let planes = framed.chunks_exact_mut(self.plane());
        for (framed, plane) in planes.zip(images.chunks_exact(height.pixels * width.pixels)) {
            let rows = framed.chunks_exact_mut(width.len).skip(height.before);
            for (framed, row) in rows.zip(plane.chunks_exact(width.pixels)) {
                framed[width.before..][..width.pixels].copy_from_slice(row);
            }
        }
        framed
    }
}
