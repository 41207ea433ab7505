//! Trainings that ranks do together, whatever the engine.

use std::path::Path;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::VarMap;
use hypernn::nn::{AdamW, LayerNorm, Linear, Module, Optimizer, ParamsAdamW, SGD};
use hypernn::parallel::{AllReduce, DataParallel, Sharded};
use hypernn::{HyperTarget, hypernetwork};

use crate::{by_name, device, numbers, variables_on};

/// Rows of data; the last joint batch of an epoch is smaller.
pub const ROWS: usize = 37;
/// Rows of a joint batch.
pub const BATCH: usize = 10;

/// A target that every rank has.
#[derive(HyperTarget)]
#[hyper(sequential = [hidden, relu, norm, out], input = 6)]
pub struct Net {
    #[hyper(linear(6, 16))]
    hidden: Linear,
    #[hyper(layer_norm(16))]
    norm: LayerNorm,
    #[hyper(linear(16, 3))]
    out: Linear,
}

hypernetwork! {
    /// Bases are not trained.
    pub struct HyperNet for Net { embedding: table(20, 4), generator: mlp([8], tanh), mode: static }
}

/// An optimiser with the settings of these trainings.
pub trait Settings: Optimizer {
    /// Its settings.
    fn settings() -> Self::Config;
}

impl Settings for AdamW {
    fn settings() -> ParamsAdamW {
        ParamsAdamW { lr: 0.01, ..Default::default() }
    }
}

impl Settings for SGD {
    fn settings() -> f64 {
        0.05
    }
}

/// A hypernetwork, its variables and its data.
pub struct Training {
    /// All variables.
    pub vars: VarMap,
    /// The hypernetwork over them.
    pub hyper: HyperNet,
    inputs: Tensor,
    outputs: Tensor,
}

impl Training {
    /// Variables from a seed; the data are always the same.
    ///
    /// # Errors
    /// candle's own.
    pub fn new(seed: u64, dtype: DType) -> Result<Self> {
        Self::on(device(), seed, dtype)
    }

    /// The same on a device.
    ///
    /// # Errors
    /// candle's own.
    pub fn on(device: &Device, seed: u64, dtype: DType) -> Result<Self> {
        let (vars, vb) = variables_on(device, seed, dtype);
        let data = |width, seed| {
            let values = numbers(ROWS * width, seed);
            Tensor::from_vec(values, (ROWS, width), device)?.to_dtype(dtype)
        };
        Ok(Self { vars, hyper: HyperNet::new(vb)?, inputs: data(6, 1)?, outputs: data(3, 2)? })
    }

    /// The mean loss of some rows.
    ///
    /// # Errors
    /// candle's own.
    pub fn loss(&self, rows: &[u32]) -> Result<Tensor> {
        let rows = Tensor::new(rows, self.inputs.device())?;
        let found = self.hyper.forward(&self.inputs.index_select(&rows, 0)?)?;
        (found - self.outputs.index_select(&rows, 0)?)?.sqr()?.mean_all()
    }

    /// All values of all variables, in the order of their names.
    ///
    /// # Errors
    /// candle's own.
    pub fn values(&self) -> Result<Vec<f64>> {
        let values = |var: &Var| var.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
        Ok(by_name(&self.vars).values().map(values).collect::<Result<Vec<_>>>()?.concat())
    }

    /// The optimiser over all ranks.
    ///
    /// # Errors
    /// Its own.
    pub fn optimizer<O: Settings, C: AllReduce>(&self, rank: C) -> Result<DataParallel<O, C>> {
        DataParallel::new(rank, &self.vars, self.hyper.trainable(), O::settings())
    }
}

/// Trains over all ranks for so many steps, and gives all values; each rank starts from other variables.
///
/// # Errors
/// candle's own.
pub fn trained<O: Settings>(rank: &impl AllReduce, dtype: DType, steps: usize) -> Result<Vec<f64>> {
    trained_on::<O>(device(), rank, dtype, steps)
}

/// The same on a device, which may be another for each rank.
///
/// # Errors
/// candle's own.
pub fn trained_on<O: Settings>(
    device: &Device,
    rank: &impl AllReduce,
    dtype: DType,
    steps: usize,
) -> Result<Vec<f64>> {
    let training = Training::on(device, 7 + rank.rank() as u64, dtype)?;
    let mut optimizer = training.optimizer::<O, _>(rank)?;
    let mut rows = Sharded::new(rank, ROWS, BATCH, 3)?;
    for step in 0..steps {
        let own = rows.of_step(step);
        optimizer.backward_step(own.len(), || training.loss(&own))?;
    }
    optimizer.ensure_equal()?;
    optimizer.finish()?;
    training.values()
}

/// Trains over all ranks from a file of `save`, or from the start, to step `last`, and saves there.
///
/// # Errors
/// candle's own, or those of the files.
pub fn go_on(
    rank: &impl AllReduce,
    load: Option<&Path>,
    last: usize,
    save: &Path,
) -> Result<Vec<f64>> {
    let training = Training::new(40 + rank.rank() as u64, DType::F32)?;
    let mut optimizer = training.optimizer::<AdamW, _>(rank)?;
    if let Some(path) = load {
        optimizer.load(path)?;
    }
    let mut rows = Sharded::new(rank, ROWS, BATCH, 3)?;
    for step in optimizer.steps()..last {
        let own = rows.of_step(step);
        optimizer.backward_step(own.len(), || training.loss(&own))?;
    }
    optimizer.save(save)?;
    optimizer.finish()?;
    training.values()
}

/// What [`trained`] gives by the optimiser alone, on joint batches.
///
/// # Errors
/// candle's own.
pub fn trained_alone<O: Settings>(dtype: DType, steps: usize) -> Result<Vec<f64>> {
    let training = Training::new(7, dtype)?;
    let mut optimizer = O::new(training.hyper.trainable(), O::settings())?;
    let mut rows = Sharded::new(&Alone, ROWS, BATCH, 3)?;
    for step in 0..steps {
        optimizer.backward_step(&training.loss(&rows.of_step(step))?)?;
    }
    training.values()
}

/// The only rank: a sum over it is what it has.
#[derive(Debug)]
pub struct Alone;

impl AllReduce for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce(&self, _: &mut [Tensor]) -> Result<()> {
        Ok(())
    }

    fn broadcast(&self, _: &mut [Tensor], _: usize) -> Result<()> {
        Ok(())
    }

    fn leave(&self, _: &str) {}
}

/// The largest difference of two lists of values.
pub fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    let difference = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0., f64::max);
    if a.len() == b.len() { difference } else { f64::INFINITY }
}
