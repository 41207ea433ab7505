//! A struct of one's own that is no target.

use hypernn::HyperTarget;

struct Block;

#[derive(HyperTarget)]
struct Net {
    block: Block,
}

fn main() {}
