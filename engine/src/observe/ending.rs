//! When a receiver is done.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::config::RecvConfig;
use super::rtcp::ReceiverRtcp;
use crate::report::RxCollector;

/// How long stragglers are waited for once every sender has said its end: longer than an end is repeated for.
const STRAGGLERS_NS: u64 = 300_000_000;

/// The conditions of one run, first come, first served.
#[derive(Debug)]
pub(crate) struct Ending {
    deadline_ns: Option<u64>,
    count: Option<u64>,
    idle_ns: Option<u64>,
    with_the_last_sender: bool,
}

impl Ending {
    pub(crate) fn new(config: &RecvConfig, start_ns: u64) -> Self {
        let nanos = |d: Duration| d.as_nanos() as u64;
        Self {
            deadline_ns: config.duration.map(|d| start_ns + nanos(d)),
            count: config.count,
            idle_ns: config.idle.map(nanos),
            with_the_last_sender: !config.keep,
        }
    }

    pub(crate) fn has_come(&self, collector: &RxCollector, now_ns: u64, rtcp: &ReceiverRtcp) -> bool {
        let totals = collector.totals();
        let quiet_ns = if totals.last_ns == 0 { 0 } else { now_ns.saturating_sub(totals.last_ns) };
        self.deadline_ns.is_some_and(|deadline| now_ns >= deadline)
            || self.count.is_some_and(|count| totals.packets >= count)
            || self.idle_ns.is_some_and(|idle| quiet_ns >= idle)
            || self.with_the_last_sender && all_ended(collector, rtcp)
    }
}

/// Whether every sender heard has said its end, and nothing has come for a while since, as far as is known: a worker that was kept off its CPU may have much to take.
fn all_ended(collector: &RxCollector, rtcp: &ReceiverRtcp) -> bool {
    let then_ns = collector.known_until_ns().saturating_sub(STRAGGLERS_NS);
    if collector.totals().last_ns > then_ns {
        return false;
    }
    let streams = collector.streams();
    !streams.is_empty()
        && streams.iter().all(|s| s.end.is_some() && s.ended_ns <= then_ns || rtcp.has_left(s))
}
