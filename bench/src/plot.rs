//! What a reader sees at a glance: figures as bars or lines, drawn to an SVG.

use std::path::Path;

use plotters::chart::{ChartContext, SeriesLabelPosition};
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::{
    Cartesian2d, ChartBuilder, Circle, IntoDrawingArea, IntoLogRange, LineSeries, PathElement,
    RGBColor, Rectangle, SVGBackend, Text, WHITE,
};
use plotters::style::Color;

const SIZE: (u32, u32) = (860, 420);
const FONT: &str = "sans-serif";

/// Told apart by those who do not see all colours too (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(240, 228, 66),
    RGBColor(120, 120, 120),
];

/// One picture.
#[derive(Debug)]
pub(crate) struct Plot {
    /// The last part of the file's name.
    pub(crate) name: &'static str,
    pub(crate) title: String,
    /// What the figures are, with their unit.
    pub(crate) figures: &'static str,
    pub(crate) shape: Shape,
}

/// How figures are shown.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Bars beside each other in groups; a figure that is not there is NaN.
    Bars {
        groups: Vec<String>,
        series: Vec<(String, Vec<f64>)>,
    },
    /// Lines over an axis.
    Lines {
        axis: &'static str,
        /// Each step of the axis is a multiple.
        by_multiples: bool,
        series: Vec<(String, Vec<(f64, f64)>)>,
    },
}

impl Plot {
    /// Draws it into that file.
    pub(crate) fn draw(&self, file: &Path) -> Result<(), String> {
        let drawn = match &self.shape {
            Shape::Bars { groups, series } => self.bars(file, groups, series),
            Shape::Lines {
                axis,
                by_multiples,
                series,
            } => self.lines(file, axis, *by_multiples, series),
        };
        drawn.map_err(|error| format!("cannot draw {}: {error}", file.display()))
    }

    fn bars(
        &self,
        file: &Path,
        groups: &[String],
        series: &[(String, Vec<f64>)],
    ) -> Result<(), String> {
        let most = series.iter().flat_map(|(_, values)| values).copied();
        let most = most.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(text)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(30)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..groups.len() as f64, 0.0..most * headroom(series.len()))
            .map_err(text)?;
        let name = |at: &f64| {
            // A group's name stands below its middle.
            let is_middle = (at.fract() - 0.5).abs() < 0.01;
            let group = groups.get(at.floor() as usize).filter(|_| is_middle);
            group.cloned().unwrap_or_default()
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .max_light_lines(0)
            .x_labels(groups.len() * 2 + 1)
            .x_label_formatter(&name)
            .y_desc(self.figures)
            .y_label_formatter(&|y| short(*y))
            .label_style((FONT, 13))
            .draw()
            .map_err(text)?;
        let width = 0.8 / series.len().max(1) as f64;
        for (at, ((name, values), colour)) in series.iter().zip(COLOURS.iter().cycle()).enumerate()
        {
            let left = |group: usize| group as f64 + 0.1 + at as f64 * width;
            let there = values.iter().enumerate();
            let there = there.filter(|(_, value)| value.is_finite());
            let bar = |(group, value): (usize, &f64)| {
                let corners = [(left(group), 0.0), (left(group) + width * 0.92, *value)];
                Rectangle::new(corners, colour.filled())
            };
            chart
                .draw_series(there.clone().map(bar))
                .map_err(text)?
                .label(name)
                .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
            let figure = |(group, value): (usize, &f64)| {
                let place = (left(group), value + most * 0.035);
                Text::new(short(*value), place, (FONT, 11))
            };
            chart.draw_series(there.map(figure)).map_err(text)?;
        }
        name_series(&mut chart, series.len())?;
        area.present().map_err(text)
    }

    fn lines(
        &self,
        file: &Path,
        axis: &str,
        by_multiples: bool,
        series: &[(String, Vec<(f64, f64)>)],
    ) -> Result<(), String> {
        let points = || series.iter().flat_map(|(_, points)| points);
        let most = points().map(|(_, y)| *y).fold(0.0, f64::max);
        let from = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
        let to = points().map(|(x, _)| *x).fold(from, f64::max);
        let picture = Picture {
            plot: self,
            axis,
            series,
            most,
        };
        if by_multiples {
            picture.draw(file, (from..to * 1.1).log_scale())
        } else {
            picture.draw(file, plotters::coord::types::RangedCoordf64::from(from..to))
        }
    }
}

/// Lines, whatever the axis.
struct Picture<'a> {
    plot: &'a Plot,
    axis: &'a str,
    series: &'a [(String, Vec<(f64, f64)>)],
    most: f64,
}

impl Picture<'_> {
    fn draw<X>(&self, file: &Path, x: X) -> Result<(), String>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(text)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.plot.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(x, 0.0..self.most * headroom(self.series.len()))
            .map_err(text)?;
        chart
            .configure_mesh()
            .max_light_lines(0)
            .x_desc(self.axis)
            .x_label_formatter(&|x| short(*x))
            .y_desc(self.plot.figures)
            .y_label_formatter(&|y| short(*y))
            .label_style((FONT, 13))
            .draw()
            .map_err(text)?;
        for ((name, points), colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            chart
                .draw_series(LineSeries::new(
                    points.iter().copied(),
                    colour.stroke_width(2),
                ))
                .map_err(text)?
                .label(name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
            let dots = points
                .iter()
                .map(|point| Circle::new(*point, 3, colour.filled()));
            chart.draw_series(dots).map_err(text)?;
        }
        name_series(&mut chart, self.series.len())?;
        area.present().map_err(text)
    }
}

/// Says which colour is which, where there are several.
fn name_series<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    series: usize,
) -> Result<(), String>
where
    X: Ranged,
    Y: Ranged,
{
    if series < 2 {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font((FONT, 12))
        .draw()
        .map_err(text)
}

/// How far the axis goes beyond the greatest figure, so that the names of the series hide none.
fn headroom(series: usize) -> f64 {
    1.15 + 0.06 * series as f64
}

/// A size of values, as people say it.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        ..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KB", bytes / 1024),
        0x10_0000.. => format!("{} MB", bytes >> 20),
    }
}

/// As few digits as tell it.
fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        _ => {
            let digits = format!("{value:.2}");
            digits
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned()
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(shape: Shape) -> String {
        let plot = Plot {
            name: "ratio",
            title: "A title".to_owned(),
            figures: "MB per CPU-second",
            shape,
        };
        let file = tempfile::NamedTempFile::new().expect("the temporary directory is writable");
        plot.draw(file.path()).expect("the figures can be drawn");
        std::fs::read_to_string(file.path()).expect("it was drawn")
    }

    #[test]
    fn bar_has_its_figure_and_its_group() {
        let svg = drawn(Shape::Bars {
            groups: vec!["100 B".to_owned(), "1 KB".to_owned()],
            series: vec![
                ("forebay".to_owned(), vec![321.0, 654.0]),
                ("floor".to_owned(), vec![f64::NAN, 741.0]),
            ],
        });
        for text in ["A title", "100 B", "1 KB", "321", "654", "741", "floor"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn lines_stand_over_both_kinds_of_axis() {
        for by_multiples in [false, true] {
            let svg = drawn(Shape::Lines {
                axis: "partitions",
                by_multiples,
                series: vec![("peak".to_owned(), vec![(1.0, 30.0), (1000.0, 400.0)])],
            });
            assert!(svg.contains("partitions") && svg.contains("polyline"));
        }
    }

    #[test]
    fn figure_has_as_few_digits_as_tell_it() {
        assert_eq!(
            [0.25, 1.0, 12.0, 12.34, 741.4].map(short),
            ["0.25", "1", "12", "12.3", "741"]
        );
    }
}
