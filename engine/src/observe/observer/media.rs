//! Datagrams of media streams: RTP and transport streams.

use rustc_hash::FxHashMap;

use super::{Observer, flow_key, probe_key};
use crate::measure::media::is_transport;
use crate::measure::sequence::Arrival;
use crate::measure::tally::{Format, StreamKey};
use crate::observe::FormatChoice;
use crate::observe::stream::transit;
use crate::packet::probe::{Kind, Probe, unwrap40};
use crate::packet::rtcp::is_rtcp;
use crate::packet::rtp::{self, Header, Rtp, looks_like_rtp};
use crate::packet::ts::{self, aligned_packets};
use crate::queue::RxMeta;

/// Most flows that wait to be recognised at once; then all of them are taken for foreign.
const MAX_CANDIDATES: usize = 16_384;

/// A datagram that waits.
type Datagram = (RxMeta, Box<[u8]>);

/// Flows that may be media streams; so far their datagrams are foreign.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    flows: FxHashMap<StreamKey, Vec<Datagram>>,
    datagrams: u64,
}

impl Candidates {
    /// Datagrams that wait.
    pub(super) fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Those that wait for `key`, which wait no more.
    fn take(&mut self, key: &StreamKey) -> Vec<Datagram> {
        let taken = self.flows.remove(key).unwrap_or_default();
        self.datagrams -= taken.len() as u64;
        taken
    }

    /// Has `waiting` wait for `key`; how many others wait no more, as they are too many.
    fn put(&mut self, key: &StreamKey, waiting: Vec<Datagram>) -> u64 {
        let gone = if self.flows.len() >= MAX_CANDIDATES {
            self.flows.clear();
            std::mem::take(&mut self.datagrams)
        } else {
            0
        };
        self.datagrams += waiting.len() as u64;
        self.flows.insert(*key, waiting);
        gone
    }
}

impl Observer {
    /// Counts the datagram if it is of a media stream, or may be; whether so.
    pub(super) fn media(&mut self, meta: &RxMeta, payload: &[u8]) -> bool {
        if self.ts_heard
            && let Some(at) = self.known(&flow_key(Format::Ts, meta))
        {
            self.transport(at, meta, payload);
            return true;
        }
        let format = self.spec.format;
        if format != FormatChoice::Ts
            && let Some(rtp) = Rtp::recognise(payload)
        {
            self.rtp(meta, payload, &rtp);
            return true;
        }
        if format != FormatChoice::Ts && is_rtcp(payload) {
            return self.rtcp(meta, payload);
        }
        format != FormatChoice::Rtp
            && payload.first() == Some(&ts::SYNC)
            && self.maybe_transport(meta, payload)
    }

    /// Whether the datagram is of an RTP source that has been heard.
    #[cold]
    pub(super) fn is_known_rtp(&mut self, meta: &RxMeta, payload: &[u8]) -> bool {
        let Ok(header) = Header::parse(payload) else { return false };
        looks_like_rtp(payload) && self.index.contains_key(&rtp_key(meta, header.ssrc))
    }

    /// RTCP on the port of RTP: a message of wirerate's, which has a probe, or anybody's, which is in no count.
    #[cold]
    fn rtcp(&mut self, meta: &RxMeta, payload: &[u8]) -> bool {
        match rtp::parse_probe(payload) {
            Some(probe) if probe.kind != Kind::Data => {
                self.message(meta, &payload[rtp::HEADER_LEN..], &probe);
                true
            }
            _ => {
                // Without RTP beside it, it may be anything.
                let known = self.spec.format == FormatChoice::Rtp || self.rtp_heard;
                if let Some(inbox) = self.spec.inbox.as_ref().filter(|_| known) {
                    inbox.put(meta.source, payload);
                }
                known
            }
        }
    }

    fn rtp(&mut self, meta: &RxMeta, payload: &[u8], rtp: &Rtp<'_>) {
        if let Some(probe) = rtp::parse_probe(payload) {
            return match probe.kind {
                Kind::Data => self.rtp_with_probe(meta, payload, rtp, &probe),
                Kind::End | Kind::Announce | Kind::FollowUp => {
                    self.message(meta, &payload[rtp::HEADER_LEN..], &probe)
                }
            };
        }
        let key = rtp_key(meta, rtp.header.ssrc);
        let at = match self.known(&key) {
            None if self.spec.format == FormatChoice::Rtp => self.create(&key, None),
            None => return self.maybe_rtp(&key, meta, payload, &rtp.header),
            known => known,
        };
        if let Some(at) = at {
            self.rtp_packet(at, meta, payload, rtp);
        }
    }

    #[inline]
    fn rtp_packet(&mut self, at: usize, meta: &RxMeta, payload: &[u8], rtp: &Rtp<'_>) {
        let counted = self.streams[at].rtp(meta, payload.len(), rtp, &self.spec.media);
        if counted > 0 {
            self.counted(meta);
            self.packets += counted - 1;
        }
    }

    /// A datagram that looks like RTP, of a source not yet heard: it is one when two in sequence have come (RFC 3550 A.1).
    #[cold]
    fn maybe_rtp(&mut self, key: &StreamKey, meta: &RxMeta, payload: &[u8], header: &Header) {
        let waiting = self.candidates.take(key);
        let follows = waiting
            .iter()
            .filter_map(|(_, first)| Header::parse(first).ok())
            .any(|first| header.sequence == first.sequence.wrapping_add(1));
        if !follows {
            self.foreign += waiting.len() as u64;
            self.foreign += self.candidates.put(key, vec![(*meta, payload.into())]);
            return;
        }
        self.rtp_heard = true;
        self.look_at_all();
        let Some(at) = self.create(key, None) else {
            self.untracked += waiting.len() as u64;
            return;
        };
        for (meta, payload) in
            waiting.iter().map(|(meta, payload)| (meta, &payload[..])).chain([(meta, payload)])
        {
            if let Ok(rtp) = Rtp::parse(payload) {
                self.rtp_packet(at, meta, payload, &rtp);
            }
        }
    }

    /// As [`probe`](Self::probe), behind an RTP header.
    fn rtp_with_probe(&mut self, meta: &RxMeta, payload: &[u8], rtp: &Rtp<'_>, probe: &Probe) {
        let Some(at) = self.stream(&probe_key(meta, probe)) else { return };
        let stream = &mut self.streams[at];
        let number = match stream.tracker.unique() {
            0 => probe.sequence,
            _ => unwrap40(probe.sequence, stream.tracker.near()),
        };
        if let Some(expected) = &self.spec.verify
            && !expected.matches(number, &payload[rtp::PROBED_LEN..])
        {
            stream.corrupt += 1;
            return;
        }
        let sent_ns = unwrap40(probe.time, meta.arrived_ns);
        let (arrival, step) = stream.numbered(meta, payload.len(), number, sent_ns);
        stream.rtp_with_probe(meta, rtp, probe, &self.spec.media);
        if arrival != Arrival::Duplicate {
            self.latency.record(sent_ns, meta.arrived_ns, 1);
        }
        self.vary(at, arrival, step, transit(sent_ns, meta.arrived_ns));
        self.counted(meta);
    }

    /// A datagram that begins like a transport stream, of a flow not yet heard.
    #[cold]
    fn maybe_transport(&mut self, meta: &RxMeta, payload: &[u8]) -> bool {
        let key = flow_key(Format::Ts, meta);
        let mut waiting = self.candidates.take(&key);
        let packets = aligned_packets(payload);
        if packets == 0 {
            self.foreign += waiting.len() as u64;
            return false;
        }
        let before: usize = waiting.iter().map(|(_, payload)| aligned_packets(payload)).sum();
        if !is_transport(before + packets) {
            waiting.push((*meta, payload.into()));
            self.foreign += self.candidates.put(&key, waiting);
            return true;
        }
        let Some(at) = self.create(&key, None) else {
            self.untracked += waiting.len() as u64;
            return true;
        };
        self.ts_heard = true;
        waiting.iter().for_each(|(meta, payload)| self.transport(at, meta, payload));
        self.transport(at, meta, payload);
        true
    }

    fn transport(&mut self, at: usize, meta: &RxMeta, payload: &[u8]) {
        self.streams[at].ts(meta, payload, &self.spec.media);
        self.counted(meta);
    }
}

fn rtp_key(meta: &RxMeta, ssrc: u32) -> StreamKey {
    StreamKey { run: ssrc, ..flow_key(Format::Rtp, meta) }
}

#[cfg(test)]
#[path = "media_tests.rs"]
mod tests;
