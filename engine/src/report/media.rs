//! Media streams in the report: RTP, transport streams, media delivery index.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::measure::media::{mdi, rtp, ts};
use crate::measure::tally::{Format, StreamTally};
use crate::packet::rtp::static_type;

/// All RTP streams together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RtpSources {
    /// Flows, from one address and port to one, that carried RTP.
    pub flows: u64,
    /// Sources: SSRCs of flows.
    pub ssrcs: u64,
    /// SSRCs that followed another on their flow, or stood beside it.
    pub ssrc_changes: u64,
    /// SSRCs that came to one destination from several addresses or ports (RFC 3550 §8.2).
    pub ssrc_collisions: u64,
}

/// What one RTP source's headers say.
#[derive(Debug, Clone, Serialize)]
pub struct Rtp {
    /// Synchronization source.
    pub ssrc: u32,
    /// Two packets in sequence have come (RFC 3550 A.1).
    pub valid: bool,
    /// Payload types that came.
    pub payload_types: Vec<PayloadType>,
    /// Packets with another payload type than the one before.
    pub payload_type_changes: u64,
    /// Clock of the last payload type, units a second.
    pub clock_hz: u32,
    /// Nobody told the clock.
    pub clock_assumed: bool,
    /// Packets that arrived, copies among them (RFC 3550 A.3).
    pub received: u64,
    /// Packets from the first number to the highest (A.3).
    pub expected: u64,
    /// Expected less received (A.3): each copy hides a loss, and more copies than losses make it negative.
    pub cumulative_lost: i64,
    /// The share lost (A.3) of the whole time, in 256ths, rounded down.
    pub fraction_lost_256ths: u8,
    /// Highest sequence number, extended by its wraps.
    pub highest_sequence: u64,
    /// How often the sequence number began anew at 0.
    pub wraps: u64,
    /// How often the sender began another sequence.
    pub restarts: u64,
    /// Interarrival jitter (A.8), in units of the clock, copies included.
    pub jitter_units: u64,
    /// Its highest value.
    pub jitter_max_units: u64,
    /// Packets with the marker bit.
    pub markers: u64,
    /// Bytes that they carried, without headers and padding.
    pub media_bytes: u64,
    /// Packets with padding.
    pub padded: u64,
    /// Bytes of padding.
    pub padding_bytes: u64,
    /// Contributing sources, the first 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub csrcs: Vec<u32>,
    /// Packets with a header extension.
    pub extended: u64,
    /// Profiles of header extensions, the first four.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extension_profiles: Vec<u16>,
    /// Identifiers of the elements in header extensions (RFC 8285).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extension_elements: Vec<u8>,
    /// Smallest difference of the time stamps of two consecutive packets, in units of the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_step_min_units: Option<i64>,
    /// Largest difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_step_max_units: Option<i64>,
    /// Consecutive packets whose time stamps differ by a second or more from the time between their arrivals.
    pub timestamp_discontinuities: u64,
    /// Packets with wirerate's probe whose number there is not as far from RTP's as in the first.
    pub probe_mismatches: u64,
}

/// A payload type.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct PayloadType {
    /// Its number.
    pub number: u8,
    /// What RFC 3551 calls it; absent when it is dynamic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'static str>,
}

/// What a transport stream says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct Ts {
    /// Packets of 188 bytes.
    pub packets: u64,
    /// Places where a packet should begin, and none does.
    pub sync_errors: u64,
    /// Packets that were marked as broken before they came here.
    pub transport_errors: u64,
    /// Packets that contradict themselves.
    pub malformed: u64,
    /// Packets that hold nothing.
    pub null_packets: u64,
    /// Packets whose counter does not follow that of the one before on their PID.
    pub continuity_errors: u64,
    /// Packets that are missing at least, by the counters, unless packets were reordered, which these cannot tell.
    pub missing_at_least: u64,
    /// Packets of PIDs beyond the first 255.
    pub untracked: u64,
    /// Program association tables.
    pub pats: u64,
    /// Program map tables.
    pub pmts: u64,
    /// Programs of the last association table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<Program>,
    /// The clock of the first PID that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcr: Option<Pcr>,
    /// Each PID but that of null packets.
    pub pids: Vec<Pid>,
    /// Media delivery index (RFC 4445), once there is a media rate and an interval of a second has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mdi: Option<Mdi>,
}

/// A program.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Program {
    /// Its number; 0 stands for the network's information.
    pub number: u16,
    /// PID of its map table.
    pub pid: u16,
}

/// Program clock references.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Pcr {
    /// Their PID.
    pub pid: u16,
    /// How many.
    pub count: u64,
    /// Longest time from one to the next, by the clock itself.
    pub max_interval_ns: u64,
    /// Jumps of the clock that were not announced.
    pub jumps: u64,
    /// Jitter of their arrivals against the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ns: Option<super::Jitter>,
    /// Rate of the whole stream by the clock, where no packet was missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_bps: Option<u64>,
}

/// A PID.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Pid {
    /// Packet identifier.
    pub pid: u16,
    /// Packets.
    pub packets: u64,
    /// Packets whose counter does not follow that of the one before.
    pub continuity_errors: u64,
    /// Packets that the counters show missing.
    pub missing_at_least: u64,
    /// Packets whose counter is that of the one before, which is allowed once.
    pub repeated: u64,
    /// Packets with a scrambled payload.
    pub scrambled: u64,
    /// Clock references.
    pub pcrs: u64,
}

/// Media delivery index.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Mdi {
    /// Intervals of a second.
    pub intervals: u64,
    /// Delay factor of the last.
    pub delay_factor_ns: u64,
    /// Highest delay factor.
    pub delay_factor_max_ns: u64,
    /// Media loss rate of the last interval: transport stream packets lost or out of order in a second.
    pub media_loss_rate_pps: u64,
    /// Highest media loss rate.
    pub media_loss_rate_max_pps: u64,
    /// Media rate of the last interval.
    pub media_rate_bps: u64,
}

/// Media delivery index of an interval: the worst of the streams that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IntervalMdi {
    /// Highest delay factor.
    pub delay_factor_ns: u64,
    /// Highest media loss rate.
    pub media_loss_rate_pps: u64,
}

/// All RTP sources together; `None` where there is none.
pub(super) fn sources(streams: &[StreamTally]) -> Option<RtpSources> {
    let keys = || streams.iter().map(|s| &s.key).filter(|key| key.format == Format::Rtp);
    let flows: BTreeSet<_> = keys().map(|key| (key.source, key.destination)).collect();
    let mut origins: BTreeMap<_, u64> = BTreeMap::new();
    keys().for_each(|key| *origins.entry((key.run, key.destination)).or_default() += 1);
    let (flows, ssrcs) = (flows.len() as u64, keys().count() as u64);
    (ssrcs > 0).then(|| RtpSources {
        flows,
        ssrcs,
        ssrc_changes: ssrcs - flows,
        ssrc_collisions: origins.values().filter(|n| **n > 1).count() as u64,
    })
}

pub(super) fn rtp(f: &rtp::Figures) -> Rtp {
    let types = (0..128u8).filter(|n| f.payload_types >> n & 1 == 1);
    let elements = (0..=u8::MAX).filter(|n| f.elements[usize::from(n / 64)] >> (n % 64) & 1 == 1);
    Rtp {
        ssrc: f.ssrc,
        valid: f.valid,
        payload_types: types
            .map(|number| PayloadType { number, name: static_type(number).map(|t| t.name) })
            .collect(),
        payload_type_changes: f.payload_type_changes,
        clock_hz: f.clock_hz,
        clock_assumed: f.clock_assumed,
        received: f.received,
        expected: f.expected,
        cumulative_lost: f.cumulative_lost(),
        fraction_lost_256ths: f.fraction_lost(),
        highest_sequence: f.highest,
        wraps: f.wraps,
        restarts: f.restarts,
        jitter_units: f.jitter,
        jitter_max_units: f.max_jitter,
        markers: f.markers,
        media_bytes: f.media_bytes,
        padded: f.padded,
        padding_bytes: f.padding_bytes,
        csrcs: f.csrcs.values().to_vec(),
        extended: f.extended,
        extension_profiles: f.profiles.values().to_vec(),
        extension_elements: elements.collect(),
        timestamp_step_min_units: f.steps.map(|(least, _)| least),
        timestamp_step_max_units: f.steps.map(|(_, most)| most),
        timestamp_discontinuities: f.discontinuities,
        probe_mismatches: f.probe_mismatches,
    }
}

pub(super) fn ts(f: &ts::Figures) -> Ts {
    Ts {
        packets: f.packets,
        sync_errors: f.sync_errors,
        transport_errors: f.transport_errors,
        malformed: f.malformed,
        null_packets: f.null_packets,
        continuity_errors: f.continuity_errors,
        missing_at_least: f.missing,
        untracked: f.untracked,
        pats: f.pats,
        pmts: f.pmts,
        programs: f.programs.values().iter().map(|&(number, pid)| Program { number, pid }).collect(),
        pcr: f.clock.map(|clock| Pcr {
            pid: clock.pid,
            count: clock.count,
            max_interval_ns: clock.max_interval_ns,
            jumps: clock.jumps,
            jitter_ns: clock.jitter_ns.map(|(rfc3550, max)| super::Jitter { rfc3550, max }),
            rate_bps: clock.rate_bps,
        }),
        pids: f.pids.iter().map(pid).collect(),
        mdi: (f.mdi.intervals > 0).then(|| mdi(&f.mdi)),
    }
}

fn pid(f: &ts::Pid) -> Pid {
    Pid {
        pid: f.pid,
        packets: f.packets,
        continuity_errors: f.continuity_errors,
        missing_at_least: f.missing,
        repeated: f.repeated,
        scrambled: f.scrambled,
        pcrs: f.pcrs,
    }
}

fn mdi(f: &mdi::Figures) -> Mdi {
    Mdi {
        intervals: f.intervals,
        delay_factor_ns: f.last.delay_factor_ns,
        delay_factor_max_ns: f.max_delay_factor_ns,
        media_loss_rate_pps: f.last.media_loss_rate(),
        media_loss_rate_max_pps: f.max_media_loss_rate,
        media_rate_bps: f.media_rate_bps,
    }
}

/// The worst index among the streams that have had a new interval of it since `seen` (the sum of all intervals) was taken, and the sum now.
pub(super) fn worst(streams: &[StreamTally], seen: u64) -> (Option<IntervalMdi>, u64) {
    let figures = || {
        streams.iter().filter_map(|s| Some(s.media.as_ref()?.ts.as_ref()?.mdi)).filter(|m| m.intervals > 0)
    };
    let sum = figures().map(|m| m.intervals).sum();
    if sum == seen {
        return (None, sum);
    }
    let delay_factor_ns = figures().map(|m| m.last.delay_factor_ns).max();
    let rate = figures().map(|m| m.last.media_loss_rate()).max();
    let worst = delay_factor_ns.zip(rate);
    (
        worst.map(|(delay_factor_ns, media_loss_rate_pps)| IntervalMdi {
            delay_factor_ns,
            media_loss_rate_pps,
        }),
        sum,
    )
}
