//! Bars: from sent to received, and shares.

use std::sync::Arc;

use kuva::plot::BarPlot;
use kuva::render::annotations::TextAnnotation;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;

use super::super::page::Figure;
use super::super::words::Unit;
use super::{BLUE, GREEN, GREY, INK, ORANGE, draw, label, layout, scale};

/// A bar, from one number to another.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Name.
    pub name: String,
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// What is written beside it.
    pub text: String,
    color: &'static str,
}

/// Height of one bar with the space around it.
const ROW: f64 = 26.0;
/// Height of the axis below the bars.
const AXIS: f64 = 52.0;

impl Bar {
    /// From 0.
    pub fn new(name: impl Into<String>, to: f64, text: impl Into<String>) -> Self {
        Self { name: name.into(), from: 0.0, to, text: text.into(), color: BLUE }
    }
}

/// Bars one below another.
pub fn bars(kind: &'static str, title: &str, caption: &str, unit: Unit, all: Vec<Bar>) -> Option<Figure> {
    let all: Vec<Bar> = all.into_iter().filter(|bar| sane(bar.to) && sane(bar.from)).collect();
    if all.is_empty() {
        return None;
    }
    let count = all.len();
    let (svg, _) = horizontal(&all, unit, title, 0.0);
    Some(figure(kind, title, caption.to_owned(), count, svg))
}

/// A waterfall: what was sent, what was lost at each place, what is not accounted for, what came. Places are names with packets.
pub fn waterfall(
    title: &str,
    sent: u64,
    places: &[(String, u64)],
    unaccounted: i64,
    received: u64,
) -> Option<Figure> {
    let count = crate::text::count;
    if !sane(sent as f64) || !sane(received as f64) || sent == 0 && received == 0 {
        return None;
    }
    let mut all = vec![Bar::new("sent", sent as f64, count(sent))];
    let mut level = sent as f64;
    let mut lost = |name: String, packets: f64, text: String, color| {
        let to = (level - packets).max(0.0);
        all.push(Bar { name, from: level.min(to), to: level.max(to), text, color });
        level = to;
    };
    for (name, packets) in places {
        lost(name.clone(), *packets as f64, format!("−{}", count(*packets)), ORANGE);
    }
    if unaccounted != 0 {
        let sign = if unaccounted > 0 { '−' } else { '+' };
        lost(
            "unaccounted".to_owned(),
            unaccounted as f64,
            format!("{sign}{}", count(unaccounted.unsigned_abs())),
            GREY,
        );
    }
    all.push(Bar { color: GREEN, ..Bar::new("received", received as f64, count(received)) });
    // Small losses of many packets would not be seen beside bars from 0.
    let least = all
        .iter()
        .skip(1)
        .map(|bar| if bar.from > 0.0 { bar.from } else { bar.to })
        .fold(sent as f64, f64::min);
    let range = sent as f64 - least;
    let from = if range > 0.0 && least > 0.7 * sent as f64 { (least - range * 0.6).max(0.0) } else { 0.0 };
    let (svg, begins) = horizontal(&all, Unit::Count, title, from);
    let mut caption =
        "Packets, from those sent to those received, by the place where they were lost.".to_owned();
    if begins > 0.0 {
        caption.push_str(&format!(
            " The axis begins at {}, so that small losses are seen.",
            count(begins as u64)
        ));
    }
    Some(figure("waterfall", title, caption, all.len(), svg))
}

fn sane(n: f64) -> bool {
    n.is_finite() && n.abs() < 1e18
}

fn figure(kind: &'static str, title: &str, caption: String, marks: usize, svg: String) -> Figure {
    Figure { kind, title: title.to_owned(), caption, legend: Vec::new(), marks, svg }
}

/// Draws bars from the top down, on an axis from `from` on; also where the axis begins.
fn horizontal(all: &[Bar], unit: Unit, title: &str, from: f64) -> (String, f64) {
    let most = all.iter().map(|bar| bar.to).fold(from, f64::max);
    let span = if most > from { most - from } else { 1.0 };
    let (divisor, name) = scale(unit, most);
    // The text of the longest bar stands right of it.
    let longest = all.iter().map(|bar| bar.text.chars().count().min(24)).max().unwrap_or(0);
    let room = (300.0 / (300.0 - (longest as f64 * 6.8 + 12.0))).max(1.32);
    // A loss of a few packets is still a line that is seen.
    let thinnest = span / 220.0;
    let mut plot = BarPlot::new().with_stacked().with_horizontal(true).with_width(0.62);
    for bar in all.iter().rev() {
        let to = if bar.to > bar.from { bar.to.max(bar.from + thinnest) } else { bar.to };
        let parts = [(bar.from / divisor, "none"), ((to - bar.from) / divisor, bar.color)];
        plot = plot.with_group(label(&bar.name, 22), parts);
    }
    let plots: Vec<Plot> = vec![plot.into()];
    let decimals = if span / divisor < 0.1 {
        3
    } else if span / divisor < 10.0 {
        2
    } else {
        0
    };
    let mut axes: Layout = layout(&plots, ROW * all.len() as f64 + AXIS)
        .with_x_label(name)
        .with_x_axis_min(from / divisor)
        .with_x_axis_max((from + span * room) / divisor)
        .with_x_tick_step(nice(span * room / divisor / 4.0))
        .with_x_tick_format(TickFormat::Custom(Arc::new(move |v| format!("{v:.decimals$}"))));
    for (number, bar) in all.iter().rev().enumerate() {
        // The library writes a text above its place and around its middle.
        let half = (bar.text.chars().count() as f64 * 3.4 + 6.0) / 300.0 * span * room;
        let at = ((bar.to.max(from) + half) / divisor, number as f64 + 1.0 - 0.38);
        axes = axes.with_annotation(
            TextAnnotation::new(label(&bar.text, 24), at.0, at.1).with_font_size(11).with_color(INK),
        );
    }
    (draw(plots, axes, title), from)
}

/// 1, 2 or 5 times a power of ten, not below `step`.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|n| *n >= step).unwrap_or(10.0 * power)
}
