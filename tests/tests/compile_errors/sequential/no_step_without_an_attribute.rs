//! A field without an attribute that no step uses.

use std::marker::PhantomData;

use hypernn::HyperTarget;
use hypernn::nn::Linear;

#[derive(HyperTarget)]
#[hyper(sequential = [fc, relu])]
struct Net<T> {
    #[hyper(linear(4, 2))]
    fc: Linear,
    kind: PhantomData<T>,
}

fn main() {}
