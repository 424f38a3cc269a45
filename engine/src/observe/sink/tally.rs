//! From the sink's maps to a tally, as a receive worker hands it over.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wirerate_ebpf_types::sink::{BUCKETS, Stream, middle_of};
use wirerate_ebpf_types::steer::Address;

use super::program::Program;
use crate::clock::{self, Claim};
use crate::error::Result;
use crate::measure::tally::{Format, RxCounters, RxTally, SenderClock, StreamKey, StreamTally};
use crate::packet::probe::End;

/// What all CPUs had counted in each latency bucket at the last reading.
#[derive(Debug)]
pub(super) struct Latencies(Box<[u64; BUCKETS]>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Box::new([0; BUCKETS]))
    }
}

/// Reads everything. What `tally` held is gone.
pub(super) fn fill(
    program: &Program,
    latencies: &mut Latencies,
    ready_ns: u64,
    tally: &mut RxTally,
) -> Result<()> {
    tally.at_ns = clock::tai_ns();
    let streams = program.streams()?;
    tally.streams = streams.iter().map(|stream| stream_tally(stream, ready_ns)).collect();
    tally.counters = RxCounters::default();
    tally.streams.iter().for_each(|stream| tally.counters.add(&stream.counters));
    tally.clocks.clear();
    tally.clocks.extend(streams.iter().filter_map(clock_of));
    tally.messages = streams.iter().map(|stream| stream.messages).sum();
    (tally.untracked, tally.contended, tally.negative_latency) = (0, 0, 0);
    let mut buckets = Box::new([0; BUCKETS]);
    program.shares(|_, share| {
        tally.counters.foreign += share.foreign;
        tally.untracked += share.untracked;
        tally.contended += share.contended;
        tally.negative_latency += share.negative_latency;
        buckets.iter_mut().zip(&share.latency).for_each(|(sum, count)| *sum += count);
    })?;
    tally.latency.reset();
    for (bucket, (now, before)) in buckets.iter().zip(latencies.0.iter()).enumerate() {
        if now > before {
            tally.latency.saturating_record_n(middle_of(bucket), now - before);
        }
    }
    latencies.0 = buckets;
    Ok(())
}

/// The figures of one stream, for an engine that was ready at `ready_ns`.
pub fn stream_tally(stream: &Stream, ready_ns: u64) -> StreamTally {
    let key = &stream.key;
    let [issued, failed, first_ns, last_ns] = stream.end;
    let end = (stream.ended_ns != 0).then_some(End { issued, failed, first_ns, last_ns });
    let mut counters = RxCounters {
        packets: stream.unique + stream.duplicate,
        unique: stream.unique,
        duplicate: stream.duplicate,
        reordered: stream.reordered,
        undecided: stream.undecided,
        corrupt: stream.corrupt,
        payload_bytes: stream.payload_bytes,
        frame_bytes: stream.frame_bytes,
        frames: stream.unique + stream.duplicate,
        first_ns: stream.first_ns,
        last_ns: stream.last_ns,
        ..RxCounters::default()
    };
    lost(stream, end.map(|end| (end.issued, end.first_ns >= ready_ns)), &mut counters);
    StreamTally {
        key: StreamKey {
            format: Format::Wirerate,
            run: key.run,
            stream: key.stream,
            source: SocketAddr::new(address(key.version, &key.source), key.source_port),
            destination: SocketAddr::new(address(key.version, &key.destination), key.port),
        },
        counters,
        jitter_ns: (stream.unique > 0).then_some((stream.jitter >> 4, stream.max_jitter >> 4)),
        end,
        announced: stream.clock[3],
        ended_ns: stream.ended_ns,
        detail: None,
        media: None,
    }
}

/// What the stream's sender said of its clock last.
fn clock_of(stream: &Stream) -> Option<SenderClock> {
    let [host, state, error, _] = stream.clock;
    let claim = Claim::of_words([host, state, error])?;
    let key = &stream.key;
    Some(SenderClock { source: address(key.version, &key.source), run: key.run, claim })
}

/// As `measure::sequence` tells it. A stream that is being counted may be read between two of its fields, hence the saturation.
fn lost(stream: &Stream, end: Option<(u64, bool)>, counters: &mut RxCounters) {
    let (mut before, mut gaps, mut next) = (0, 0, 0);
    if stream.unique > 0 {
        next = stream.highest + 1;
        before = stream.base.saturating_sub(stream.unique_before_base);
        let within = stream.unique.saturating_sub(stream.unique_before_base);
        gaps = next.saturating_sub(stream.base).saturating_sub(within);
    }
    let head_is_lost = end.is_some_and(|(_, head_is_lost)| head_is_lost);
    counters.lost = if head_is_lost { gaps + before } else { gaps };
    counters.before_start = if head_is_lost { 0 } else { before };
    counters.lost_tail = end.map_or(0, |(issued, _)| issued.saturating_sub(next));
}

fn address(version: u8, words: &Address) -> IpAddr {
    let mut octets = [0; 16];
    octets
        .chunks_exact_mut(4)
        .zip(words)
        .for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_ne_bytes()));
    match version {
        4 => Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into(),
        _ => Ipv6Addr::from(octets).into(),
    }
}
