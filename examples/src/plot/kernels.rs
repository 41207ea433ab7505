//! The kernels of a convolution.

use std::path::Path;

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};
use plotters::prelude::*;

use super::{Area, fill, picture, point, text};

/// The side of one value of a kernel, and the gap between kernels, in pixels.
const PIXEL: usize = 24;
const GAP: usize = 14;
const CAPTION: usize = 34;

/// The kernels `[out, in, h, w]` of a convolution, one row for each name: grey is zero, white the
/// largest value of the row, black as large a negative one. Of several input channels, the first.
///
/// # Errors
/// A tensor has another rank, or the file cannot be written.
pub fn kernels(path: &Path, rows: &[(&str, &Tensor)]) -> Result<()> {
    let rows = rows.iter().map(|(name, tensor)| Ok((*name, grey_kernels(tensor)?)));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let (count, height, width) = rows.iter().fold((0, 0, 0), |(n, h, w), (_, row)| {
        (n.max(row.len()), h.max(row[0].len()), w.max(row[0][0].len()))
    });
    let (step_x, step_y) = (width * PIXEL + GAP, height * PIXEL + GAP + CAPTION);
    let size = (count * step_x + GAP, rows.len() * step_y + GAP);
    picture(path, size, |area| {
        for (index, (name, row)) in rows.iter().enumerate() {
            let top = index * step_y + GAP;
            text(area, name, 20, (GAP, top))?;
            for (index, kernel) in row.iter().enumerate() {
                draw_kernel(area, kernel, (index * step_x + GAP, top + CAPTION))?;
            }
        }
        Ok(())
    })
}

fn draw_kernel(area: &Area<'_>, kernel: &[Vec<u8>], (left, top): (usize, usize)) -> Result<()> {
    for (y, row) in kernel.iter().enumerate() {
        for (x, &grey) in row.iter().enumerate() {
            let (x, y) = (left + x * PIXEL, top + y * PIXEL);
            fill(area, (x, y), (PIXEL, PIXEL), RGBColor(grey, grey, grey))?;
        }
    }
    let (width, height) = (kernel[0].len() * PIXEL, kernel.len() * PIXEL);
    let frame = [point(left - 1, top - 1)?, point(left + width, top + height)?];
    Ok(area.draw(&Rectangle::new(frame, BLACK))?)
}

/// The first input channel of each kernel, in shades of grey.
fn grey_kernels(kernels: &Tensor) -> Result<Vec<Vec<Vec<u8>>>> {
    let (out, channels, height, width) = kernels.dims4()?;
    ensure!(out * channels * height * width > 0, "there are no kernels to draw");
    let kernels = kernels.narrow(1, 0, 1)?.squeeze(1)?.to_dtype(DType::F32)?;
    let largest = kernels.abs()?.max_all()?.to_scalar::<f32>()?.max(f32::MIN_POSITIVE);
    // A cast from f32 to u8 saturates.
    let grey = |value: &f32| (127.5 * (1. + value / largest)).round() as u8;
    let shades = |kernel: &Vec<Vec<f32>>| {
        kernel.iter().map(|row| row.iter().map(grey).collect()).collect::<Vec<Vec<u8>>>()
    };
    Ok(kernels.to_vec3::<f32>()?.iter().map(shades).collect())
}
