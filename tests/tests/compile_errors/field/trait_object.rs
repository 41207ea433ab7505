//! A layer behind a trait object.

use hypernn::HyperTarget;
use hypernn::nn::Module;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    layer: Box<dyn Module>,
}

fn main() {}
