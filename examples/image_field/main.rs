//! Images as fields: one hypernetwork turns an image into the weights of a SIREN that draws it, at any
//! resolution, for images that it has not seen.
//!
//! `cargo run --release --example image_field`
//!
//! A batch of images is a batch of weight sets: each SIREN has weights of its own, and all are
//! evaluated at once.

mod direct;
mod field;
mod finish;
mod quality;
mod run;
mod siren;
mod train;

use anyhow::Result;
use clap::Parser;
use hypernn::hypernetwork;
use hypernn::nn::VarMap;
use run::{Args, Run};
use siren::Siren;

/// How many numbers are left of an image before weights are made of them.
pub const CODE: usize = 32;

hypernetwork! {
    /// From an image to the SIREN that draws it. The encoder's second hidden layer is the image's code.
    pub struct ImageField for Siren {
        embedding: encoder(784, [512, CODE, 256], gelu, 32, 32),
        generator: linear,
        mode: dynamic,
    }
}

fn main() -> Result<()> {
    let run = Run::new(Args::parse())?;
    println!("{}", run.introduction());
    let vars = VarMap::new();
    let hyper = run.hypernetwork(&vars)?;
    println!("{hyper:#?}");
    let history = train::train(&run, &hyper, &vars)?;
    finish::finish(&run, &hyper, &history)
}
