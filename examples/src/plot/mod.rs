//! Pictures, with text in a font that is compiled in.

mod heat;
mod images;
mod kernels;
mod lines;
mod trace;

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;

pub use heat::{HeatMap, heat_map};
pub use images::image_rows;
pub use kernels::kernels;
pub use lines::{Chart, Line, charts, learning_curves};
pub use trace::WeightTrace;

const FONT: &str = "sans-serif";
const COLORS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(214, 120, 30), RGBColor(44, 140, 60), RGBColor(130, 80, 160)];

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Draws a picture of this size, in pixels.
fn picture(
    path: &Path,
    (width, height): (usize, usize),
    draw: impl FnOnce(&Area<'_>) -> Result<()>,
) -> Result<()> {
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| anyhow!("the font that is compiled in is damaged"))?;
    let size = (u32::try_from(width)?, u32::try_from(height)?);
    let area = BitMapBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    draw(&area)?;
    area.present().with_context(|| format!("cannot write {}", path.display()))
}

/// A point of a picture.
fn point(x: usize, y: usize) -> Result<(i32, i32)> {
    Ok((i32::try_from(x)?, i32::try_from(y)?))
}

/// Writes black text, its upper left corner here.
fn text(area: &Area<'_>, text: &str, size: u32, (x, y): (usize, usize)) -> Result<()> {
    let style = (FONT, size).into_text_style(area).color(&BLACK);
    Ok(area.draw_text(text, &style, point(x, y)?)?)
}

/// Fills a rectangle.
fn fill(
    area: &Area<'_>,
    (x, y): (usize, usize),
    (width, height): (usize, usize),
    color: RGBColor,
) -> Result<()> {
    let corners = [point(x, y)?, point(x + width, y + height)?];
    Ok(area.draw(&Rectangle::new(corners, color.filled()))?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    /// What is drawn is looked at by eye; that it is drawn, in this size, is checked here.
    #[test]
    fn pictures_are_written() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let line = |values: &[f64]| Line::by_step("run", 10., values);
        let chart = |logarithmic| Chart {
            title: "return",
            x: "step",
            logarithmic,
            lines: vec![line(&[1., 2., 0.5]), line(&[]), line(&[f64::NAN, 2.])],
        };
        charts(&path("lines.png"), &[chart(false), chart(true)])?;
        let heat = HeatMap {
            title: "accuracy",
            rows: &["a".to_owned(), "b".to_owned()],
            columns: &["x".to_owned(), "y".to_owned(), "z".to_owned()],
            values: &[vec![0., 1., 2.], vec![f64::NAN, 5., 3.]],
            numbers: true,
        };
        heat_map(&path("heat.png"), &heat)?;
        let images = Tensor::rand(0f32, 1., (5, 1, 8, 8), &Device::Cpu)?;
        image_rows(&path("images.png"), &[("one", &images), ("two", &images)], 3)?;
        for name in ["lines.png", "heat.png", "images.png"] {
            assert!(std::fs::metadata(path(name))?.len() > 500, "{name}");
        }
        Ok(())
    }
}
