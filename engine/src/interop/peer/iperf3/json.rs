//! What `iperf3 -J` writes, of every version 3, read leniently: what a version does not say is absent, and nothing is corrected.
//!
//! iperf3's numbers are of three kinds that a reader stumbles over. 3.12 writes -1 as 18446744073709551615; counts of lost datagrams are negative when
//! copies outnumber losses; the figures of `end.sum` of UDP mix what the sender and what the receiver know. So numbers are read as f64 or
//! wide integers, -1 in either form is "not known", and `sum` is used only where `sum_sent` and `sum_received` are missing.
#![forbid(unsafe_code)]

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::Transport;
use crate::error::{Error, Result};

/// Longest text that is read, in bytes.
const LONGEST: usize = 256 << 20;

/// What one iperf3, client or server, said of a test.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Iperf3Result {
    /// "3.12".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The host that wrote it, as uname(1) tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// When it began, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_s: Option<u64>,
    /// TCP or UDP; absent where it said neither (SCTP, or an early error).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// Streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u64>,
    /// Bytes of a datagram, or of a write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u64>,
    /// How long was to be sent, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// Payload bits a second of each stream that were asked for; absent where unlimited, and before 3.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bps: Option<f64>,
    /// The server sent.
    pub reverse: bool,
    /// Both sent; [`sent`](Self::sent) and [`received`](Self::received) are of the direction from client to server.
    pub both: bool,
    /// What was sent, all streams, as the sender counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<Figures>,
    /// What was received, all streams, as the receiver counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Figures>,
    /// The same of the direction from server to client, where both sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back: Option<Direction>,
    /// The intervals, all streams together, without omitted ones.
    pub intervals: Vec<Slice>,
    /// CPU in percent of one CPU, of who wrote this and of the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuPercent>,
    /// Congestion control of the sender (TCP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub congestion: Option<String>,
    /// The error that it reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Figures of one direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Direction {
    /// As the sender counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<Figures>,
    /// As the receiver counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Figures>,
}

/// One end's figures of one direction. By iperf3's own arithmetic: packets lost after the last one that arrived are not missed, and each copy cancels a loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Time, in seconds.
    pub seconds: f64,
    /// Payload.
    pub bytes: u64,
    /// Payload bits a second.
    pub bits_per_second: f64,
    /// Datagrams: sent, or the highest number that a receiver saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Datagrams that the receiver missed; negative where copies outnumber losses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<i64>,
    /// The same in percent of `packets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_percent: Option<f64>,
    /// Datagrams that came after a higher number, copies among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_order: Option<u64>,
    /// Interarrival jitter (RFC 1889), its last value, mean over streams, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<f64>,
    /// Segments that TCP sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
}

/// An interval, as whoever wrote it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Slice {
    /// Begin and end, in seconds from the start.
    pub start_s: f64,
    /// End.
    pub end_s: f64,
    /// Figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Whether they are a sender's.
    pub sender: bool,
}

/// CPU in percent of one CPU, over the test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CpuPercent {
    /// Of who wrote it.
    pub own: f64,
    /// Of the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<f64>,
}

/// Reads one report of `iperf3 -J` or `--json-stream`; what stands before its first brace is skipped, and of several reports (a server without `-1`) the last is taken.
///
/// # Errors
/// Usage: no JSON, JSON that breaks off or is no report of iperf3, with the place. An error that iperf3 itself reports is in [`Iperf3Result::error`].
pub fn parse(text: &str) -> Result<Iperf3Result> {
    if text.len() > LONGEST {
        return Err(Error::usage(format!("an iperf3 report of {} bytes: more than {LONGEST}", text.len())));
    }
    let Some(begin) = text.find('{') else {
        return Err(Error::usage("no report of iperf3: there is no JSON in it").fix("write it by iperf3 -J"));
    };
    let mut whole = None;
    let mut stream = Map::new();
    for document in serde_json::Deserializer::from_str(&text[begin..]).into_iter::<Value>() {
        match document {
            Ok(Value::Object(object)) => take(object, &mut whole, &mut stream),
            Ok(_) => break,
            // What is whole counts; a second report that breaks off does not.
            Err(error) if whole.is_none() => return Err(broken(&error, &text[begin..])),
            Err(_) => break,
        }
    }
    let report = whole.unwrap_or(stream);
    let known = |key: &str| report.get(key).is_some_and(|part| part.is_object() || part.is_array());
    if !known("start") && !known("end") && !report.contains_key("error") {
        return Err(
            Error::usage("no report of iperf3: it has neither start nor end").fix("write it by iperf3 -J")
        );
    }
    Ok(result(&report))
}

fn broken(error: &serde_json::Error, text: &str) -> Error {
    let what = if error.is_eof() {
        format!("an iperf3 report that breaks off after {} bytes", text.len())
    } else {
        "an iperf3 report that is no JSON".to_owned()
    };
    Error::usage(format!("{what}: {error}")).fix("write it again by iperf3 -J, to its end")
}

/// A document is a whole report, or one event of --json-stream.
fn take(object: Map<String, Value>, whole: &mut Option<Map<String, Value>>, stream: &mut Map<String, Value>) {
    let Some(event) = object.get("event").and_then(Value::as_str).map(str::to_owned) else {
        *whole = Some(object);
        return;
    };
    let data = object.get("data").cloned().unwrap_or_default();
    match event.as_str() {
        "start" => {
            // A server begins anew with each client.
            stream.clear();
            stream.insert(event, data);
        }
        "interval" => {
            let intervals = stream.entry("intervals").or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(intervals) = intervals {
                intervals.push(data);
            }
        }
        "end" | "error" => drop(stream.insert(event, data)),
        _ => {}
    }
}

fn result(report: &Map<String, Value>) -> Iperf3Result {
    let part = |name: &str| report.get(name).unwrap_or(&Value::Null);
    let (start, end) = (part("start"), part("end"));
    let test = &start["test_start"];
    let transport = match test["protocol"].as_str() {
        Some("TCP") => Some(Transport::Tcp),
        Some("UDP") => Some(Transport::Udp),
        _ => None,
    };
    let udp = transport == Some(Transport::Udp);
    let (mut sent, mut received) = (figures(&end["sum_sent"]), figures(&end["sum_received"]));
    let sum = figures(&end["sum"]);
    if udp {
        let streams = of_streams(end);
        // Before 3.2 there is one sum for both ends, and later it alone has the sender's count and the receiver's losses on either side.
        if let Some(sum) = sum {
            let own_is_sender = end["sum"]["sender"].as_bool() != Some(false);
            match sent.as_mut() {
                None => sent = Some(Figures { lost: None, lost_percent: None, jitter_ms: None, ..sum }),
                Some(sent) => sent.packets = sent.packets.or(sum.packets.filter(|_| own_is_sender)),
            }
            let came = received.get_or_insert_with(|| counted(sum, number(&test["blksize"])));
            came.lost = came.lost.or(sum.lost);
            came.lost_percent = came.lost_percent.or(sum.lost_percent);
            came.jitter_ms = came.jitter_ms.or(sum.jitter_ms);
            came.packets = came.packets.or(sum.packets);
        }
        if let (Some(came), Some(out_of_order)) = (received.as_mut(), streams) {
            came.out_of_order = came.out_of_order.or(Some(out_of_order));
        }
        // A sender misses nothing.
        if let Some(sent) = sent.as_mut() {
            (sent.lost, sent.lost_percent, sent.jitter_ms) = (None, None, None);
        }
    }
    let back = Direction {
        sent: figures(&end["sum_sent_bidir_reverse"]),
        received: figures(&end["sum_received_bidir_reverse"]),
    };
    let cpu = &end["cpu_utilization_percent"];
    Iperf3Result {
        version: start["version"].as_str().map(|v| v.trim_start_matches("iperf ").to_owned()),
        system: text(&start["system_info"]),
        started_s: count(&start["timestamp"]["timesecs"]),
        transport,
        streams: count(&test["num_streams"]),
        block_bytes: count(&test["blksize"]),
        duration_s: number(&test["duration"]),
        target_bps: number(&test["target_bitrate"]).or(number(&start["target_bitrate"])).filter(|b| *b > 0.0),
        reverse: truth(&test["reverse"]),
        both: truth(&test["bidir"]) || back != Direction::default(),
        sent,
        received,
        back: (back != Direction::default()).then_some(back),
        intervals: part("intervals").as_array().map_or_else(Vec::new, |all| slices(all)),
        cpu: number(&cpu["host_total"]).map(|own| CpuPercent { own, other: number(&cpu["remote_total"]) }),
        congestion: text(&end["sender_tcp_congestion"]),
        error: match part("error") {
            Value::Null => None,
            Value::String(said) => Some(said.clone()),
            other => Some(other.to_string()),
        },
    }
}

/// What must have come, where a version tells only of what was sent and lost.
fn counted(sum: Figures, block: Option<f64>) -> Figures {
    let (Some(packets), Some(lost)) = (sum.packets, sum.lost) else { return sum };
    let came = packets.saturating_sub(u64::try_from(lost).unwrap_or(0));
    let share = if packets > 0 { came as f64 / packets as f64 } else { 0.0 };
    let bytes = block.map_or(sum.bytes as f64 * share, |block| block * came as f64);
    Figures { bytes: bytes as u64, bits_per_second: sum.bits_per_second * share, ..sum }
}

/// Datagrams out of order of all streams, where each tells.
fn of_streams(end: &Value) -> Option<u64> {
    let streams = end["streams"].as_array()?;
    streams
        .iter()
        .map(|stream| count(&stream["udp"]["out_of_order"]))
        .try_fold(0_u64, |sum, one| Some(sum.saturating_add(one?)))
        .filter(|_| !streams.is_empty())
}

fn slices(intervals: &[Value]) -> Vec<Slice> {
    let of = |interval: &Value| {
        let sum = &interval["sum"];
        let omitted = sum["omitted"].as_bool() == Some(true);
        let figures = figures(sum).filter(|_| !omitted)?;
        Some(Slice {
            start_s: number(&sum["start"]).unwrap_or(0.0),
            end_s: number(&sum["end"]).unwrap_or(0.0),
            figures,
            sender: sum["sender"].as_bool() != Some(false),
        })
    };
    intervals.iter().filter_map(of).collect()
}

fn figures(sum: &Value) -> Option<Figures> {
    let bits_per_second = number(&sum["bits_per_second"])?;
    Some(Figures {
        seconds: number(&sum["seconds"]).unwrap_or(0.0),
        bytes: count(&sum["bytes"]).unwrap_or(0),
        bits_per_second,
        packets: count(&sum["packets"]),
        lost: whole(&sum["lost_packets"]),
        lost_percent: number(&sum["lost_percent"]),
        out_of_order: count(&sum["out_of_order"]),
        jitter_ms: number(&sum["jitter_ms"]),
        retransmits: count(&sum["retransmits"]),
    })
}

/// A number that is one.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}

/// A count, of a kind that cannot be negative: -1 stands for "not known", as 18446744073709551615 too.
fn count(value: &Value) -> Option<u64> {
    match value.as_u64() {
        Some(u64::MAX) => None,
        Some(count) => Some(count),
        // A float that is whole, as some versions write large counts.
        None => number(value).filter(|n| *n >= 0.0 && *n < 9e18 && n.fract() == 0.0).map(|n| n as u64),
    }
}

/// A whole number, in either form of -1.
fn whole(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_u64().map(u64::cast_signed))
        .or_else(|| number(value).filter(|n| n.abs() < 9e18 && n.fract() == 0.0).map(|n| n as i64))
}

/// A flag, as a number or as a truth.
fn truth(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| number(value).is_some_and(|n| n != 0.0))
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
