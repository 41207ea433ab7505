//! What the layers of a `weight` and perhaps a `bias` share.

use candle_core::{Result, Tensor};
use candle_nn::Init;

use crate::ops::convolution::convolution;
use crate::ops::unfold::Windows;
use crate::param::{Param, sets};
use crate::structure::layer::Visitor;
use crate::structure::source::{ParamKind, ParamSource, ParamSpec};

impl Param {
    /// A tensor of rank `rank` that all sets share, once for each of several; it then leaves the
    /// shorter way, since its gradient is a sum over the sets. Any other as it is.
    pub(super) fn repeated(&self, rank: usize, sets: usize) -> Result<Self> {
        if self.rank() == rank && sets != 1 {
            return Ok(sets::spread(&self.collected()?, rank, sets)?.into());
        }
        Ok(self.clone())
    }

    /// The parameter as `[sets, dims…]`; see [`sets::spread`] and [`repeated`](Self::repeated).
    pub(super) fn spread(&self, rank: usize, sets: usize) -> Result<Self> {
        self.repeated(rank, sets)?.reshaped(|tensor| sets::spread(tensor, rank, sets))
    }

    /// The parameter of a layer whose only one this is, its `weight`, as another layer reuses it.
    pub(super) fn reused(&self, name: &str) -> Result<Option<Self>> {
        (name == "weight").then(|| self.clone().into_merged()).transpose()
    }
}

/// The weight of a layer, perhaps with an adapter, and perhaps a bias.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub(super) weight: Param,
    pub(super) bias: Option<Param>,
}

impl Affine {
    pub(super) fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: weight.into(), bias: bias.map(Param::from) }
    }

    /// Asks a source for a weight of these dimensions, then for a bias where it has a length.
    pub(super) fn from_source(
        source: &mut dyn ParamSource,
        dims: &[usize],
        bias: Option<usize>,
        inits: [Init; 2],
    ) -> Result<Self> {
        let Self { weight, bias } = Self::adapted(source, dims, bias, inits)?;
        Ok(Self { weight: weight.into_one_weight()?, bias })
    }

    /// Asks a source for a weight of these dimensions, whose low-rank adapter the layer applies itself, then for a bias
    /// where it has a length.
    pub(super) fn adapted(
        source: &mut dyn ParamSource,
        dims: &[usize],
        bias: Option<usize>,
        inits: [Init; 2],
    ) -> Result<Self> {
        let [weight_init, bias_init] = inits;
        let weight = source.param(&weight(dims, weight_init))?;
        Ok(Self { weight, bias: self::bias(source, bias, bias_init)? })
    }

    /// Asks a source for the gain and perhaps the bias of a norm of this size, 1 and 0.
    pub(super) fn of_norm(source: &mut dyn ParamSource, size: usize, biased: bool) -> Result<Self> {
        let (dims, init) = (&[size], Init::Const(1.));
        let weight = ParamSpec { name: "weight", dims, kind: ParamKind::Gain, init };
        let weight = source.param(&weight)?.into_one_weight()?;
        let bias = bias(source, biased.then_some(size), Init::Const(0.))?;
        Ok(Self { weight, bias })
    }

    /// The number of sets, for a weight whose rank is `rank` where all share it.
    pub(super) fn sets(&self, layer: &str, rank: usize) -> Result<usize> {
        let bias = self.bias.as_ref().map(|bias| ("bias", bias.outline(), 1));
        sets::among(layer, std::iter::once(("weight", self.weight.outline(), rank)).chain(bias))
    }

    /// Weight and bias as `[sets, dims…]`, without an adapter; see [`sets::spread`].
    pub(super) fn spread(&self, rank: usize, sets: usize) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.spread(1, sets)).transpose()?;
        Ok(Self { weight: self.weight.spread(rank, sets)?, bias })
    }

    /// The parameter of this name, the weight merged, as another layer reuses it.
    pub(super) fn reused(&self, name: &str) -> Result<Option<Param>> {
        match name {
            "weight" => self.weight.clone().into_merged().map(Some),
            "bias" => Ok(self.bias.clone()),
            _ => Ok(None),
        }
    }

    pub(super) fn weight(&self) -> &Tensor {
        self.weight.values()
    }

    pub(super) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref().map(Param::values)
    }

    /// The bias as the layer's own method gives it to others.
    pub(super) fn shown_bias(&self) -> Option<&Tensor> {
        self.bias.as_ref().map(|bias| bias.shown(1))
    }

    /// A convolution with the weights of all sets; see [`convolution`].
    pub(super) fn convolution(&self, images: &Tensor, windows: Windows) -> Result<Tensor> {
        convolution(images, &self.weight, self.bias.as_ref(), windows)
    }

    /// Tensors of any use, for candle's own layers; those that were asked for as one weight have no adapter.
    pub(super) fn to_tensors(&self) -> Result<(Tensor, Option<Tensor>)> {
        Ok((self.weight.collected()?, self.bias.as_ref().map(Param::collected).transpose()?))
    }

    /// Weight and bias as plain tensors, for operations that know no routes.
    pub(super) fn collected(&self) -> Result<Self> {
        let (weight, bias) = self.to_tensors()?;
        Ok(Self::new(weight, bias))
    }

    pub(super) fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("weight", self.weight.visited())?;
        self.bias.as_ref().map_or(Ok(()), |bias| visitor("bias", bias.visited()))
    }
}

fn weight(dims: &[usize], init: Init) -> ParamSpec<'_> {
    ParamSpec { name: "weight", dims, kind: ParamKind::Weight, init }
}

fn bias(source: &mut dyn ParamSource, len: Option<usize>, init: Init) -> Result<Option<Param>> {
    let Some(len) = len else { return Ok(None) };
    let spec = ParamSpec { name: "bias", dims: &[len], kind: ParamKind::Bias, init };
    source.param(&spec)?.into_one_weight().map(Some)
}

/// Candle's initialisation of weight and bias, for a number of input features or channels.
pub(super) fn init(inputs: usize) -> [Init; 2] {
    let bound = 1. / (inputs as f64).sqrt();
    [candle_nn::init::DEFAULT_KAIMING_NORMAL, Init::Uniform { lo: -bound, up: bound }]
}
