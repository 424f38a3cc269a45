//! Tables of a result as CSV (RFC 4180). docs/report.md describes the columns; units are in their names.

use serde_json::Value;
use wirerate_engine::Error;

use super::document::Document;
use super::view::View;

/// A column: its title, and where its value is from the row's object.
type Column = (&'static str, &'static str);

/// What can be asked for, in the order of preference of what is given when nobody says.
pub const TABLES: [&str; 8] =
    ["intervals", "trials", "streams", "workers", "drops", "times", "measurements", "figures"];

const INTERVALS: [Column; 16] = [
    ("start_ns", "start_ns"),
    ("end_ns", "end_ns"),
    ("tx_packets", "tx/packets"),
    ("tx_errors", "tx/errors"),
    ("tx_pps", "tx/pps"),
    ("tx_payload_bps", "tx/payload_bps"),
    ("rx_packets", "rx/packets"),
    ("rx_lost", "rx/lost"),
    ("rx_pps", "rx/pps"),
    ("rx_payload_bps", "rx/payload_bps"),
    ("latency_min_ns", "rx/latency_ns/min"),
    ("latency_mean_ns", "rx/latency_ns/mean"),
    ("latency_p50_ns", "rx/latency_ns/p50"),
    ("latency_p99_ns", "rx/latency_ns/p99"),
    ("latency_p999_ns", "rx/latency_ns/p999"),
    ("latency_max_ns", "rx/latency_ns/max"),
];

const ROUND_TRIPS: [Column; 9] = [
    ("start_ns", "start_ns"),
    ("end_ns", "end_ns"),
    ("sent", "sent"),
    ("answered", "answered"),
    ("lost", "lost"),
    ("rtt_min_ns", "rtt_ns/min"),
    ("rtt_p50_ns", "rtt_ns/p50"),
    ("rtt_p99_ns", "rtt_ns/p99"),
    ("rtt_max_ns", "rtt_ns/max"),
];

const STREAMS: [Column; 15] = [
    ("stream", "id"),
    ("run", "run"),
    ("format", "format"),
    ("source", "source"),
    ("group", "group"),
    ("port", "port"),
    ("packets", "packets"),
    ("unique", "unique"),
    ("lost", "lost"),
    ("lost_tail", "lost_tail"),
    ("duplicate", "duplicate"),
    ("reordered", "reordered"),
    ("late", "late"),
    ("jitter_rfc3550_ns", "jitter_ns/rfc3550"),
    ("jitter_max_ns", "jitter_ns/max"),
];

const WORKERS: [Column; 4] = [("queue", "queue"), ("cpu", "cpu"), ("packets", "packets"), ("why", "why")];

const DISTRIBUTION: [Column; 10] = [
    ("count", "count"),
    ("min_ns", "min"),
    ("mean_ns", "mean"),
    ("p50_ns", "p50"),
    ("p90_ns", "p90"),
    ("p99_ns", "p99"),
    ("p999_ns", "p999"),
    ("p9999_ns", "p9999"),
    ("p99999_ns", "p99999"),
    ("max_ns", "max"),
];

const TRIALS: [Column; 8] = [
    ("purpose", "purpose"),
    ("frame_bytes", "frame_bytes"),
    ("groups", "groups"),
    ("duration_ns", "duration_ns"),
    ("intended_pps", "intended_pps"),
    ("burst_frames", "burst_frames"),
    ("validity", "validity"),
    ("reasons", "reasons"),
];

const PORTS: [Column; 11] = [
    ("port", "port"),
    ("sent", "sent"),
    ("received", "received"),
    ("lost", "lost"),
    ("duplicate", "duplicate"),
    ("reordered", "reordered"),
    ("lost_in_host", "lost_in_host"),
    ("forwarded_pps", "forwarded_pps"),
    ("latency_p50_ns", "latency_ns/p50"),
    ("latency_p99_ns", "latency_ns/p99"),
    ("latency_max_ns", "latency_ns/max"),
];

const MEASUREMENTS: [Column; 14] = [
    ("frame_bytes", "frame_bytes"),
    ("groups", "groups"),
    ("sizes", "sizes"),
    ("direction", "direction"),
    ("outcome", "outcome"),
    ("why", "why"),
    ("throughput_pps", "throughput/pps"),
    ("throughput_bound", "throughput/bound"),
    ("offered_pps", "forwarding/offered_pps"),
    ("forwarded_pps", "forwarding/forwarded_pps"),
    ("worst_loss_percent", "forwarding/worst_loss_percent"),
    ("latency_min_ns", "latency/min_ns"),
    ("latency_max_ns", "latency/max_ns"),
    ("capacity_groups", "capacity/groups"),
];

/// A table as CSV.
pub fn table(document: &Document, name: Option<&str>) -> Result<String, Error> {
    let view = View::new(&document.value);
    let made: Vec<(&str, Rows)> = TABLES.iter().map(|name| (*name, rows(&view, name))).collect();
    let there: Vec<&str> = made.iter().filter(|(_, r)| !r.rows.is_empty()).map(|(name, _)| *name).collect();
    let wanted = name.or_else(|| there.first().copied()).unwrap_or("figures");
    let Some((_, rows)) = made.into_iter().find(|(name, rows)| *name == wanted && !rows.rows.is_empty())
    else {
        return Err(Error::usage(format!("--table {wanted}: {} has none", document.source))
            .fix(format!("ask for one of {}", there.join(", "))));
    };
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let failed = |e: csv::Error| Error::failed(format!("the table could not be written: {e}"));
    writer.write_record(&rows.titles).map_err(failed)?;
    for row in &rows.rows {
        writer.write_record(row).map_err(failed)?;
    }
    let bytes =
        writer.into_inner().map_err(|e| Error::failed(format!("the table could not be written: {e}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Titles and rows.
#[derive(Default)]
struct Rows {
    titles: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Rows {
    fn new(before: &[&'static str], columns: &[Column]) -> Self {
        let titles = before.iter().copied().chain(columns.iter().map(|(title, _)| *title)).collect();
        Self { titles, rows: Vec::new() }
    }

    fn add(&mut self, before: &[String], part: &View<'_>, columns: &[Column]) {
        let cells = columns.iter().map(|(_, name)| part.get(name).map_or(String::new(), |v| cell(v.value())));
        self.rows.push(before.iter().cloned().chain(cells).collect());
    }
}

fn rows(view: &View<'_>, name: &str) -> Rows {
    match name {
        "intervals" => {
            let stamp = view.text("schema").starts_with("wirerate.stamp/");
            let columns: &[Column] = if stamp { &ROUND_TRIPS } else { &INTERVALS };
            plain(&view.list("intervals"), columns)
        }
        "streams" => plain(&view.list("rx/streams"), &STREAMS),
        "workers" => plain(&view.list("workers"), &WORKERS),
        "drops" => drops(view),
        "times" => {
            let mut rows = Rows::new(&["what"], &DISTRIBUTION);
            distributions(view, &mut rows);
            rows
        }
        "trials" => trials(view),
        "measurements" => {
            let mut rows = Rows::new(&["test"], &MEASUREMENTS);
            for test in view.list("tests") {
                for measurement in test.list("measurements") {
                    rows.add(&[guarded(test.text("name"))], &measurement, &MEASUREMENTS);
                }
            }
            rows
        }
        _ => {
            let mut rows = Rows::new(&["path", "value"], &[]);
            figures(view, &mut rows);
            rows
        }
    }
}

fn plain(items: &[View<'_>], columns: &[Column]) -> Rows {
    let mut rows = Rows::new(&[], columns);
    items.iter().for_each(|item| rows.add(&[], item, columns));
    rows
}

fn drops(view: &View<'_>) -> Rows {
    const COLUMNS: [Column; 5] = [
        ("place", "place"),
        ("interface", "interface"),
        ("reason", "reason"),
        ("symbol", "symbol"),
        ("packets", "packets"),
    ];
    let mut rows = Rows::new(&["sender", "receiver"], &COLUMNS);
    for path in view.list("ledger/paths") {
        let ends = [guarded(path.text("sender")), guarded(path.text("receiver"))];
        for name in ["sent", "received", "unaccounted"] {
            if let Some(part) = path.get(name) {
                let mut row = ends.to_vec();
                row.extend([
                    name.to_owned(),
                    String::new(),
                    String::new(),
                    String::new(),
                    cell(part.value()),
                ]);
                rows.rows.push(row);
            }
        }
        path.list("drops").iter().for_each(|drop| rows.add(&ends, drop, &COLUMNS));
    }
    let nobody = [String::new(), String::new()];
    for list in ["ledger/sending/drops", "drops"] {
        view.list(list).iter().for_each(|drop| rows.add(&nobody, drop, &COLUMNS));
    }
    rows
}

/// Everything that is a distribution, but those of intervals and streams.
fn distributions(view: &View<'_>, rows: &mut Rows) {
    for (name, part) in view.parts() {
        if part.get("p50").is_some() && part.get("max").is_some() {
            rows.add(&[guarded(part.path().trim_start_matches('/'))], &part, &DISTRIBUTION);
        } else if name != "intervals" && name != "tests" && part.value().is_object() {
            distributions(&part, rows);
        }
    }
}

fn trials(view: &View<'_>) -> Rows {
    let mut rows = Rows::new(&["test", "trial"], &TRIALS);
    rows.titles.extend(PORTS.iter().map(|(title, _)| *title));
    for test in view.list("tests") {
        let all = test.list("measurements").into_iter().flat_map(|m| m.list("trials"));
        for (number, trial) in all.enumerate() {
            let mut before = vec![guarded(test.text("name")), (number + 1).to_string()];
            before.extend(
                TRIALS.iter().map(|(_, name)| trial.get(name).map_or(String::new(), |v| cell(v.value()))),
            );
            trial.list("ports").iter().for_each(|port| rows.add(&before, port, &PORTS));
        }
    }
    rows
}

/// Every value by its JSON Pointer.
fn figures(view: &View<'_>, rows: &mut Rows) {
    if view.value().is_array() {
        view.list_here().iter().for_each(|item| figures(item, rows));
    } else if view.value().is_object() {
        view.parts().iter().for_each(|(_, part)| figures(part, rows));
    } else {
        rows.rows.push(vec![guarded(view.path()), cell(view.value())]);
    }
}

/// A value as a cell: numbers as they are.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => guarded(text),
        Value::Array(items) => {
            let texts: Vec<String> =
                items.iter().map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned)).collect();
            guarded(&texts.join("; "))
        }
        other => other.to_string(),
    }
}

/// A text that a spreadsheet does not take for a formula.
fn guarded(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}
