//! A low-rank adapter whose rank is not low.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

const RANK: usize = 2;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(64, 10), role = lora(4 * RANK + 3, 16.))]
    fc: Linear,
}

fn main() {}
