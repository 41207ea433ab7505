//! Pictures: learning curves and kernels.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{DType, Tensor};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;

use crate::train::History;

const FONT: &str = "sans-serif";
const COLORS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(214, 120, 30), RGBColor(44, 140, 60), RGBColor(130, 80, 160)];

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Draws a picture of this size; text uses a font that is compiled in.
fn picture(
    path: &Path,
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<()>,
) -> Result<()> {
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| anyhow!("the font that is compiled in is damaged"))?;
    let area = BitMapBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    draw(&area)?;
    area.present().with_context(|| format!("cannot write {}", path.display()))
}

/// Loss and test accuracy by epoch, side by side, one line for each run; the loss on a logarithmic
/// scale.
///
/// # Errors
/// The file cannot be written.
pub fn learning_curves(path: &Path, runs: &[&History]) -> Result<()> {
    let loss = |run: &History| run.loss.iter().map(|loss| loss.max(1e-9).log10()).collect();
    let percent = |run: &History| run.accuracy.iter().map(|share| 100. * share).collect();
    picture(path, (1200, 480), |area| {
        let (left, right) = area.split_horizontally(600);
        panel(&left, "training loss", &lines(runs, loss), &power)?;
        panel(&right, "test accuracy, %", &lines(runs, percent), &plain)
    })
}

type Lines<'a> = Vec<(&'a str, Vec<f64>)>;

fn lines<'a>(runs: &[&'a History], values: impl Fn(&History) -> Vec<f64>) -> Lines<'a> {
    runs.iter().map(|run| (run.name.as_str(), values(run))).collect()
}

/// One chart by epoch.
fn panel(
    area: &Area<'_>,
    title: &str,
    lines: &Lines<'_>,
    label: &dyn Fn(&f64) -> String,
) -> Result<()> {
    let epochs = lines.iter().map(|(_, values)| values.len()).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 22))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(1f64..epochs.max(2) as f64, span(lines))?;
    let mesh = &mut chart.configure_mesh();
    mesh.x_desc("epoch").axis_desc_style((FONT, 17)).label_style((FONT, 15));
    mesh.x_label_formatter(&whole).y_label_formatter(label).light_line_style(WHITE).draw()?;
    for ((name, values), color) in lines.iter().zip(COLORS.iter().cycle()) {
        let points = values.iter().enumerate().map(|(epoch, value)| (epoch as f64 + 1., *value));
        let key = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3));
        let series = chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        series.label(*name).legend(key);
    }
    let legend = &mut chart.configure_series_labels();
    legend.label_font((FONT, 16)).background_style(WHITE.mix(0.85)).border_style(BLACK);
    Ok(legend.position(SeriesLabelPosition::MiddleRight).draw()?)
}

fn whole(epoch: &f64) -> String {
    if epoch.fract() == 0. { format!("{epoch:.0}") } else { String::new() }
}

fn plain(value: &f64) -> String {
    format!("{value:.0}")
}

/// Ten to this power, with two digits that count.
fn power(exponent: &f64) -> String {
    let decimals = (1. - exponent.floor()).max(0.) as usize;
    format!("{:.decimals$}", 10f64.powf(*exponent))
}

/// The range of all values, with some air.
fn span(lines: &Lines<'_>) -> Range<f64> {
    let values = || lines.iter().flat_map(|(_, values)| values.iter().copied());
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return 0f64..1.;
    }
    let air = 0.05 * (high - low).max(1e-3);
    low - air..high + air
}

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
    picture(path, (u32::try_from(size.0)?, u32::try_from(size.1)?), |area| {
        for (index, (name, row)) in rows.iter().enumerate() {
            let top = index * step_y + GAP;
            let style = (FONT, 20).into_text_style(area).color(&BLACK);
            area.draw_text(name, &style, (i32::try_from(GAP)?, i32::try_from(top)?))?;
            for (index, kernel) in row.iter().enumerate() {
                draw_kernel(area, kernel, (index * step_x + GAP, top + CAPTION))?;
            }
        }
        Ok(())
    })
}

fn draw_kernel(area: &Area<'_>, kernel: &[Vec<u8>], (left, top): (usize, usize)) -> Result<()> {
    let point = |x: usize, y: usize| anyhow::Ok((i32::try_from(x)?, i32::try_from(y)?));
    for (y, row) in kernel.iter().enumerate() {
        for (x, &grey) in row.iter().enumerate() {
            let (x, y) = (left + x * PIXEL, top + y * PIXEL);
            let corners = [point(x, y)?, point(x + PIXEL, y + PIXEL)?];
            area.draw(&Rectangle::new(corners, RGBColor(grey, grey, grey).filled()))?;
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
