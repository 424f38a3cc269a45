//! Marks: how times are distributed, and the way that a search took.

use std::sync::Arc;

use kuva::plot::{LinePlot, MarkerShape, ScatterPlot};
use kuva::render::layout::TickFormat;
use kuva::render::plots::Plot;

use super::super::page::{Figure, Legend};
use super::super::words::Unit;
use super::{GREEN, GREY, HEIGHT, ORANGE, PURPLE, draw, layout, look, scale, tick_of_time};

/// One distribution of times: its name, and its values in ns by the place in [`NAMES`].
#[derive(Debug, Clone)]
pub struct Percentile {
    /// Name in the legend.
    pub name: String,
    /// Lowest, percentiles and highest; none where there were too few times for it.
    pub values: [Option<f64>; 8],
}

/// What a distribution is made of, as reports name it, and as people do.
pub const NAMES: [(&str, &str); 8] = [
    ("min", "min"),
    ("p50", "50"),
    ("p90", "90"),
    ("p99", "99"),
    ("p999", "99.9"),
    ("p9999", "99.99"),
    ("p99999", "99.999"),
    ("max", "max"),
];

/// Draws distributions; nothing where there is none.
pub fn percentiles(kind: &'static str, title: &str, caption: &str, all: &[Percentile]) -> Option<Figure> {
    let sane = |value: Option<f64>| value.filter(|v| v.is_finite() && *v > 0.0 && *v < 1e18);
    let used: Vec<usize> =
        (0..NAMES.len()).filter(|&at| all.iter().any(|p| p.values[at].is_some())).collect();
    let mut plots: Vec<Plot> = Vec::new();
    let mut legend = Vec::new();
    let (mut marks, mut low, mut high) = (0, f64::INFINITY, 0f64);
    for (number, one) in all.iter().enumerate() {
        let (color, style, class) = look(number);
        let points: Vec<(f64, f64)> = used
            .iter()
            .enumerate()
            .filter_map(|(place, &at)| Some((place as f64 + 1.0, sane(one.values[at])?)))
            .collect();
        if points.is_empty() {
            continue;
        }
        marks += points.len();
        low = points.iter().map(|p| p.1).fold(low, f64::min);
        high = points.iter().map(|p| p.1).fold(high, f64::max);
        plots.push(
            LinePlot::new()
                .with_data(points.clone())
                .with_color(color)
                .with_stroke_width(1.6)
                .with_line_style(style)
                .into(),
        );
        plots.push(ScatterPlot::new().with_data(points).with_color(color).with_size(3.0).into());
        legend.push(Legend { name: one.name.clone(), class });
    }
    if marks == 0 {
        return None;
    }
    let names = used.iter().map(|&at| NAMES[at].1.to_owned()).collect();
    let axes = layout(&plots, HEIGHT)
        .with_x_categories(names)
        .with_log_y()
        .with_y_axis_min(10f64.powf(low.log10().floor()))
        .with_y_axis_max(high * 1.6)
        .with_x_label("percent of the times")
        .with_y_label("time, powers of ten")
        .with_y_tick_format(TickFormat::Custom(Arc::new(tick_of_time)));
    Some(Figure {
        kind,
        title: title.to_owned(),
        caption: caption.to_owned(),
        legend,
        marks,
        svg: draw(plots, axes, title),
    })
}

/// One trial of a search.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// What was offered.
    pub load: f64,
    /// `valid`, `invalid` or else.
    pub validity: &'static str,
}

/// Draws the way that a search took, trial by trial.
pub fn path(title: &str, caption: &str, unit: Unit, trials: &[Trial]) -> Option<Figure> {
    let most = trials.iter().map(|t| t.load).filter(|l| l.is_finite() && *l < 1e18).fold(0.0, f64::max);
    if trials.is_empty() || most <= 0.0 {
        return None;
    }
    let (divisor, name) = scale(unit, most);
    let points = |wanted: Option<&str>| -> Vec<(f64, f64)> {
        trials
            .iter()
            .enumerate()
            .filter(|(_, t)| t.load.is_finite() && t.load < 1e18 && wanted.is_none_or(|w| w == t.validity))
            .map(|(number, t)| (number as f64 + 1.0, t.load / divisor))
            .collect()
    };
    let mut plots: Vec<Plot> =
        vec![LinePlot::new().with_data(points(None)).with_color(GREY).with_stroke_width(1.0).into()];
    let mut legend = Vec::new();
    for (validity, color, shape, class) in [
        ("valid", GREEN, MarkerShape::Circle, "valid"),
        ("invalid", ORANGE, MarkerShape::Cross, "invalid"),
        ("inconclusive", PURPLE, MarkerShape::Triangle, "open"),
    ] {
        let points = points(Some(validity));
        if points.is_empty() {
            continue;
        }
        plots.push(
            ScatterPlot::new().with_data(points).with_color(color).with_size(4.5).with_marker(shape).into(),
        );
        legend.push(Legend { name: validity.to_owned(), class });
    }
    let axes = layout(&plots, HEIGHT)
        .with_x_label("trial")
        .with_y_label(format!("{name} offered"))
        .with_x_axis_min(0.5)
        .with_x_axis_max(trials.len() as f64 + 0.5)
        .with_x_tick_step((trials.len() as f64 / 10.0).ceil().max(1.0))
        .with_y_axis_min(0.0)
        .with_y_axis_max(most / divisor * 1.1);
    Some(Figure {
        kind: "search",
        title: title.to_owned(),
        caption: caption.to_owned(),
        legend,
        marks: trials.len(),
        svg: draw(plots, axes, title),
    })
}
