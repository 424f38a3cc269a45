//! Figures of the run for Prometheus, in the OpenMetrics text format. docs/report.md names them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use serde_json::Value;

/// What the answer is.
pub const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// Different codes of warnings that are counted by themselves.
const CODES: usize = 64;
/// Places with drops at most.
const PLACES: usize = 256;

/// Totals of events, and the figures of the last interval.
#[derive(Debug, Default)]
pub struct Metrics {
    sent: Option<u64>,
    refused: Option<u64>,
    received: Option<u64>,
    lost: Option<i64>,
    intervals: u64,
    /// Of the last interval: direction, packets a second, payload bits a second.
    rates: BTreeMap<&'static str, (f64, f64)>,
    /// Of the last interval, in ns, by its name.
    latency: BTreeMap<&'static str, f64>,
    trials: BTreeMap<&'static str, u64>,
    warnings: BTreeMap<String, u64>,
    drops: BTreeMap<(String, String, String), u64>,
    outcome: Option<&'static str>,
    ended: bool,
}

fn grow(total: &mut Option<u64>, by: Option<u64>) {
    if let Some(by) = by {
        *total = Some(total.unwrap_or(0).saturating_add(by));
    }
}

/// A counter never falls, and the report has what came after the last interval.
fn raise(total: &mut Option<u64>, to: Option<u64>) {
    if let Some(to) = to {
        *total = Some(total.map_or(to, |before| before.max(to)));
    }
}

impl Metrics {
    /// Takes an event, as a line has it.
    pub fn event(&mut self, event: &Value) {
        match event["event"].as_str().unwrap_or_default() {
            "interval" => self.interval(&event["interval"]),
            "trial" => {
                let validity = match event["trial"]["validity"].as_str() {
                    Some("valid") => "valid",
                    Some("invalid") => "invalid",
                    _ => "inconclusive",
                };
                *self.trials.entry(validity).or_default() += 1;
            }
            "warning" => {
                let code = event["warning"]["code"].as_str().unwrap_or("other");
                let known = self.warnings.len() < CODES || self.warnings.contains_key(code);
                *self.warnings.entry(if known { code } else { "other" }.to_owned()).or_default() += 1;
            }
            "report" => self.report(&event["report"]),
            _ => {}
        }
    }

    fn interval(&mut self, interval: &Value) {
        self.intervals += 1;
        let (tx, rx) = (&interval["tx"], &interval["rx"]);
        let trips = interval["sent"].is_number();
        grow(&mut self.sent, tx["packets"].as_u64().or_else(|| interval["sent"].as_u64()));
        grow(&mut self.refused, tx["errors"].as_u64());
        grow(
            &mut self.received,
            rx["packets"].as_u64().or_else(|| interval["answered"].as_u64().filter(|_| trips)),
        );
        // A reflector tells totals.
        raise(&mut self.received, interval["received"].as_u64());
        if let Some(lost) = rx["lost"].as_i64().or_else(|| interval["lost"].as_i64()) {
            self.lost = Some(self.lost.unwrap_or(0).saturating_add(lost));
        }
        for (direction, side) in [("sent", tx), ("received", rx)] {
            if let (Some(pps), Some(bps)) = (side["pps"].as_f64(), side["payload_bps"].as_f64()) {
                self.rates.insert(direction, (pps, bps));
            }
        }
        let times = if rx["latency_ns"].is_object() { &rx["latency_ns"] } else { &interval["rtt_ns"] };
        self.latency.clear();
        for name in ["min", "mean", "p50", "p90", "p99", "p999", "max"] {
            if let Some(ns) = times[name].as_f64() {
                self.latency.insert(name, ns);
            }
        }
    }

    /// Takes the report.
    pub fn report(&mut self, report: &Value) {
        raise(&mut self.sent, report["tx"]["packets"].as_u64());
        raise(&mut self.refused, report["tx"]["errors"].as_u64());
        raise(&mut self.received, report["rx"]["packets"].as_u64());
        let tail = report["rx"]["lost_tail"].as_i64().unwrap_or(0);
        let lost = report["rx"]["lost"].as_i64().map(|lost| lost.saturating_add(tail));
        self.lost = lost.or_else(|| report["loss"]["lost"].as_i64()).or(self.lost);
        let outcome = report["verdict"]["outcome"].as_str().or_else(|| report["outcome"].as_str());
        self.outcome = outcome.and_then(|word| OUTCOMES.into_iter().find(|known| *known == word));
        let paths = report["ledger"]["paths"].as_array().into_iter().flatten();
        let sending = report["ledger"].get("sending").into_iter();
        for drop in paths.chain(sending).flat_map(|path| path["drops"].as_array().into_iter().flatten()) {
            let text = |name: &str| drop[name].as_str().unwrap_or_default().to_owned();
            let key = (text("place"), text("interface"), text("reason"));
            if self.drops.len() < PLACES || self.drops.contains_key(&key) {
                let total = self.drops.entry(key).or_default();
                *total = total.saturating_add(drop["packets"].as_u64().unwrap_or(0));
            }
        }
        self.end();
    }

    /// The run has ended.
    pub fn end(&mut self) {
        self.ended = true;
        self.rates.clear();
        self.latency.clear();
    }

    /// The text that is scraped.
    pub fn encode(&self, command: &str, schema: &str) -> String {
        let mut r = Registry::with_prefix("wirerate");
        let about = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("command", command.to_owned()),
            ("schema", schema.to_owned()),
        ];
        r.register("run", "What is run", Info::new(about));
        r.register(
            "run_ended",
            "1 when the run has ended, 0 while it goes on",
            ConstGauge::new(i64::from(self.ended)),
        );
        r.register("intervals", "Intervals that have passed", ConstCounter::new(self.intervals));
        for (name, help, total) in [
            ("sent_packets", "Packets handed over to the kernel or the NIC", self.sent),
            ("refused_packets", "Packets that this host refused to send", self.refused),
            ("received_packets", "Packets received, copies among them", self.received),
        ] {
            if let Some(total) = total {
                r.register(name, help, ConstCounter::new(total));
            }
        }
        if let Some(lost) = self.lost {
            let help = "Packets missing by now; falls when late ones fill gaps";
            r.register("lost_packets", help, ConstGauge::new(lost));
        }
        let (packets, bytes) = (
            Family::<Labels, Gauge<f64, AtomicU64>>::default(),
            Family::<Labels, Gauge<f64, AtomicU64>>::default(),
        );
        for (direction, (pps, bps)) in &self.rates {
            let labels = vec![("direction", (*direction).to_owned())];
            packets.get_or_create(&labels).set(*pps);
            bytes.get_or_create(&labels).set(*bps / 8.0);
        }
        if !self.rates.is_empty() {
            r.register("interval_packets_per_second", "Packet rate of the last interval", packets);
            r.register(
                "interval_payload_bytes_per_second",
                "Rate of UDP payload of the last interval",
                bytes,
            );
        }
        if !self.latency.is_empty() {
            let times = Family::<Labels, Gauge<f64, AtomicU64>>::default();
            for (name, ns) in &self.latency {
                times.get_or_create(&vec![("statistic", (*name).to_owned())]).set(ns / 1e9);
            }
            let help = "One-way latency of the last interval, or its round trips";
            r.register_with_unit("interval_latency", help, Unit::Seconds, times);
        }
        self.events(&mut r);
        let mut text = String::new();
        encode(&mut text, &r).expect("it is written to memory");
        text
    }

    fn events(&self, r: &mut Registry) {
        let count = |counts: Vec<(Labels, u64)>| {
            let family = Family::<Labels, Counter>::default();
            counts.into_iter().for_each(|(labels, n)| {
                family.get_or_create(&labels).inc_by(n);
            });
            family
        };
        if !self.trials.is_empty() {
            let all = self.trials.iter().map(|(v, n)| (vec![("validity", (*v).to_owned())], *n)).collect();
            r.register("trials", "Trials that have ended", count(all));
        }
        if !self.warnings.is_empty() {
            let all = self.warnings.iter().map(|(code, n)| (vec![("code", code.clone())], *n)).collect();
            r.register("warnings", "Warnings", count(all));
        }
        if !self.drops.is_empty() {
            let labels = |(place, interface, reason): &(String, String, String)| {
                vec![("place", place.clone()), ("interface", interface.clone()), ("reason", reason.clone())]
            };
            let all = self.drops.iter().map(|(key, n)| (labels(key), *n)).collect();
            r.register("dropped_packets", "Packets lost at a place, known at the end", count(all));
        }
        if let Some(outcome) = self.outcome {
            let family = Family::<Labels, Gauge>::default();
            for known in OUTCOMES {
                family.get_or_create(&vec![("outcome", known.to_owned())]).set(i64::from(known == outcome));
            }
            r.register("verdict", "1 for how it came out", family);
        }
    }
}

const OUTCOMES: [&str; 3] = ["pass", "fail", "inconclusive"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn totals_grow_and_the_report_has_the_last_word() {
        let mut metrics = Metrics::default();
        for _ in 0..2 {
            metrics.event(&json!({"event": "interval", "interval": {"rx": {
                "packets": 10, "lost": 2, "pps": 20, "payload_bps": 800, "latency_ns": {"p50": 1500}}}}));
        }
        let text = metrics.encode("recv", "wirerate.report/1");
        for line in [
            "wirerate_received_packets_total 20",
            "wirerate_lost_packets 4",
            "wirerate_interval_payload_bytes_per_second{direction=\"received\"} 100.0",
            "wirerate_interval_latency_seconds{statistic=\"p50\"} 0.0000015",
            "wirerate_run_ended 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        let drops = json!([{"place": "socket", "reason": "FULL \"\n", "packets": 3}]);
        metrics.report(
            &json!({"rx": {"packets": 25, "lost": 3, "lost_tail": 1}, "verdict": {"outcome": "fail"},
            "ledger": {"paths": [{"drops": drops}]}}),
        );
        let text = metrics.encode("recv", "wirerate.report/1");
        for line in [
            "wirerate_received_packets_total 25",
            "wirerate_lost_packets 4",
            "wirerate_verdict{outcome=\"fail\"} 1",
            "wirerate_run_ended 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(
            text.contains("reason=\"FULL \\\"\\n\"") && !text.contains("interval_packets_per_second"),
            "{text}"
        );
    }
}
