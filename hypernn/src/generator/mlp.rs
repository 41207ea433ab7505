//! A multi-layer perceptron, shared by all chunks.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::linear::Linear;
use super::{GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator};
use crate::check::{Problem, ensure, zero};
use crate::init::InitScheme;
use crate::plan::ChunkPlan;

/// The function between a generator's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `x`.
    Identity,
    /// `max(x, 0)`.
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
            Self::Relu => xs.relu(),
            Self::Tanh => xs.tanh(),
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
            Self::Tanh => 0.394_294_346_7,
            Self::Sigmoid => 0.293_379_054_5,
            Self::Silu => 0.355_777_104_6,
            Self::Gelu => 0.425_209_246_9,
        }
    }

    const fn name(self) -> &'static str {
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

/// `generator: mlp([hidden, …], activation)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpSpec<const L: usize> {
    widths: [usize; L],
    activation: Activation,
}

/// `generator: mlp([hidden, …], activation)`: hidden layers of these widths, then a linear layer to
/// the chunk; shared by all chunks.
pub const fn mlp<const L: usize>(widths: [usize; L], activation: Activation) -> MlpSpec<L> {
    MlpSpec { widths, activation }
}

impl<const L: usize> MlpSpec<L> {
    /// One row per embedding.
    pub const fn plan(&self, num_params: usize, num_embeddings: usize) -> ChunkPlan {
        ChunkPlan::new(num_params, num_embeddings)
    }

    /// The number of its variables' values.
    pub const fn num_params(&self, shape: GeneratorShape) -> usize {
        let mut inputs = shape.embedding_dim;
        let mut sum = 0;
        let mut i = 0;
        while i < L {
            sum += (inputs + 1) * self.widths[i];
            inputs = self.widths[i];
            i += 1;
        }
        sum + (inputs + 1) * shape.plan.chunk()
    }

    /// What is wrong with the widths, if anything.
    pub const fn check(&self) -> Option<Problem> {
        let mut i = 0;
        while i < L {
            if let Some(problem) = zero("mlp", "a hidden width", self.widths[i]) {
                return Some(problem);
            }
            i += 1;
        }
        None
    }
}

impl<const L: usize> std::fmt::Display for MlpSpec<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mlp({:?}, {})", self.widths, self.activation.name())
    }
}

impl<const L: usize> GeneratorSpec for MlpSpec<L> {
    /// Variables `0.weight`, `0.bias`, `1.weight`, …, one pair per layer.
    fn build(
        &self,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        ensure(self.check())?;
        let mut inputs = (shape.embedding_dim, 1.);
        let mut layers = Vec::with_capacity(L + 1);
        for (i, &width) in self.widths.iter().chain([&shape.plan.chunk()]).enumerate() {
            layers.push(Linear::new(inputs.0, width, inputs.1, scheme, &vb.pp(i))?);
            inputs = (width, self.activation.second_moment());
        }
        Ok(Box::new(Mlp { layers, activation: self.activation }))
    }
}

#[derive(Clone, Debug)]
struct Mlp {
    layers: Vec<Linear>,
    activation: Activation,
}

impl WeightGenerator for Mlp {
    fn forward(&self, embedding: &Tensor) -> Result<GeneratorOutput> {
        let Some((last, hidden)) = self.layers.split_last() else {
            return Ok(embedding.clone().into());
        };
        let hidden = hidden.iter().try_fold(embedding.clone(), |xs, layer| {
            self.activation.forward(&layer.forward(&xs)?.values()?)
        })?;
        last.forward(&hidden)
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
            let sum: f64 =
                xs.iter().map(density).zip(squares).map(|(d, s)| d * s * 24. / steps as f64).sum();
            let stated = activation.second_moment();
            assert!((sum - stated).abs() < 1e-6, "{}: {sum}, stated {stated}", activation.name());
        }
        Ok(())
    }
}
