//! A target with a mistake of its own: only that is shown.

use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2), nmae = "out")]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: table(5, 8),
        generator: linear,
        mode: static,
    }
}

fn uses(hyper: &HyperNet) -> candle_core::Result<usize> {
    Ok(hyper.generate_params()?.flat()?.elem_count() + HyperNet::NUM_PARAMS)
}

fn main() {}
