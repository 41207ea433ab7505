//! The picture of the guide's page on the start: histograms of a weight as candle draws it, and as hypernetworks
//! generate it at first, by both init schemes.
//!
//! `cargo run -p hypernn-guide --example init > docs/guide/src/init.svg`

use candle_core::{DType, Device, Result};
use candle_nn::VarMap;
use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork, seeded};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(300, 100))]
    fc: Linear,
}

hypernetwork! {
    struct Exact for Net { embedding: table(301, 16), generator: linear, mode: static }
    struct AsHyperNn for Net { embedding: table(301, 16), generator: linear, mode: static, init: hyper_nn }
}

const BARS: usize = 41;
const WIDTH: usize = 220;
const HEIGHT: f32 = 120.;

fn weights(net: &Net) -> Result<Vec<f32>> {
    net.fc.weight().flatten_all()?.to_vec1()
}

fn deviation(values: &[f32]) -> f32 {
    (values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32).sqrt()
}

/// How many values lie in each of the bars from `-end` to `end`.
fn counts(values: &[f32], end: f32) -> Vec<usize> {
    let mut counts = vec![0; BARS];
    for value in values.iter().filter(|value| value.abs() < end) {
        counts[((value / end + 1.) / 2. * BARS as f32) as usize] += 1;
    }
    counts
}

fn panel(at: usize, title: &str, values: &[f32]) -> String {
    let end = 3.5 * deviation(values);
    let counts = counts(values, end);
    let most = counts.iter().copied().max().unwrap_or(1) as f32;
    let (left, step) = (20 + at * (WIDTH + 30), WIDTH as f32 / BARS as f32);
    let bars = counts.iter().enumerate().map(|(bar, count)| {
        let (x, height) = (left as f32 + bar as f32 * step, HEIGHT * *count as f32 / most);
        let y = 40. + HEIGHT - height;
        format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
            step - 0.6
        )
    });
    let middle = left + WIDTH / 2;
    let (bars, deviation) = (bars.collect::<Vec<_>>().join(""), deviation(values));
    format!(
        "<text x=\"{middle}\" y=\"24\">{title}</text><g fill=\"#5b8db8\">{bars}</g>\
         <text x=\"{left}\" y=\"178\">{:.2}</text><text x=\"{}\" y=\"178\">{end:.2}</text>\
         <text x=\"{middle}\" y=\"178\">deviation {deviation:.3}</text>\n",
        -end,
        left + WIDTH,
    )
}

fn main() -> Result<()> {
    let vb = || seeded::var_builder(&VarMap::new(), 0, DType::F32, &Device::Cpu);
    let panels = [
        panel(0, "candle's own init", &weights(&Net::new(vb())?)?),
        panel(1, "generated, init: exact", &weights(&Exact::new(vb())?.target()?)?),
        panel(2, "generated, init: hyper_nn", &weights(&AsHyperNn::new(vb())?.target()?)?),
    ];
    println!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 780 190\" font-family=\"sans-serif\" \
         font-size=\"12\" text-anchor=\"middle\">\n<rect width=\"780\" height=\"190\" fill=\"#fff\"/>\n{}</svg>",
        panels.concat()
    );
    Ok(())
}
