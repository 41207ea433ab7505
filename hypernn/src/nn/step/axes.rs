//! Steps that give the same values other dimensions, or fewer.

use candle_core::{Module, Result, Tensor};

use crate::check::Problem;
use crate::flow::{Given, SampleShape, Size};
use crate::info::LayerInfo;

/// The problem of an axis that a shape has not.
const fn no_axis(axis: usize, input: &SampleShape) -> Option<Problem> {
    match input.rank() {
        Some(rank) if axis >= rank => {
            let text = Problem::new("there is no axis ").number(axis);
            Some(text.text(" among ").number(rank))
        }
        _ => None,
    }
}

/// The dimensions from one on become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlattenFrom {
    axis: usize,
}

/// All dimensions from `axis` on become one: with 1, `[C, H, W]` to `[C, H × W]`.
pub const fn flatten_from(axis: usize) -> FlattenFrom {
    FlattenFrom { axis }
}

impl FlattenFrom {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("flatten_from")
    }

    /// The shape of the output of one sample: its dimensions before the axis, and one more.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        if let Some(problem) = no_axis(self.axis, input) {
            return Given::Problem(problem);
        }
        let Some(rank) = input.rank() else { return Given::Shape(SampleShape::ANY) };
        if rank == self.axis + 1 {
            return Given::Shape(*input);
        }
        let (mut flat, mut product, mut i) = ([Size::Unknown; SampleShape::MAX], Some(1), 0);
        while i < rank {
            if i < self.axis {
                flat[i] = input.size(i);
            } else {
                product = match (product, input.dim(i)) {
                    (Some(product), Some(size)) => usize::checked_mul(product, size),
                    _ => None,
                };
            }
            i += 1;
        }
        flat[self.axis] = Size::of(product);
        let (sizes, _) = flat.split_at(self.axis + 1);
        Given::Shape(SampleShape::sized(sizes))
    }
}

impl Module for FlattenFrom {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs.flatten_from(self.axis + 1)
    }
}

/// The same dimensions in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permute<const R: usize> {
    axes: [usize; R],
}

/// The axes of the sample in another order: with `[1, 0]`, `[T, D]` to `[D, T]`.
pub const fn permute<const R: usize>(axes: [usize; R]) -> Permute<R> {
    Permute { axes }
}

impl<const R: usize> Permute<R> {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        let problem =
            Problem::new("permute: each of the axes from 0 to ").number(R.saturating_sub(1));
        let problem = problem.text(" is expected once");
        LayerInfo::new("permute")
            .checked(if self.is_whole() { None } else { Some(problem) })
            .takes(SampleShape::of(&[None; R]))
    }

    const fn is_whole(&self) -> bool {
        let mut axis = 0;
        while axis < R {
            let mut i = 0;
            while i < R && self.axes[i] != axis {
                i += 1;
            }
            if i == R {
                return false;
            }
            axis += 1;
        }
        R <= SampleShape::MAX
    }

    /// The shape of the output of one sample.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        let (mut sizes, mut i) = ([Size::Unknown; R], 0);
        while i < R {
            sizes[i] = input.size(self.axes[i]);
            i += 1;
        }
        Given::Shape(SampleShape::sized(&sizes))
    }
}

impl<const R: usize> Module for Permute<R> {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let axes: Vec<_> = std::iter::once(0).chain(self.axes.map(|axis| axis + 1)).collect();
        xs.permute(axes)?.contiguous()
    }
}

/// A step that leaves out one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduce {
    axis: usize,
    of: Reduction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reduction {
    Mean,
    /// The value of this number.
    Take(usize),
}

/// The mean along an axis of the sample: with 0, `[T, D]` to `[D]`.
pub const fn mean(axis: usize) -> Reduce {
    Reduce { axis, of: Reduction::Mean }
}

/// What lies at a place of the first axis of the sample: with 0, the first row of `[T, D]`, `[D]`.
pub const fn take(at: usize) -> Reduce {
    Reduce { axis: 0, of: Reduction::Take(at) }
}

impl Reduce {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new(match self.of {
            Reduction::Mean => "mean",
            Reduction::Take(_) => "take",
        })
    }

    /// The shape of the output of one sample: that of the input without the axis.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        if let Some(problem) = no_axis(self.axis, input) {
            return Given::Problem(problem);
        }
        if let (Reduction::Take(at), Some(size)) = (self.of, input.dim(self.axis))
            && at >= size
        {
            let text = Problem::new("there is no place ").number(at).text(" among ").number(size);
            return Given::Problem(text);
        }
        let Some(rank) = input.rank() else { return Given::Shape(SampleShape::ANY) };
        let (mut sizes, mut i) = ([Size::Unknown; SampleShape::MAX], 0);
        while i + 1 < rank {
            sizes[i] = input.size(if i < self.axis { i } else { i + 1 });
            i += 1;
        }
        let (sizes, _) = sizes.split_at(rank - 1);
        Given::Shape(SampleShape::sized(sizes))
    }
}

impl Module for Reduce {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        match self.of {
            Reduction::Mean => xs.mean(self.axis + 1),
            Reduction::Take(at) => xs.narrow(self.axis + 1, at, 1)?.squeeze(self.axis + 1),
        }
    }
}

/// Each pixel several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upsample2d {
    factor: usize,
}

/// Each pixel `factor` × `factor` times, `[C, H, W]` to `[C, H × factor, W × factor]`: the nearest pixel, as PyTorch's
/// `Upsample`.
pub const fn upsample2d(factor: usize) -> Upsample2d {
    Upsample2d { factor }
}

impl Upsample2d {
    /// What the step takes for one sample, and what is wrong with its settings, if anything.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("upsample2d")
            .size("the factor", self.factor)
            .takes(SampleShape::of(&[None; 3]))
    }

    /// The shape of the output of one sample.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(SampleShape::sized(&[
            input.size(0),
            self.times(input.size(1)),
            self.times(input.size(2)),
        ]))
    }

    const fn times(&self, size: Size) -> Size {
        match size {
            Size::Known(size) => Size::of(usize::checked_mul(size, self.factor)),
            size if self.factor == 1 => size,
            _ => Size::Unknown,
        }
    }
}

impl Module for Upsample2d {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = xs.dims4()?;
        let n = self.factor;
        // By broadcasting, whose gradient is a sum.
        xs.reshape((batch, channels, height, 1, width, 1))?
            .broadcast_as((batch, channels, height, n, width, n))?
            .reshape((batch, channels, height * n, width * n))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn shape(given: Given) -> String {
        match given {
            Given::Shape(shape) => shape.to_string(),
            Given::Problem(problem) | Given::Misfit { problem, .. } => problem.message().to_owned(),
        }
    }

    const NAMED: SampleShape =
        SampleShape::sized(&[Size::Named("T"), Size::Known(4), Size::Known(6)]);

    #[test]
    fn names_go_through() {
        assert_eq!(shape(permute([2, 0, 1]).gives(&NAMED)), "[6, T, 4]");
        assert_eq!(shape(flatten_from(1).gives(&NAMED)), "[T, 24]");
        assert_eq!(shape(flatten_from(2).gives(&NAMED)), "[T, 4, 6]");
        assert_eq!(shape(flatten_from(0).gives(&NAMED)), "[_]");
        assert_eq!(shape(mean(1).gives(&NAMED)), "[T, 6]");
        assert_eq!(shape(take(3).gives(&NAMED)), "[4, 6]");
        assert_eq!(shape(upsample2d(3).gives(&NAMED)), "[T, 12, 18]");
        let any = SampleShape::ANY;
        for given in [flatten_from(1).gives(&any), mean(0).gives(&any), take(9).gives(&any)] {
            assert_eq!(shape(given), "[…]");
        }
    }

    #[test]
    fn what_an_axis_has_not() {
        assert_eq!(shape(mean(3).gives(&NAMED)), "there is no axis 3 among 3");
        assert_eq!(shape(flatten_from(3).gives(&NAMED)), "there is no axis 3 among 3");
        assert_eq!(shape(take(4).gives(&SampleShape::new(&[4]))), "there is no place 4 among 4");
        let problem = permute([0, 2]).info().problem.map(|problem| problem.message().to_owned());
        let expected = "permute: each of the axes from 0 to 1 is expected once";
        assert_eq!(problem.as_deref(), Some(expected));
        assert!(permute([1, 0]).info().problem.is_none());
    }

    #[test]
    fn values_lie_where_the_shapes_say() -> Result<()> {
        let xs = Tensor::arange(0f32, 24., &Device::Cpu)?.reshape((2, 3, 2, 2))?;
        assert_eq!(permute([2, 0, 1]).forward(&xs)?.dims(), [2, 2, 3, 2]);
        assert_eq!(flatten_from(1).forward(&xs)?.dims(), [2, 3, 4]);
        assert_eq!(take(2).forward(&xs)?.flatten_all()?.to_vec1::<f32>()?[..4], [8., 9., 10., 11.]);
        assert_eq!(mean(0).forward(&xs)?.flatten_all()?.to_vec1::<f32>()?[..4], [4., 5., 6., 7.]);
        let up = upsample2d(2).forward(&xs)?;
        assert_eq!(up.dims(), [2, 3, 4, 4]);
        let nearest = xs.upsample_nearest2d(4, 4)?;
        assert_eq!(up.flatten_all()?.to_vec1::<f32>()?, nearest.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }
}
