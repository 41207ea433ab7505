//! A struct that lacks `#[derive(HyperTarget)]`.

use candle_core::Result;
use hypernn::nn::Linear;
use hypernn::{HyperTarget, Layout};

struct Net {
    fc: Linear,
}

fn layout() -> Result<Layout> {
    <Net as HyperTarget>::layout()
}

fn main() {}
