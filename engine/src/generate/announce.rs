//! Messages in the course of a run: what a receiver should know before the end.
#![forbid(unsafe_code)]

use super::schedule::Schedule;
use crate::clock::{self, Claim};
use crate::packet::probe::{End, Kind, MESSAGE_LEN, Message, Probe};
use crate::queue::Transmit;

/// How often a sender speaks of itself once it has begun.
const PERIOD_NS: u64 = 1_000_000_000;

/// Flows that it does so on each time, in turn: a sender of thousands of streams must not be held up.
const AT_ONCE: usize = 8;

/// Speaks on each flow before the first packet, and again now and then for receivers that came later or lost it.
#[derive(Debug)]
pub(crate) struct Announcer {
    run: u32,
    /// Messages that left, by the place of the flow in the schedule.
    sent: Vec<u64>,
    /// Whose turn it is.
    turn: usize,
    next_ns: u64,
}

impl Announcer {
    /// For a sender of `run` that has said nothing.
    pub(crate) fn new(run: u32) -> Self {
        Self { run, sent: Vec::new(), turn: 0, next_ns: 0 }
    }

    /// Messages sent on the flow at this place of the schedule.
    pub(crate) fn sent(&self, place: usize) -> u64 {
        self.sent.get(place).copied().unwrap_or(0)
    }

    /// Messages sent.
    pub(crate) fn total(&self) -> u64 {
        self.sent.iter().sum()
    }

    /// Speaks if it is time to. What the queue has no room for is not said: the next time will do.
    pub(crate) fn look<T: Transmit>(
        &mut self,
        queue: &mut T,
        schedule: &Schedule,
        first_ns: u64,
        now_ns: u64,
    ) {
        if now_ns < self.next_ns {
            return;
        }
        let begins = self.next_ns == 0;
        self.next_ns = now_ns + PERIOD_NS;
        let clock = Claim::read();
        let flows: Vec<_> = schedule.issued().collect();
        self.sent.resize(flows.len(), 0);
        for _ in 0..if begins { flows.len() } else { AT_ONCE.min(flows.len()) } {
            let place = self.turn % flows.len();
            self.turn += 1;
            let (flow, stream, issued) = flows[place];
            let end =
                End { issued, failed: 0, first_ns, last_ns: if issued == 0 { first_ns } else { now_ns } };
            let message = Message { end, clock, announced: self.sent[place] };
            let payload = written(Kind::Announce, self.run, stream, &message);
            self.sent[place] += u64::from(queue.send_message(flow, &payload).is_ok());
        }
    }
}

/// A message of `stream` of `run`, as it is sent.
pub(crate) fn written(kind: Kind, run: u32, stream: u16, message: &Message) -> [u8; MESSAGE_LEN] {
    let mut payload = [0; MESSAGE_LEN];
    Probe { kind, run, stream, sequence: message.end.issued, time: clock::tai_ns() }.emit(&mut payload);
    message.emit(&mut payload);
    payload
}
