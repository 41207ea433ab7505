//! Images as fields: places, and the values of generated SIRENs there.

use anyhow::Result;
use candle_core::{Device, Tensor};
use hypernn::GeneratedParams;

use crate::siren::Siren;

/// The pixels on a side of an image.
pub const SIDE: usize = 28;

/// The centres of `side × side` equal squares that make up the image, row by row: `[side², 2]`, from
/// -1 to 1.
pub fn grid(side: usize, device: &Device) -> Result<Tensor> {
    let centre = |index: usize| (2 * index + 1) as f32 / side as f32 - 1.;
    let row = |y: usize| (0..side).flat_map(move |x| [centre(x), centre(y)]);
    let places = (0..side).flat_map(row).collect();
    Ok(Tensor::from_vec(places, (side * side, 2), device)?)
}

/// The values of each field at the same places: `[fields, places]`.
pub fn values(fields: &GeneratedParams<Siren>, places: &Tensor) -> Result<Tensor> {
    let count = fields.num_sets().unwrap_or(1);
    let rows = places.unsqueeze(0)?.broadcast_as((count, places.dim(0)?, 2))?;
    Ok(fields.forward(&rows.flatten_to(1)?)?.reshape((count, ()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_lies_within_the_image() -> Result<()> {
        let places = grid(2, &Device::Cpu)?.to_vec2::<f32>()?;
        assert_eq!(places, [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]);
        Ok(())
    }
}
