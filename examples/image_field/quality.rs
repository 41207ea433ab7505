//! How near reconstructions are to their images.

use anyhow::Result;
use candle_core::Tensor;
use serde::Serialize;

/// Means over images.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Quality {
    /// The mean square error of grey values from 0 to 1.
    pub mse: f64,
    /// The peak signal-to-noise ratio of each image, in decibels.
    pub psnr: f64,
}

impl Quality {
    /// Of reconstructions, brought into the range of grey values, of these images; both
    /// `[images, pixels]`.
    pub fn of(found: &Tensor, images: &Tensor) -> Result<Self> {
        let errors = (found.clamp(0f32, 1f32)? - images)?.sqr()?.mean(1)?.to_vec1::<f32>()?;
        let mean = |value: fn(f64) -> f64| {
            errors.iter().map(|&mse| value(mse.into())).sum::<f64>() / errors.len() as f64
        };
        // An image that is met exactly would count as infinitely good.
        Ok(Self { mse: mean(|mse| mse), psnr: mean(|mse| -10. * mse.max(1e-8).log10()) })
    }

    /// The mean over parts of equal size.
    pub fn mean(parts: &[Self]) -> Self {
        let mean =
            |value: fn(&Self) -> f64| parts.iter().map(value).sum::<f64>() / parts.len() as f64;
        Self { mse: mean(|part| part.mse), psnr: mean(|part| part.psnr) }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn quality_is_by_image() -> Result<()> {
        let images = Tensor::new(&[[0f32, 1.], [0., 0.]], &Device::Cpu)?;
        let found = Tensor::new(&[[-5f32, 0.9], [0.1, 0.1]], &Device::Cpu)?;
        let Quality { mse, psnr } = Quality::of(&found, &images)?;
        assert!((mse - 0.0075).abs() < 1e-6 && (psnr - (23.0103 + 20.) / 2.).abs() < 1e-3);
        Ok(())
    }
}
