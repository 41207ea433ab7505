//! Ways to come by an adapter for a task: generated from its description, or trained for itself.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use hypernn::GeneratedParams;
use hypernn::nn::{Init, VarBuilder};
use hypernn::target::source::ParamKind;
use hypernn_models::Decoder;

use crate::model::TextToLora;
use crate::prepared::{Drawn, Prepared};

/// What has an adapter for each task.
pub trait Adapters {
    /// The adapter of a task by its place in its list.
    ///
    /// # Errors
    /// candle's own.
    fn of(&self, at: usize, task: &Prepared) -> Result<GeneratedParams<Decoder>>;
}

/// What is trained to have them.
pub trait TrainableAdapters: Adapters {
    /// Adapters of the tasks that were drawn, a set each or one for all.
    ///
    /// # Errors
    /// candle's own.
    fn drawn(&self, drawn: &Drawn) -> Result<GeneratedParams<Decoder>>;
}

/// Adapters are generated from descriptions.
impl Adapters for TextToLora {
    fn of(&self, _: usize, task: &Prepared) -> Result<GeneratedParams<Decoder>> {
        Ok(self.generate_params(task.vector())?.detach())
    }
}

impl TrainableAdapters for TextToLora {
    fn drawn(&self, drawn: &Drawn) -> Result<GeneratedParams<Decoder>> {
        Ok(self.generate_params(&drawn.vectors)?)
    }
}

/// Each task has the adapter of another's description.
pub struct Shuffled<'a> {
    /// What generates them.
    pub hyper: &'a TextToLora,
    /// The tasks, of which each takes the description of the next.
    pub tasks: &'a [Prepared],
}

impl Adapters for Shuffled<'_> {
    fn of(&self, at: usize, _: &Prepared) -> Result<GeneratedParams<Decoder>> {
        let other = &self.tasks[(at + 1) % self.tasks.len()];
        Ok(self.hyper.generate_params(other.vector())?.detach())
    }
}

/// Ordinary adapters: a row of variables each, one for each task or one for all.
pub struct Loras<'a> {
    hyper: &'a TextToLora,
    /// For each factor, `[adapters, values]`.
    factors: Vec<Tensor>,
}

impl<'a> Loras<'a> {
    /// So many, each of which starts as the model itself: `down` is drawn, `up` is zero.
    ///
    /// # Errors
    /// candle's own.
    pub fn new(hyper: &'a TextToLora, count: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let factors = hyper.layout().params().iter().map(|param| {
            let bound = (3. / param.shape.dims().last().copied().unwrap_or(1) as f64).sqrt();
            let init = match param.kind {
                ParamKind::Up => Init::Const(0.),
                _ => Init::Uniform { lo: -bound, up: bound },
            };
            vb.get_with_hints((count, param.shape.elem_count()), &param.name, init)
        });
        Ok(Self { hyper, factors: factors.collect::<candle_core::Result<_>>()? })
    }

    /// The number of adapters.
    fn count(&self) -> Result<usize> {
        Ok(self.factors.first().map_or(Ok(0), |factor| factor.dim(0))?)
    }

    /// The adapters of these rows.
    fn rows(&self, rows: &[usize]) -> Result<GeneratedParams<Decoder>> {
        let rows: Vec<_> = rows.iter().map(|at| *at as u32).collect();
        let rows = Tensor::new(rows, &Device::Cpu)?;
        let factors = self.factors.iter().map(|factor| factor.index_select(&rows, 0));
        let flat = Tensor::cat(&factors.collect::<candle_core::Result<Vec<_>>>()?, 1)?;
        // One for all is no set of its own for each run of rows.
        let flat = if rows.elem_count() == 1 { flat.get(0)? } else { flat };
        Ok(self.hyper.params_from_flat(&flat)?)
    }
}

impl Adapters for Loras<'_> {
    fn of(&self, at: usize, _: &Prepared) -> Result<GeneratedParams<Decoder>> {
        Ok(self.rows(&[if self.count()? == 1 { 0 } else { at }])?.detach())
    }
}

impl TrainableAdapters for Loras<'_> {
    fn drawn(&self, drawn: &Drawn) -> Result<GeneratedParams<Decoder>> {
        if self.count()? == 1 { self.rows(&[0]) } else { self.rows(&drawn.tasks) }
    }
}

/// No adapter: the model itself.
pub struct Unadapted<'a>(pub &'a TextToLora);

impl Unadapted<'_> {
    /// The parameters without adapters.
    ///
    /// # Errors
    /// candle's own.
    pub fn params(&self) -> Result<GeneratedParams<Decoder>> {
        Ok(self.0.params_from_flat(&Tensor::zeros(
            self.0.num_target_params(),
            DType::F32,
            &Device::Cpu,
        )?)?)
    }
}

impl Adapters for Unadapted<'_> {
    fn of(&self, _: usize, _: &Prepared) -> Result<GeneratedParams<Decoder>> {
        self.params()
    }
}

/// The share of test questions that are answered right, task by task: with the end of the answer, or whatever comes
/// after it.
///
/// # Errors
/// candle's own.
pub fn scores(adapters: &impl Adapters, tasks: &[Prepared], with_end: bool) -> Result<Vec<f64>> {
    let score = |(at, task): (usize, &Prepared)| {
        let right = task.tests()?.right(&adapters.of(at, task)?, with_end)?;
        Ok(right.iter().filter(|right| **right).count() as f64 / right.len().max(1) as f64)
    };
    tasks.iter().enumerate().map(score).collect()
}

/// The mean.
pub fn mean(scores: &[f64]) -> f64 {
    scores.iter().sum::<f64>() / scores.len().max(1) as f64
}
