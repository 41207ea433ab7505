//! Arguments of a role that takes none.

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(4, 4), role = freeze(2))]
    fc: Linear,
}

fn main() {}
