//! Grey images beside each other.

use std::path::Path;

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};
use plotters::prelude::*;

use super::{Area, fill, picture, text};

const GAP: usize = 8;
const CAPTION: usize = 28;

/// Rows of images `[n, 1, height, width]`, from 0 for black to 1 for white, each row under its name, in
/// squares of `pixel` for a value. Rows may have images of other sizes than the first: they are drawn
/// as wide as those, so that a finer image shows more.
///
/// # Errors
/// A tensor has another rank, or the file cannot be written.
pub fn image_rows(path: &Path, rows: &[(&str, &Tensor)], pixel: usize) -> Result<()> {
    let Some((_, first)) = rows.first() else { anyhow::bail!("there are no images to draw") };
    let (_, _, height, width) = first.dims4()?;
    let count = rows.iter().map(|(_, images)| images.dim(0)).collect::<Result<Vec<_>, _>>()?;
    let count = count.into_iter().max().unwrap_or(0);
    ensure!(count * height * width * pixel > 0, "there are no images to draw");
    let (step_x, step_y) = (width * pixel + GAP, height * pixel + GAP + CAPTION);
    let size = (GAP + count * step_x, GAP + rows.len() * step_y);
    picture(path, size, |area| {
        for (row, (name, images)) in rows.iter().enumerate() {
            let top = GAP + row * step_y;
            text(area, name, 18, (GAP, top))?;
            let images = grey(images)?;
            for (column, image) in images.iter().enumerate() {
                let at = (GAP + column * step_x, top + CAPTION);
                draw(area, image, at, (width * pixel, height * pixel))?;
            }
        }
        Ok(())
    })
}

fn grey(images: &Tensor) -> Result<Vec<Vec<Vec<f32>>>> {
    Ok(images.squeeze(1)?.to_dtype(DType::F32)?.to_vec3::<f32>()?)
}

/// Each value's rectangle ends where the next begins, whatever the sizes.
fn draw(
    area: &Area<'_>,
    image: &[Vec<f32>],
    (left, top): (usize, usize),
    (width, height): (usize, usize),
) -> Result<()> {
    for (y, row) in image.iter().enumerate() {
        let (y, next_y) = (y * height / image.len(), (y + 1) * height / image.len());
        for (x, &value) in row.iter().enumerate() {
            let (x, next_x) = (x * width / row.len(), (x + 1) * width / row.len());
            // A cast from f32 to u8 saturates.
            let grey = (255. * value).round() as u8;
            let color = RGBColor(grey, grey, grey);
            fill(area, (left + x, top + y), (next_x - x, next_y - y), color)?;
        }
    }
    Ok(())
}
