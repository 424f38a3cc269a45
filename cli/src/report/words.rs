//! Numbers as people read them. The unit follows from the name that a number has in the result, or that what it is in has: `_ns`, `_bps`, `pps`, `_bytes`,
//! `_percent`.

use serde_json::Value;

use super::view::View;
use crate::text;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Time in ns.
    Time,
    /// Bits a second.
    Bits,
    /// Packets or frames a second.
    Packets,
    /// Percent.
    Percent,
}

/// The unit of what stands at `path`.
pub fn unit(path: &str) -> Unit {
    for name in path.rsplit('/') {
        if matches!(name, "count" | "packets" | "frames" | "comparisons" | "steps") {
            return Unit::Count;
        }
        if name.ends_with("_ns") {
            return Unit::Time;
        }
        if name.ends_with("_bps") {
            return Unit::Bits;
        }
        if name == "pps" || name.ends_with("_pps") {
            return Unit::Packets;
        }
        if name == "percent" || name.ends_with("_percent") {
            return Unit::Percent;
        }
    }
    Unit::Count
}

/// Whether a number is a name, and no amount.
fn is_name(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    matches!(name, "port" | "id" | "run" | "restart_of" | "ssid" | "ssrc" | "netns" | "phc" | "cpu" | "queue")
}

/// A value as people read it.
pub fn value(view: &View<'_>) -> String {
    match view.value() {
        Value::Number(number) if is_name(view.path()) => number.to_string(),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(n), ..) => whole(n, unit(view.path())),
            (None, Some(n), _) => format!("−{}", whole(n.unsigned_abs(), unit(view.path()))),
            (None, None, n) => broken(n.unwrap_or(f64::NAN), unit(view.path())),
        },
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => String::new(),
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(exact).collect();
            texts.join(", ")
        }
        Value::Object(_) => "…".to_owned(),
    }
}

fn whole(n: u64, unit: Unit) -> String {
    match unit {
        Unit::Count => text::count(n),
        Unit::Time => text::time(n),
        Unit::Bits => text::bits(n),
        Unit::Packets => text::pps(n),
        Unit::Percent => format!("{n} %"),
    }
}

fn broken(n: f64, unit: Unit) -> String {
    match unit {
        Unit::Percent => percent(n),
        Unit::Count if n.fract() != 0.0 => format!("{n:.3}"),
        _ if n < 0.0 => format!("−{}", whole(n.abs().round() as u64, unit)),
        Unit::Packets if n < 1000.0 => format!("{n:.1} pps"),
        _ => whole(n.round() as u64, unit),
    }
}

/// A share in percent, as fine as it has to be.
pub fn percent(n: f64) -> String {
    match n.abs() {
        0.0 => "0 %".to_owned(),
        a if a < 0.001 => format!("{n:.6} %"),
        a if a < 10.0 => format!("{n:.4} %"),
        _ => format!("{n:.2} %"),
    }
}

/// A number as it is, in groups of three digits where it is whole; other values as they are.
pub fn exact(value: &Value) -> String {
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(n), _) => text::count(n),
            (None, Some(n)) => format!("−{}", text::count(n.unsigned_abs())),
            _ => number.to_string(),
        },
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The class of a word that says how something came out.
pub fn class(word: &str) -> &'static str {
    match word {
        "pass" | "valid" => "pass",
        "fail" | "invalid" => "fail",
        "inconclusive" => "inconclusive",
        _ => "",
    }
}

/// The name of a part as a title: `lost_tail` is `lost tail`, and units are said by the values.
pub fn title(name: &str) -> String {
    let bare = ["_ns", "_bps", "_pps", "_percent"].iter().find_map(|unit| name.strip_suffix(unit));
    bare.unwrap_or(name).replace('_', " ")
}

/// Seconds of ns.
pub fn seconds(ns: f64) -> f64 {
    ns / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn units_follow_from_names() {
        for (path, expected) in [
            ("/rx/latency_ns/p50", Unit::Time),
            ("/rx/latency_ns/count", Unit::Count),
            ("/rx/l1_bps", Unit::Bits),
            ("/tx/pps", Unit::Packets),
            ("/loss/percent", Unit::Percent),
            ("/rx/lost", Unit::Count),
        ] {
            assert_eq!(unit(path), expected, "{path}");
        }
    }

    #[test]
    fn values_read_well() {
        let result =
            json!({"a_ns": 1500, "n": -1_234_567, "x_percent": 20.369, "y_pps": 999.96, "l": [1, "b"]});
        let view = View::new(&result);
        let read = |name: &str| value(&view.get(name).unwrap());
        assert_eq!(read("a_ns"), "1.5 µs");
        assert_eq!(read("n"), "−1,234,567");
        assert_eq!(read("x_percent"), "20.37 %");
        assert_eq!(read("y_pps"), "1000.0 pps");
        assert_eq!(read("l"), "1, b");
        assert_eq!(exact(&json!(-1500)), "−1,500");
        assert_eq!(title("lost_tail"), "lost tail");
    }
}
