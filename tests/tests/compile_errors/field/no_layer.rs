//! A type that is no layer.

use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    name: String,
}

fn main() {}
