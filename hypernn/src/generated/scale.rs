//! Exact initialisation: what is generated has unit variance, and each tensor of the target is
//! shifted and scaled to the mean and standard deviation that candle's own init would give it.
//!
//! The principle is that of Chang et al. 2020 ("Principled Weight Initialization for
//! Hypernetworks"); taking mean and deviation from the layout makes it exact for any chunking.
//!
//! Where candle starts a tensor at a constant (the gain of a norm, say) its deviation is zero, and
//! a scale of zero would never learn. Such a tensor is `(0.1 × generated - base) + constant`, where
//! `base` keeps what was generated first, so that the tensor starts at the constant exactly.

use candle_core::{DType, Result, Shape, Tensor};
use candle_nn::init::NormalOrUniform;
use candle_nn::{Init, VarBuilder};

use crate::generator::GeneratorOutput;
use crate::init::computed;
use crate::ops::split::{Pattern, Segment, split};
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

/// The scale of what is generated for a tensor that starts at a constant.
const CONSTANT_SCALE: f64 = 0.1;

/// How generated values become each tensor's values.
#[derive(Clone, Debug)]
pub(crate) struct Scales {
    pattern: Pattern,
    bases: Vec<Base>,
}

/// Where a tensor that starts at a constant starts.
#[derive(Clone, Debug)]
struct Base {
    /// Which tensor it is.
    index: usize,
    /// What was generated first, and is taken off.
    first: Tensor,
    /// The constant, which is put in its place.
    constant: f64,
}

impl Scales {
    /// Values are taken as they are generated.
    pub(crate) fn identity(layout: &Layout) -> Self {
        let segments = layout.params().iter().map(|param| segment(param, 0., 1.));
        Self { pattern: Pattern::new(segments), bases: Vec::new() }
    }

    /// Each tensor starts with the statistics of candle's own init.
    ///
    /// `first` is the first output of a static generator; bases are kept below `vb`. Where there is
    /// none, a tensor that candle starts at a constant starts near it.
    pub(crate) fn exact(
        layout: &Layout,
        first: Option<&GeneratorOutput>,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let segment = |param| exact_segment(param, first.is_some());
        let pattern = Pattern::new(layout.params().iter().map(segment));
        let bases = match first {
            Some(first) => bases(layout, &split(&first.detach(), None, &pattern)?.tensors, vb)?,
            None => Vec::new(),
        };
        Ok(Self { pattern, bases })
    }

    /// The same for tensors of this dtype.
    pub(crate) fn with_dtype(self, dtype: DType) -> Self {
        Self { pattern: self.pattern.with_dtype(dtype), ..self }
    }

    pub(crate) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Puts constants in the place of bases; the other tensors are as they should be already. The
    /// gradient of what was cut is that of the tensor.
    ///
    /// The base comes off first: what is left is zero at the start, whatever the rounding.
    pub(crate) fn add_bases(&self, mut tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
        for Base { index, first, constant } in &self.bases {
            let cut = &tensors[*index];
            let change = cut.broadcast_sub(&first.to_dtype(cut.dtype())?)?;
            tensors[*index] = if *constant == 0. { change } else { (change + *constant)? };
        }
        Ok(tensors)
    }
}

fn segment(param: &ParamInfo, shift: f64, scale: f64) -> Segment {
    Segment { offset: param.offset, dims: param.shape.dims().to_vec(), scale, shift }
}

/// A base takes the place of the shift.
fn exact_segment(param: &ParamInfo, has_base: bool) -> Segment {
    match moments(param.init, &param.shape) {
        (_, 0.) if has_base => segment(param, 0., CONSTANT_SCALE),
        (mean, 0.) => segment(param, mean, CONSTANT_SCALE),
        (mean, std) => segment(param, mean, std),
    }
}

/// What makes each tensor that candle starts at a constant start there.
fn bases(layout: &Layout, first: &[Tensor], vb: &VarBuilder<'_>) -> Result<Vec<Base>> {
    let mut bases = Vec::new();
    for (index, param) in layout.params().iter().enumerate() {
        let Some(constant) = constant(param) else { continue };
        let (dims, init) = (param.shape.dims(), Init::Const(constant));
        let first = computed(vb, dims, &param.name, init, |_| Ok(first[index].clone()))?;
        bases.push(Base { index, first: first.detach(), constant });
    }
    Ok(bases)
}

/// The constant at which candle starts a tensor, if it does.
fn constant(param: &ParamInfo) -> Option<f64> {
    let (mean, std) = moments(param.init, &param.shape);
    (std == 0.).then_some(mean)
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
