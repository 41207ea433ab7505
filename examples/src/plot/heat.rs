//! Heat maps.

use std::path::Path;

use anyhow::{Result, ensure};
use plotters::prelude::*;

use super::{Area, fill, picture, text};

/// Least room for the names of rows.
const LEFT: usize = 120;
const TOP: usize = 84;
const EDGE: usize = 20;

/// A table of values, drawn in colours from the smallest to the largest.
#[derive(Clone, Copy, Debug)]
pub struct HeatMap<'a> {
    /// What stands above it.
    pub title: &'a str,
    /// The names of the rows.
    pub rows: &'a [String],
    /// The names of the columns.
    pub columns: &'a [String],
    /// A value for each column of each row; what is not finite stays white.
    pub values: &'a [Vec<f64>],
    /// Whether the numbers are written too.
    pub numbers: bool,
}

impl HeatMap<'_> {
    /// The size of a cell, in pixels: room for numbers, or as small as the picture needs.
    fn cell(&self) -> (usize, usize) {
        if self.numbers {
            return (84, 44);
        }
        let fit = |count: usize, pixels: usize| (pixels / count.max(1)).clamp(2, 44);
        (fit(self.columns.len(), 1000), fit(self.rows.len(), 600))
    }

    /// The room for the names of rows.
    fn left(&self) -> usize {
        let longest = self.rows.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        LEFT.max(2 * EDGE + 8 * longest)
    }

    /// From 0 for the smallest value to 1 for the largest.
    fn share(&self, value: f64) -> f64 {
        let finite = || self.values.iter().flatten().copied().filter(|value| value.is_finite());
        let low = finite().fold(f64::INFINITY, f64::min);
        let high = finite().fold(f64::NEG_INFINITY, f64::max);
        if high > low { (value - low) / (high - low) } else { 0.5 }
    }
}

/// Draws a heat map.
///
/// # Errors
/// The values are not as many as the names say, or the file cannot be written.
pub fn heat_map(path: &Path, map: &HeatMap<'_>) -> Result<()> {
    let (rows, columns) = (map.rows.len(), map.columns.len());
    ensure!(rows * columns > 0, "there is nothing to draw");
    let fits = map.values.len() == rows && map.values.iter().all(|row| row.len() == columns);
    ensure!(fits, "expected {rows} rows of {columns} values");
    let ((width, height), left) = (map.cell(), map.left());
    let size = (left + columns * width + EDGE, TOP + rows * height + EDGE);
    picture(path, (size.0.max(EDGE + 12 * map.title.len()), size.1), |area| {
        text(area, map.title, 20, (EDGE, 12))?;
        names(area, map)?;
        for (y, row) in map.values.iter().enumerate() {
            for (x, &value) in row.iter().enumerate() {
                cell(area, map, value, (left + x * width, TOP + y * height))?;
            }
        }
        Ok(())
    })
}

/// Names that would not fit beside their neighbours are left out.
fn names(area: &Area<'_>, map: &HeatMap<'_>) -> Result<()> {
    let (width, height) = map.cell();
    for (y, name) in map.rows.iter().enumerate().step_by(18usize.div_ceil(height)) {
        text(area, name, 15, (EDGE, TOP + y * height + height.saturating_sub(16) / 2))?;
    }
    let longest = map.columns.iter().map(|name| 9 * name.len() + 6).max().unwrap_or(1);
    for (x, name) in map.columns.iter().enumerate().step_by(longest.div_ceil(width)) {
        text(area, name, 15, (map.left() + x * width + 4, TOP - 24))?;
    }
    Ok(())
}

fn cell(area: &Area<'_>, map: &HeatMap<'_>, value: f64, at: (usize, usize)) -> Result<()> {
    if !value.is_finite() {
        return Ok(());
    }
    fill(area, at, map.cell(), ViridisRGB.get_color(map.share(value)))?;
    if !map.numbers {
        return Ok(());
    }
    let (x, y) = at;
    fill(area, (x + 12, y + 12), (60, 21), WHITE)?;
    text(area, &format!("{value:.2}"), 16, (x + 16, y + 14))
}
