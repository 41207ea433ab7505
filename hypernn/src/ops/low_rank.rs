//! `base + scale × up · down`, for layers that take a low-rank adapter as one weight.
//!
//! By candle's operations the product, its multiple and the sum are kept for the backward, which also
//! computes a gradient of the base, as large as the base, that nothing asks for. Here only the sum is
//! kept, and the factors alone have gradients.

use candle_core::{Result, Shape, Tensor};

use super::product::matmul;
use super::second_order::keeps_graph;
use super::with_backward::with_backward;

/// For `base [out, …]`, `up [out, rank]` and `down [rank, in]`, or `[G, out, rank]` and `[G, rank, in]`
/// for `G` sets: `[out, …]`, or `[G, out, …]`.
pub(crate) fn low_rank(base: &Tensor, up: &Tensor, down: &Tensor, scale: f64) -> Result<Tensor> {
    if base.track_op() || keeps_graph() {
        return differentiable(base, up, down, scale);
    }
    let product = matmul(&matrices(&(up.detach() * scale)?)?, &matrices(&down.detach())?)?;
    let merged = product.reshape(shape(base, up))?.broadcast_add(base)?;
    let (other, asked) = (down.clone(), [up.track_op(), down.track_op()]);
    with_backward("low_rank", merged, up, down, move |up, grad| {
        gradients(&up.detach(), &other.detach(), grad, scale, asked)
    })
}

/// The merged weight, `base + scale · up · down`, by candle's operations, which can be differentiated twice.
fn differentiable(base: &Tensor, up: &Tensor, down: &Tensor, scale: f64) -> Result<Tensor> {
    (up.matmul(down)?.reshape(shape(base, up))? * scale)?.broadcast_add(base)
}

/// The gradients of both factors, each where it is asked for.
fn gradients(
    up: &Tensor,
    down: &Tensor,
    grad: &Tensor,
    scale: f64,
    asked: [bool; 2],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (ups, downs) = (matrices(up)?, matrices(down)?);
    let grad = grad.contiguous()?.reshape((ups.dim(0)?, ups.dim(1)?, downs.dim(2)?))?;
    let [of_up, of_down] = asked;
    let of_up =
        of_up.then(|| (matmul(&grad, &downs.t()?.contiguous()?)? * scale)?.reshape(up.shape()));
    let of_down =
        of_down.then(|| (matmul(&ups.t()?.contiguous()?, &grad)? * scale)?.reshape(down.shape()));
    Ok((of_up.transpose()?, of_down.transpose()?))
}

/// `[G, rows, columns]`, with one set where there are none.
fn matrices(factor: &Tensor) -> Result<Tensor> {
    if factor.rank() == 3 { factor.contiguous() } else { factor.contiguous()?.unsqueeze(0) }
}

/// The shape of the merged weight.
fn shape(base: &Tensor, up: &Tensor) -> Shape {
    Shape::from([&up.dims()[..up.rank() - 2], base.dims()].concat())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;

    fn values(dims: &[usize], seed: f64) -> Result<Tensor> {
        let count = Shape::from(dims).elem_count();
        let values: Vec<_> = (0..count).map(|i| (i as f64 * 0.7 + seed).sin()).collect();
        Tensor::from_vec(values, dims, &Device::Cpu)
    }

    fn assert_close(found: &Tensor, expected: &Tensor) -> Result<()> {
        assert_eq!(found.dims(), expected.dims());
        let error = (found - expected)?.abs()?.max_all()?.to_dtype(DType::F64)?;
        let error = error.to_scalar::<f64>()?;
        assert!(error < 1e-12, "{error:e}");
        Ok(())
    }

    /// Values and gradients, with and without sets, of matrices and of kernels.
    #[test]
    fn it_is_that_of_candles_operations() -> Result<()> {
        for (base, sets) in [(&[3, 4][..], &[][..]), (&[3, 2, 2], &[]), (&[3, 4], &[2])] {
            let base = values(base, 0.1)?;
            let up = Var::from_tensor(&values(&[sets, &[3, 2]].concat(), 0.2)?)?;
            let down = Var::from_tensor(&values(&[sets, &[2, 4]].concat(), 0.3)?)?;
            let found = low_rank(&base, &up, &down, 1.5)?;
            let expected = differentiable(&base, &up, &down, 1.5)?;
            assert_close(&found, &expected)?;
            let (found, expected) = (found.sqr()?.backward()?, expected.sqr()?.backward()?);
            for var in [&up, &down] {
                let (Some(found), Some(expected)) = (found.get(var), expected.get(var)) else {
                    candle_core::bail!("no gradient");
                };
                assert_close(found, expected)?;
            }
            // Without variables there is no graph.
            let merged =
                low_rank(&base, &up.as_detached_tensor(), &down.as_detached_tensor(), 1.5)?;
            assert!(!merged.track_op());
        }
        Ok(())
    }

    /// A base that is differentiated gets its gradient.
    #[test]
    fn a_base_may_have_a_gradient() -> Result<()> {
        let base = Var::from_tensor(&values(&[3, 4], 0.1)?)?;
        let merged = low_rank(&base, &values(&[3, 2], 0.2)?, &values(&[2, 4], 0.3)?, 1.5)?;
        let grads = merged.sum_all()?.backward()?;
        let Some(grad) = grads.get(&base) else { candle_core::bail!("no gradient") };
        assert_close(grad, &base.ones_like()?)
    }
}
