//! Batch normalisation.

use std::collections::HashMap;

use candle_core::{DType, Device, Error, ModuleT, Result, Shape, Tensor, Var};
pub use candle_nn::BatchNormConfig;
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use super::affine::Affine;
use super::norm;
use crate::check::{Problem, too_many};
use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::memory::ensure_room;
use crate::ops::gain::of_constants;
use crate::ops::internal;
use crate::param;
use crate::param::{Param, scope, sets};
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::{BufferDtype, ParamKind, ParamSource, ParamSpec, VarBuilderSource};

/// What a batch norm is made of: `batch_norm(num_features)` or `batch_norm(num_features, config)`
/// in an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormSpec {
    num_features: usize,
    config: BatchNormConfig,
}

/// The tensors of a batch norm.
struct BatchNormTensors {
    running_mean: Tensor,
    running_var: Tensor,
    params: Option<Affine>,
}

impl BatchNormSpec {
    /// What is added to the variance.
    #[must_use]
    pub const fn eps(mut self, eps: f64) -> Self {
        self.config.eps = eps;
        self
    }

    /// Whether the mean is removed in training.
    #[must_use]
    pub const fn remove_mean(mut self, remove_mean: bool) -> Self {
        self.config.remove_mean = remove_mean;
        self
    }

    /// Whether there are a weight and a bias.
    #[must_use]
    pub const fn affine(mut self, affine: bool) -> Self {
        self.config.affine = affine;
        self
    }

    /// The share of the new batch in the running statistics.
    #[must_use]
    pub const fn momentum(mut self, momentum: f64) -> Self {
        self.config.momentum = momentum;
        self
    }

    /// Every setting at once, as candle's configuration has them.
    #[must_use]
    pub const fn config(mut self, config: BatchNormConfig) -> Self {
        self.config = config;
        self
    }

    /// The layer's tensors without running statistics, what it takes for one sample, and what is wrong with its
    /// sizes, if anything.
    pub const fn info(&self) -> LayerInfo {
        let features = self.num_features;
        let info = LayerInfo::new("batch_norm")
            .size("num_features", features)
            .checked(norm::eps("batch_norm", self.config.eps))
            .checked(momentum(self.config.momentum))
            .takes(SampleShape::begins_with(features));
        if !self.config.affine {
            return info.checked(too_many("batch_norm", &[features]));
        }
        info.tensor("weight", &[features]).tensor("bias", &[features])
    }

    /// The shape of the output of one sample: that of the input.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(*input)
    }

    /// Running statistics, for a layer that computes with them in this dtype, then weight 1 and bias 0.
    fn parts(
        &self,
        source: &mut dyn ParamSource,
        running: BufferDtype,
    ) -> Result<BatchNormTensors> {
        crate::check::ensure(self.info().problem)?;
        let BatchNormConfig { eps, remove_mean, momentum, .. } = self.config;
        source.describe(&format_args!(
            "batch_norm, eps {eps}, momentum {momentum}, remove_mean {remove_mean}"
        ));
        let spec = |name, value| ParamSpec {
            name,
            dims: std::slice::from_ref(&self.num_features),
            kind: ParamKind::Tensor,
            init: Init::Const(value),
        };
        let running_mean = source.buffer_of(&spec("running_mean", 0.), running)?;
        let running_var = source.buffer_of(&spec("running_var", 1.), running)?;
        let affine = || Affine::of_norm(source, self.num_features, true);
        let params = self.config.affine.then(affine).transpose()?;
        Ok(BatchNormTensors { running_mean, running_var, params })
    }
}

const fn momentum(momentum: f64) -> Option<Problem> {
    if momentum >= 0. && momentum <= 1. {
        return None;
    }
    Some(Problem::new("batch_norm: momentum is outside 0..=1"))
}

/// The attribute's constructors.
pub mod spec {
    use super::{BatchNormConfig, BatchNormSpec};

    /// `#[hyper(batch_norm(num_features))]`.
    pub const fn batch_norm(num_features: usize) -> BatchNormSpec {
        let config = BatchNormConfig { eps: 1e-5, remove_mean: true, affine: true, momentum: 0.1 };
        BatchNormSpec { num_features, config }
    }
}

/// Batch normalisation, as `candle_nn::BatchNorm`.
///
/// `weight` and `bias` are `[features]`, or `[G, features]` for `G` sets; each set then has the
/// statistics of its own rows. The running statistics are `[G, features]`, or `[features]`: there
/// all sets share them, and they follow the mean over the sets. They are variables and change in
/// training; a running statistic that is a variable already is shared with its other holders.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use hypernn::nn::{BatchNorm, ModuleT};
///
/// # fn main() -> candle_core::Result<()> {
/// let zeros = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
/// let layer = BatchNorm::new_no_bias(1, zeros.clone(), zeros.ones_like()?, 0.)?;
/// let xs = Tensor::new(&[[-3f32], [3.]], &Device::Cpu)?;
/// assert_eq!(layer.forward_t(&xs, true)?.to_vec2::<f32>()?, [[-1.], [1.]]);
/// // 0.9 × 1 + 0.1 × the variance of the batch, which is 18 with one degree of freedom less.
/// assert!((layer.running_var().to_vec1::<f32>()?[0] - 2.7).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BatchNorm {
    num_features: usize,
    running_mean: Var,
    running_var: Var,
    params: Option<Affine>,
    config: BatchNormConfig,
}

impl BatchNorm {
    fn from_parts(
        num_features: usize,
        parts: BatchNormTensors,
        config: BatchNormConfig,
    ) -> Result<Self> {
        crate::check::ensure(BatchNormSpec { num_features, config }.info().problem)?;
        let mean = &parts.running_mean;
        let both = [&[2], mean.dims()].concat();
        let what = || "batch_norm: its running statistics".to_owned();
        ensure_room(what, &both, mean.dtype(), mean.device())?;
        let layer = Self {
            num_features,
            running_mean: Var::from_tensor(&parts.running_mean)?,
            running_var: Var::from_tensor(&parts.running_var)?,
            params: parts.params,
            config,
        };
        layer.check_shapes()?;
        Ok(layer)
    }

    fn check_shapes(&self) -> Result<()> {
        for (name, tensor) in self.named() {
            let (dims, expected) = (tensor.dims(), self.num_features);
            if dims != [expected] && dims.get(1..) != Some(&[expected]) {
                crate::error::bail!(
                    shape,
                    "batch_norm: {name} has shape {dims:?}, expected [{expected}], or the number of sets in front"
                );
            }
        }
        self.sets().map(|_| ())
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        let running = [
            ("running_mean", self.running_mean.as_tensor()),
            ("running_var", self.running_var.as_tensor()),
        ];
        let affine =
            self.params.iter().filter_map(|params| Some((params.weight(), params.bias()?)));
        running.into_iter().chain(affine.flat_map(|(w, b)| [("weight", w), ("bias", b)]))
    }

    fn sets(&self) -> Result<usize> {
        sets::among("batch_norm", self.named().map(|(name, tensor)| (name, tensor, 1)))
    }

    /// A layer over existing tensors.
    ///
    /// # Errors
    /// A tensor has another shape, or the epsilon is negative.
    pub fn new(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: f64,
    ) -> Result<Self> {
        let params = Some(Affine::new(weight, Some(bias)));
        let parts = BatchNormTensors { running_mean, running_var, params };
        Self::from_parts(num_features, parts, eps.into())
    }

    /// A layer without weight and bias.
    ///
    /// # Errors
    /// A tensor has another shape, or the epsilon is negative.
    pub fn new_no_bias(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        eps: f64,
    ) -> Result<Self> {
        let parts = BatchNormTensors { running_mean, running_var, params: None };
        Self::from_parts(num_features, parts, eps.into())
    }

    /// A layer over existing tensors, with the share of the new batch in the running statistics.
    ///
    /// # Errors
    /// A tensor has another shape, the epsilon is negative, or the momentum outside 0 to 1.
    pub fn new_with_momentum(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        let params = Some(Affine::new(weight, Some(bias)));
        let parts = BatchNormTensors { running_mean, running_var, params };
        Self::from_parts(num_features, parts, BatchNormConfig { momentum, ..eps.into() })
    }

    /// A layer without weight and bias, with the share of the new batch in the running statistics.
    ///
    /// # Errors
    /// A tensor has another shape, the epsilon is negative, or the momentum outside 0 to 1.
    pub fn new_no_bias_with_momentum(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        let parts = BatchNormTensors { running_mean, running_var, params: None };
        Self::from_parts(num_features, parts, BatchNormConfig { momentum, ..eps.into() })
    }

    /// The running mean, `[features]`, or `[G, features]` where each of `G` sets has its own.
    pub fn running_mean(&self) -> &Tensor {
        param::shown(self.running_mean.as_tensor(), 1)
    }

    /// The running variance, `[features]`, or `[G, features]` where each of `G` sets has its own.
    pub fn running_var(&self) -> &Tensor {
        param::shown(self.running_var.as_tensor(), 1)
    }

    /// What is added to the variance.
    pub fn eps(&self) -> f64 {
        self.config.eps
    }

    /// Weight and bias, `[features]` each, or `[G, features]` for `G` sets; none in a layer without them.
    pub fn weight_and_bias(&self) -> Option<(&Tensor, &Tensor)> {
        let params = self.params.as_ref()?;
        Some((params.weight.shown(1), params.shown_bias()?))
    }

    /// The share of the new batch in the running statistics.
    pub fn momentum(&self) -> f64 {
        self.config.momentum
    }

    /// The forward in training: `[B, features, …]` to the same, with the batch's own statistics,
    /// which also go into the running ones.
    ///
    /// One value per feature becomes zero, as in candle; the running variance, which candle makes NaN
    /// then, stays as it is.
    ///
    /// # Errors
    /// The input has less than 2 dimensions, another number of features or no values, or one value per
    /// feature for each of several sets, or the batch is not a multiple of the number of sets.
    pub fn forward_train(&self, xs: &Tensor) -> Result<Tensor> {
        let sets = self.check_input(xs)?;
        let lines = self.lines(xs, sets)?;
        let count = lines.dim(1)?;
        if count == 0 || (count == 1 && sets > 1) {
            crate::error::bail!(
                shape,
                "batch_norm: {count} value per feature to train on (shape {:?}), expected at least 2",
                xs.dims()
            );
        }
        let lines = if self.config.remove_mean {
            let mean = lines.mean_keepdim(1)?;
            self.follow(&self.running_mean, &mean, 1.)?;
            lines.broadcast_sub(&mean)?
        } else {
            lines
        };
        let var = lines.sqr()?.mean_keepdim(1)?;
        // One value says nothing of a variance: 0 with no degree of freedom left.
        if count > 1 {
            self.follow(&self.running_var, &var, count as f64 / (count as f64 - 1.))?;
        }
        self.finish(xs, &lines.broadcast_div(&(var + self.config.eps)?.sqrt()?)?, sets)
    }

    fn forward_eval(&self, xs: &Tensor) -> Result<Tensor> {
        let sets = self.check_input(xs)?;
        let lines = self.lines(xs, sets)?;
        let by_line = |running: &Var| {
            let running = running.as_detached_tensor().to_dtype(lines.dtype())?;
            sets::spread(&running, 1, sets)?.reshape((sets * self.num_features, 1))
        };
        let std = (by_line(&self.running_var)? + self.config.eps)?.sqrt()?;
        let (mean, divisor) = (by_line(&self.running_mean)?, std.clone());
        let lines = of_constants(
            "batch_norm",
            &lines,
            |lines| lines.broadcast_sub(&mean)?.broadcast_div(&std),
            move |grad| grad.broadcast_div(&divisor),
        )?;
        self.finish(xs, &lines, sets)
    }

    fn check_input(&self, xs: &Tensor) -> Result<usize> {
        if xs.rank() < 2 {
            crate::error::bail!(
                shape,
                "batch_norm: the input has shape {:?}, expected at least 2 dimensions",
                xs.dims()
            );
        }
        if xs.dim(1)? != self.num_features {
            crate::error::bail!(
                shape,
                "batch_norm: the input has {} features (shape {:?}), the layer takes {}",
                xs.dim(1)?,
                xs.dims(),
                self.num_features
            );
        }
        let sets = self.sets()?;
        sets::rows_per_set("batch_norm", xs.dim(0)?, sets)?;
        Ok(sets)
    }

    /// All values of one feature in one set as a line: `[sets × features, values]`.
    fn lines(&self, xs: &Tensor, sets: usize) -> Result<Tensor> {
        let rows = xs.dim(0)? / sets;
        let values = xs.elem_count() / (sets * self.num_features);
        let xs = xs.to_dtype(internal(xs.dtype()))?;
        xs.reshape((sets, rows, self.num_features, values / rows.max(1)))?
            .transpose(1, 2)?
            .reshape((sets * self.num_features, values))
    }

    /// Weight and bias, and back to the shape and dtype of the input.
    fn finish(&self, xs: &Tensor, lines: &Tensor, sets: usize) -> Result<Tensor> {
        let lines = lines.to_dtype(xs.dtype())?;
        let lines = match &self.params {
            None => lines,
            Some(params) => {
                let shape = (sets * self.num_features, 1);
                norm::scale("batch_norm", &lines, &params.spread(1, sets)?, shape)?
            }
        };
        let (rows, values) = (xs.dim(0)? / sets, lines.dim(1)?);
        lines
            .reshape((sets, self.num_features, rows, values / rows.max(1)))?
            .transpose(1, 2)?
            .reshape(xs.shape())
    }

    /// Moves a running statistic towards `scale` times that of the batch, `[sets × features, 1]`.
    fn follow(&self, running: &Var, batch: &Tensor, scale: f64) -> Result<()> {
        // A block that is computed once more for the backward has moved them already.
        if scope::is_again() {
            return Ok(());
        }
        let momentum = self.config.momentum;
        let batch = batch.detach().reshape(((), self.num_features))?;
        let batch = if running.rank() == 1 { batch.mean(0)? } else { batch };
        let batch = (batch * (momentum * scale))?.to_dtype(running.dtype())?;
        running.set(&((running.as_detached_tensor() * (1. - momentum))? + batch)?)
    }
}

impl ModuleT for BatchNorm {
    /// `[B, features, …]` to the same, in training or evaluation.
    ///
    /// # Errors
    /// The input has less than 2 dimensions or another number of features, the batch is not a
    /// multiple of the number of sets, or training has no value per feature, or one for each of several
    /// sets.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        if train { self.forward_train(xs) } else { self.forward_eval(xs) }
    }
}

impl HyperLayer<BatchNormSpec> for BatchNorm {
    const TAKES_SETS: bool = true;

    fn build(spec: &BatchNormSpec, source: &mut dyn ParamSource) -> Result<Self> {
        Self::from_parts(spec.num_features, spec.parts(source, BufferDtype::Any)?, spec.config)
    }
}

impl Parameters for BatchNorm {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.params.as_ref().map_or(Ok(()), |params| params.visit(visitor))
    }

    fn reused(&self, name: &str) -> Result<Option<Param>> {
        self.params.as_ref().map_or(Ok(None), |params| params.reused(name))
    }
}

impl HyperLayer<BatchNormSpec> for candle_nn::BatchNorm {
    fn build(spec: &BatchNormSpec, source: &mut dyn ParamSource) -> Result<Self> {
        let BatchNormTensors { running_mean, running_var, params } =
            spec.parts(source, BufferDtype::Params)?;
        let (dtype, device) = (running_mean.dtype(), running_mean.device().clone());
        // A builder is candle's only way to keep the mean.
        let mut tensors =
            HashMap::from([("running_mean", running_mean), ("running_var", running_var)]);
        if let Some(params) = params {
            let (weight, bias) = params.to_tensors()?;
            tensors.extend([("weight", weight)].into_iter().chain(bias.map(|bias| ("bias", bias))));
        }
        let vb = VarBuilder::from_backend(Box::new(AsTheyAre(tensors)), dtype, device);
        candle_nn::batch_norm(spec.num_features, spec.config, vb)
    }
}

/// Tensors by name, each in its own dtype: running statistics may have another than the parameters.
struct AsTheyAre(HashMap<&'static str, Tensor>);

impl SimpleBackend for AsTheyAre {
    fn get(&self, _: Shape, name: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        self.get_unchecked(name, dtype, dev)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        let tensor = self.0.get(name).cloned();
        tensor.ok_or_else(|| Error::CannotFindTensor { path: name.to_owned() }.bt())
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

impl Parameters for candle_nn::BatchNorm {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        let Some((weight, bias)) = self.weight_and_bias() else { return Ok(()) };
        visitor("weight", weight)?;
        visitor("bias", bias)
    }
}

/// A batch norm; variables `running_mean`, `running_var`, `weight` and `bias`.
///
/// # Errors
/// The size is zero, the configuration out of range, or the builder's tensors have another shape.
pub fn batch_norm<C: Into<BatchNormConfig>>(
    num_features: usize,
    config: C,
    vb: VarBuilder<'_>,
) -> Result<BatchNorm> {
    let spec = BatchNormSpec { num_features, config: config.into() };
    BatchNorm::build(&spec, &mut VarBuilderSource::new(vb))
}
