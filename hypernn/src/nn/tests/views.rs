//! Every layer over views of a flat vector, as on devices.

use std::rc::Rc;

use candle_core::{DType, Module, ModuleT, Result, Tensor, Var};
use candle_nn::RNN;

use super::super::testing::{device, distance, gradient_errors, numbers};
use super::super::*;
use super::{index, not_zero, same};
use crate::ops::split::{Rows, Slot, SplitPlan, SplitTensors, split, split_whole};
use crate::param::Param;
use crate::structure::layer::{HyperLayer, Parameters};
use crate::structure::source::{ParamSource, ParamSpec, TiedSource};

/// What a layer asks for, as slots of a flat vector.
#[derive(Default)]
struct SlotRecorder(Vec<Slot>);

impl SlotRecorder {
    fn width(&self) -> usize {
        self.0.last().map_or(0, |last| last.offset + last.dims.iter().product::<usize>())
    }
}

impl ParamSource for SlotRecorder {
    fn enter(&mut self, _: &str) {}

    fn leave(&mut self) {}

    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Param> {
        let offset = self.width();
        self.0.push(Slot { offset, dims: spec.dims.to_vec(), scale: 1.5, shift: 0.25 });
        Ok(Tensor::ones(spec.dims, DType::F64, device())?.into())
    }

    fn buffer(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        buffer(spec)
    }
}

fn buffer(spec: &ParamSpec<'_>) -> Result<Tensor> {
    spec.init.var(spec.dims, DType::F64, device()).map(Var::into_inner)
}

/// The tensors of a split, with their routes.
struct Source {
    params: std::vec::IntoIter<Param>,
}

impl Source {
    fn new(tensors: &SplitTensors) -> Self {
        Self { params: tensors.params.clone().into_iter() }
    }
}

impl ParamSource for Source {
    fn enter(&mut self, _: &str) {}

    fn leave(&mut self) {}

    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Param> {
        let param = self.params.next();
        param.ok_or_else(|| candle_core::Error::msg(format!("there is no {}", spec.name)))
    }

    fn buffer(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        buffer(spec)
    }
}

type Build = dyn Fn(&mut dyn ParamSource, &Tensor) -> Result<Tensor>;

/// A layer over what a source serves, applied to an input.
struct Layer {
    name: &'static str,
    /// The shape of the input of one set.
    xs: Vec<usize>,
    input: fn(f64) -> f64,
    apply: Box<Build>,
}

macro_rules! layer {
    ($type:ident, $spec:expr, $xs:expr, $input:expr, |$layer:ident, $x:ident| $forward:expr) => {
        Layer {
            name: stringify!($spec),
            xs: $xs.to_vec(),
            input: $input,
            apply: Box::new(|source, $x| {
                let $layer = $type::build(&$spec, source)?;
                $forward
            }),
        }
    };
    ($type:ident, $spec:expr, $xs:expr, $input:expr) => {
        layer!($type, $spec, $xs, $input, |layer, x| layer.forward(x))
    };
}

fn convolutions() -> Vec<Layer> {
    vec![
        layer!(Conv1d, spec::conv1d(4, 2, 3), [3, 4, 6], same),
        layer!(Conv1d, spec::conv1d_no_bias(4, 2, 3).stride(2).groups(2), [3, 4, 6], same),
        layer!(Conv2d, spec::conv2d(4, 2, 3).stride(2).padding(1), [3, 4, 6, 7], same),
        layer!(Conv2d, spec::conv2d_no_bias(4, 2, 3), [3, 4, 6, 7], same),
        layer!(Conv2d, spec::conv2d(4, 2, 3).stride(2).groups(2), [3, 4, 6, 7], same),
        layer!(
            ConvTranspose1d,
            spec::conv_transpose1d(4, 2, 3).stride(2).output_padding(1).groups(2),
            [3, 4, 5],
            same
        ),
        layer!(ConvTranspose2d, spec::conv_transpose2d(4, 2, 3).padding(1), [3, 4, 3, 4], same),
        layer!(
            ConvTranspose2d,
            spec::conv_transpose2d_no_bias(4, 2, 3).stride(2),
            [3, 4, 3, 4],
            same
        ),
    ]
}

fn layers() -> Vec<Layer> {
    let mut layers = vec![
        layer!(Linear, spec::linear(4, 3), [5, 4], same),
        layer!(Embedding, spec::embedding(5, 3), [4, 2], index, |layer, x| {
            layer.forward(&x.to_dtype(DType::U32)?)
        }),
        layer!(PReLU, spec::prelu(Some(3)), [2, 3, 5], not_zero),
        layer!(PReLU, spec::prelu(Some(3)), [2, 3], not_zero),
        layer!(PReLU, spec::prelu(None), [2, 3], not_zero),
        layer!(LayerNorm, spec::layer_norm(5), [2, 3, 5], same),
        layer!(LayerNorm, spec::layer_norm_no_bias(5, 1e-3), [2, 5], same),
        layer!(RmsNorm, spec::rms_norm(5, 1e-3), [2, 3, 5], same),
        layer!(GroupNorm, spec::group_norm(2, 4, 1e-3), [3, 4, 5], same),
        layer!(BatchNorm, spec::batch_norm(3), [5, 3, 2], same, |layer, x| layer.forward_train(x)),
        layer!(BatchNorm, spec::batch_norm(3), [5, 3], same, |layer, x| layer.forward_t(x, false)),
        layer!(LSTM, spec::lstm(3, 2), [2, 4, 3], same, |layer, x| {
            layer.states_to_tensor(&layer.seq(x)?)
        }),
        layer!(GRU, spec::gru(3, 2), [2, 4, 3], same, |layer, x| {
            layer.states_to_tensor(&layer.seq(x)?)
        }),
    ];
    layers.extend(convolutions());
    layers
}

impl Layer {
    fn record(&self) -> Result<SlotRecorder> {
        let mut recorder = SlotRecorder::default();
        (self.apply)(&mut recorder, self.input(None)?.as_tensor())?;
        Ok(recorder)
    }

    fn plan(&self) -> Result<SplitPlan> {
        Ok(SplitPlan::new(self.record()?.0.into_iter()))
    }

    fn input(&self, sets: Option<usize>) -> Result<Var> {
        let mut dims = self.xs.clone();
        dims[0] *= sets.unwrap_or(1);
        let values = numbers(dims.iter().product(), 1).into_iter().map(self.input).collect();
        Var::from_vec(values, dims, device())
    }

    /// The flat vector, of one value more than is used, and the input.
    fn variables(&self, sets: Option<usize>) -> Result<[Var; 2]> {
        let (sets_or_one, width) = (sets.unwrap_or(1), self.record()?.width() + 1);
        let values = numbers(sets_or_one * width, 2);
        let flat = Var::from_vec(values, (sets_or_one, width), device())?;
        Ok([flat, self.input(sets)?])
    }

    fn over(&self, tensors: &SplitTensors, xs: &Tensor) -> Result<Tensor> {
        (self.apply)(&mut Source::new(tensors), xs)
    }

    fn over_views(&self, flat: &Tensor, xs: &Tensor, sets: Option<usize>) -> Result<Tensor> {
        self.over(&split_whole(&Rows::Values(flat.clone()), sets, &self.plan()?)?, xs)
    }

    fn over_copies(&self, flat: &Tensor, xs: &Tensor, sets: Option<usize>) -> Result<Tensor> {
        self.over(&split(&Rows::Values(flat.clone()), sets, &self.plan()?)?, xs)
    }
}

#[test]
fn gradients_are_those_of_finite_differences() -> Result<()> {
    for layer in layers().into_iter().map(Rc::new) {
        for sets in [None, Some(2)] {
            let of = layer.clone();
            let forward = move |flat: &[Tensor], xs: &Tensor| of.over_views(&flat[0], xs, sets);
            let errors = gradient_errors(&forward, &layer.variables(sets)?)?;
            assert!(
                errors.iter().all(|error| *error < 1e-7),
                "{} {sets:?}: {errors:?}",
                layer.name
            );
        }
    }
    Ok(())
}

#[test]
fn values_and_gradients_are_those_of_copies() -> Result<()> {
    for layer in layers() {
        for sets in [None, Some(2)] {
            let [flat, xs] = layer.variables(sets)?;
            let views = layer.over_views(&flat, &xs, sets)?;
            let copies = layer.over_copies(&flat, &xs, sets)?;
            assert!(distance(&views, &copies)? < 1e-12, "{} {sets:?}", layer.name);
            let detached = layer.over_views(&flat.detach(), &xs.detach(), sets)?;
            assert!(!detached.track_op() && distance(&detached, &copies)? < 1e-12);
            let (views, copies) =
                (views.sqr()?.sum_all()?.backward()?, copies.sqr()?.sum_all()?.backward()?);
            for variable in [&flat, &xs] {
                match (views.get(variable), copies.get(variable)) {
                    (Some(views), Some(copies)) => {
                        assert!(distance(views, copies)? < 1e-12, "{} {sets:?}", layer.name);
                    }
                    (views, copies) => assert_eq!(views.is_some(), copies.is_some()),
                }
            }
        }
    }
    Ok(())
}

/// Of one set, no tensor is copied for the sake of its gradient: whatever has the shape of one is a
/// view.
#[test]
fn no_tensor_is_copied() -> Result<()> {
    for layer in layers() {
        let [flat, xs] = layer.variables(None)?;
        let tensors = split_whole(&Rows::Values(flat.as_tensor().clone()), None, &layer.plan()?)?;
        let whole = storage(tensors.params[0].values());
        let copied = |ys: &Tensor| {
            // A number is where gradients meet.
            let computed = |node: &&Tensor| !node.is_variable() && node.rank() > 0;
            let nodes = ys.sorted_nodes().into_iter().filter(computed);
            let shapes = nodes.filter(|node| storage(node) != whole).map(of_one_set);
            let shapes = shapes.collect::<Vec<_>>();
            let params = tensors.params.iter().map(Param::values);
            params.filter(|tensor| shapes.contains(&of_one_set(tensor))).count()
        };
        assert_eq!(copied(&layer.over(&tensors, &xs)?), 0, "{}", layer.name);
        // The same over what a layer that knows no routes gets.
        let params = tensors.params.iter().map(|param| param.to_tensor().map(Param::from));
        let collected = SplitTensors { params: params.collect::<Result<_>>()?, watch: None };
        let copies = copied(&layer.over(&collected, &xs)?);
        assert_eq!(copies, tensors.params.len(), "{}", layer.name);
    }
    Ok(())
}

/// A layer that reuses the weight of another takes the short way as well: nothing is copied, and the gradients of both
/// uses meet in the accumulator.
#[test]
fn a_tied_weight_keeps_the_short_way() -> Result<()> {
    let slot = Slot { offset: 0, dims: vec![3, 4], scale: 1.5, shift: 0.25 };
    let (plan, xs) = (SplitPlan::new(std::iter::once(slot)), layers()[0].input(None)?);
    let flat = Var::from_vec(numbers(12, 2), 12, device())?;
    let apply = |tensors: &SplitTensors| {
        let first = Linear::build(&spec::linear_no_bias(4, 3), &mut Source::new(tensors))?;
        let Some(weight) = first.reused("weight")? else { candle_core::bail!("no weight") };
        assert_eq!(weight.is_view(), tensors.params[0].is_view());
        let mut nothing = Source { params: Vec::new().into_iter() };
        let mut tied = TiedSource::new(&mut nothing, "weight", weight);
        let second = Linear::build(&spec::linear_no_bias(4, 3), &mut tied)?;
        first.forward(&xs)? * second.forward(&xs)?
    };
    let rows = Rows::Values(flat.as_tensor().clone());
    let views = split_whole(&rows, None, &plan)?;
    let whole = storage(views.params[0].values());
    let ys = apply(&views)?;
    let of_weight = |node: &&Tensor| node.dims() == [3, 4] && storage(node) != whole;
    assert_eq!(ys.sorted_nodes().into_iter().filter(of_weight).count(), 0);
    let collected = views.params[0].to_tensor()?;
    let expected = apply(&SplitTensors { params: vec![collected.into()], watch: None })?;
    let grads = [ys.sum_all()?.backward()?, expected.sum_all()?.backward()?];
    let [Some(found), Some(expected)] = grads.each_ref().map(|grads| grads.get(&flat)) else {
        candle_core::bail!("no gradient");
    };
    assert!(distance(found, expected)? < 1e-12);
    Ok(())
}

/// The dimensions, without the number of sets.
fn of_one_set(tensor: &Tensor) -> Vec<usize> {
    tensor.dims().iter().copied().skip_while(|&dim| dim == 1).collect()
}

/// Where a tensor's values are kept.
fn storage(tensor: &Tensor) -> *const candle_core::Storage {
    std::ptr::from_ref(&*tensor.storage_and_layout().0)
}
