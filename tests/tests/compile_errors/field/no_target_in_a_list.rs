//! A list of structs that are no targets.

use hypernn::HyperTarget;

struct Block;

#[derive(HyperTarget)]
struct Net {
    #[hyper([target; 2])]
    blocks: Vec<Block>,
}

fn main() {}
