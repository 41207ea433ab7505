//! Every layer over views of a flat vector, as on devices.

use std::rc::Rc;

use candle_core::{DType, Module, ModuleT, Result, Tensor, Var};
use candle_nn::RNN;

use super::super::testing::{device, distance, gradient_errors, numbers};
use super::super::*;
use super::{index, not_zero, same};
use crate::generator::GeneratorOutput;
use crate::ops::split::{Cuts, Pattern, Segment, split, split_whole};
use crate::target::layer::HyperLayer;
use crate::target::source::{ParamSource, ParamSpec, Served};

/// What a layer asks for, as segments of a flat vector.
#[derive(Default)]
struct Recorder(Vec<Segment>);

impl Recorder {
    fn width(&self) -> usize {
        self.0.last().map_or(0, |last| last.offset + last.dims.iter().product::<usize>())
    }
}

impl ParamSource for Recorder {
    fn enter(&mut self, _: &str) {}

    fn leave(&mut self) {}

    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        let offset = self.width();
        self.0.push(Segment { offset, dims: spec.dims.to_vec(), scale: 1.5, shift: 0.25 });
        Tensor::ones(spec.dims, DType::F64, device())
    }

    fn buffer(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        buffer(spec)
    }
}

fn buffer(spec: &ParamSpec<'_>) -> Result<Tensor> {
    spec.init.var(spec.dims, DType::F64, device()).map(Var::into_inner)
}

/// Cuts with their sinks; a layer that asks for a copy gets an error.
struct Source {
    served: std::vec::IntoIter<Served>,
}

impl Source {
    fn new(cuts: &Cuts) -> Self {
        let served = cuts
            .tensors
            .iter()
            .enumerate()
            .map(|(index, tensor)| Served::new(tensor.clone(), cuts.sinks.get(index).cloned()));
        Self { served: served.collect::<Vec<_>>().into_iter() }
    }
}

impl ParamSource for Source {
    fn enter(&mut self, _: &str) {}

    fn leave(&mut self) {}

    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        candle_core::bail!("a copy of {} was asked for", spec.name)
    }

    fn param_with_sink(&mut self, spec: &ParamSpec<'_>) -> Result<Served> {
        let served = self.served.next();
        served.ok_or_else(|| candle_core::Error::msg(format!("there is no {}", spec.name)))
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
    fn record(&self) -> Result<Recorder> {
        let mut recorder = Recorder::default();
        (self.apply)(&mut recorder, self.input(None)?.as_tensor())?;
        Ok(recorder)
    }

    fn pattern(&self) -> Result<Pattern> {
        Ok(Pattern::new(self.record()?.0.into_iter()))
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

    fn over(&self, cuts: &Cuts, xs: &Tensor) -> Result<Tensor> {
        (self.apply)(&mut Source::new(cuts), xs)
    }

    fn over_views(&self, flat: &Tensor, xs: &Tensor, sets: Option<usize>) -> Result<Tensor> {
        self.over(
            &split_whole(&GeneratorOutput::from(flat.clone()).rows, sets, &self.pattern()?)?,
            xs,
        )
    }

    fn over_copies(&self, flat: &Tensor, xs: &Tensor, sets: Option<usize>) -> Result<Tensor> {
        self.over(&split(&flat.clone().into(), sets, &self.pattern()?)?, xs)
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
        let pattern = layer.pattern()?;
        let cuts =
            split_whole(&GeneratorOutput::from(flat.as_tensor().clone()).rows, None, &pattern)?;
        let whole = storage(&cuts.tensors[0]);
        let copied = |ys: &Tensor| {
            // A number is where gradients meet.
            let computed = |node: &&Tensor| !node.is_variable() && node.rank() > 0;
            let nodes = ys.sorted_nodes().into_iter().filter(computed);
            let shapes = nodes.filter(|node| storage(node) != whole).map(of_one_set);
            let shapes = shapes.collect::<Vec<_>>();
            cuts.tensors.iter().filter(|tensor| shapes.contains(&of_one_set(tensor))).count()
        };
        assert_eq!(copied(&layer.over(&cuts, &xs)?), 0, "{}", layer.name);
        // The same over what a layer that knows no sinks gets.
        let tensors = (0..cuts.tensors.len()).map(|index| cuts.tracked(index));
        let tensors = tensors.collect::<Result<_>>()?;
        let tracked = Cuts { tensors, sinks: Vec::new(), watch: None };
        assert_eq!(copied(&layer.over(&tracked, &xs)?), cuts.tensors.len(), "{}", layer.name);
    }
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
