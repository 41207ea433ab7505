//! The target: a SIREN (Sitzmann et al. 2020), a perceptron with sines between its layers, here from
//! the place in an image to the grey value there.

use candle_core::{Result, Tensor};
use candle_nn::Init;
use hypernn::nn::spec::linear;
use hypernn::nn::{Linear, LinearSpec, Module};
use hypernn::target::layer::Visitor;
use hypernn::target::source::{ParamKind, ParamSource, ParamSpec};
use hypernn::{HyperLayer, HyperTarget, LayerInfo, Parameters};

/// The frequency by which what enters a sine is multiplied.
const FREQUENCY: f64 = 30.;

/// The width of the hidden layers.
const WIDTH: usize = 32;

/// From a place `[rows, 2]`, each number from -1 to 1, to the value there `[rows, 1]`.
#[derive(HyperTarget)]
pub struct Siren {
    #[hyper(first(2, WIDTH))]
    first: SirenLinear,
    #[hyper([hidden(WIDTH, WIDTH); 2])]
    hidden: [SirenLinear; 2],
    #[hyper(hidden(WIDTH, 1))]
    out: SirenLinear,
}

impl Module for Siren {
    fn forward(&self, places: &Tensor) -> Result<Tensor> {
        let sine = |layer: &SirenLinear, xs: &Tensor| (layer.0.forward(xs)? * FREQUENCY)?.sin();
        let xs = sine(&self.first, places)?;
        let xs = self.hidden.iter().try_fold(xs, |xs, layer| sine(layer, &xs))?;
        self.out.0.forward(&xs)
    }
}

/// A linear layer with the initial weights of a SIREN: a layer of our own.
pub struct SirenLinear(Linear);

/// The attribute of a [`SirenLinear`].
#[derive(Clone, Copy)]
pub struct SirenSpec {
    linear: LinearSpec,
    in_dim: usize,
    out_dim: usize,
    is_first: bool,
}

/// The layer that sees the place.
pub const fn first(in_dim: usize, out_dim: usize) -> SirenSpec {
    SirenSpec { linear: linear(in_dim, out_dim), in_dim, out_dim, is_first: true }
}

/// A layer that sees sines.
pub const fn hidden(in_dim: usize, out_dim: usize) -> SirenSpec {
    SirenSpec { linear: linear(in_dim, out_dim), in_dim, out_dim, is_first: false }
}

impl SirenSpec {
    /// Its tensors are those of a linear layer.
    pub const fn info(&self) -> LayerInfo {
        self.linear.info()
    }

    /// Uniform, so that what enters a sine has the same distribution in each layer.
    fn weight_init(&self) -> Init {
        let inputs = self.in_dim as f64;
        let bound = if self.is_first { 1. / inputs } else { (6. / inputs).sqrt() / FREQUENCY };
        Init::Uniform { lo: -bound, up: bound }
    }

    fn bias_init(&self) -> Init {
        let bound = 1. / (self.in_dim as f64).sqrt();
        Init::Uniform { lo: -bound, up: bound }
    }
}

impl HyperLayer<SirenSpec> for SirenLinear {
    const TAKES_SETS: bool = true;

    fn build(spec: &SirenSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let weight = ParamSpec {
            name: "weight",
            dims: &[spec.out_dim, spec.in_dim],
            kind: ParamKind::Weight,
            init: spec.weight_init(),
        };
        let bias = ParamSpec {
            name: "bias",
            dims: &[spec.out_dim],
            kind: ParamKind::Bias,
            init: spec.bias_init(),
        };
        let weight = source.param(&weight)?.to_tensor()?;
        Ok(Self(Linear::new(weight, Some(source.param(&bias)?.to_tensor()?))))
    }
}

impl Parameters for SirenLinear {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.0.visit(visitor)
    }
}
