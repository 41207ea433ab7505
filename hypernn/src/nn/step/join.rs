//! Steps that take several values.

use candle_core::{Result, Tensor};

use crate::check::Problem;
use crate::flow::{Given, Join, SampleShape, Size};
use crate::info::LayerInfo;

/// Values of one shape, value by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elementwise {
    name: &'static str,
    times: bool,
    /// Whether a dimension of 1 is that of all values along it.
    spreads: bool,
    /// Whether the second value is the input of the first, as it is.
    skips: bool,
}

/// The sum of all values. A dimension of 1 counts for all along it.
pub const fn add() -> Elementwise {
    Elementwise { name: "add", times: false, spreads: true, skips: false }
}

/// The product of all values. A dimension of 1 counts for all along it.
pub const fn mul() -> Elementwise {
    Elementwise { name: "mul", times: true, spreads: true, skips: false }
}

/// A block's output and its input (He et al. 2016, *Deep Residual Learning*), or what a skip makes of that. Both have
/// one shape.
pub const fn residual() -> Elementwise {
    Elementwise { name: "residual", times: false, spreads: false, skips: false }
}

impl Elementwise {
    /// Says that the second value is the input itself, which messages then give advice on.
    #[doc(hidden)]
    #[must_use]
    pub const fn skips(mut self) -> Self {
        self.skips = true;
        self
    }

    /// What the step says of itself.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new(self.name)
    }

    /// The shape that all values have.
    pub const fn gives(&self, inputs: &[SampleShape]) -> Given {
        let (mut shape, mut i) = (inputs[0], 1);
        while i < inputs.len() {
            shape = match self.together(&shape, &inputs[i]) {
                Some(shape) => shape,
                None => return self.misfit(inputs, i),
            };
            i += 1;
        }
        Given::Shape(shape)
    }

    const fn together(&self, a: &SampleShape, b: &SampleShape) -> Option<SampleShape> {
        match (a.rank(), b.rank()) {
            (Some(rank), Some(other)) if self.spreads && rank == other => spread(a, b, rank),
            _ => a.meet(b),
        }
    }

    /// A block is what has to fit its skip; of other values each the first.
    const fn misfit(&self, inputs: &[SampleShape], i: usize) -> Given {
        let (operand, beside) = if self.skips { (0, i) } else { (i, 0) };
        let replaced = one_difference(&inputs[operand], &inputs[beside]);
        let instead = if self.skips { None } else { replaced };
        let problem = match (self.skips, replaced) {
            (true, Some((wrong, right))) => {
                let text = Problem::new("write ").number(right).text(" in place of ").number(wrong);
                text.text(", or give the skip layers of its own: `skip = […]`")
            }
            (true, None) => Problem::new(
                "give the skip layers of its own, `skip = […]`, or the block one shape with its input",
            ),
            (false, _) => Problem::new("values of one shape are expected"),
        };
        Given::Misfit { operand, beside, instead, problem }
    }

    fn two(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        match (self.times, a.dims() == b.dims() || !self.spreads) {
            (false, true) => a + b,
            (false, false) => a.broadcast_add(b),
            (true, true) => a * b,
            (true, false) => a.broadcast_mul(b),
        }
    }
}

/// The sizes of the only dimension in which two shapes differ. Of a stride or a kernel, which changes several, the size
/// is written nowhere.
const fn one_difference(a: &SampleShape, b: &SampleShape) -> Option<(usize, usize)> {
    let Some((wrong, right)) = a.difference(b) else { return None };
    let (mut count, mut i) = (0, 0);
    while i < SampleShape::MAX {
        match (a.dim(i), b.dim(i)) {
            (Some(a), Some(b)) if a != b => count += 1,
            _ => {}
        }
        i += 1;
    }
    if count > 1 { None } else { Some((wrong, right)) }
}

/// What two shapes of one rank become, where a size of 1 counts for all.
const fn spread(a: &SampleShape, b: &SampleShape, rank: usize) -> Option<SampleShape> {
    let (mut shape, mut i) = (*a, 0);
    while i < rank {
        let size = match (a.size(i), b.size(i)) {
            (Size::Known(1), size) | (size, Size::Known(1)) => size,
            (a, b) => match a.meet(b) {
                Some(size) => size,
                None => return None,
            },
        };
        shape = shape.with(i, size);
        i += 1;
    }
    Some(shape)
}

impl Join for Elementwise {
    fn join(&self, xs: &[&Tensor]) -> Result<Tensor> {
        let [first, others @ ..] = xs else {
            crate::error::bail!(shape, "{}: no values, expected at least one", self.name)
        };
        others.iter().try_fold((*first).clone(), |ys, xs| self.two(&ys, xs))
    }
}

/// Values side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    axis: usize,
}

/// The values one behind the other along an axis of the sample: of `[C, H, W]`, axis 0 has the channels. All other
/// sizes are the same.
pub const fn concat(axis: usize) -> Concat {
    Concat { axis }
}

impl Concat {
    /// What the step says of itself.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("concat")
    }

    /// The shape of the values, with the sum of their sizes along the axis.
    pub const fn gives(&self, inputs: &[SampleShape]) -> Given {
        let (mut shape, mut along, mut i) = (SampleShape::ANY, Some(0), 0);
        while i < inputs.len() {
            if let Some(rank) = inputs[i].rank()
                && self.axis >= rank
            {
                return self.no_axis(inputs, i);
            }
            let others = self.others(&inputs[i]);
            shape = match shape.meet(&others) {
                Some(shape) => shape,
                None => return self.misfit(inputs, i),
            };
            along = match (along, inputs[i].dim(self.axis)) {
                (Some(sum), Some(size)) => usize::checked_add(sum, size),
                _ => None,
            };
            i += 1;
        }
        Given::Shape(shape.with(self.axis, Size::of(along)))
    }

    /// The shape without what it says of the axis.
    const fn others(&self, shape: &SampleShape) -> SampleShape {
        match shape.rank() {
            Some(_) => shape.with(self.axis, Size::Unknown),
            None => SampleShape::ANY,
        }
    }

    const fn misfit(&self, inputs: &[SampleShape], i: usize) -> Given {
        let (a, b) = (self.others(&inputs[0]), self.others(&inputs[i]));
        let problem = match (a.rank(), b.rank()) {
            (Some(a), Some(b)) if a != b => Problem::new("values of one rank are expected"),
            _ => self.differ(&a, &b),
        };
        Given::Misfit { operand: i, beside: 0, instead: None, problem }
    }

    /// The first sizes that differ.
    const fn differ(&self, a: &SampleShape, b: &SampleShape) -> Problem {
        let mut i = 0;
        while a.size(i).meet(b.size(i)).is_some() && i < SampleShape::MAX {
            i += 1;
        }
        let text = Problem::new("all sizes but that along axis ").number(self.axis);
        text.text(" are expected to be the same, ").size(b.size(i)).text(" is not ").size(a.size(i))
    }

    const fn no_axis(&self, inputs: &[SampleShape], i: usize) -> Given {
        let text = Problem::new("there is no axis ").number(self.axis).text(" in ");
        Given::Problem(text.shape(&inputs[i]))
    }
}

impl Join for Concat {
    fn join(&self, xs: &[&Tensor]) -> Result<Tensor> {
        Tensor::cat(xs, self.axis + 1)
    }
}

/// A tensor of a target's own as a value of each sample: `[dims…]` to `[B, dims…]`, with the batch of `like`. Of `G`
/// sets, `[G, dims…]`, each is that of its run of samples.
///
/// # Errors
/// The batch has no such number of runs.
#[doc(hidden)]
pub fn of_each_sample(tensor: &Tensor, rank: usize, like: &Tensor) -> Result<Tensor> {
    let (batch, dims) = (like.dim(0)?, tensor.dims());
    if tensor.rank() == rank {
        return tensor.broadcast_left(batch);
    }
    let (sets, dims) = (dims[0], &dims[1..]);
    if sets == 0 || !batch.is_multiple_of(sets) {
        crate::error::bail!(
            shape,
            "a tensor of {sets} weight sets meets a batch of {batch}, expected a multiple"
        );
    }
    let run: Vec<_> = [sets, batch / sets].iter().chain(dims).copied().collect();
    let all: Vec<_> = std::iter::once(&batch).chain(dims).copied().collect();
    tensor.unsqueeze(1)?.broadcast_as(run)?.reshape(all)
}
