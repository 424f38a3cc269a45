//! The report as text that a person reads.

pub mod compare;
mod groups;
mod ledger;
mod media;
mod pattern;
pub mod qualify;
pub mod replicate;
mod rtcp;
mod times;

use std::fmt::Write as _;

use wirerate_engine::report::{Clock, Interval, Outcome, Report, Rx, Tx, Warning};

/// One line for an interval.
pub fn interval(interval: &Interval) -> String {
    let span = format!("{:>5.1}-{:<5.1} s", seconds(interval.start_ns), seconds(interval.end_ns));
    match (&interval.tx, &interval.rx) {
        (Some(tx), _) => {
            let errors =
                if tx.errors > 0 { format!(", {} refused", count(tx.errors)) } else { String::new() };
            format!(
                "{span}  sent {:>12}  {:>11}  {:>13}{errors}",
                count(tx.packets),
                pps(tx.pps),
                bits(tx.payload_bps)
            )
        }
        (None, Some(rx)) => {
            let latency = rx.latency_ns.map_or(String::new(), |l| format!("  latency {}", times::short(&l)));
            let packets = count(rx.packets);
            let mdi = rx.mdi.as_ref().map_or(String::new(), |mdi| format!("  {}", media::index(mdi)));
            format!(
                "{span}  received {packets:>12}  {:>11}  {:>13}  lost {}{latency}{mdi}",
                pps(rx.pps),
                bits(rx.payload_bps),
                rx.lost
            )
        }
        (None, None) => span,
    }
}

/// A warning, with what to do.
pub fn warning(warning: &Warning) -> String {
    let style = anstyle::AnsiColor::Yellow.on_default();
    let fix = warning.fix.as_ref().map_or(String::new(), |fix| format!("\n  fix: {fix}"));
    format!("{style}warning:{style:#} {}{fix}", warning.text)
}

/// The whole report.
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    if let Some(backend) = &report.backend {
        let xdp = if backend.xdp == "none" { String::new() } else { format!(", {} XDP", backend.xdp) };
        let zero_copy = if backend.zero_copy_send.is_some() { ", zero-copy" } else { "" };
        let (name, mode, why) = (backend.name, backend.mode, &backend.why);
        let _ = writeln!(text, "datapath   {name} ({mode}{xdp}{zero_copy}): {why}");
    }
    for worker in &report.workers {
        let _ = writeln!(
            text,
            "worker     queue {} on CPU {} ({}): {} packets",
            worker.queue,
            worker.cpu,
            worker.why,
            count(worker.packets)
        );
    }
    if let Some(tx) = &report.tx {
        sent(&mut text, tx);
    }
    if let Some(rx) = &report.rx {
        received(&mut text, rx, report.clock.as_ref());
    }
    if let Some(said) = &report.rtcp {
        rtcp::rtcp(&mut text, said);
    }
    if let Some(ledger) = &report.ledger {
        ledger.paths.iter().for_each(|path| ledger::path(&mut text, path));
        if let Some(cable) = &ledger.cable {
            ledger::cable(&mut text, cable);
        }
        if let Some(sending) = &ledger.sending {
            ledger::sending(&mut text, sending);
        }
    }
    if let Some(verdict) = &report.verdict {
        let style = match verdict.outcome {
            Outcome::Pass => anstyle::AnsiColor::Green,
            Outcome::Fail => anstyle::AnsiColor::Red,
            Outcome::Inconclusive => anstyle::AnsiColor::Yellow,
        }
        .on_default()
        .bold();
        for check in &verdict.checks {
            let _ = writeln!(text, "check      {}: wanted {}, got {}", check.name, check.want, check.got);
        }
        let _ = writeln!(text, "verdict    {style}{}{style:#}", outcome(verdict.outcome));
    }
    text
}

fn sent(text: &mut String, tx: &Tx) {
    let _ = writeln!(
        text,
        "sent       {} packets in {}, {} refused by this host",
        count(tx.packets),
        time(tx.duration_ns),
        count(tx.errors)
    );
    rates(text, tx.pps, tx.payload_bps, tx.l2_bps, tx.l1_bps);
    if let Some(fragments) = tx.fragments {
        let _ = writeln!(text, "cut        into {} fragments by the MTU", count(fragments));
    }
    for server in &tx.iperf2 {
        let said = &server.said;
        let _ = writeln!(
            text,
            "iperf says stream {}: {} of {} datagrams lost, {} out of order, {} bytes in {}, jitter {}",
            server.stream,
            count(said.lost),
            count(said.packets),
            count(said.out_of_order),
            count(said.bytes),
            time(said.duration_ns),
            time(said.jitter_ns)
        );
    }
    let burst = &tx.burst;
    let _ = writeln!(
        text,
        "bursts     p50 {}, p99 {}, longest {} packets",
        burst.p50,
        burst.p99,
        count(burst.max)
    );
    if let Some(overdue) = tx.overdue {
        let _ = writeln!(text, "overdue    {} packets were handed over after their time", count(overdue));
    }
    if let Some(gaps) = &tx.inter_departure_ns {
        let _ = writeln!(text, "departures {} apart", times::distribution(gaps));
    }
    if let Some(late) = &tx.lateness_ns {
        let _ = writeln!(text, "lateness   {}", times::distribution(late));
    }
}

fn received(text: &mut String, rx: &Rx, clock: Option<&Clock>) {
    let _ = writeln!(
        text,
        "received   {} packets in {}, {} different",
        count(rx.packets),
        time(rx.duration_ns),
        count(rx.unique)
    );
    rates(text, rx.pps, rx.payload_bps, rx.l2_bps, rx.l1_bps);
    if let Some(fragments) = rx.fragments {
        let _ = writeln!(text, "put        together from {} fragments", count(fragments));
    }
    let lost = rx.lost.saturating_add(rx.lost_tail);
    let offered = lost.saturating_add(rx.unique);
    let share = if offered > 0 { lost as f64 * 100.0 / offered as f64 } else { 0.0 };
    if rx.packets > 0 && rx.streams.iter().all(|s| s.format == "ts") {
        let _ = writeln!(
            text,
            "lost       not known: transport streams without RTP have no numbers, and their counters are below"
        );
    } else {
        let _ = writeln!(
            text,
            "lost       {} in gaps, {} at the end ({share:.4} %)",
            count(rx.lost),
            count(rx.lost_tail)
        );
    }
    let _ = writeln!(
        text,
        "also       {} duplicate, {} reordered, {}{} corrupt, {} foreign, {} before the start",
        rx.duplicate,
        rx.reordered,
        rx.late.map_or(String::new(), |late| format!("{late} late, ")),
        rx.corrupt,
        rx.foreign,
        rx.before_start
    );
    if let Some(clock) = clock {
        let _ = writeln!(text, "clock      {}", times::clock(clock));
    }
    if let Some(stamps) = times::by_nic(&rx.timestamps) {
        let _ = writeln!(text, "stamps     {stamps}");
    }
    pattern::pattern(text, rx);
    if let Some(l) = &rx.latency_ns {
        let _ = writeln!(text, "latency    {}", times::distribution(l));
    }
    if let Some(l) = &rx.wire_latency_ns {
        let here = if rx.timestamps.nic_clock.is_some() { "the NIC" } else { "the kernel" };
        let _ = writeln!(text, "wire       {} (from the sender's kernel to {here})", times::distribution(l));
    }
    if let Some(gaps) = &rx.inter_arrival_ns {
        let _ = writeln!(text, "arrivals   {} apart", times::distribution(gaps));
    }
    if let Some(j) = &rx.jitter_ns {
        let _ = writeln!(text, "jitter     {} (RFC 3550), highest {}", time(j.rfc3550), time(j.max));
    }
    if let Some(pdv) = &rx.pdv_ns {
        let _ = writeln!(text, "variation  {} (PDV)", times::distribution(pdv));
    }
    if let Some(ipdv) = &rx.ipdv_ns {
        let _ = writeln!(text, "           {} (IPDV)", times::ipdv(ipdv));
    }
    media::received(text, rx);
    if let Some(groups) = &rx.groups {
        groups::groups(text, groups);
    }
    if rx.groups.is_some() && rx.streams.len() > 16 {
        let _ = writeln!(text, "streams    {}, all in --json", count(rx.streams.len() as u64));
    } else if rx.streams.len() > 1 {
        for s in rx.streams.iter().take(16) {
            let _ = writeln!(
                text,
                "stream     {} run {:06x} {} from {} to {}:{}: {} packets, {} lost",
                s.id,
                s.run,
                s.format,
                s.source,
                s.group,
                s.port,
                count(s.packets),
                s.lost.saturating_add(s.lost_tail)
            );
        }
        if rx.streams.len() > 16 {
            let _ = writeln!(text, "           … and {} more, all in --json", rx.streams.len() - 16);
        }
    }
}

fn rates(text: &mut String, packets: u64, payload: u64, l2: u64, l1: u64) {
    let _ = writeln!(
        text,
        "rate       {}, {} of payload, {} L2, {} L1",
        pps(packets),
        bits(payload),
        bits(l2),
        bits(l1)
    );
}

/// In words.
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        Outcome::Inconclusive => "inconclusive",
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// A number with thin groups of three digits.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A time in the unit that suits it.
pub fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.3} s", ns as f64 / 1e9),
    }
}

/// A packet rate in the unit that suits it.
pub fn pps(n: u64) -> String {
    scaled(n, "pps")
}

/// A bit rate in the unit that suits it.
pub fn bits(n: u64) -> String {
    scaled(n, "bit/s")
}

fn scaled(n: u64, unit: &str) -> String {
    match n {
        0..1_000 => format!("{n} {unit}"),
        1_000..1_000_000 => format!("{:.2} k{unit}", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.3} M{unit}", n as f64 / 1e6),
        _ => format!("{:.3} G{unit}", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(time(1_500), "1.5 µs");
        assert_eq!(bits(9_900_000_000), "9.900 Gbit/s");
        assert_eq!(pps(14_880_000), "14.880 Mpps");
    }
}
