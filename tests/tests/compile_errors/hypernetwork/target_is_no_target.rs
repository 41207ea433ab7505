//! A target that is none.

use hypernn::hypernetwork;

struct Net;

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
