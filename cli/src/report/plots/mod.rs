//! Plots, drawn as SVG by kuva: the same for a page in a file, for the live page and for paper.
//!
//! Colours are those of Okabe and Ito, which people with any colour vision can tell apart; lines also differ by their dashes, marks by their shapes. The style sheet
//! finds each colour by its value and has another for dark screens.

mod bars;
mod lines;
mod marks;

use kuva::backend::svg::SvgBackend;
use kuva::plot::LineStyle;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::render::render_multiple;
use kuva::render::theme::Theme;

use super::words::Unit;

pub use bars::{Bar, bars, waterfall};
pub use lines::{SECONDS, Series, Timeline, timeline};
pub use marks::{Percentile, Trial, path, percentiles};

/// Width of every plot in its own units; on a page it is as wide as there is room.
const WIDTH: f64 = 440.0;
/// Height of a plot with a time line.
const HEIGHT: f64 = 220.0;
/// Points of a series at most: more than a plot has dots.
pub const POINTS: usize = 440;

const BLUE: &str = "#0072b2";
const ORANGE: &str = "#d55e00";
const GREEN: &str = "#009e73";
const PURPLE: &str = "#cc79a7";
const GREY: &str = "#8a8f98";
const INK: &str = "#1b1e24";
const GRID: &str = "#e3e6ea";

/// How series are told apart: colour, dashes, and the class that the legend has.
fn look(number: usize) -> (&'static str, LineStyle, &'static str) {
    match number % 4 {
        0 => (BLUE, LineStyle::Solid, "s1"),
        1 => (ORANGE, LineStyle::Dashed, "s2"),
        2 => (GREEN, LineStyle::Dotted, "s3"),
        _ => (PURPLE, LineStyle::DashDot, "s4"),
    }
}

fn theme() -> Theme {
    Theme {
        background: "none".into(),
        axis_color: GREY.into(),
        grid_color: GRID.into(),
        tick_color: GREY.into(),
        text_color: INK.into(),
        legend_bg: "none".into(),
        legend_border: "none".into(),
        ..Theme::light()
    }
}

/// Axes for `plots`, as all plots have them.
fn layout(plots: &[Plot], height: f64) -> Layout {
    Layout::auto_from_plots(plots)
        .with_width(WIDTH)
        .with_height(height)
        .with_theme(theme())
        .with_font_family("system-ui, sans-serif")
        .with_label_size(11)
        .with_tick_size(11)
        .with_body_size(11)
}

/// Draws, and makes the plot fit into whatever room there is. `title` is what a screen reader says of it.
fn draw(plots: Vec<Plot>, layout: Layout, title: &str) -> String {
    let scene = render_multiple(plots, layout);
    let (width, height) = (scene.width, scene.height);
    let svg = SvgBackend::new().render_scene(&scene);
    let title =
        askama::filters::escape(title, askama::filters::Html).map_or_else(|e| match e {}, |t| t.to_string());
    svg.replacen(
        "<svg ",
        &format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\" "),
        1,
    )
}

/// A text from a result that goes into a plot: one line, not too long, and nothing that the library takes for a formula.
fn label(text: &str, longest: usize) -> String {
    let mut short: String =
        text.chars().take(longest).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(longest).is_some() {
        short.push('…');
    }
    short.replace('$', "\\$")
}

/// Numbers of an axis up to `most`: what they are divided by, and the unit that they then have.
fn scale(unit: Unit, most: f64) -> (f64, &'static str) {
    let step = |names: [&'static str; 4]| match most.abs() {
        a if a >= 1e9 => (1e9, names[3]),
        a if a >= 1e6 => (1e6, names[2]),
        a if a >= 10_000.0 => (1e3, names[1]),
        _ => (1.0, names[0]),
    };
    match unit {
        Unit::Count => step(["packets", "thousand packets", "million packets", "billion packets"]),
        Unit::Bits => step(["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]),
        Unit::Packets => step(["pps", "kpps", "Mpps", "Gpps"]),
        Unit::Percent => (1.0, "%"),
        Unit::Time => match most.abs() {
            a if a >= 1e9 => (1e9, "s"),
            a if a >= 1e6 => (1e6, "ms"),
            a if a >= 1e3 => (1e3, "µs"),
            _ => (1.0, "ns"),
        },
    }
}

/// A time on an axis whose steps are powers of ten.
fn tick_of_time(ns: f64) -> String {
    let shown = |value: f64, unit: &str| {
        let text = format!("{value:.2}");
        format!("{} {unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match ns {
        a if a >= 1e9 => shown(ns / 1e9, "s"),
        a if a >= 1e6 => shown(ns / 1e6, "ms"),
        a if a >= 1e3 => shown(ns / 1e3, "µs"),
        _ => shown(ns, "ns"),
    }
}

/// Fewer points that look the same: of each stretch the lowest and the highest, in the order in which they stand. As they are, where there are few.
pub fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most || most < 2 {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(most / 2);
    let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
    points
        .chunks(stretch)
        .flat_map(|chunk| {
            let low = chunk.iter().min_by(by_height).copied();
            let high = chunk.iter().max_by(by_height).copied();
            let (first, second) = match (low, high) {
                (Some(low), Some(high)) if low.0 > high.0 => (Some(high), Some(low)),
                both => both,
            };
            first.into_iter().chain(second.filter(|s| Some(*s) != first))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinned_points_keep_every_extreme() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), 5.0)).collect();
        points[7_777].1 = 99.0;
        points[1_234].1 = -3.0;
        let thinned = thin(&points, POINTS);
        assert!(thinned.len() <= POINTS, "{}", thinned.len());
        assert!(thinned.contains(&(7_777.0, 99.0)) && thinned.contains(&(1_234.0, -3.0)));
        assert!(thinned.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order, and none twice");
        assert_eq!(thin(&points[..100], POINTS).len(), 100);
    }

    #[test]
    fn labels_are_short_and_no_formulas() {
        assert_eq!(label("a$x$\nb", 10), "a\\$x\\$ b");
        assert_eq!(label("abcdef", 3), "abc…");
        assert_eq!(tick_of_time(1e6), "1 ms");
        assert_eq!(tick_of_time(250.0), "250 ns");
        assert_eq!(tick_of_time(2.5e3), "2.5 µs");
    }
}
