//! Steps of `hypernn::nn::AdamW` beside candle's, over variables of one size, and of many sizes.
//!
//! `cargo bench -p hypernn-benches --bench adam_w`

#![allow(missing_docs, reason = "a benchmark")]

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use hypernn::nn::{AdamW, Optimizer};
use hypernn_benches::{Case, Times, measure};

const ROUNDS: usize = 31;

/// How many variables, and the values of each.
const SIZES: [(usize, usize); 4] = [(100, 100), (100, 1_000), (10, 100_000), (1, 10_000_000)];

/// Variables, and a gradient for each.
fn variables(count: usize, values: usize) -> Result<(Vec<Var>, GradStore)> {
    let var = |_| Var::randn(0f32, 1., values, &Device::Cpu);
    let vars = (0..count).map(var).collect::<Result<Vec<_>>>()?;
    let squares = vars.iter().map(|var| var.sqr()?.sum_all()).collect::<Result<Vec<_>>>()?;
    let grads = Tensor::stack(&squares, 0)?.sum_all()?.backward()?;
    Ok((vars, grads))
}

fn main() -> Result<()> {
    println!("a step, {ROUNDS} rounds, {:?}", DType::F32);
    for (count, values) in SIZES {
        let (vars, grads) = variables(count, values)?;
        let ours = RefCell::new(AdamW::new_lr(vars.clone(), 1e-3)?);
        let candles = RefCell::new(candle_nn::AdamW::new_lr(vars, 1e-3)?);
        let cases = [
            Case::new(|| ours.borrow_mut().step(&grads)),
            Case::new(|| candles.borrow_mut().step(&grads)),
        ];
        let [ours, candles] = measure(&cases, ROUNDS)?[..] else {
            unreachable!("there are two cases")
        };
        Times::print_head(&format!("{count} variables of {values} values"));
        ours.print_line("hypernn::nn::AdamW", ours);
        candles.print_line("candle_nn::AdamW", ours);
    }
    Ok(())
}
