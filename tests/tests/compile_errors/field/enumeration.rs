//! An enum.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
enum Net {
    Small(Linear),
    Large(Linear),
}

fn main() {}
