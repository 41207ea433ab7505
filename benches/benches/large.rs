//! Targets of 10⁸ parameters, and of 10⁷ with 8 sets: the time of a step and the peak of resident memory, as a multiple
//! of the values of all sets, `4 · G · P` bytes. `benches/peers/large_torch.py` is the same by hand in PyTorch.
//!
//! `RAYON_NUM_THREADS=1 cargo bench -p hypernn-benches --bench large`, or of some cases alone: `-- static_step`. Each
//! case is a process of its own, since a process has one peak.

#![allow(missing_docs, reason = "a benchmark")]

use std::process::Command;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor, bail};
use hypernn::nn::{AdamW, Linear, Module, Optimizer, VarMap};
use hypernn::{HyperTarget, hypernetwork, seeded};

const ROUNDS: usize = 3;
const BATCH: usize = 64;
const PARTS: usize = 4;
const SETS: usize = 8;
const CONDITION: usize = 16;

/// 24 × (2048² + 2048) = 100,712,448 parameters.
#[derive(HyperTarget)]
struct Large {
    #[hyper([linear(2048, 2048); 24])]
    layers: Vec<Linear>,
}

/// 10 × (1000² + 1000) = 10,010,000 parameters.
#[derive(HyperTarget)]
struct Medium {
    #[hyper([linear(1000, 1000); 10])]
    layers: Vec<Linear>,
}

fn through(layers: &[Linear], xs: &Tensor) -> Result<Tensor> {
    layers.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs)?.relu())
}

impl Module for Large {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        through(&self.layers, xs)
    }
}

impl Module for Medium {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        through(&self.layers, xs)
    }
}

hypernetwork! {
    struct HyperLarge for Large { embedding: table(1024, 8), generator: linear, mode: static }

    struct HyperMedium for Medium {
        embedding: encoder(CONDITION, [64], tanh, 500, 8),
        generator: linear,
        mode: dynamic,
    }
}

/// What is measured.
type Run = Box<dyn FnMut() -> Result<()>>;

const CASES: [&str; 5] =
    ["static_step", "static_parts", "static_forward", "static_streamed", "dynamic_step"];

fn random(dims: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1., dims, &Device::Cpu)
}

fn large() -> Result<(HyperLarge, VarMap)> {
    let vars = VarMap::new();
    Ok((HyperLarge::new(seeded::var_builder(&vars, 0, DType::F32, &Device::Cpu))?, vars))
}

fn prepare(case: &str) -> Result<(usize, Run)> {
    let values = HyperLarge::NUM_TARGET_PARAMS;
    Ok(match case {
        "static_step" => (values, static_step(1)?),
        "static_parts" => (values, static_step(PARTS)?),
        "static_forward" => (values, forward(|hyper, xs| hyper.forward(xs))?),
        "static_streamed" => (values, forward(|hyper, xs| hyper.stream_params()?.forward(xs))?),
        "dynamic_step" => (SETS * HyperMedium::NUM_TARGET_PARAMS, dynamic_step()?),
        _ => bail!("there is no case `{case}`: expected one of {CASES:?}"),
    })
}

/// A step over a batch, or over one part of it after the other, generated once.
fn static_step(parts: usize) -> Result<Run> {
    let ((hyper, _vars), xs) = (large()?, random(&[BATCH, 2048])?);
    let mut optimizer = AdamW::new_lr(hyper.trainable(), 1e-4)?;
    if parts == 1 {
        return Ok(Box::new(move || {
            optimizer.backward_step(&hyper.forward(&xs)?.sqr()?.mean_all()?)
        }));
    }
    Ok(Box::new(move || {
        let mut passes = hyper.generate_params()?.micro_batches()?;
        for part in xs.chunk(parts, 0)? {
            let loss = passes.params().forward(&part)?.sqr()?.mean_all()?;
            passes.backward(&(loss / parts as f64)?)?;
        }
        optimizer.step(&passes.finish()?)
    }))
}

/// A forward without gradients.
fn forward(run: impl Fn(&HyperLarge, &Tensor) -> Result<Tensor> + 'static) -> Result<Run> {
    let (_, vars) = large()?;
    let tensors = vars.data().lock().map(|data| {
        data.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect()
    });
    let Ok(tensors) = tensors else { bail!("another thread failed") };
    let vb = hypernn::nn::VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let (hyper, xs) = (HyperLarge::new(vb)?, random(&[BATCH, 2048])?);
    Ok(Box::new(move || run(&hyper, &xs).map(drop)))
}

fn dynamic_step() -> Result<Run> {
    let vars = VarMap::new();
    let hyper = HyperMedium::new(seeded::var_builder(&vars, 0, DType::F32, &Device::Cpu))?;
    let (conditions, xs) = (random(&[SETS, CONDITION])?, random(&[BATCH, 1000])?);
    let mut optimizer = AdamW::new_lr(hyper.trainable(), 1e-4)?;
    Ok(Box::new(move || {
        let loss = hyper.generate_params(&conditions)?.forward(&xs)?.sqr()?.mean_all()?;
        optimizer.backward_step(&loss)
    }))
}

/// A line of `/proc/self/status`, in bytes: `VmRSS`, or `VmHWM`, the largest that it has been.
fn resident(line: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let found = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    let kilobytes = found.and_then(|found| found.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    let Some(kilobytes) = kilobytes else { bail!("/proc/self/status has no {line}") };
    Ok(kilobytes * 1024.)
}

/// One case, in this process.
fn measure(case: &str) -> Result<()> {
    random(&[64, 64])?.matmul(&random(&[64, 64])?)?;
    let idle = resident("VmRSS")?;
    let (values, mut run) = prepare(case)?;
    run()?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let peak = (resident("VmHWM")? - idle) / (4. * values as f64);
    let (median, fastest) = (times[ROUNDS / 2], times[0]);
    println!("| `{case}` | {values} | {median:.2} | {fastest:.2} | {peak:.2} |");
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [flag, case] = &args[..]
        && flag == "--measured"
    {
        return measure(case);
    }
    println!("| Case | Values | Median, s | Fastest, s | Peak / 4·G·P |\n|---|---|---|---|---|");
    let asked: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let is_asked = |case: &&str| asked.is_empty() || asked.iter().any(|name| name == case);
    for case in CASES.into_iter().filter(is_asked) {
        let program = std::env::current_exe()?;
        if !Command::new(program).args(["--measured", case]).status()?.success() {
            bail!("{case} failed");
        }
    }
    Ok(())
}
