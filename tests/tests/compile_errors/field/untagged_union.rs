//! A union.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
union Net {
    first: std::mem::ManuallyDrop<Linear>,
}

fn main() {}
