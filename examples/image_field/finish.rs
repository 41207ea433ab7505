//! After the training: test images, baselines, table, pictures, summary.

use std::path::Path;

use anyhow::Result;
use candle_core::Tensor;
use hypernn_examples::args::device_name;
use hypernn_examples::pca::Pca;
use hypernn_examples::plot::{self, Chart, Line};
use hypernn_examples::report::{table, write_json};
use hypernn_examples::training::History;
use serde::Serialize;

use crate::quality::Quality;
use crate::run::Run;
use crate::{CODE, ImageField, direct, field, train};

/// How near each way comes to the test images.
#[derive(Serialize)]
struct Qualities {
    /// The SIRENs that the hypernetwork makes.
    image_field: Quality,
    /// As many principal components of the training images as an image's code has numbers.
    pca: Quality,
    /// The mean training image in the place of each.
    mean_image: Quality,
    /// SIRENs that were fitted to the first test images, each for itself.
    fitted_sirens: Quality,
    /// The same images, by the SIRENs that the hypernetwork makes.
    image_field_of_those: Quality,
}

/// What `summary.json` holds.
#[derive(Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    qualities: &'a Qualities,
    test_images: usize,
    fitted_images: usize,
    code: usize,
    num_params: usize,
    num_target_params: usize,
    dataset: &'a str,
    steps: usize,
    batch_size: u32,
    pixels: u32,
    learning_rate: f64,
    seed: u64,
    device: String,
    quick: bool,
    seconds: f64,
    history: &'a History,
}

/// Test images to which SIRENs are fitted directly.
const FITTED: usize = 32;

/// Images in the picture, and how much finer than the pixels fields are sampled there.
const SHOWN: usize = 8;
const FINER: usize = 4;

/// Writes everything to the output folder and prints what matters.
pub fn finish(run: &Run, hyper: &ImageField, history: &History) -> Result<()> {
    let pca = Pca::new(&run.train, CODE.min(run.train.dim(0)?))?;
    let qualities = qualities(run, hyper, &pca)?;
    print_table(&qualities);
    draw_images(&run.out.join("images.png"), run, hyper, &pca)?;
    draw_history(&run.out.join("learning_curve.png"), history)?;
    hyper.save(run.out.join("hypernetwork.safetensors"))?;
    write_json(&run.out.join("summary.json"), &summary(run, hyper, &qualities, history))?;
    println!("Pictures, checkpoints and summary.json are in {}.", run.out.display());
    Ok(())
}

fn qualities(run: &Run, hyper: &ImageField, pca: &Pca) -> Result<Qualities> {
    let first = run.test.narrow(0, 0, FITTED)?;
    let mean = pca.mean().broadcast_as(run.test.shape())?;
    Ok(Qualities {
        image_field: train::quality(hyper, &run.test)?,
        pca: Quality::of(&pca.reconstruct(&run.test)?, &run.test)?,
        mean_image: Quality::of(&mean, &run.test)?,
        fitted_sirens: direct::fit(run, &first)?,
        image_field_of_those: train::quality(hyper, &first)?,
    })
}

fn print_table(qualities: &Qualities) {
    let all = "all to test on".to_owned();
    let rows = [
        ("mean training image", qualities.mean_image, all.clone()),
        ("principal components", qualities.pca, all.clone()),
        ("SIRENs by hypernetwork", qualities.image_field, all),
        ("SIRENs by hypernetwork", qualities.image_field_of_those, format!("the first {FITTED}")),
        ("SIRENs fitted directly", qualities.fitted_sirens, format!("the first {FITTED}")),
    ];
    let rows = rows.map(|(name, Quality { mse, psnr }, images)| {
        [name.to_owned(), images, format!("{mse:.5}"), format!("{psnr:.2} dB")]
    });
    println!("{}", table(["reconstruction", "images", "mean square error", "PSNR"], &rows));
}

/// Images, what becomes of them, and the same fields at more places.
fn draw_images(path: &Path, run: &Run, hyper: &ImageField, pca: &Pca) -> Result<()> {
    let images = run.test.narrow(0, 0, SHOWN)?;
    let drawn = |side| train::reconstruct(hyper, &images, &field::grid(side, &run.device)?);
    let square = |pixels: Tensor, side| pixels.reshape((SHOWN, 1, side, side));
    let fine = FINER * field::SIDE;
    let rows = [
        ("test images", square(images.clone(), field::SIDE)?),
        ("their generated SIRENs", square(drawn(field::SIDE)?, field::SIDE)?),
        ("the same SIRENs at 4 × 4 times as many places", square(drawn(fine)?, fine)?),
        ("as many principal components", square(pca.reconstruct(&images)?, field::SIDE)?),
    ];
    let rows: Vec<_> = rows.iter().map(|(name, images)| (*name, images)).collect();
    plot::image_rows(path, &rows, FINER)
}

fn draw_history(path: &Path, history: &History) -> Result<()> {
    let round = history.steps as f64 / history.loss.len().max(1) as f64;
    let lines = vec![
        Line::by_step("training", round, &history.loss),
        Line::by_step("validation", round, &history.measured),
    ];
    plot::charts(path, &[Chart { title: "mean square error", x: "step", logarithmic: true, lines }])
}

fn summary<'a>(
    run: &'a Run,
    hyper: &ImageField,
    qualities: &'a Qualities,
    history: &'a History,
) -> Summary<'a> {
    let args = &run.args;
    Summary {
        qualities,
        test_images: run.test.dims()[0],
        fitted_images: FITTED,
        code: CODE,
        num_params: hyper.num_params(),
        num_target_params: ImageField::NUM_TARGET_PARAMS,
        dataset: args.dataset.name(),
        steps: run.steps(),
        batch_size: args.batch_size,
        pixels: args.pixels,
        learning_rate: args.learning_rate,
        seed: args.run.common.seed,
        device: device_name(&run.device),
        quick: args.run.common.quick,
        seconds: history.seconds,
        history,
    }
}
