//! Figures over time.

use kuva::plot::{LinePlot, ScatterPlot};
use kuva::render::layout::TickFormat;
use kuva::render::plots::Plot;

use super::super::page::{Figure, Legend};
use super::super::words::Unit;
use super::{HEIGHT, POINTS, draw, layout, look, scale, thin, tick_of_time};

/// One line.
#[derive(Debug, Clone)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Where on the axis, as seconds from the start, and the figure.
    pub points: Vec<(f64, f64)>,
}

/// The axis of times.
pub const SECONDS: &str = "seconds from the start";

/// What is drawn over time.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// Stable name.
    pub kind: &'static str,
    /// Title.
    pub title: &'static str,
    /// What the figures are; [`Unit::Time`] gets an axis of powers of ten where they differ much.
    pub unit: Unit,
    /// What the other axis is.
    pub axis: &'static str,
    /// Figures of stretches of time, drawn as steps.
    pub steps: bool,
    /// How to read it.
    pub caption: String,
    /// The lines. Those without a point are left out.
    pub series: Vec<Series>,
}

/// Draws figures over time; nothing where there is none.
pub fn timeline(what: Timeline) -> Option<Figure> {
    let mut series = what.series;
    for line in &mut series {
        line.points.retain(|(x, y)| x.is_finite() && y.is_finite() && x.abs() < 1e15 && y.abs() < 1e18);
    }
    series.retain(|line| !line.points.is_empty());
    let all = || series.iter().flat_map(|line| line.points.iter().copied());
    let (count, longest) = (all().count(), series.iter().map(|line| line.points.len()).max()?);
    let most = all().map(|p| p.1).fold(0.0, f64::max);
    let least = all().map(|p| p.1).fold(0.0, f64::min);
    let smallest = all().map(|p| p.1).filter(|&y| y > 0.0).fold(f64::INFINITY, f64::min);
    let powers = what.unit == Unit::Time && smallest.is_finite() && most / smallest > 30.0;
    let (divisor, unit) =
        if powers { (1.0, "time, powers of ten") } else { scale(what.unit, most.max(-least)) };
    let end = all().map(|p| p.0).fold(0.0, f64::max);
    let mut plots: Vec<Plot> = Vec::new();
    let mut legend = Vec::new();
    for (number, line) in series.iter().enumerate() {
        let (color, style, class) = look(number);
        let mut points: Vec<(f64, f64)> =
            thin(&line.points, POINTS).into_iter().map(|(x, y)| (x, y / divisor)).collect();
        if powers {
            points.retain(|p| p.1 > 0.0);
        }
        if points.len() < 3 {
            plots.push(ScatterPlot::new().with_data(points.clone()).with_color(color).with_size(3.0).into());
        }
        let mut plot =
            LinePlot::new().with_data(points).with_color(color).with_stroke_width(1.6).with_line_style(style);
        if what.steps {
            plot = plot.with_step();
        }
        plots.push(plot.into());
        legend.push(Legend { name: line.name.clone(), class });
    }
    let mut axes = layout(&plots, HEIGHT)
        .with_x_label(what.axis)
        .with_y_label(unit)
        .with_x_axis_min(0.0)
        .with_x_axis_max(if end > 0.0 { end } else { 1.0 });
    axes = if powers {
        axes.with_log_y()
            .with_y_axis_min(10f64.powf(smallest.log10().floor()))
            .with_y_axis_max(most * 1.5)
            .with_y_tick_format(TickFormat::Custom(std::sync::Arc::new(tick_of_time)))
    } else {
        let top = if most > 0.0 { most / divisor * 1.08 } else { 1.0 };
        axes.with_y_axis_min(least / divisor * 1.08).with_y_axis_max(top)
    };
    let mut caption = what.caption;
    if longest > POINTS {
        let stretch = longest.div_ceil(POINTS / 2);
        caption.push_str(&format!(" Drawn as the lowest and the highest of every {stretch} intervals."));
    }
    Some(Figure {
        kind: what.kind,
        title: what.title.to_owned(),
        caption,
        legend,
        marks: count,
        svg: draw(plots, axes, what.title),
    })
}
