//! Trains a hypernetwork whose target tells two spirals apart.
//!
//! `cargo run --release`, which goes on from the checkpoint that it finds. `--help` lists the options.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::{D, DType, Device, Tensor};
use clap::Parser;
use hypernn::nn::{AdamW, Linear, Optimizer, VarMap, loss};
use hypernn::{HyperTarget, hypernetwork, seeded};
use indicatif::{ProgressBar, ProgressStyle};

/// The target, from a point to the scores of two classes.
#[derive(HyperTarget)]
#[hyper(sequential = [hidden1, relu, hidden2, relu, out], input = 2)]
struct Net {
    #[hyper(linear(2, 32))]
    hidden1: Linear,
    #[hyper(linear(32, 32))]
    hidden2: Linear,
    #[hyper(linear(32, 2))]
    out: Linear,
}

hypernetwork! {
    /// Generates the target from 29 embeddings of width 8.
    struct HyperNet for Net { embedding: table(29, 8), generator: linear, mode: static }
}

/// Trains a hypernetwork, and goes on from a checkpoint where there is one.
#[derive(Parser)]
struct Args {
    /// Training steps, those of the checkpoint included
    #[arg(long, default_value_t = 1000)]
    steps: u32,

    #[arg(long, default_value_t = 0.01)]
    learning_rate: f64,

    /// Steps from one checkpoint to the next
    #[arg(long, default_value_t = 100)]
    save_every: u32,

    /// Folder for checkpoint and result
    #[arg(long, default_value = "out")]
    out: PathBuf,
}

/// Points on two spirals, `[2 × count, 2]`, and their classes, `[2 × count]`. Your data in their place.
fn data(count: u32, device: &Device) -> Result<(Tensor, Tensor)> {
    let (mut points, mut classes) = (Vec::new(), Vec::new());
    for (class, at) in (0..2u32).flat_map(|class| (0..count).map(move |at| (class, at))) {
        let part = (at as f32 + 0.5) / count as f32;
        let angle = 6. * part + std::f32::consts::PI * class as f32;
        points.extend([2. * part * angle.cos(), 2. * part * angle.sin()]);
        classes.push(class);
    }
    let points = Tensor::from_vec(points, (classes.len(), 2), device)?;
    Ok((points, Tensor::new(classes, device)?))
}

fn main() -> Result<()> {
    let (args, device) = (Args::parse(), Device::Cpu);
    std::fs::create_dir_all(&args.out)?;
    let vars = VarMap::new();
    let hyper = HyperNet::new(seeded::var_builder(&vars, 0, DType::F32, &device))?;
    let mut optimizer = AdamW::new_lr(hyper.trainable(), args.learning_rate)?;
    let files = ["hypernetwork.safetensors", "optimizer.safetensors"];
    let [hyper_file, optimizer_file] = files.map(|name| args.out.join(name));
    if optimizer_file.exists() {
        hyper.load(&hyper_file)?;
        optimizer.load(&vars, &optimizer_file)?;
    }
    let done = optimizer.state(&vars)?["steps"].to_scalar::<u32>()?;
    println!("{hyper:#?}\nfrom step {done}");

    let (points, classes) = data(200, &device)?;
    let bar = ProgressBar::new(args.steps.into()).with_position(done.into());
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left, {msg}")?);
    for step in done + 1..=args.steps {
        let loss = loss::cross_entropy(&hyper.forward(&points)?, &classes)?;
        optimizer.backward_step(&loss)?;
        bar.inc(1);
        if step % args.save_every == 0 || step == args.steps {
            bar.set_message(format!("loss {:.4}", loss.to_scalar::<f32>()?));
            hyper.save(&hyper_file)?;
            optimizer.save(&vars, &optimizer_file)?;
        }
    }
    bar.finish();
    // An ordinary checkpoint of the target.
    hyper.export(args.out.join("net.safetensors"))?;
    let right = hyper.forward(&points)?.argmax(D::Minus1)?.eq(&classes)?.to_dtype(DType::F32)?;
    println!("{:.1} % right", 100. * right.mean_all()?.to_scalar::<f32>()?);
    Ok(())
}
