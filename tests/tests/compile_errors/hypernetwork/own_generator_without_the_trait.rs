//! A generator of one's own that does not implement the trait.

use hypernn::generator::{GeneratorInfo, GeneratorShape};
use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};

struct Rows;

impl Rows {
    const fn info(&self, shape: GeneratorShape) -> GeneratorInfo {
        GeneratorInfo::new(shape.plan)
    }
}

impl std::fmt::Display for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: table(5, 8),
        generator: Rows,
        mode: static,
    }
}

fn main() {}
