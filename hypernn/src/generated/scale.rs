//! Exact initialisation: what is generated has unit variance, and each tensor of the target is
//! shifted and scaled to the mean and standard deviation that candle's own init would give it.
//!
//! The principle is that of Chang et al. 2020 ("Principled Weight Initialization for
//! Hypernetworks"); taking mean and deviation from the layout makes it exact for any chunking.
//! Where candle starts a tensor at a constant, its deviation is zero; a fixed scale of zero would
//! never learn, so such a tensor has a gate of its own, a learned scale that starts at zero
//! (Bachlechner et al. 2020, "ReZero is All You Need").

use std::sync::Arc;

use candle_core::{Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::init::NormalOrUniform;

use crate::ops::split::Segment;
use crate::target::layout::{Layout, ParamInfo};

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

/// How generated values become each tensor's values.
#[derive(Clone, Debug)]
pub(crate) struct Scales {
    segments: Arc<[Segment]>,
    gates: Vec<Gate>,
}

/// A tensor that starts at a constant: `mean + scale × generated`, the scale learned from zero.
#[derive(Clone, Debug)]
struct Gate {
    index: usize,
    mean: f64,
    scale: Tensor,
}

impl Scales {
    /// Values are taken as they are generated.
    pub(crate) fn identity(layout: &Layout) -> Self {
        let segments = layout.params().iter().map(|param| segment(param, (0., 1.)));
        Self { segments: segments.collect(), gates: Vec::new() }
    }

    /// Each tensor starts with the statistics of candle's own init; `gates` holds a zero for each
    /// tensor that starts at a constant.
    pub(crate) fn exact(layout: &Layout, gates: Option<&Tensor>) -> Result<Self> {
        let mut scales = Self::identity(layout);
        let gated = constants(layout).enumerate();
        for (at, (index, mean)) in gated {
            if let Some(gates) = gates {
                scales.gates.push(Gate { index, mean, scale: gates.narrow(0, at, 1)? });
            }
        }
        scales.segments = layout.params().iter().map(exact_segment).collect();
        Ok(scales)
    }

    /// How many tensors of the layout start at a constant, and so need a gate.
    pub(crate) fn num_gates(layout: &Layout) -> usize {
        constants(layout).count()
    }

    pub(crate) fn segments(&self) -> Arc<[Segment]> {
        self.segments.clone()
    }

    /// Opens the gates; the other tensors are as they should be already.
    pub(crate) fn apply_gates(&self, mut tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
        for gate in &self.gates {
            let tensor = tensors[gate.index].broadcast_mul(&gate.scale)?;
            tensors[gate.index] = (tensor + gate.mean)?;
        }
        Ok(tensors)
    }
}

fn segment(param: &ParamInfo, (shift, scale): (f64, f64)) -> Segment {
    Segment { offset: param.offset, dims: param.shape.dims().to_vec(), scale, shift }
}

/// What a gate scales is cut as it is.
fn exact_segment(param: &ParamInfo) -> Segment {
    match moments(param.init, &param.shape) {
        (_, 0.) => segment(param, (0., 1.)),
        moments => segment(param, moments),
    }
}

/// Index and value of each tensor that starts at a constant.
fn constants(layout: &Layout) -> impl Iterator<Item = (usize, f64)> {
    let moments = layout.params().iter().map(|param| moments(param.init, &param.shape));
    moments.enumerate().filter(|(_, (_, std))| *std == 0.).map(|(index, (mean, _))| (index, mean))
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
