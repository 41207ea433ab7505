//! The configuration of another layer, as a constant.

use hypernn::HyperTarget;
use hypernn::nn::{Conv1dConfig, Conv2d};

const CONFIG: Conv1dConfig =
    Conv1dConfig { stride: 1, padding: 0, dilation: 1, groups: 1, cudnn_fwd_algo: None };

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(1, 8, 5, CONFIG))]
    conv: Conv2d,
}

fn main() {}
