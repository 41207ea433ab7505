//! The instructions of a hypernetwork by the macros, as a multiple of those of the same mathematics
//! by hand in plain candle: callgrind counts them for this program, in long runs and in short.
//!
//! The code by hand uses generated values as they are, hence `init: hyper_nn`.
//!
//! `RAYON_NUM_THREADS=1 cargo bench -p hypernn-benches --bench macro_cost`; it takes valgrind.

#![allow(missing_docs, reason = "a benchmark")]

use std::process::Command;

use candle_core::{D, DType, Device, Result, Tensor, bail};
use candle_nn::Init;
use hypernn::nn::{Linear, Module, VarBuilder, VarMap};
use hypernn::{HyperTarget, hypernetwork, seeded};
use hypernn_benches::Policy;

/// The difference between these is counted, so that building and warming up are not.
const RUNS: [usize; 2] = [20, 120];

/// Embeddings and their width.
const N: usize = 32;
const E: usize = 4;

#[derive(HyperTarget)]
struct Small {
    #[hyper(linear(32, 64))]
    hidden: Linear,
    #[hyper(linear(64, 32))]
    out: Linear,
}

impl Module for Small {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.hidden.forward(xs)?.relu()?)
    }
}

hypernetwork! {
    struct HyperSmall for Small {
        embedding: table(N, E),
        generator: linear,
        mode: static,
        init: hyper_nn,
    }
}

hypernetwork! {
    struct HyperPolicy for Policy {
        embedding: rnn(8, N, E),
        generator: linear,
        mode: dynamic,
        init: hyper_nn,
    }
}

fn generator(num_params: usize, vb: &VarBuilder<'_>) -> Result<(Tensor, candle_nn::Linear)> {
    let embedding = vb.get_with_hints((N, E), "embedding", Init::Const(1.))?;
    Ok((embedding, candle_nn::linear(E, num_params.div_ceil(N), vb.pp("generator"))?))
}

/// The static case by hand.
struct SmallByHand {
    embedding: Tensor,
    generator: candle_nn::Linear,
}

impl SmallByHand {
    fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let (embedding, generator) = generator(HyperSmall::NUM_TARGET_PARAMS, vb)?;
        Ok(Self { embedding, generator })
    }
}

impl Module for SmallByHand {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let flat = self.generator.forward(&self.embedding)?.flatten_all()?;
        let hidden = candle_nn::Linear::new(
            flat.narrow(0, 0, 64 * 32)?.reshape((64, 32))?,
            Some(flat.narrow(0, 2048, 64)?),
        );
        let out = candle_nn::Linear::new(
            flat.narrow(0, 2112, 32 * 64)?.reshape((32, 64))?,
            Some(flat.narrow(0, 4160, 32)?),
        );
        out.forward(&hidden.forward(xs)?.relu()?)
    }
}

/// The dynamic case by hand: a cell's hidden state scales the embeddings, a set of weights per row.
struct PolicyByHand {
    input: candle_nn::Linear,
    recurrent: candle_nn::Linear,
    embedding: Tensor,
    generator: candle_nn::Linear,
}

impl PolicyByHand {
    fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let (embedding, generator) = generator(HyperPolicy::NUM_TARGET_PARAMS, vb)?;
        let input = candle_nn::linear(8, N, vb.pp("input"))?;
        let recurrent = candle_nn::linear(N, N, vb.pp("recurrent"))?;
        Ok(Self { input, recurrent, embedding, generator })
    }
}

impl Module for PolicyByHand {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let sets = xs.dim(0)?;
        let state = Tensor::zeros((sets, N), DType::F32, xs.device())?;
        let state = (self.input.forward(xs)? + self.recurrent.forward(&state)?)?.tanh()?;
        let rows = self.embedding.unsqueeze(0)?.broadcast_mul(&state.unsqueeze(D::Minus1)?)?;
        let flat = self.generator.forward(&rows.reshape((sets * N, E))?)?.reshape((sets, ()))?;
        let cut = |start: usize, dims: &[usize]| {
            let len = dims.iter().product();
            let dims: Vec<_> = [sets].iter().chain(dims).copied().collect();
            flat.narrow(1, start, len)?.reshape(dims)
        };
        let layer = |xs: &Tensor, start: usize, (inputs, outputs): (usize, usize)| {
            let weight = cut(start, &[outputs, inputs])?;
            let bias = cut(start + outputs * inputs, &[1, outputs])?;
            xs.matmul(&weight.t()?)?.broadcast_add(&bias)
        };
        let hidden = layer(&xs.unsqueeze(1)?, 0, (8, 256))?.relu()?;
        layer(&hidden, 2304, (256, 32))?.squeeze(1)
    }
}

fn network(name: &str) -> Result<(Box<dyn Module>, Tensor)> {
    let vb = seeded::var_builder(&VarMap::new(), 0, DType::F32, &Device::Cpu);
    let (net, rows, width): (Box<dyn Module>, _, _) = match name {
        "static" => (Box::new(HyperSmall::new(vb)?), 64, 32),
        "static-by-hand" => (Box::new(SmallByHand::new(&vb)?), 64, 32),
        "dynamic" => (Box::new(HyperPolicy::new(vb)?), 10, 8),
        "dynamic-by-hand" => (Box::new(PolicyByHand::new(&vb)?), 10, 8),
        _ => bail!("there is no network `{name}`"),
    };
    Ok((net, Tensor::ones((rows, width), DType::F32, &Device::Cpu)?))
}

/// What callgrind watches.
fn run(name: &str, backward: bool, runs: usize) -> Result<()> {
    let (net, xs) = network(name)?;
    for _ in 0..runs {
        let ys = net.forward(&xs)?;
        if backward {
            ys.sum_all()?.backward()?;
        }
    }
    Ok(())
}

/// The instructions of this program with these arguments.
fn instructions(name: &str, backward: bool, runs: usize) -> Result<f64> {
    let program = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--watched", name, &backward.to_string(), &runs.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let counted = said.lines().find_map(|line| line.split_once("Collected : ")?.1.parse().ok());
    let Some(counted) = counted else { bail!("valgrind counted nothing:\n{said}") };
    Ok(counted)
}

fn per_run(name: &str, backward: bool) -> Result<f64> {
    let [short, long] = RUNS;
    let difference = instructions(name, backward, long)? - instructions(name, backward, short)?;
    Ok(difference / (long - short) as f64)
}

fn compare(name: &str, backward: bool) -> Result<()> {
    let (ours, by_hand) =
        (per_run(name, backward)?, per_run(&format!("{name}-by-hand"), backward)?);
    let title = if backward { "forward + backward" } else { "forward" };
    println!("{name:8} {title:20} {ours:12.0} {by_hand:12.0} {:8.3}", ours / by_hand);
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [flag, name, backward, runs] = &args[..]
        && flag == "--watched"
    {
        return run(name, backward == "true", runs.parse().map_err(candle_core::Error::wrap)?);
    }
    println!("{:29} {:>12} {:>12} {:>8}", "instructions per run", "macros", "by hand", "ratio");
    for name in ["static", "dynamic"] {
        compare(name, false)?;
        compare(name, true)?;
    }
    Ok(())
}
