//! Messages in the course of a run: what a receiver should know before the end.
#![forbid(unsafe_code)]

use super::schedule::Schedule;
use crate::clock::{self, Claim};
use crate::packet::probe::{End, Kind, MESSAGE_LEN, Message, Probe};
use crate::packet::{rtcp, rtp};
use crate::profile::rtp::Rtp;
use crate::queue::Transmit;

/// How often a sender speaks of itself once it has begun.
const PERIOD_NS: u64 = 1_000_000_000;

/// Flows that it does so on each time, in turn: a sender of thousands of streams must not be held up.
const AT_ONCE: usize = 8;

/// Bytes of a message among RTP packets: whole words.
const IN_RTP: usize = (rtp::HEADER_LEN + MESSAGE_LEN).next_multiple_of(4);

/// Its name there.
const NAME: [u8; 4] = *b"wrat";

/// Speaks on each flow before the first packet, and again now and then for receivers that came later or lost it.
#[derive(Debug)]
pub(crate) struct Announcer {
    run: u32,
    rtp: Option<Rtp>,
    silent: bool,
    /// Messages that left, by the place of the flow in the schedule.
    sent: Vec<u64>,
    /// Whose turn it is.
    turn: usize,
    next_ns: u64,
}

impl Announcer {
    /// For a sender of `run`, and of RTP if there are headers for it, that has said nothing.
    pub(crate) fn new(run: u32, rtp: Option<Rtp>) -> Self {
        Self { run, rtp, silent: false, sent: Vec::new(), turn: 0, next_ns: 0 }
    }

    /// The same that says nothing, if so.
    pub(crate) fn silent(self, silent: bool) -> Self {
        Self { silent, ..self }
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
        // RTP without probe headers is sent as any sender does.
        if now_ns < self.next_ns || self.silent || self.rtp.is_some_and(|rtp| !rtp.probe) {
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
            let payload = written_as(self.rtp.as_ref(), Kind::Announce, self.run, stream, &message);
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

/// The same, in the form that it has among RTP packets if it is sent there: an application-defined RTCP packet on their port (RFC 3550
/// §6.7, RFC 5761), which everyone else passes over. The probe header lies where it does in an RTP packet.
pub(crate) fn written_as(rtp: Option<&Rtp>, kind: Kind, run: u32, stream: u16, message: &Message) -> Vec<u8> {
    let Some(rtp) = rtp else { return written(kind, run, stream, message).to_vec() };
    let mut packet = vec![0; IN_RTP];
    let header = rtcp::app_header(rtp.stream(stream).ssrc, NAME, IN_RTP);
    packet[..rtp::HEADER_LEN].copy_from_slice(&header);
    let probe = Probe { kind, run, stream, sequence: message.end.issued, time: clock::tai_ns() };
    rtp::emit_probe(&mut packet, &probe);
    message.emit(&mut packet[rtp::HEADER_LEN..]);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::rtp::{RtpConfig, Timestamps};

    #[test]
    fn among_rtp_a_message_is_rtcp_with_a_probe() {
        let rtp = Rtp::new(&RtpConfig { ssrc: Some(7), ..RtpConfig::new(0) }, Timestamps::Step(0), 1);
        let end = End { issued: 5, failed: 1, first_ns: 2, last_ns: 3 };
        let message = Message { end, clock: Claim::read(), announced: 4 };
        let packet = written_as(Some(&rtp), Kind::End, 9, 3, &message);
        assert_eq!(rtcp::parse(&packet), Ok(vec![rtcp::Packet::Other(rtcp::APP)]));
        assert_eq!((&packet[4..8], &packet[8..12]), (&[0, 0, 0, 10][..], &b"wrat"[..]));
        let probe = rtp::parse_probe(&packet).unwrap();
        assert_eq!((probe.kind, probe.run, probe.stream, probe.sequence), (Kind::End, 9, 3, 5));
        assert_eq!(Message::parse(&packet[rtp::HEADER_LEN..]), Some(message));
    }
}
