//! How a hypernetwork's own variables start.
//!
//! Under `init: exact`, the default, each generated tensor starts with the mean and deviation of candle's own init for
//! it, whatever the chunking; under `init: hyper_nn` generated values are used as they are.
//!
//! ```
//! use candle_core::{DType, Device, Result};
//! use hypernn::nn::{Linear, VarMap};
//! use hypernn::{HyperTarget, hypernetwork, seeded};
//!
//! #[derive(HyperTarget)]
//! struct Net {
//!     #[hyper(linear(300, 100))]
//!     fc: Linear,
//! }
//!
//! hypernetwork! {
//!     struct Exact for Net { embedding: table(301, 16), generator: linear, mode: static }
//!     struct AsHyperNn for Net { embedding: table(301, 16), generator: linear, mode: static, init: hyper_nn }
//! }
//!
//! /// The mean square of the generated weight.
//! fn mean_square(net: &Net) -> Result<f32> {
//!     net.fc.weight().sqr()?.mean_all()?.to_scalar()
//! }
//!
//! # fn main() -> Result<()> {
//! let vb = || seeded::var_builder(&VarMap::new(), 0, DType::F32, &Device::Cpu);
//! // candle's own: normal, of variance 2 / 300.
//! let own = mean_square(&Net::new(vb())?)?;
//! let exact = mean_square(&Exact::new(vb())?.target()?)?;
//! assert!((exact / own - 1.).abs() < 0.3);
//! assert!(mean_square(&AsHyperNn::new(vb())?.target()?)? > 40. * own);
//! # Ok(())
//! # }
//! ```

use candle_core::{Result, Shape, Tensor, Var};
use candle_nn::init::NormalOrUniform;
use candle_nn::{Init, VarBuilder};

use crate::ops::internal;

/// How a hypernetwork starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum InitScheme {
    /// The generator's output has unit variance, and each tensor of the target is scaled to the
    /// mean and standard deviation of candle's own init, whatever the chunking.
    #[default]
    Exact,
    /// As hyper-nn: PyTorch's default init of embedding and linear layers, and generated values
    /// used as they are. The target then starts far from any useful scale; this is for comparison
    /// and for hyper-nn's checkpoints.
    HyperNn,
}

/// The schemes as they are written after `init:`.
#[allow(non_upper_case_globals)]
pub mod spec {
    use super::InitScheme;

    /// `init: exact`, the default.
    pub const exact: InitScheme = InitScheme::Exact;

    /// `init: hyper_nn`.
    pub const hyper_nn: InitScheme = InitScheme::HyperNn;
}

impl InitScheme {
    /// The name used in declarations and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::HyperNn => "hyper_nn",
        }
    }

    /// The init of a linear layer's weight that takes `fan_in` values of mean square `second_moment`.
    pub fn weight(self, fan_in: usize, second_moment: f64) -> Init {
        match self {
            Self::Exact => {
                Init::Randn { mean: 0., stdev: (fan_in as f64 * second_moment).sqrt().recip() }
            }
            Self::HyperNn => pytorch(fan_in),
        }
    }

    /// The init of a linear layer's bias.
    pub fn bias(self, fan_in: usize) -> Init {
        match self {
            Self::Exact => Init::Const(0.),
            Self::HyperNn => pytorch(fan_in),
        }
    }
}

/// The part of the variance in a conditioned embedding's hidden values that its biases start with.
///
/// A condition of zeros would otherwise give an embedding of zeros, which no normalisation brings to
/// unit variance, and whose gradient it multiplies by the inverse of what is added to keep it from a division by zero.
pub(crate) const BIAS_SHARE: f64 = 0.25;

/// PyTorch's default for the weight and bias of `nn.Linear`.
fn pytorch(fan_in: usize) -> Init {
    let bound = (fan_in as f64).sqrt().recip();
    Init::Uniform { lo: -bound, up: bound }
}

/// A variable that starts at a value computed here, unless the builder has it already.
///
/// # Errors
/// The builder's own, or those of `value`, which is given what the builder's init drew.
pub(crate) fn computed(
    vb: &VarBuilder<'_>,
    dims: &[usize],
    name: &str,
    init: Init,
    value: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let fresh = !vb.contains_tensor(name);
    let tensor = vb.get_with_hints(dims, name, init)?;
    if !fresh {
        return Ok(tensor);
    }
    let value = value(&tensor.detach())?;
    if !tensor.is_variable() {
        return Ok(value);
    }
    Var::from_tensor(&tensor)?.set(&value)?;
    Ok(tensor)
}

/// A table of embeddings `[rows, width]`, the variable `weight`: normal rows of mean square exactly
/// one, so that what a linear layer makes of each row has the same variance; standard normal as drawn
/// under [`InitScheme::HyperNn`].
///
/// # Errors
/// The builder's own.
pub(crate) fn table(
    scheme: InitScheme,
    rows: usize,
    width: usize,
    vb: &VarBuilder<'_>,
) -> Result<Tensor> {
    let normal = Init::Randn { mean: 0., stdev: 1. };
    if scheme == InitScheme::HyperNn {
        return vb.get_with_hints((rows, width), "weight", normal);
    }
    computed(vb, &[rows, width], "weight", normal, |drawn| {
        // In f16 the square of a small number is zero.
        let values = drawn.to_dtype(internal(drawn.dtype()))?;
        let mean_square = (values.sqr()?.sum_keepdim(1)? / width as f64)?;
        values.broadcast_div(&mean_square.sqrt()?)?.to_dtype(drawn.dtype())
    })
}

/// Mean and standard deviation of candle's init for a tensor of this shape.
pub(crate) fn moments(init: Init, shape: &Shape) -> (f64, f64) {
    match init {
        Init::Const(value) => (value, 0.),
        Init::Randn { mean, stdev } => (mean, stdev),
        Init::Uniform { lo, up } => ((lo + up) / 2., (up - lo).abs() / 12f64.sqrt()),
        Init::Kaiming {
            dist: NormalOrUniform::Normal | NormalOrUniform::Uniform,
            fan,
            non_linearity,
        } => (0., non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The moments of each init, against a million of candle's own draws.
    #[test]
    fn moments_are_those_of_candle() -> Result<()> {
        use candle_nn::init::{DEFAULT_KAIMING_NORMAL, DEFAULT_KAIMING_UNIFORM};
        let inits = [
            Init::Uniform { lo: -0.5, up: 2. },
            Init::Randn { mean: 1., stdev: 0.3 },
            DEFAULT_KAIMING_NORMAL,
            DEFAULT_KAIMING_UNIFORM,
            Init::Const(0.25),
        ];
        for init in inits {
            let shape = Shape::from((1000, 10, 100));
            let (mean, std) = moments(init, &shape);
            let drawn = init.var(shape, candle_core::DType::F64, &candle_core::Device::Cpu)?;
            let found_mean = drawn.mean_all()?.to_scalar::<f64>()?;
            let found_var =
                (drawn.as_tensor() - found_mean)?.sqr()?.mean_all()?.to_scalar::<f64>()?;
            assert!((found_mean - mean).abs() <= 5e-3 * std, "{init:?}: mean {found_mean}, {mean}");
            assert!(
                (found_var.sqrt() - std).abs() <= 5e-3 * std,
                "{init:?}: std {found_var}, {std}"
            );
        }
        Ok(())
    }
}
