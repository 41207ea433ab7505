//! A refused layer under its short name.

use candle_nn::LayerNorm;
use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net(#[hyper(layer_norm(8, 1e-5))] LayerNorm);

fn main() {}
