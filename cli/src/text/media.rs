//! Media streams as text that a person reads.

use std::fmt::Write as _;

use wirerate_engine::report::{IntervalMdi, Rtp, Rx, Stream, Ts};

use super::{bits, count, time};

/// Media streams that are shown by themselves.
const SHOWN: usize = 4;

/// What is known of media streams beyond the counts of all.
pub fn received(text: &mut String, rx: &Rx) {
    if let Some(rtp) = rx.rtp.filter(|rtp| rtp.ssrcs > 1) {
        let _ = writeln!(
            text,
            "rtp        {} sources in {} flows: {} changes of the SSRC on a flow, {} SSRCs from several addresses",
            rtp.ssrcs, rtp.flows, rtp.ssrc_changes, rtp.ssrc_collisions
        );
    }
    for stream in rx.streams.iter().filter(|s| s.rtp.is_some() || s.ts.is_some()).take(SHOWN) {
        if let Some(rtp) = &stream.rtp {
            source(text, stream, rtp);
        }
        if let Some(ts) = &stream.ts {
            transport(text, stream, ts);
        }
    }
}

fn source(text: &mut String, stream: &Stream, rtp: &Rtp) {
    let types: Vec<String> = rtp
        .payload_types
        .iter()
        .map(|t| t.name.map_or_else(|| t.number.to_string(), |name| format!("{} {name}", t.number)))
        .collect();
    let (types, hz) = (types.join(", "), rtp.clock_hz);
    let assumed = if rtp.clock_assumed { " (assumed)" } else { "" };
    let valid = if rtp.valid { "" } else { ", not yet two packets in sequence" };
    let _ = writeln!(
        text,
        "rtp        SSRC {:08x} from {}: type {types}, {hz} Hz{assumed}{valid}",
        rtp.ssrc, stream.source
    );
    let _ = writeln!(
        text,
        "           RFC 3550: {} expected, {} received, {} lost ({}/256), jitter {} units, highest {}",
        count(rtp.expected),
        count(rtp.received),
        rtp.cumulative_lost,
        rtp.fraction_lost_256ths,
        rtp.jitter_units,
        rtp.jitter_max_units
    );
    let facts = [
        (rtp.wraps, "wraps"),
        (rtp.restarts, "restarts"),
        (rtp.payload_type_changes, "changes of type"),
        (rtp.timestamp_discontinuities, "jumps of the time stamp"),
        (rtp.markers, "markers"),
        (rtp.padding_bytes, "bytes of padding"),
        (rtp.csrcs.len() as u64, "contributing sources"),
        (rtp.extended, "packets with extensions"),
        (rtp.probe_mismatches, "probes that contradict the header"),
    ];
    let facts: Vec<String> =
        facts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
    if !facts.is_empty() {
        let _ = writeln!(text, "           {}", facts.join(", "));
    }
}

fn transport(text: &mut String, stream: &Stream, ts: &Ts) {
    let programs: Vec<String> =
        ts.programs.iter().filter(|p| p.number > 0).map(|p| p.number.to_string()).collect();
    let programs = if programs.is_empty() {
        "no program".to_owned()
    } else {
        format!("program {}", programs.join(", "))
    };
    let _ = writeln!(
        text,
        "ts         from {}: {} packets, {} PIDs, {programs}; {} null",
        stream.source,
        count(ts.packets),
        ts.pids.len(),
        count(ts.null_packets)
    );
    let _ = writeln!(
        text,
        "           {} continuity errors (at least {} packets missing, unless reordered), {} sync errors, {} transport errors",
        count(ts.continuity_errors),
        count(ts.missing_at_least),
        count(ts.sync_errors),
        count(ts.transport_errors)
    );
    if let Some(pcr) = &ts.pcr {
        let jitter = pcr.jitter_ns.map_or_else(String::new, |j| format!(", jitter {}", time(j.rfc3550)));
        let rate = pcr.rate_bps.map_or_else(String::new, |rate| format!(", rate {}", bits(rate)));
        let _ = writeln!(
            text,
            "           PCR on PID {}: up to {} apart{jitter}{rate}",
            pcr.pid,
            time(pcr.max_interval_ns)
        );
    }
    if let Some(mdi) = &ts.mdi {
        let _ = writeln!(
            text,
            "           DF:MLR {}:{} (highest {}:{}) at {}, in {} intervals",
            milliseconds(mdi.delay_factor_ns),
            mdi.media_loss_rate_pps,
            milliseconds(mdi.delay_factor_max_ns),
            mdi.media_loss_rate_max_pps,
            bits(mdi.media_rate_bps),
            mdi.intervals
        );
    }
}

/// The index of an interval, as RFC 4445 writes it.
pub fn index(mdi: &IntervalMdi) -> String {
    format!("DF:MLR {}:{}", milliseconds(mdi.delay_factor_ns), mdi.media_loss_rate_pps)
}

fn milliseconds(ns: u64) -> String {
    format!("{:.2}", ns as f64 / 1e6)
}
