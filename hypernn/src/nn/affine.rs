//! What the layers of a `weight` and perhaps a `bias` share.

use candle_core::{Result, Tensor};
use candle_nn::Init;

use super::sets;
use crate::ops::convolution::{Sinks, convolution};
use crate::ops::linear::linear;
use crate::ops::linear_into::linear_into;
use crate::ops::unfold::Windows;
use crate::target::adapter::Adapter;
use crate::target::layer::Visitor;
use crate::target::source::{ParamKind, ParamSource, ParamSpec, Served};

impl Served {
    /// A tensor of rank `rank` that all sets share, once for each of several; it then leaves the
    /// shorter way, since its gradient is a sum over the sets. Any other as it is.
    pub(super) fn repeated(&self, rank: usize, sets: usize) -> Result<Self> {
        if self.tensor.rank() == rank && sets != 1 {
            return Ok(sets::spread(&self.tracked()?, rank, sets)?.into());
        }
        Ok(self.clone())
    }

    /// As `[sets, dims…]`; see [`sets::spread`] and [`repeated`](Self::repeated).
    pub(super) fn spread(&self, rank: usize, sets: usize) -> Result<Self> {
        let Self { tensor, sink, .. } = self.repeated(rank, sets)?;
        Ok(Self::new(sets::spread(&tensor, rank, sets)?, sink))
    }

    /// The tensor of a layer whose only one this is, its `weight`, as another layer reuses it.
    pub(super) fn reused(&self, name: &str) -> Result<Option<Tensor>> {
        (name == "weight").then(|| self.tracked()).transpose()
    }

    /// `xs […, in]`, with this as the weight and a bias, to `[…, out]`; see
    /// [`linear`](crate::ops::linear::linear).
    pub(crate) fn linear(&self, xs: &Tensor, bias: Option<&Self>) -> Result<Tensor> {
        let weight = &self.tensor;
        match (self.sink.clone(), bias) {
            (Some(sink), None) => linear_into(xs, (weight, sink), None),
            (Some(sink), Some(Self { tensor, sink: Some(bias_sink), .. })) => {
                linear_into(xs, (weight, sink), Some((tensor, bias_sink.clone())))
            }
            _ => linear(xs, &self.tracked()?, bias.map(Self::tracked).transpose()?.as_ref()),
        }
    }
}

/// The weight of a layer and perhaps a bias.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub(super) weight: Served,
    pub(super) bias: Option<Served>,
    /// What is added to the weight, and never computed as such.
    pub(super) adapter: Option<Box<Adapter>>,
}

impl Affine {
    pub(super) fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: weight.into(), bias: bias.map(Served::from), adapter: None }
    }

    /// Asks a source for a weight of these dimensions, then for a bias where it has a length.
    pub(super) fn from_source(
        source: &mut dyn ParamSource,
        dims: &[usize],
        bias: Option<usize>,
        [weight_init, bias_init]: [Init; 2],
    ) -> Result<Self> {
        let weight = source.param_with_sink(&weight(dims, weight_init))?;
        Ok(Self { weight, bias: self::bias(source, bias, bias_init)?, adapter: None })
    }

    /// As [`from_source`](Self::from_source), for a layer that applies a low-rank adapter itself.
    pub(super) fn adapted(
        source: &mut dyn ParamSource,
        dims: &[usize],
        bias: Option<usize>,
        [weight_init, bias_init]: [Init; 2],
    ) -> Result<Self> {
        let (weight, adapter) = source.adapted(&weight(dims, weight_init))?;
        let bias = self::bias(source, bias, bias_init)?;
        Ok(Self { weight, bias, adapter: adapter.map(Box::new) })
    }

    /// Asks a source for the gain and perhaps the bias of a norm of this size, 1 and 0.
    pub(super) fn of_norm(source: &mut dyn ParamSource, size: usize, biased: bool) -> Result<Self> {
        let (dims, init) = (&[size], Init::Const(1.));
        let weight = ParamSpec { name: "weight", dims, kind: ParamKind::Gain, init };
        let weight = source.param_with_sink(&weight)?;
        let bias = bias(source, biased.then_some(size), Init::Const(0.))?;
        Ok(Self { weight, bias, adapter: None })
    }

    /// The number of sets, for a weight whose rank is `rank` where all share it.
    pub(super) fn sets(&self, layer: &str, rank: usize) -> Result<usize> {
        let bias = self.bias().map(|bias| ("bias", bias, 1));
        sets::among(layer, std::iter::once(("weight", self.weight(), rank)).chain(bias))
    }

    /// Weight and bias as `[sets, dims…]`; see [`sets::spread`].
    pub(super) fn spread(&self, rank: usize, sets: usize) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.spread(1, sets)).transpose()?;
        Ok(Self { weight: self.weight.spread(rank, sets)?, bias, adapter: None })
    }

    /// The weight, with what an adapter adds to it.
    pub(super) fn merged(&self) -> Result<Tensor> {
        let weight = self.weight.tracked()?;
        self.adapter.as_ref().map_or(Ok(weight.clone()), |adapter| adapter.merge(&weight))
    }

    /// The tensor of this name, the weight merged, whose gradient is collected from any use.
    pub(super) fn reused(&self, name: &str) -> Result<Option<Tensor>> {
        match name {
            "weight" => self.merged().map(Some),
            "bias" => self.bias.as_ref().map(Served::tracked).transpose(),
            _ => Ok(None),
        }
    }

    pub(super) fn weight(&self) -> &Tensor {
        &self.weight.tensor
    }

    pub(super) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref().map(|bias| &bias.tensor)
    }

    /// The weight as the layer's own method gives it to others, of this rank where it is shared.
    pub(super) fn shown_weight(&self, rank: usize) -> &Tensor {
        let weight = match &self.adapter {
            Some(adapter) => adapter.shown(self.weight()),
            None => self.weight.shown(),
        };
        sets::shown(weight, rank)
    }

    /// The bias as the layer's own method gives it to others.
    pub(super) fn shown_bias(&self) -> Option<&Tensor> {
        self.bias.as_ref().map(|bias| sets::shown(bias.shown(), 1))
    }

    /// A convolution with the weights of all sets; see [`convolution`].
    pub(super) fn convolution(&self, images: &Tensor, windows: Windows) -> Result<Tensor> {
        let sinks = self.sinks();
        let Self { weight, bias, .. } = if sinks.is_none() { &self.tracked()? } else { self };
        let bias = bias.as_ref().map(|bias| &bias.tensor);
        convolution(images, &weight.tensor, bias, windows, sinks)
    }

    /// Where the gradients go, if those of all tensors can go there.
    pub(super) fn sinks(&self) -> Option<Sinks> {
        match (self.weight.sink.clone(), &self.bias) {
            (Some(sink), None) => Some((sink, None)),
            (Some(sink), Some(Served { sink: Some(bias), .. })) => Some((sink, Some(bias.clone()))),
            _ => None,
        }
    }

    /// The tensors alone, for candle's own layers.
    pub(super) fn into_tensors(self) -> Result<(Tensor, Option<Tensor>)> {
        Ok((self.weight.tracked()?, self.bias.as_ref().map(Served::tracked).transpose()?))
    }

    /// The same for operations that know no sinks.
    pub(super) fn tracked(&self) -> Result<Self> {
        let (weight, bias) = self.clone().into_tensors()?;
        Ok(Self { adapter: self.adapter.clone(), ..Self::new(weight, bias) })
    }

    pub(super) fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("weight", self.weight())?;
        self.bias().map_or(Ok(()), |bias| visitor("bias", bias))
    }
}

fn weight(dims: &[usize], init: Init) -> ParamSpec<'_> {
    ParamSpec { name: "weight", dims, kind: ParamKind::Weight, init }
}

fn bias(source: &mut dyn ParamSource, len: Option<usize>, init: Init) -> Result<Option<Served>> {
    let Some(len) = len else { return Ok(None) };
    let spec = ParamSpec { name: "bias", dims: &[len], kind: ParamKind::Bias, init };
    source.param_with_sink(&spec).map(Some)
}

/// Candle's initialisation of weight and bias, for a number of input features or channels.
pub(super) fn init(inputs: usize) -> [Init; 2] {
    let bound = 1. / (inputs as f64).sqrt();
    [candle_nn::init::DEFAULT_KAIMING_NORMAL, Init::Uniform { lo: -bound, up: bound }]
}
