//! `sequential` on a field.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 8), sequential = true)]
    fc: Linear,
}

fn main() {}
