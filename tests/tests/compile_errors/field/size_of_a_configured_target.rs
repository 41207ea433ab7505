//! The constant size of a target whose size is known only at run time.

use hypernn::nn::Linear;
use hypernn::{FixedTarget, HyperTarget};

#[derive(HyperTarget)]
#[hyper(config = usize)]
struct Net {
    #[hyper(linear(*config, 2))]
    fc: Linear,
}

const SIZE: usize = <Net as FixedTarget>::NUM_PARAMS;

fn main() {}
