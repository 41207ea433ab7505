//! What the names in a target's shapes stand for where it is used.

use super::size::same_text;
use super::{SampleShape, Size};

/// The most names that are followed; those behind are unknown sizes.
const MAX_NAMES: usize = 16;

/// Names, and the sizes that they stand for.
#[derive(Clone, Copy)]
pub(super) struct Bindings {
    names: [&'static str; MAX_NAMES],
    sizes: [Size; MAX_NAMES],
    len: usize,
}

impl Bindings {
    pub(super) const NONE: Self =
        Self { names: [""; MAX_NAMES], sizes: [Size::Unknown; MAX_NAMES], len: 0 };

    /// With the names in a shape, for the sizes of another, as far as both have the same dimensions.
    pub(super) const fn bind(mut self, names: &SampleShape, sizes: &SampleShape) -> Self {
        if !names.has_names() {
            return self;
        }
        let open = !(names.rank().is_some() && sizes.rank().is_some());
        let mut i = 0;
        while i < names.kept_dims() {
            self = self.name(names.size(i), sizes.size(i));
            if open {
                self = self.name(names.from_last(i), sizes.from_last(i));
            }
            i += 1;
        }
        self
    }

    const fn name(mut self, name: Size, size: Size) -> Self {
        let Size::Named(name) = name else { return self };
        if !size.is_said() || self.find(name).is_said() || self.len == MAX_NAMES {
            return self;
        }
        self.names[self.len] = name;
        self.sizes[self.len] = size;
        self.len += 1;
        self
    }

    const fn find(&self, name: &str) -> Size {
        let mut i = 0;
        while i < self.len {
            if same_text(self.names[i], name) {
                return self.sizes[i];
            }
            i += 1;
        }
        Size::Unknown
    }

    /// A shape with what its names stand for.
    pub(super) const fn put_into(&self, shape: &SampleShape) -> SampleShape {
        if !shape.has_names() {
            return *shape;
        }
        let (mut put, mut i) = (*shape, 0);
        while i < shape.kept_dims() {
            put = put.with(i, self.of(put.size(i))).with_from_last(i, self.of(put.from_last(i)));
            i += 1;
        }
        put
    }

    const fn of(&self, size: Size) -> Size {
        match size {
            Size::Named(name) => self.find(name),
            size => size,
        }
    }
}
