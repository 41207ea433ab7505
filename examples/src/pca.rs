//! Principal components: the baseline for whoever puts data into few numbers.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The mean of some rows, and the directions in which they vary most.
#[derive(Clone, Debug)]
pub struct Pca {
    mean: Tensor,
    /// `[width, components]`, orthonormal columns.
    components: Tensor,
}

/// Enough for the last component to be within a thousandth of its variance.
const ITERATIONS: usize = 60;

impl Pca {
    /// The first components of rows `[n, width]`, by subspace iteration over their covariance.
    ///
    /// # Errors
    /// There are not so many components.
    pub fn new(rows: &Tensor, components: usize) -> Result<Self> {
        let (count, width) = rows.dims2()?;
        let most = count.min(width);
        ensure!(components <= most, "{components} components, expected at most {most}");
        let mean = rows.mean_keepdim(0)?;
        let centred = rows.broadcast_sub(&mean)?;
        let covariance = centred.t()?.contiguous()?.matmul(&centred)?.to_dtype(DType::F64)?;
        let mut rng = StdRng::seed_from_u64(0);
        let start = (0..components * width).map(|_| rng.random_range(-1f64..1.)).collect();
        let mut basis = Tensor::from_vec(start, (components, width), rows.device())?;
        for _ in 0..ITERATIONS {
            basis = orthonormal(&basis.matmul(&covariance)?)?;
        }
        Ok(Self { mean, components: basis.t()?.to_dtype(rows.dtype())?.contiguous()? })
    }

    /// The mean row, `[1, width]`.
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// Rows as the components alone would have them.
    ///
    /// # Errors
    /// Rows of another width.
    pub fn reconstruct(&self, rows: &Tensor) -> Result<Tensor> {
        let code = rows.broadcast_sub(&self.mean)?.matmul(&self.components)?;
        let rows = code.matmul(&self.components.t()?.contiguous()?)?;
        Ok(rows.broadcast_add(&self.mean)?)
    }
}

/// The rows made orthonormal one after the other (Gram and Schmidt, the modified form).
fn orthonormal(rows: &Tensor) -> Result<Tensor> {
    let (shape, device) = (rows.shape().clone(), rows.device().clone());
    let mut rows = rows.to_vec2::<f64>()?;
    for at in 0..rows.len() {
        let (done, rest) = rows.split_at_mut(at);
        let row = &mut rest[0];
        for other in &*done {
            let along = dot(row, other);
            row.iter_mut().zip(other).for_each(|(value, other)| *value -= along * other);
        }
        let length = dot(row, row).sqrt().max(f64::MIN_POSITIVE);
        row.iter_mut().for_each(|value| *value /= length);
    }
    Ok(Tensor::from_vec(rows.concat(), shape, &device)?)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Rows around a mean that vary along two directions, and little along a third.
    #[test]
    fn the_largest_directions_are_kept() -> Result<()> {
        let mut rng = StdRng::seed_from_u64(1);
        let mut row = |_| {
            let [a, b, c] = [3., 1., 0.01].map(|width| rng.random_range(-width..width));
            [5. + a + b, a - b, 2. * c, 1.]
        };
        let rows: Vec<[f64; 4]> = (0..500).map(&mut row).collect();
        let rows = Tensor::from_vec(rows.concat(), (500, 4), &Device::Cpu)?;
        let error = |components| -> Result<f64> {
            let found = Pca::new(&rows, components)?.reconstruct(&rows)?;
            Ok((found - &rows)?.sqr()?.mean_all()?.to_scalar()?)
        };
        let (one, two, three) = (error(1)?, error(2)?, error(3)?);
        assert!((one - 1. / 3. / 2.).abs() < 0.02, "{one}");
        assert!(two > 1e-6 && two < 1e-4 && three < 1e-20, "{two} {three}");
        let err = Pca::new(&rows, 5).err().map(|err| err.to_string());
        assert_eq!(err.as_deref(), Some("5 components, expected at most 4"));
        Ok(())
    }
}
