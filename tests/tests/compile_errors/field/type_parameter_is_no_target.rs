//! A type parameter that is given something else than a target.

use candle_core::Result;
use hypernn::{HyperTarget, Layout};

#[derive(HyperTarget)]
struct Residual<T> {
    inner: T,
}

struct Block;

fn layout() -> Result<Layout> {
    Residual::<Block>::layout()
}

fn main() {}
