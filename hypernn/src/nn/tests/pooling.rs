//! Pooling: candle's values, the right gradients, and bad inputs.

use candle_core::{Result, Tensor, Var};

use super::super::testing::{device, gradient_errors};
use super::super::{avg_pool2d, global_avg_pool2d, max_pool2d};
use super::message;

type Pool = fn(&Tensor, usize) -> Result<Tensor>;

/// Values all of which differ by far more than the step of finite differences.
fn image(height: usize, width: usize) -> Result<Var> {
    let count = 2 * 3 * height * width;
    let values = (0..count).map(|i| (i * 7919 % count) as f64 / count as f64).collect();
    Var::from_vec(values, (2, 3, height, width), device())
}

#[test]
fn gradients_with_and_without_a_remainder() -> Result<()> {
    for (height, width, size) in [(4, 6, 2), (5, 7, 2), (7, 8, 3), (3, 3, 3), (4, 5, 1)] {
        for pool in [max_pool2d as Pool, avg_pool2d] {
            let errors = gradient_errors(&move |_, xs| pool(xs, size), &[image(height, width)?])?;
            assert!(
                errors.iter().all(|&error| error < 1e-8),
                "{height} {width} {size}: {errors:?}"
            );
        }
    }
    let errors = gradient_errors(&|_, xs| global_avg_pool2d(xs), &[image(4, 5)?])?;
    assert!(errors.iter().all(|&error| error < 1e-8), "{errors:?}");
    Ok(())
}

#[test]
fn values_are_candles() -> Result<()> {
    let xs = image(7, 8)?;
    let values = |ys: Tensor| ys.flatten_all()?.to_vec1::<f64>();
    for size in [1, 2, 3, 7] {
        assert_eq!(values(max_pool2d(&xs, size)?)?, values(xs.max_pool2d(size)?)?);
        assert_eq!(values(avg_pool2d(&xs, size)?)?, values(xs.avg_pool2d(size)?)?);
    }
    assert_eq!(values(global_avg_pool2d(&xs)?)?, values(xs.mean((2, 3))?)?);
    Ok(())
}

fn error(result: Result<Tensor>) -> String {
    message(&result.err().unwrap())
}

#[test]
fn bad_inputs() -> Result<()> {
    let xs = image(4, 5)?;
    assert_eq!(error(max_pool2d(&xs, 5)), "max_pool2d: a window of 5 × 5 does not fit into 4 × 5");
    assert_eq!(error(avg_pool2d(&xs, 0)), "avg_pool2d: a window of 0 × 0 does not fit into 4 × 5");
    assert_eq!(
        error(global_avg_pool2d(&xs.flatten_from(1)?)),
        "global_avg_pool2d: the input has shape [2, 60], expected [batch, channels, height, width]"
    );
    Ok(())
}
