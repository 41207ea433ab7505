//! How time and memory grow: over the target's parameters, its tensors, sets of weights, embeddings and
//! their width; beside each, the exponent that a least-squares line in logarithms gives.
//!
//! `RAYON_NUM_THREADS=1 cargo bench -p hypernn-benches --bench scaling`

#![allow(missing_docs, reason = "a benchmark")]

use candle_core::{DType, Device, Result, Tensor};
use hypernn::embedding::spec::table;
use hypernn::generated::TargetPlan;
use hypernn::generator::{GeneratorShape, spec::linear};
use hypernn::hypernetwork::{Declared, StaticHyperNetwork};
use hypernn::init::InitScheme;
use hypernn::nn::{Linear, Module, VarBuilder, VarMap};
use hypernn::{ChunkPlan, HyperTarget, hypernetwork, seeded};
use hypernn_benches::{Case, HyperPolicy, measure};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const ROUNDS: usize = 5;
const WIDTH: usize = 64;
const BATCH: usize = 8;

/// So many layers, each with so many outputs.
#[derive(Clone, Debug)]
struct Split {
    layers: usize,
    rows: usize,
}

#[derive(HyperTarget)]
#[hyper(config = Split)]
struct Wide {
    #[hyper([linear_no_bias(WIDTH, config.rows); config.layers])]
    layers: Vec<Linear>,
}

impl Module for Wide {
    /// The sum over all outputs of their squares.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let squares = self.layers.iter().map(|layer| layer.forward(xs)?.sqr()?.sum_all());
        Tensor::stack(&squares.collect::<Result<Vec<_>>>()?, 0)?.sum_all()
    }
}

fn builder() -> VarBuilder<'static> {
    seeded::var_builder(&VarMap::new(), 0, DType::F32, &Device::Cpu)
}

/// What `hypernetwork!` emits, with sizes that are known here alone.
fn wide(split: &Split, (count, width): (usize, usize)) -> Result<StaticHyperNetwork<Wide>> {
    let plan = TargetPlan::new(split)?;
    let chunks = ChunkPlan::new(plan.num_params(), count);
    let shape = GeneratorShape { num_embeddings: count, embedding_dim: width, plan: chunks };
    let declared = Declared { name: "HyperWide", shape, scheme: InitScheme::Exact };
    StaticHyperNetwork::new(plan, &declared, &table(count, width), &linear, builder())
}

/// One size: milliseconds, and the peak of memory above what was in use.
struct Point {
    size: usize,
    time: f64,
    peak: f64,
}

fn point<T>(size: usize, run: impl Fn() -> Result<T>) -> Result<Point> {
    run()?;
    let idle = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    run()?;
    let peak = ALLOCATOR.peak_usage().saturating_sub(idle) as f64;
    let times = measure(&[Case::new(run)], ROUNDS)?;
    Ok(Point { size, time: times[0].fastest.as_secs_f64() * 1e3, peak })
}

/// The slope of the least-squares line through the logarithms.
fn exponent(points: &[Point], of: impl Fn(&Point) -> f64) -> f64 {
    let logs = points.iter().map(|point| ((point.size as f64).ln(), of(point).ln()));
    let logs: Vec<_> = logs.collect();
    let count = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|log| log.0), mean(|log| log.1));
    let products: f64 = logs.iter().map(|log| (log.0 - x) * (log.1 - y)).sum();
    products / logs.iter().map(|log| (log.0 - x).powi(2)).sum::<f64>()
}

fn table_of(
    title: &str,
    (expected_time, expected_memory): (&str, &str),
    points: impl Iterator<Item = Result<Point>>,
) -> Result<()> {
    let points = points.collect::<Result<Vec<_>>>()?;
    println!("{title:44} {:>10} {:>10}", "ms", "MB");
    for Point { size, time, peak } in &points {
        println!("  {size:42} {time:10.3} {:10.2}", peak / 1e6);
    }
    let (time, memory) = (exponent(&points, |at| at.time), exponent(&points, |at| at.peak));
    println!("  {:42} {time:10.2} {memory:10.2}", "exponent");
    println!("  {:42} {expected_time:>10} {expected_memory:>10}\n", "expected");
    Ok(())
}

/// Forward and backward of a static hypernetwork.
fn trained(size: usize, split: &Split, embeddings: (usize, usize)) -> Result<Point> {
    let hyper = wide(split, embeddings)?;
    let xs = Tensor::ones((BATCH, WIDTH), DType::F32, &Device::Cpu)?;
    point(size, || hyper.forward(&xs)?.backward())
}

/// Four frozen matrices of 2500 × 2500, with adapters of rank 4 that a condition generates, over 16 rows.
mod adapters {
    use super::*;

    const LAYERS: usize = 4;
    const WIDTH: usize = 2500;
    const ROWS: usize = 16;

    #[derive(HyperTarget)]
    struct Annotated {
        #[hyper([linear_no_bias(WIDTH, WIDTH); LAYERS])]
        layers: Vec<Linear>,
    }

    impl Module for Annotated {
        fn forward(&self, xs: &Tensor) -> Result<Tensor> {
            self.layers.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs))
        }
    }

    /// The same of candle's layers.
    struct Candles(Vec<candle_nn::Linear>);

    impl Candles {
        fn new(vb: VarBuilder<'_>) -> Result<Self> {
            let layer = |at| candle_nn::linear_no_bias(WIDTH, WIDTH, vb.pp("layers").pp(at));
            Ok(Self((0..LAYERS).map(layer).collect::<Result<_>>()?))
        }
    }

    impl Module for Candles {
        fn forward(&self, xs: &Tensor) -> Result<Tensor> {
            self.0.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs))
        }
    }

    hypernetwork! {
        struct HyperAnnotated for Annotated {
            roles: [("*", lora(4, 4.))],
            embedding: encoder(3, [16], tanh, 16, 8),
            generator: linear,
            mode: dynamic,
        }
    }

    hypernetwork! {
        struct HyperCandles for Candles {
            target: constructor,
            roles: [("*", lora(4, 4.))],
            embedding: encoder(3, [16], tanh, 16, 8),
            generator: linear,
            mode: dynamic,
        }
    }

    fn pretrained() -> Result<VarBuilder<'static>> {
        let vb = builder();
        Candles::new(vb.clone())?;
        Ok(vb)
    }

    fn inputs(sets: usize) -> Result<(Tensor, Tensor)> {
        let ones = |dims: (usize, usize)| Tensor::ones(dims, DType::F32, &Device::Cpu);
        Ok((ones((sets, 3))?, ones((ROWS * sets, WIDTH))?))
    }

    pub(super) fn annotated(sets: usize) -> Result<Point> {
        let hyper = HyperAnnotated::new_from(builder(), pretrained()?)?;
        let (condition, xs) = inputs(sets)?;
        point(sets, || {
            hyper.generate_params(&condition)?.forward(&xs)?.sqr()?.mean_all()?.backward()
        })
    }

    pub(super) fn by_constructor(sets: usize) -> Result<Point> {
        let hyper = HyperCandles::new_from(builder(), pretrained()?, Candles::new)?;
        let (condition, xs) = inputs(sets)?;
        point(sets, || {
            hyper.generate_params(&condition)?.forward(&xs)?.sqr()?.mean_all()?.backward()
        })
    }
}

fn main() -> Result<()> {
    // `cargo bench … --bench scaling -- adapters` for these alone.
    if std::env::args().any(|argument| argument == "adapters") {
        let sets = || [1, 2, 4].into_iter();
        table_of("sets, adapters of hypernn's layers", ("", ""), sets().map(adapters::annotated))?;
        let by_constructor = sets().map(adapters::by_constructor);
        return table_of("sets, adapters by constructor", ("1", "1"), by_constructor);
    }
    let rows = [160, 512, 1_600, 5_120, 16_000, 51_200, 160_000].into_iter();
    let by_params = rows.map(|rows| trained(rows * WIDTH, &Split { layers: 1, rows }, (16, 16)));
    table_of("P, forward + backward", ("1", "1"), by_params)?;

    let layers = (1..10).map(|log| 1 << log);
    let by_tensors =
        layers.map(|layers| trained(layers, &Split { layers, rows: 16_384 / layers }, (16, 16)));
    table_of("tensors of 1,048,576 parameters", ("0", "0"), by_tensors)?;

    let hyper = HyperPolicy::new(builder())?;
    let by_sets = (0..11).map(|log| 1 << log).map(|sets| {
        let xs = Tensor::ones((sets, 8), DType::F32, &Device::Cpu)?;
        point(sets, || hyper.forward(&xs)?.sum_all()?.backward())
    });
    table_of("B, a set per row, forward + backward", ("1", "1"), by_sets)?;

    let split = Split { layers: 16, rows: 1_024 };
    let by_count = (0..9).map(|log| 4 << log).map(|count| trained(count, &split, (count, 16)));
    table_of("N, embeddings of width 16", ("0", "0"), by_count)?;

    let by_width = (0..8).map(|log| 2 << log).map(|width| trained(width, &split, (256, width)));
    table_of("E, of 256 embeddings", ("1", "0"), by_width)
}
