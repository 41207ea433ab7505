//! A struct without fields.

use hypernn::HyperTarget;

#[derive(HyperTarget)]
struct Net;

fn main() {}
