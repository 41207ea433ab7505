//! Cuts generated parameters into the target's tensors, with a backward that costs O(P).
//!
//! candle's own `narrow` pads its gradient with zeros to the length of the whole vector, once per
//! tensor: O(tensors × P). Here each tensor's gradient is put into a ledger as it arrives, and one
//! node below them all turns the ledger's content into the generator's gradient at once:
//!
//! ```text
//! generator ──► Below (one zero, no values) ──► Slice 0 ──► tensor 0
//!                                          ├──► Slice 1 ──► tensor 1
//!                                          └──► …
//! ```
//!
//! `Slice` gets its values past the graph, from `cut`, which writes them once, scaled and shifted;
//! elsewhere than on the CPU, `whole` gives views instead. Its backward files the gradient and gives
//! `Below` a zero once, so that candle reaches that node, after all slices. A tensor that the loss does not
//! reach counts as zero.

mod below;
mod cut;
mod ledger;
mod pattern;
mod pieces;
mod scaled;
mod sink;
mod slice;
mod whole;
mod written;

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, Result, Shape, Tensor};

use crate::generator::{GeneratorOutput, Rows};
use crate::ops::scalar::is_direct;
use crate::ops::second_order::keeps_graph;
use below::{below_linear, below_scaled, below_values};
use cut::Sets;
use ledger::Ledger;
pub(crate) use pattern::Pattern;
pub use sink::Sink;
pub(crate) use sink::Watch;
use slice::Slice;
use whole::copied;
pub(crate) use whole::split_whole;

/// One tensor of the target: `shift + scale × generated[offset..offset + len]`.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) offset: usize,
    pub(crate) dims: Vec<usize>,
    pub(crate) scale: f64,
    pub(crate) shift: f64,
}

impl Segment {
    fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether the values are taken as they are.
    fn is_plain(&self) -> bool {
        self.scale == 1. && self.shift == 0.
    }

    /// `[dims…]`, or `[sets, dims…]`.
    fn shape(&self, sets: Option<usize>) -> Shape {
        let Some(sets) = sets else { return Shape::from(self.dims.as_slice()) };
        let mut dims = Vec::with_capacity(1 + self.dims.len());
        dims.push(sets);
        dims.extend_from_slice(&self.dims);
        Shape::from(dims)
    }
}

/// The tensors of one set, or of several.
pub(crate) struct Cuts {
    /// `[dims…]`, or `[sets, dims…]`.
    pub(crate) tensors: Vec<Tensor>,
    /// Where the gradient of each goes; none where no gradient flows back.
    pub(crate) sinks: Vec<Sink>,
    /// None where no gradient flows back.
    pub(crate) watch: Option<Watch>,
}

/// Cuts what a generator gave into tensors. A set's values lie in flat order; segments are in order
/// and do not overlap, and what lies behind the last is surplus.
///
/// On the CPU, in f32 and f64, each tensor is written in one pass; elsewhere the whole vector is, and
/// tensors are views of it.
pub(crate) fn split(
    output: &GeneratorOutput,
    sets: Option<usize>,
    pattern: &Pattern,
) -> Result<Cuts> {
    let rows = &output.rows;
    let in_place = |tensor: &Tensor| {
        is_direct(tensor) && pattern.dtype().is_none_or(|dtype| dtype == tensor.dtype())
    };
    if !rows.tensors().all(in_place) {
        return split_whole(rows, sets, pattern);
    }
    split_direct(rows, sets, pattern.segments.clone())
}

/// Cuts `[sets, dims…]` into a tensor `[dims…]` per set.
pub(crate) fn unstack(tensor: &Tensor) -> Result<Vec<Tensor>> {
    let pattern = Pattern::new(of_sets(tensor)?);
    let cuts = split(&tensor.clone().into(), None, &pattern)?;
    (0..tensor.dim(0)?).map(|set| cuts.tracked(set)).collect()
}

/// The sets of a tensor `[sets, dims…]`, each to be cut out by itself: its gradient costs what the set
/// does, and that of the whole tensor is put together once in a pass, however many sets there are.
pub(crate) struct Unstack {
    values: Tensor,
    /// None where no gradient flows back.
    gradients: Option<(Tensor, Arc<Ledger>)>,
}

impl Unstack {
    pub(crate) fn new(tensor: &Tensor) -> Result<Self> {
        let values = tensor.detach();
        if !tensor.track_op() {
            return Ok(Self { values, gradients: None });
        }
        let segments: Arc<[_]> = of_sets(tensor)?.collect();
        let width = tensor.elem_count();
        let ledger = Arc::new(Ledger::new((1, width), segments, tensor.dtype()));
        Ok(Self { values, gradients: Some((below_values(tensor, &ledger)?, ledger)) })
    }

    /// A copy of a set, `[dims…]`.
    pub(crate) fn get(&self, set: usize) -> Result<Tensor> {
        let view = self.values.get(set)?;
        match &self.gradients {
            None => view.force_contiguous(),
            Some((below, ledger)) => copied(&view, below, (ledger, set)),
        }
    }
}

/// A segment for each set of a tensor `[sets, dims…]`, as it is.
fn of_sets(tensor: &Tensor) -> Result<impl Iterator<Item = Segment> + use<>> {
    let (sets, dims) = (tensor.dim(0)?, tensor.dims()[1..].to_vec());
    let len: usize = dims.iter().product();
    let segment =
        move |set| Segment { offset: set * len, dims: dims.clone(), scale: 1., shift: 0. };
    Ok((0..sets).map(segment))
}

/// The steps of a sequence `[B, T, …]`, `[B, …]` each.
///
/// The backward of candle's `narrow` costs as much as the whole sequence, once for each step: a sequence
/// that has a gradient is cut at once.
pub(crate) fn steps(xs: &Tensor) -> Result<Vec<Tensor>> {
    let by_step = xs.transpose(0, 1)?.contiguous()?;
    if by_step.track_op() {
        return unstack(&by_step);
    }
    (0..by_step.dim(0)?).map(|at| by_step.get(at)).collect()
}

impl Cuts {
    /// The same without the shorter way, which is for gradients that nothing differentiates again.
    fn for_second_order(self) -> Result<Self> {
        if !keeps_graph() {
            return Ok(self);
        }
        let tensors = (0..self.tensors.len()).map(|index| self.tracked(index));
        Ok(Self { tensors: tensors.collect::<Result<_>>()?, sinks: Vec::new(), watch: self.watch })
    }

    fn untracked(tensors: Vec<Tensor>) -> Self {
        Self { tensors, sinks: Vec::new(), watch: None }
    }

    /// Nodes of these values.
    fn sliced(
        below: &Tensor,
        ledger: &Arc<Ledger>,
        sets: Option<usize>,
        values: Vec<CpuStorage>,
    ) -> Result<Self> {
        let slice = |(index, values): (usize, CpuStorage)| {
            let (shape, values) = (ledger.segments[index].shape(sets), Mutex::new(Some(values)));
            below.apply_op1(Slice { ledger: ledger.clone(), index, shape, values })
        };
        let sink =
            |index| Sink { ledger: ledger.clone(), index, below: below.clone(), of_view: false };
        let tensors = values.into_iter().enumerate().map(slice).collect::<Result<Vec<_>>>()?;
        let sinks = (0..tensors.len()).map(sink).collect();
        Self { tensors, sinks, watch: Some(Watch(ledger.clone())) }.for_second_order()
    }

    /// A tensor whose gradient goes to the ledger.
    pub(crate) fn tracked(&self, index: usize) -> Result<Tensor> {
        let tensor = &self.tensors[index];
        self.sinks.get(index).map_or_else(|| Ok(tensor.clone()), |sink| sink.tracked(tensor))
    }
}

fn split_direct(rows: &Rows, sets: Option<usize>, segments: Arc<[Segment]>) -> Result<Cuts> {
    let of_sets = Sets::of(rows, sets.unwrap_or(1))?;
    check_width(of_sets.width, &segments)?;
    if !rows.track_op() {
        return Ok(Cuts::untracked(of_sets.tensors(rows, sets, &segments)?));
    }
    let values = of_sets.cut(rows, &segments)?;
    let ledger = Ledger::new((of_sets.count, of_sets.width), segments, rows.dtype());
    let ledger = Arc::new(ledger);
    Cuts::sliced(&below(rows, &ledger)?, &ledger, sets, values)
}

/// The node below all tensors.
fn below(rows: &Rows, ledger: &Arc<Ledger>) -> Result<Tensor> {
    match rows {
        Rows::Linear { inputs, weight, bias } => below_linear([inputs, weight, bias], ledger),
        Rows::Scaled { shared, gains, bias } => below_scaled([shared, gains, bias], ledger),
        Rows::Values(values) => below_values(values, ledger),
    }
}

/// A user's generator may give too few values.
fn check_width(found: usize, segments: &[Segment]) -> Result<()> {
    let needed = segments.last().map_or(0, |segment| segment.offset + segment.len());
    if found < needed {
        crate::error::bail!(shape, "the generator gave {found} values, expected at least {needed}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};

    use super::*;
    use crate::nn::testing::device;

    fn pattern() -> Pattern {
        let segment = |offset, dims: &[usize], scale, shift| Segment {
            offset,
            dims: dims.to_vec(),
            scale,
            shift,
        };
        let segments =
            [segment(0, &[2, 3], 0.5, 0.), segment(6, &[1], 1., 0.), segment(7, &[4, 2], 2., -1.)];
        Pattern::new(segments.into_iter())
    }

    /// A loss that tells tensors and values apart.
    fn loss(tensors: &[Tensor]) -> Result<Tensor> {
        let terms = tensors
            .iter()
            .enumerate()
            .map(|(i, tensor)| tensor.sqr()?.affine(1. + i as f64, 0.)?.add(tensor)?.sum_all());
        terms.reduce(|a, b| a? + b?).unwrap_or_else(|| Tensor::new(0., device()))
    }

    fn assert_same(output: &GeneratorOutput, sets: Option<usize>, vars: &[&Var]) -> Result<()> {
        let whole = output.values()?.reshape((sets.unwrap_or(1), ()))?;
        let narrowed: Vec<_> = pattern()
            .segments
            .iter()
            .map(|segment| {
                let window = whole.narrow(1, segment.offset, segment.len())?;
                window.affine(segment.scale, segment.shift)?.reshape(segment.shape(sets))
            })
            .collect::<Result<_>>()?;
        let expected = loss(&narrowed)?.backward()?;
        let direct = split(output, sets, &pattern())?;
        let whole = split_whole(&output.rows, sets, &pattern())?;
        let (direct, whole) = (
            [direct.tensors.clone(), tracked(&direct)?],
            [whole.tensors.clone(), tracked(&whole)?],
        );
        for cut in direct.into_iter().chain(whole) {
            let found = loss(&cut)?.backward()?;
            for (expected, found) in narrowed.iter().zip(&cut) {
                assert_close(expected, found)?;
            }
            for var in vars {
                match (expected.get(var), found.get(var)) {
                    (Some(expected), Some(found)) => assert_close(expected, found)?,
                    (expected, found) => assert_eq!(expected.is_some(), found.is_some()),
                }
            }
        }
        Ok(())
    }

    fn tracked(cuts: &Cuts) -> Result<Vec<Tensor>> {
        (0..cuts.tensors.len()).map(|index| cuts.tracked(index)).collect()
    }

    /// Where a tensor's values are kept.
    fn storage(tensor: &Tensor) -> *const candle_core::Storage {
        std::ptr::from_ref(&*tensor.storage_and_layout().0)
    }

    /// With one set, the tensors of a whole vector are views of it, with and without gradients: a
    /// tensor costs no launch. Between the generator and the views lie one multiplication, one
    /// addition and one cast.
    #[test]
    fn tensors_of_a_whole_vector_cost_nothing() -> Result<()> {
        let values = random(&[4, 4])?;
        let pattern = pattern().with_dtype(DType::BF16);
        for output in [values.as_tensor().clone(), values.as_detached_tensor()] {
            let cuts = split(&output.into(), None, &pattern)?;
            let of_first = storage(&cuts.tensors[0]);
            assert!(cuts.tensors.iter().all(|tensor| storage(tensor) == of_first));
            assert!(cuts.tensors.iter().all(|tensor| tensor.dtype() == DType::BF16));
        }
        let cuts = split(&values.as_tensor().clone().into(), None, &pattern)?;
        let nodes = cuts.tensors[2].sorted_nodes().into_iter();
        let stores: std::collections::HashSet<_> = nodes.map(storage).collect();
        assert_eq!(stores.len(), 1 + 3);
        Ok(())
    }

    /// Tensors in half precision have gradients in full: what is filed more than once is added up in
    /// the dtype of the values, where bf16 would lose the second.
    #[test]
    fn gradients_have_the_dtype_of_the_values() -> Result<()> {
        let values = random(&[4, 4])?;
        let pattern = pattern().with_dtype(DType::BF16);
        let cuts = split(&values.as_tensor().clone().into(), None, &pattern)?;
        let terms = [1., 1. / 512.].map(|by| cuts.tracked(1)?.affine(by, 0.)?.to_dtype(DType::F64));
        let [one, little] = terms;
        let grads = (one? + little?)?.sum_all()?.backward()?;
        let grad = grads.get(&values).map(|grad| grad.flatten_all()?.to_vec1::<f64>());
        let mut expected = vec![0.; 16];
        expected[6] = 1. + 1. / 512.;
        assert_eq!(grad.transpose()?, Some(expected));
        Ok(())
    }

    fn assert_close(expected: &Tensor, found: &Tensor) -> Result<()> {
        assert_eq!(expected.dims(), found.dims());
        let distance = (expected - found)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?;
        assert!(distance < 1e-12, "{distance}: {expected}, {found}");
        Ok(())
    }

    fn random(dims: &[usize]) -> Result<Var> {
        Var::randn_f64(0., 1., dims, DType::F64, device())
    }

    /// Four rows of four hold 16 values for 15: rows cut tensors, one value is surplus.
    #[test]
    fn values_and_linear_layers_are_split_as_narrow_does() -> Result<()> {
        for sets in [None, Some(1), Some(3)] {
            let rows = 4 * sets.unwrap_or(1);
            let values = random(&[rows, 4])?;
            assert_same(&values.as_tensor().clone().into(), sets, &[&values])?;
            let (inputs, weight, bias) = (random(&[rows, 5])?, random(&[4, 5])?, random(&[4])?);
            let tensor = |var: &Var| var.as_tensor().clone();
            let output = GeneratorOutput::linear(tensor(&inputs), tensor(&weight), tensor(&bias));
            assert_same(&output, sets, &[&inputs, &weight, &bias])?;
        }
        Ok(())
    }

    #[test]
    fn scaled_rows_are_split_as_narrow_does() -> Result<()> {
        for sets in [None, Some(1), Some(3)] {
            let (shared, gains) = (random(&[4, 4])?, random(&[sets.unwrap_or(1), 4])?);
            let bias = random(&[4])?;
            let tensor = |var: &Var| var.as_tensor().clone();
            let output = GeneratorOutput::scaled(tensor(&shared), tensor(&gains), tensor(&bias));
            assert_same(&output, sets, &[&shared, &gains, &bias])?;
            let detached = split(&output.detach(), sets, &pattern())?.tensors;
            for (expected, found) in split(&output, sets, &pattern())?.tensors.iter().zip(&detached)
            {
                assert_close(expected, found)?;
            }
        }
        Ok(())
    }

    #[test]
    fn too_few_values_are_an_error() -> Result<()> {
        let values = random(&[2, 7])?.as_tensor().clone();
        let message = split(&values.into(), None, &pattern()).map_err(|err| err.to_string()).err();
        // A backtrace may follow.
        let line = message.as_deref().and_then(|message| message.lines().next());
        assert_eq!(line, Some("the generator gave 14 values, expected at least 15"));
        Ok(())
    }

    /// The steps of a sequence are those of `narrow`, and so is its gradient, which takes no longer for
    /// many steps: here `narrow`'s would fill 300 GB, one step's after the other's.
    #[test]
    fn steps_are_cut_at_once() -> Result<()> {
        let sequence = random(&[2, 5, 3])?;
        let narrowed = |at| sequence.as_tensor().narrow(1, at, 1)?.squeeze(1);
        let narrowed = (0..5).map(narrowed).collect::<Result<Vec<_>>>()?;
        let cut = steps(sequence.as_tensor())?;
        for (expected, found) in narrowed.iter().zip(&cut) {
            assert_close(expected, found)?;
        }
        let grads = [loss(&narrowed)?.backward()?, loss(&cut)?.backward()?];
        let [Some(expected), Some(found)] = grads.each_ref().map(|grads| grads.get(&sequence))
        else {
            candle_core::bail!("no gradient");
        };
        assert_close(expected, found)?;
        let untracked = steps(&sequence.as_detached_tensor())?;
        assert_close(&narrowed[4], &untracked[4])?;
        let long = random(&[1, 50_000, 16])?;
        let sums = steps(long.as_tensor())?;
        let grads = Tensor::cat(&sums, 0)?.sqr()?.sum_all()?.backward()?;
        let grad = grads.get(&long).map(|grad| assert_close(&(long.as_tensor() * 2.)?, grad));
        assert!(grad.transpose()?.is_some());
        Ok(())
    }

    /// A pass that fails, before or after some slices have filed, leaves nothing for the next.
    #[test]
    fn a_failed_pass_leaves_nothing() -> Result<()> {
        let values = random(&[4, 4])?;
        let tensors = split(&values.as_tensor().clone().into(), None, &pattern())?.tensors;
        let reached = (tensors[0].sum_all()? + tensors[2].sum_all()?)?;
        // candle has no backward for this factor.
        let failing = values.as_tensor().reshape((1, 1, 4, 4))?.interpolate2d(6, 6)?.sum_all()?;
        for loss in [(&reached + &failing)?, (&failing + &reached)?] {
            assert!(loss.backward().is_err());
            let grads = tensors[1].sum_all()?.backward()?;
            let grad = grads.get(&values).map(|grad| grad.flatten_all()?.to_vec1::<f64>());
            let mut expected = vec![0.; 16];
            expected[6] = 1.;
            assert_eq!(grad.transpose()?, Some(expected));
        }
        Ok(())
    }
}
