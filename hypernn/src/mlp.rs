//! The perceptron that generators and embeddings share.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::check::{self, Problem};
use crate::init::{InitScheme, computed};
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
    pub(crate) fn forward(self, xs: &Tensor) -> Result<Tensor> {
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
    pub(crate) fn second_moment(self) -> f64 {
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
    /// A layer that starts like this; variables `weight` and `bias`.
    pub(crate) fn new(
        in_dim: usize,
        out_dim: usize,
        start: LayerInit,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let weight = start.weight(in_dim, out_dim, scheme, vb)?;
        let bias = vb.get_with_hints(out_dim, "bias", start.bias(in_dim, scheme))?;
        Ok(Self { weight, bias })
    }

    /// `[rows, in]` to `[rows, out]`.
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        linear(xs, &self.weight.clone().into(), Some(&self.bias.clone().into()))
    }
}

/// How a layer starts under the exact init: with outputs of unit variance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerInit {
    /// The mean square of what it takes.
    pub(crate) second_moment: f64,
    /// The part of the outputs' variance that comes from the bias.
    pub(crate) bias_share: f64,
    /// What of the inputs starts with hardly any weight.
    pub(crate) appended: Appended,
}

/// The deviation of what inputs of unknown size give for each unit of their root mean square. The target
/// then starts at candle's scale for sizes up to 10³, where they make up a hundredth of the variance; and
/// there is some weight on them, so that a gradient reaches what they come from in the first step.
const FAINT: f64 = 1e-4;

/// Inputs that come in groups, each with values of unknown size at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    /// The number of groups.
    pub(crate) groups: usize,
    /// How many of each group's inputs are of unknown size.
    pub(crate) width: usize,
}

impl Appended {
    /// No appended inputs: all are of known size.
    pub(crate) const NOTHING: Self = Self { groups: 1, width: 0 };
}

impl LayerInit {
    /// The init for inputs of unit mean square, without a bias.
    pub(crate) const PLAIN: Self =
        Self { second_moment: 1., bias_share: 0., appended: Appended::NOTHING };

    /// The init for what this activation gives of standard normal values, without a bias.
    pub(crate) fn behind(activation: Activation) -> Self {
        Self { second_moment: activation.second_moment(), ..Self::PLAIN }
    }

    /// The variable `weight`, `[out, in]`.
    pub(crate) fn weight(
        &self,
        in_dim: usize,
        out_dim: usize,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Tensor> {
        let (dims, Appended { groups, width }) = ([out_dim, in_dim], self.appended);
        let second_moment = self.second_moment / (1. - self.bias_share);
        if scheme == InitScheme::HyperNn || width == 0 {
            let init = scheme.weight(in_dim, second_moment);
            return vb.get_with_hints(&dims[..], "weight", init);
        }
        let known = in_dim / groups - width;
        let init = scheme.weight(groups * known, second_moment);
        let faint = FAINT * (known as f64 * second_moment / width as f64).sqrt();
        computed(vb, &dims, "weight", init, |drawn| {
            let by_group = drawn.reshape((out_dim, groups, known + width))?;
            let unknown = (by_group.narrow(2, known, width)? * faint)?;
            Tensor::cat(&[by_group.narrow(2, 0, known)?, unknown], 2)?.reshape(&dims[..])
        })
    }

    fn bias(&self, in_dim: usize, scheme: InitScheme) -> Init {
        match scheme {
            InitScheme::Exact if self.bias_share > 0. => {
                Init::Randn { mean: 0., stdev: self.bias_share.sqrt() }
            }
            scheme => scheme.bias(in_dim),
        }
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
    /// The first starts as `start` says; the others start so that what the activation gives them keeps its variance.
    pub(crate) fn new(
        in_dim: usize,
        widths: &[usize],
        activation: Activation,
        out_dim: usize,
        start: LayerInit,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let (mut inputs, mut start) = (in_dim, start);
        let mut hidden = Vec::with_capacity(widths.len());
        for (i, &width) in widths.iter().enumerate() {
            hidden.push(Dense::new(inputs, width, start, scheme, &vb.pp(i))?);
            inputs = width;
            start.second_moment = activation.second_moment();
            start.appended = Appended::NOTHING;
        }
        let last = Dense::new(inputs, out_dim, start, scheme, &vb.pp(widths.len()))?;
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
        sum = check::sum(&[sum, layer(inputs, widths[i])]);
        inputs = widths[i];
        i += 1;
    }
    check::sum(&[sum, layer(inputs, out_dim)])
}

/// The number of values of one layer.
const fn layer(in_dim: usize, out_dim: usize) -> usize {
    check::product(&[check::sum(&[in_dim, 1]), out_dim])
}

/// The problem of a hidden layer without width.
pub(crate) const fn zero_width<const L: usize>(part: &str, widths: [usize; L]) -> Option<Problem> {
    let mut i = 0;
    while i < L {
        if widths[i] == 0 {
            return check::zero(part, "a hidden width", 0);
        }
        i += 1;
    }
    None
}

/// The problem of a layer, or of all together, with more values than memory has room for.
pub(crate) const fn too_many<const L: usize>(
    part: &str,
    in_dim: usize,
    widths: [usize; L],
    out_dim: usize,
) -> Option<Problem> {
    let (mut inputs, mut i) = (in_dim, 0);
    while i < L {
        if let Some(problem) = check::too_many(part, &[inputs, widths[i]]) {
            return Some(problem);
        }
        inputs = widths[i];
        i += 1;
    }
    check::first(&[
        check::too_many(part, &[inputs, out_dim]),
        check::too_many_together(part, num_params(in_dim, widths, out_dim)),
    ])
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
