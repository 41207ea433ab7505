//! The perceptron that generators and embeddings share.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::init::InitScheme;
use crate::ops::activation;
use crate::ops::linear::linear;

/// The function between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Activation {
    /// `x`.
    Identity,
    /// `max(x, 0)`, and NaN where `x` is NaN.
    Relu,
    /// `tanh x`.
    Tanh,
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// `x / (1 + e⁻ˣ)`.
    Silu,
    /// `x Φ(x)`.
    Gelu,
}

/// `mlp([32], identity)`.
#[allow(non_upper_case_globals)]
pub const identity: Activation = Activation::Identity;
/// `mlp([32], relu)`.
#[allow(non_upper_case_globals)]
pub const relu: Activation = Activation::Relu;
/// `mlp([32], tanh)`.
#[allow(non_upper_case_globals)]
pub const tanh: Activation = Activation::Tanh;
/// `mlp([32], sigmoid)`.
#[allow(non_upper_case_globals)]
pub const sigmoid: Activation = Activation::Sigmoid;
/// `mlp([32], silu)`.
#[allow(non_upper_case_globals)]
pub const silu: Activation = Activation::Silu;
/// `mlp([32], gelu)`.
#[allow(non_upper_case_globals)]
pub const gelu: Activation = Activation::Gelu;

impl Activation {
    fn forward(self, xs: &Tensor) -> Result<Tensor> {
        match self {
            Self::Identity => Ok(xs.clone()),
            Self::Relu => activation::relu(xs),
            Self::Tanh => activation::tanh(xs),
            Self::Sigmoid => candle_nn::ops::sigmoid(xs),
            Self::Silu => xs.silu(),
            Self::Gelu => xs.gelu_erf(),
        }
    }

    /// `E[f(x)²]` for a standard normal `x`, by quadrature.
    fn second_moment(self) -> f64 {
        match self {
            Self::Identity => 1.,
            Self::Relu => 0.5,
            Self::Tanh => 0.394_294_490_4,
            Self::Sigmoid => 0.293_379_035_9,
            Self::Silu => 0.355_775_519_8,
            Self::Gelu => 0.425_221_482_6,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Relu => "relu",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
        }
    }
}

/// `y = x wᵀ + b`, with weight `[out, in]` and bias `[out]`.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

impl Dense {
    /// A layer whose output starts with unit variance where its input's mean square is
    /// `second_moment`; variables `weight` and `bias`.
    pub(crate) fn new(
        in_dim: usize,
        out_dim: usize,
        second_moment: f64,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let init = scheme.weight(in_dim, second_moment);
        let weight = vb.get_with_hints((out_dim, in_dim), "weight", init)?;
        let bias = vb.get_with_hints(out_dim, "bias", scheme.bias(in_dim))?;
        Ok(Self { weight, bias })
    }

    /// `[rows, in]` to `[rows, out]`.
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        linear(xs, &self.weight, Some(&self.bias))
    }
}

/// Layers with an activation between them.
#[derive(Clone, Debug)]
pub(crate) struct Mlp {
    hidden: Vec<Dense>,
    activation: Activation,
    pub(crate) last: Dense,
}

impl Mlp {
    /// Variables `0.weight`, `0.bias`, `1.weight`, …, one pair per layer.
    pub(crate) fn new(
        in_dim: usize,
        widths: &[usize],
        activation: Activation,
        out_dim: usize,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let mut inputs = (in_dim, 1.);
        let mut hidden = Vec::with_capacity(widths.len());
        for (i, &width) in widths.iter().enumerate() {
            hidden.push(Dense::new(inputs.0, width, inputs.1, scheme, &vb.pp(i))?);
            inputs = (width, activation.second_moment());
        }
        let last = Dense::new(inputs.0, out_dim, inputs.1, scheme, &vb.pp(widths.len()))?;
        Ok(Self { hidden, activation, last })
    }

    /// What the last layer takes.
    pub(crate) fn hidden(&self, xs: &Tensor) -> Result<Tensor> {
        self.hidden
            .iter()
            .try_fold(xs.clone(), |xs, layer| self.activation.forward(&layer.forward(&xs)?))
    }

    /// `[rows, in]` to `[rows, out]`.
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.last.forward(&self.hidden(xs)?)
    }
}

/// The number of values in the variables of such layers.
pub(crate) const fn num_params<const L: usize>(
    in_dim: usize,
    widths: [usize; L],
    out_dim: usize,
) -> usize {
    let (mut inputs, mut sum, mut i) = (in_dim, 0, 0);
    while i < L {
        sum += (inputs + 1) * widths[i];
        inputs = widths[i];
        i += 1;
    }
    sum + (inputs + 1) * out_dim
}

/// An array of widths as a list, whatever its length; serde itself knows some lengths alone.
#[cfg(feature = "serde")]
pub(crate) mod widths {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer, const L: usize>(
        widths: &[usize; L],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        widths.as_slice().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const L: usize>(
        from: D,
    ) -> Result<[usize; L], D::Error> {
        let widths = Vec::deserialize(from)?;
        let wrong = |widths: Vec<usize>| {
            D::Error::custom(format!("{} hidden widths, expected {L}", widths.len()))
        };
        widths.try_into().map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The moments against a fine sum over the normal density.
    #[test]
    fn second_moments() -> Result<()> {
        use Activation::{Gelu, Identity, Relu, Sigmoid, Silu, Tanh};
        let steps = 400_000;
        let at = |i: usize| (i as f64 / steps as f64 - 0.5) * 24.;
        let xs: Vec<f64> = (0..steps).map(at).collect();
        let density = |x: &f64| (-x * x / 2.).exp() / (2. * std::f64::consts::PI).sqrt();
        for activation in [Identity, Relu, Tanh, Sigmoid, Silu, Gelu] {
            let grid = Tensor::new(xs.as_slice(), &candle_core::Device::Cpu)?;
            let squares = activation.forward(&grid)?.sqr()?.to_vec1::<f64>()?;
            let terms = xs.iter().map(density).zip(squares).map(|(d, s)| d * s);
            let sum = terms.sum::<f64>() * 24. / steps as f64;
            let stated = activation.second_moment();
            assert!((sum - stated).abs() < 1e-9, "{}: {sum}, {stated}", activation.name());
        }
        Ok(())
    }
}
