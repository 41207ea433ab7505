//! The cases measure the same mathematics, whoever computes it.

#![allow(missing_docs, reason = "tests")]

use candle_core::{DType, Result, Tensor};
use hypernn::nn::VarMap;
use hypernn_benches::cases::{CASES, Who, network, variables_on};
use hypernn_tests::device;

fn distance(left: &Tensor, right: &Tensor) -> Result<f32> {
    let scale = left.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    let difference = (left - right)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    Ok(difference / scale.max(1e-30))
}

/// Outputs, and the gradients of all variables.
#[test]
fn the_same_variables_give_the_same_numbers() -> Result<()> {
    // The output of 64 layers from values as they are generated is not finite; `static_small` is as it
    // is in all else.
    for case in CASES.into_iter().filter(|case| *case != "static_deep") {
        let vars = VarMap::new();
        let Some(ours) = network(case, Who::Hypernn, &variables_on(device(), DType::F32, &vars))?
        else {
            continue;
        };
        let (expected, grads) = (ours.forward()?, ours.backward()?);
        let all = vars.all_vars();
        for who in [Who::NoMacros, Who::ByHand] {
            let Some(other) = network(case, who, &variables_on(device(), DType::F32, &vars))?
            else {
                continue;
            };
            assert_eq!(vars.all_vars().len(), all.len(), "{case}: {who:?} has other variables");
            assert!(distance(&expected, &other.forward()?)? < 1e-4, "{case}: {who:?}");
            let others = other.backward()?;
            for var in &all {
                let (Some(grad), Some(other)) = (grads.get(var), others.get(var)) else {
                    candle_core::bail!("{case}: {who:?} lacks a gradient")
                };
                assert!(distance(grad, other)? < 1e-3, "{case}: a gradient of {who:?}");
            }
        }
    }
    Ok(())
}
