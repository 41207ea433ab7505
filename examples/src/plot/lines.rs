//! Charts of lines: learning curves and the like.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::{Area, COLORS, FONT, picture};
use crate::training::History;

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// Its points; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

impl<'a> Line<'a> {
    /// The values after each run of `step`: of a loss by epoch, `step` is 1.
    pub fn by_step(name: &'a str, step: f64, values: &[f64]) -> Self {
        let points = values.iter().zip(1..).map(|(&value, index)| (step * f64::from(index), value));
        Self { name, points: points.collect() }
    }

    /// On a logarithmic scale, the logarithms of the values.
    fn drawn(&self, logarithmic: bool) -> Vec<(f64, f64)> {
        let scale = |y: f64| if logarithmic { y.max(1e-9).log10() } else { y };
        let points = self.points.iter().map(|&(x, y)| (x, if y.is_nan() { y } else { scale(y) }));
        points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    }
}

/// A chart of lines.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    /// What stands above it: the name of the values.
    pub title: &'a str,
    /// The name of the horizontal axis.
    pub x: &'a str,
    /// Whether the values are drawn on a logarithmic scale.
    pub logarithmic: bool,
    /// The lines.
    pub lines: Vec<Line<'a>>,
}

/// Loss and test accuracy by epoch, side by side, one line for each run; the loss on a logarithmic
/// scale.
///
/// # Errors
/// The file cannot be written.
pub fn learning_curves(path: &Path, runs: &[&History]) -> Result<()> {
    let lines = |values: &dyn Fn(&History) -> Vec<f64>| {
        runs.iter().map(|run| Line::by_step(&run.name, 1., &values(run))).collect()
    };
    let percent = |run: &History| run.measured.iter().map(|share| 100. * share).collect();
    let chart = |title, logarithmic, lines| Chart { title, x: "epoch", logarithmic, lines };
    let loss = chart("training loss", true, lines(&|run| run.loss.clone()));
    charts(path, &[loss, chart("test accuracy, %", false, lines(&percent))])
}

/// Draws charts side by side.
///
/// # Errors
/// The file cannot be written.
pub fn charts(path: &Path, charts: &[Chart<'_>]) -> Result<()> {
    picture(path, (600 * charts.len().max(1), 480), |area| {
        let areas = area.split_evenly((1, charts.len().max(1)));
        areas.iter().zip(charts).try_for_each(|(area, chart)| draw(area, chart))
    })
}

fn draw(area: &Area<'_>, chart: &Chart<'_>) -> Result<()> {
    let lines = chart.lines.iter().map(|line| (line.name, line.drawn(chart.logarithmic)));
    let lines: Vec<_> = lines.collect();
    let [across, up] = [range(&lines, |(x, _)| x), range(&lines, |(_, y)| y)];
    let mut context = ChartBuilder::on(area)
        .caption(chart.title, (FONT, 22))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(68)
        .build_cartesian_2d(across, air(up))?;
    let label = if chart.logarithmic { power } else { plain };
    let mesh = &mut context.configure_mesh();
    mesh.x_desc(chart.x).axis_desc_style((FONT, 17)).label_style((FONT, 15));
    mesh.x_label_formatter(&whole).y_label_formatter(&label).light_line_style(WHITE).draw()?;
    for ((name, points), color) in lines.into_iter().zip(COLORS.iter().cycle()) {
        let key = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3));
        let series = context.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        series.label(name).legend(key);
    }
    let legend = &mut context.configure_series_labels();
    legend.label_font((FONT, 16)).background_style(WHITE.mix(0.85)).border_style(BLACK);
    Ok(legend.position(SeriesLabelPosition::MiddleRight).draw()?)
}

fn whole(x: &f64) -> String {
    if x.fract() == 0. { format!("{x:.0}") } else { String::new() }
}

/// As many decimals as a label needs.
fn plain(value: &f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Ten to this power, with two digits that count.
fn power(exponent: &f64) -> String {
    let decimals = (1. - exponent.floor()).max(0.) as usize;
    format!("{:.decimals$}", 10f64.powf(*exponent))
}

/// The range of one coordinate over all lines, never empty.
fn range(lines: &[(&str, Vec<(f64, f64)>)], of: impl Fn((f64, f64)) -> f64) -> Range<f64> {
    let values = || lines.iter().flat_map(|(_, points)| points.iter().map(|&point| of(point)));
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    if low > high { 0f64..1. } else { low..high.max(low + 1e-3) }
}

fn air(Range { start, end }: Range<f64>) -> Range<f64> {
    let air = 0.05 * (end - start);
    start - air..end + air
}
