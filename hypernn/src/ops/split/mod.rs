//! Cuts generated parameters into the target's tensors, with a backward that costs O(P).
//!
//! candle's own `narrow` pads its gradient with zeros to the length of the whole vector, once per
//! tensor: O(tensors × P). Here each tensor's gradient is put into an accumulator as it arrives, and one
//! node below them all turns the accumulator's content into the generator's gradient at once:
//!
//! ```text
//! generator ──► Gather (one zero, no values) ──► Slice 0 ──► tensor 0
//!                                           ├──► Slice 1 ──► tensor 1
//!                                           └──► …
//! ```
//!
//! `Slice` gets its values past the graph, from `cut`, which writes them once, scaled and shifted;
//! elsewhere than on the CPU, `whole` gives views instead. Its backward files the gradient and gives
//! `Gather` a zero once, so that candle reaches that node, after all slices. A tensor that the loss does not
//! reach counts as zero.

mod accumulator;
mod cut;
mod gather;
mod pieces;
mod plan;
mod rows;
mod scaled;
mod slice;
mod streamed;
mod tally;
mod watch;
mod whole;
mod written;
mod zero_node;

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, Result, Shape, Tensor};

use crate::ops::scalar::is_direct;
use crate::ops::second_order::keeps_graph;
use crate::param::{Param, Route};
use accumulator::GradientAccumulator;
use cut::Sets;
use gather::{gather_linear, gather_scaled, gather_values};
pub(crate) use plan::SplitPlan;
pub(crate) use rows::Rows;
use slice::Slice;
pub(crate) use streamed::Streamed;
pub(crate) use tally::{Tally, hand_back};
pub(crate) use watch::Watch;
pub(crate) use whole::split_whole;

/// One tensor of the target: `shift + scale × generated[offset..offset + len]`.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) offset: usize,
    pub(crate) dims: Vec<usize>,
    pub(crate) scale: f64,
    pub(crate) shift: f64,
}

impl Slot {
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
pub(crate) struct SplitTensors {
    /// `[dims…]`, or `[sets, dims…]`, each with its route where a gradient flows back.
    pub(crate) params: Vec<Param>,
    /// What watches a backward pass; none where no gradient flows back.
    pub(crate) watch: Option<Watch>,
}

/// Cuts what a generator gave into tensors. A set's values lie in flat order; slots are in order
/// and do not overlap, and what lies behind the last is surplus.
///
/// On the CPU, in f32 and f64, each tensor is written in one pass; elsewhere the whole vector is, and
/// tensors are views of it.
pub(crate) fn split(rows: &Rows, sets: Option<usize>, plan: &SplitPlan) -> Result<SplitTensors> {
    let in_place = |tensor: &Tensor| {
        is_direct(tensor) && plan.dtype().is_none_or(|dtype| dtype == tensor.dtype())
    };
    if !rows.tensors().all(in_place) {
        return split_whole(rows, sets, plan);
    }
    split_direct(rows, sets, plan.slots.clone())
}

/// Cuts `[sets, dims…]` into a tensor `[dims…]` per set.
pub(crate) fn unstack(tensor: &Tensor) -> Result<Vec<Tensor>> {
    let plan = SplitPlan::new(of_sets(tensor)?);
    let tensors = split(&Rows::Values(tensor.clone()), None, &plan)?;
    tensors.params.iter().map(Param::collected).collect()
}

/// The sets of a tensor `[sets, dims…]`, each to be cut out by itself: its gradient costs what the set
/// does, and that of the whole tensor is put together once in a pass, however many sets there are.
pub(crate) struct Unstack {
    values: Tensor,
    /// The node that gathers the gradients; none where no gradient flows back.
    gather: Option<(Tensor, Arc<GradientAccumulator>)>,
}

impl Unstack {
    pub(crate) fn new(tensor: &Tensor) -> Result<Self> {
        let values = tensor.detach();
        if !tensor.track_op() {
            return Ok(Self { values, gather: None });
        }
        let slots: Arc<[_]> = of_sets(tensor)?.collect();
        let width = tensor.elem_count();
        let accumulator = Arc::new(GradientAccumulator::new(1, width, slots, tensor.dtype()));
        Ok(Self { values, gather: Some((gather_values(tensor, &accumulator)?, accumulator)) })
    }

    /// A copy of a set, `[dims…]`.
    pub(crate) fn get(&self, set: usize) -> Result<Tensor> {
        let view = self.values.get(set)?;
        match &self.gather {
            None => view.force_contiguous(),
            Some((gather, accumulator)) => {
                Route::new(accumulator.clone(), set, gather.clone(), true).collected(&view)
            }
        }
    }
}

/// A slot for each set of a tensor `[sets, dims…]`, as it is.
fn of_sets(tensor: &Tensor) -> Result<impl Iterator<Item = Slot> + use<>> {
    let (sets, dims) = (tensor.dim(0)?, tensor.dims()[1..].to_vec());
    let len: usize = dims.iter().product();
    let slot = move |set| Slot { offset: set * len, dims: dims.clone(), scale: 1., shift: 0. };
    Ok((0..sets).map(slot))
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

impl SplitTensors {
    /// These tensors without routes where the graph of gradients is kept: a route's gradients can't be
    /// differentiated again.
    fn for_second_order(self) -> Result<Self> {
        if !keeps_graph() {
            return Ok(self);
        }
        let params = self.params.iter().map(|param| param.collected().map(Param::from));
        Ok(Self { params: params.collect::<Result<_>>()?, watch: self.watch })
    }

    fn untracked(tensors: Vec<Tensor>) -> Self {
        Self { params: tensors.into_iter().map(Param::from).collect(), watch: None }
    }

    /// Nodes of these values.
    fn sliced(
        gather: &Tensor,
        accumulator: &Arc<GradientAccumulator>,
        sets: Option<usize>,
        values: Vec<CpuStorage>,
    ) -> Result<Self> {
        let slice = |(index, values): (usize, CpuStorage)| {
            let accumulator = accumulator.clone();
            let (shape, values) = (accumulator.slots[index].shape(sets), Mutex::new(Some(values)));
            let route = Route::new(accumulator.clone(), index, gather.clone(), false);
            let node = gather.apply_op1(Slice { accumulator, index, shape, values })?;
            Ok(Param::routed(node, Some(route)))
        };
        let params = values.into_iter().enumerate().map(slice).collect::<Result<Vec<_>>>()?;
        Self { params, watch: Some(Watch(accumulator.clone())) }.for_second_order()
    }
}

fn split_direct(rows: &Rows, sets: Option<usize>, slots: Arc<[Slot]>) -> Result<SplitTensors> {
    let of_sets = Sets::of(rows, sets.unwrap_or(1))?;
    check_width(of_sets.width, &slots)?;
    if !rows.track_op() {
        return Ok(SplitTensors::untracked(of_sets.tensors(rows, sets, &slots)?));
    }
    let values = of_sets.cut(rows, &slots)?;
    let accumulator = GradientAccumulator::new(of_sets.count, of_sets.width, slots, rows.dtype());
    let accumulator = Arc::new(accumulator);
    SplitTensors::sliced(&gather(rows, &accumulator)?, &accumulator, sets, values)
}

/// The node that gathers the gradients of all tensors.
fn gather(rows: &Rows, accumulator: &Arc<GradientAccumulator>) -> Result<Tensor> {
    match rows {
        Rows::Linear { inputs, weight, bias } => gather_linear(inputs, weight, bias, accumulator),
        Rows::Scaled { shared, gains, bias } => gather_scaled(shared, gains, bias, accumulator),
        Rows::Values(values) => gather_values(values, accumulator),
    }
}

/// A user's generator may give too few values.
fn check_width(found: usize, slots: &[Slot]) -> Result<()> {
    let needed = slots.last().map_or(0, |slot| slot.offset + slot.len());
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

    fn plan() -> SplitPlan {
        let slot = |offset, dims: &[usize], scale, shift| Slot {
            offset,
            dims: dims.to_vec(),
            scale,
            shift,
        };
        let slots = [slot(0, &[2, 3], 0.5, 0.), slot(6, &[1], 1., 0.), slot(7, &[4, 2], 2., -1.)];
        SplitPlan::new(slots.into_iter())
    }

    /// A loss that tells tensors and values apart.
    fn loss(tensors: &[Tensor]) -> Result<Tensor> {
        let terms = tensors
            .iter()
            .enumerate()
            .map(|(i, tensor)| tensor.sqr()?.affine(1. + i as f64, 0.)?.add(tensor)?.sum_all());
        terms.reduce(|a, b| a? + b?).unwrap_or_else(|| Tensor::new(0., device()))
    }

    fn assert_same(rows: &Rows, sets: Option<usize>, vars: &[&Var]) -> Result<()> {
        let whole = rows.values()?.reshape((sets.unwrap_or(1), ()))?;
        let narrowed: Vec<_> = plan()
            .slots
            .iter()
            .map(|slot| {
                let window = whole.narrow(1, slot.offset, slot.len())?;
                window.affine(slot.scale, slot.shift)?.reshape(slot.shape(sets))
            })
            .collect::<Result<_>>()?;
        let expected = loss(&narrowed)?.backward()?;
        let direct = split(rows, sets, &plan())?;
        let whole = split_whole(rows, sets, &plan())?;
        let (direct, whole) =
            ([values(&direct), collected(&direct)?], [values(&whole), collected(&whole)?]);
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

    fn values(tensors: &SplitTensors) -> Vec<Tensor> {
        tensors.params.iter().map(|param| param.values().clone()).collect()
    }

    fn collected(tensors: &SplitTensors) -> Result<Vec<Tensor>> {
        tensors.params.iter().map(Param::collected).collect()
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
        let plan = plan().with_dtype(DType::BF16);
        for generated in [values.as_tensor().clone(), values.as_detached_tensor()] {
            let tensors = self::values(&split(&Rows::Values(generated), None, &plan)?);
            let of_first = storage(&tensors[0]);
            assert!(tensors.iter().all(|tensor| storage(tensor) == of_first));
            assert!(tensors.iter().all(|tensor| tensor.dtype() == DType::BF16));
        }
        let tensors = self::values(&split(&generated(&values), None, &plan)?);
        let nodes = tensors[2].sorted_nodes().into_iter();
        let stores: std::collections::HashSet<_> = nodes.map(storage).collect();
        assert_eq!(stores.len(), 1 + 3);
        Ok(())
    }

    /// Tensors in half precision have gradients in full: what is delivered more than once is added up in
    /// the dtype of the values, where bf16 would lose the second.
    #[test]
    fn gradients_have_the_dtype_of_the_values() -> Result<()> {
        let values = random(&[4, 4])?;
        let plan = plan().with_dtype(DType::BF16);
        let tensors = split(&generated(&values), None, &plan)?;
        let param = &tensors.params[1];
        let terms =
            [1., 1. / 512.].map(|by| param.collected()?.affine(by, 0.)?.to_dtype(DType::F64));
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

    fn generated(values: &Var) -> Rows {
        Rows::Values(values.as_tensor().clone())
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
            assert_same(&generated(&values), sets, &[&values])?;
            let [inputs, weight, bias] = [random(&[rows, 5])?, random(&[4, 5])?, random(&[4])?];
            let tensor = |var: &Var| var.as_tensor().clone();
            let (weights, biases) = (tensor(&weight), tensor(&bias));
            let rows = Rows::Linear { inputs: tensor(&inputs), weight: weights, bias: biases };
            assert_same(&rows, sets, &[&inputs, &weight, &bias])?;
        }
        Ok(())
    }

    #[test]
    fn scaled_rows_are_split_as_narrow_does() -> Result<()> {
        for sets in [None, Some(1), Some(3)] {
            let (shared, gains) = (random(&[4, 4])?, random(&[sets.unwrap_or(1), 4])?);
            let bias = random(&[4])?;
            let tensor = |var: &Var| var.as_tensor().clone();
            let rows = Rows::Scaled {
                shared: tensor(&shared),
                gains: tensor(&gains),
                bias: tensor(&bias),
            };
            assert_same(&rows, sets, &[&shared, &gains, &bias])?;
            let detached = values(&split(&rows.detach(), sets, &plan())?);
            for (expected, found) in values(&split(&rows, sets, &plan())?).iter().zip(&detached) {
                assert_close(expected, found)?;
            }
        }
        Ok(())
    }

    #[test]
    fn too_few_values_are_an_error() -> Result<()> {
        let message = split(&generated(&random(&[2, 7])?), None, &plan())
            .map_err(|err| err.to_string())
            .err();
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

    /// A pass that fails, before or after some slices have delivered, leaves nothing for the next.
    #[test]
    fn a_failed_pass_leaves_nothing() -> Result<()> {
        let values = random(&[4, 4])?;
        let tensors = self::values(&split(&generated(&values), None, &plan())?);
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
