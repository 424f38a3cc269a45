//! One participant's view of an RTP session: what it hears of the others, and what it has to say and when. Pure: time, randomness and
//! figures come from the caller, datagrams go back to it.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use rustc_hash::FxHashMap;

use super::figures::{Moment, ReceptionFigures, SenderFigures, middle, unix_ns};
use super::members::{MAX_MEMBERS, Members};
use super::random::Random;
use super::timing::{Load, Timer};
use crate::packet::rtcp::{self, Compound, Packet, ReportBlock, SenderInfo};
use crate::report::{RoundTrip, Rtcp, RtcpPeer, RtcpSender};

/// Bytes of IP and UDP headers, which count as RTCP's, too (RFC 3550 §6.2). IPv4's: the difference does not matter.
const HEADERS: usize = 28;

/// Streams of one end in one datagram: their reports and names fit any path.
const STREAMS_TOGETHER: usize = 16;

/// Sources reported on in one datagram.
const BLOCKS_TOGETHER: usize = rtcp::MAX_COUNT;

/// Participants besides this one from which on a goodbye has to wait (§6.3.7).
const MANY: usize = 50;

/// Last report blocks that are kept.
const MAX_PEERS: usize = 1024;

/// Longest round-trip time that is believed, 1/65536 s: what is longer comes from clocks or stray reports.
const LONGEST_RTT: u32 = 60 << 16;

/// How a session is to be.
#[derive(Debug, Clone)]
pub(crate) struct SessionConfig {
    /// SSRC of a receiver; a sender's are its streams'.
    pub ssrc: Option<u32>,
    /// Canonical name.
    pub cname: String,
    /// Interval of reports, ns; `None`: by RFC 3550 §6.2.
    pub interval_ns: Option<u64>,
    /// Whether the first report need not wait: a session of two.
    pub at_once: bool,
    /// Whether receivers' reports go to the group, so that all hear them; else to the sources.
    pub to_group: bool,
    /// Whether RTP and RTCP share a port (RFC 5761).
    pub mux: bool,
    /// For what is drawn at random.
    pub seed: u64,
}

/// What the streams of this end are at.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    /// Streams sent.
    pub sent: Vec<SenderFigures>,
    /// Streams received.
    pub received: Vec<ReceptionFigures>,
}

/// The last report block of one participant on a stream of this end.
#[derive(Debug)]
struct Told {
    from: SocketAddr,
    block: ReportBlock,
    rtt_ns: Option<u64>,
}

/// A participant.
#[derive(Debug)]
pub(crate) struct Session {
    config: SessionConfig,
    timer: Timer,
    random: Random,
    members: Members,
    mean_size: f64,
    /// Payload octets and time when the bandwidth was last worked out, and the bandwidth.
    bandwidth: (u64, u64, f64),
    /// Expected and received at the last report, by SSRC (A.3).
    before: FxHashMap<u32, (u64, u64)>,
    /// Packets sent at the last and the last but one report: a sender is who sent since (§6.4).
    sent_before: [u64; 2],
    told: FxHashMap<(u32, u32), Told>,
    /// Sources that said goodbye, with their last report.
    left: FxHashMap<u32, Option<RtcpSender>>,
    rtt: Option<(u64, u128, u64, u64)>,
    counts: Rtcp,
}

impl Session {
    pub(crate) fn new(config: SessionConfig, now: Moment) -> Self {
        let mut random = Random::new(config.seed);
        let load = Load { members: 1, senders: 0, we_sent: false, bandwidth: 8000.0, mean_size: 100.0 };
        let timer = Timer::start(now.ns, config.interval_ns, config.at_once, &load, random.unit());
        let counts = Rtcp { ssrc: config.ssrc, cname: config.cname.clone(), ..Rtcp::default() };
        Self {
            config,
            timer,
            random,
            members: Members::default(),
            mean_size: load.mean_size,
            bandwidth: (0, now.ns, load.bandwidth),
            before: FxHashMap::default(),
            sent_before: [0; 2],
            told: FxHashMap::default(),
            left: FxHashMap::default(),
            rtt: None,
            counts,
        }
    }

    /// When something may be due, CLOCK_TAI in ns.
    pub(crate) fn next_ns(&self) -> u64 {
        self.timer.next_ns()
    }

    /// Takes a datagram that came `from` somebody. `own`: the streams of this end.
    pub(crate) fn receive(&mut self, now: Moment, from: SocketAddr, datagram: &[u8], own: &[SenderFigures]) {
        let Ok(packets) = rtcp::parse(datagram) else {
            self.counts.malformed += 1;
            return;
        };
        // What this end says to a group comes back to it (§8.2).
        let is_ours =
            |(ssrc, name): &(u32, &[u8])| self.is_own(*ssrc, own) && *name == self.config.cname.as_bytes();
        if packets.iter().any(|packet| matches!(packet, Packet::Sdes(names) if names.iter().any(is_ours))) {
            return;
        }
        self.weigh(datagram.len());
        for packet in packets {
            match packet {
                Packet::Sr { ssrc, info, blocks } => {
                    if self.is_own(ssrc, own) {
                        self.counts.collisions += 1;
                        continue;
                    }
                    self.counts.sr_received += 1;
                    self.left.remove(&ssrc);
                    if let Some(member) = self.members.heard(ssrc, now.ns) {
                        member.from = Some(from);
                        member.sent_ns = now.ns;
                        member.report = Some((info, now.ns));
                    }
                    self.blocks(now, from, ssrc, &blocks, own);
                }
                Packet::Rr { ssrc, blocks } => {
                    if self.is_own(ssrc, own) {
                        self.counts.collisions += 1;
                        continue;
                    }
                    self.counts.rr_received += 1;
                    if let Some(member) = self.members.heard(ssrc, now.ns) {
                        member.from = Some(from);
                    }
                    self.blocks(now, from, ssrc, &blocks, own);
                }
                Packet::Sdes(names) => {
                    for (ssrc, name) in names {
                        if !self.is_own(ssrc, own)
                            && let Some(member) = self.members.heard(ssrc, now.ns)
                        {
                            member.cname = Some(String::from_utf8_lossy(name).into_owned());
                        }
                    }
                }
                Packet::Bye { ssrcs, .. } => {
                    for ssrc in ssrcs {
                        self.goodbye(now, ssrc);
                    }
                }
                Packet::Other(_) => self.counts.other_received += 1,
            }
        }
    }

    fn goodbye(&mut self, now: Moment, ssrc: u32) {
        self.counts.bye_received += 1;
        let last = self.senders().find(|sender| sender.ssrc == ssrc);
        if self.left.len() < MAX_MEMBERS {
            self.left.insert(ssrc, last.map(|sender| RtcpSender { left: true, ..sender }));
        }
        if self.members.remove(ssrc) {
            self.timer.reverse(now.ns, self.members.len() + 1);
        }
    }

    fn is_own(&self, ssrc: u32, own: &[SenderFigures]) -> bool {
        self.config.ssrc == Some(ssrc) || own.iter().any(|stream| stream.ssrc == ssrc)
    }

    /// What participant `ssrc` says of streams of this end.
    fn blocks(
        &mut self,
        now: Moment,
        from: SocketAddr,
        ssrc: u32,
        blocks: &[ReportBlock],
        own: &[SenderFigures],
    ) {
        for block in blocks.iter().filter(|block| own.iter().any(|stream| stream.ssrc == block.ssrc)) {
            let rtt_ns = round_trip_ns(now.middle(), block);
            if let Some(rtt) = rtt_ns {
                let (count, sum, min, max) = self.rtt.unwrap_or((0, 0, u64::MAX, 0));
                self.rtt = Some((count + 1, sum + u128::from(rtt), min.min(rtt), max.max(rtt)));
            }
            let key = (ssrc, block.ssrc);
            if self.told.len() < MAX_PEERS || self.told.contains_key(&key) {
                self.told.insert(key, Told { from, block: *block, rtt_ns });
            }
        }
    }

    /// What is to be sent now, and where to; nothing while it is not yet time, or while there is nothing to report on.
    pub(crate) fn due(&mut self, now: Moment, figures: &Figures) -> Vec<(SocketAddr, Compound)> {
        self.observe(now, figures);
        let sent: u64 = figures.sent.iter().map(|stream| stream.packets).sum();
        if sent == 0 && figures.received.is_empty() {
            return Vec::new();
        }
        let load = self.load(now, figures, sent != self.sent_before[0] || sent != self.sent_before[1]);
        let random = [self.random.unit(), self.random.unit()];
        if !self.timer.expired(now.ns, &load, random) {
            return Vec::new();
        }
        // Five intervals of silence, and one is forgotten (§6.3.5).
        let interval = self.config.interval_ns.map_or(load.deterministic_ns(false), |ns| ns as f64);
        self.members.forget_silent(now.ns.saturating_sub((5.0 * interval) as u64));
        self.sent_before = [sent, self.sent_before[0]];
        self.reports(now, figures, load.we_sent, &[])
    }

    /// The last words, of which those that have something to say goodbye for (§6.3.7).
    pub(crate) fn farewell(&mut self, now: Moment, figures: &Figures) -> Vec<(SocketAddr, Compound)> {
        self.observe(now, figures);
        let sent = figures.sent.iter().filter(|s| s.packets > 0).map(|s| s.ssrc);
        let leaving: Vec<u32> = sent.chain(self.config.ssrc.filter(|_| self.counts.rr_sent > 0)).collect();
        self.reports(now, figures, true, &leaving)
    }

    /// How long the goodbye has to wait, ns: not at all, but among many.
    pub(crate) fn farewell_wait_ns(&mut self, now: Moment) -> u64 {
        if self.config.interval_ns.is_some() || self.members.len() <= MANY {
            return 0;
        }
        let load = Load {
            members: 1,
            senders: 0,
            we_sent: false,
            bandwidth: self.bandwidth.2,
            mean_size: self.mean_size,
        };
        self.timer.leave(now.ns, &load, self.random.unit());
        self.timer.next_ns().saturating_sub(now.ns)
    }

    /// Those that said goodbye and were not heard since.
    pub(crate) fn left(&self) -> impl Iterator<Item = u32> + '_ {
        self.left.keys().copied()
    }

    /// A datagram could not be sent.
    pub(crate) fn failed(&mut self) {
        self.counts.errors += 1;
    }

    /// Takes in what the streams are at.
    fn observe(&mut self, now: Moment, figures: &Figures) {
        for stream in &figures.received {
            if !self.left.contains_key(&stream.ssrc)
                && let Some(member) = self.members.heard(stream.ssrc, stream.last_ns)
            {
                member.sent_ns = member.sent_ns.max(stream.last_ns);
            }
        }
        let octets =
            figures.sent.iter().map(|s| s.octets).chain(figures.received.iter().map(|r| r.octets)).sum();
        let (before, then_ns, _) = self.bandwidth;
        let ns = now.ns.saturating_sub(then_ns);
        if ns >= 1_000_000_000 && octets > before {
            self.bandwidth = (octets, now.ns, (octets - before) as f64 / ns as f64 * 1e9);
        }
    }

    fn load(&self, now: Moment, figures: &Figures, we_sent: bool) -> Load {
        let ours = figures.sent.len().max(1);
        // A sender is who sent within the last two intervals; the shortest will do.
        let others = self.members.senders(now.ns.saturating_sub(10_000_000_000));
        Load {
            members: self.members.len() + ours,
            senders: others + if we_sent { figures.sent.len() } else { 0 },
            we_sent: we_sent && !figures.sent.is_empty(),
            bandwidth: self.bandwidth.2,
            mean_size: self.mean_size,
        }
    }

    /// The mean size of RTCP packets, of this end's and the others' (§6.3.3).
    fn weigh(&mut self, len: usize) {
        self.mean_size += ((len + HEADERS) as f64 - self.mean_size) / 16.0;
    }

    fn reports(
        &mut self,
        now: Moment,
        figures: &Figures,
        we_sent: bool,
        leaving: &[u32],
    ) -> Vec<(SocketAddr, Compound)> {
        let mut datagrams = Vec::new();
        let sent: Vec<&SenderFigures> = figures.sent.iter().filter(|s| we_sent && s.packets > 0).collect();
        for (to, streams) in by_destination(&sent, |stream| stream.to) {
            for streams in streams.chunks(STREAMS_TOGETHER) {
                let mut compound = Compound::new();
                let ssrcs: Vec<u32> = streams.iter().map(|stream| stream.ssrc).collect();
                for stream in streams {
                    let info = SenderInfo {
                        ntp: now.ntp,
                        rtp: stream.timestamp(now.ns),
                        // Both fields count modulo 2^32.
                        packets: stream.packets as u32,
                        octets: stream.octets as u32,
                    };
                    compound.sender_report(stream.ssrc, &info, &[]);
                    self.counts.sr_sent += 1;
                }
                self.finish(&mut compound, &ssrcs, leaving);
                datagrams.push((to, compound));
            }
        }
        let Some(ssrc) = self.config.ssrc else { return datagrams };
        let received: Vec<&ReceptionFigures> =
            figures.received.iter().filter(|r| !self.left.contains_key(&r.ssrc)).collect();
        for (to, streams) in by_destination(&received, |stream| self.reports_to(stream)) {
            for streams in streams.chunks(BLOCKS_TOGETHER) {
                let blocks: Vec<ReportBlock> = streams.iter().map(|stream| self.block(now, stream)).collect();
                let mut compound = Compound::new();
                compound.receiver_report(ssrc, &blocks);
                self.counts.rr_sent += 1;
                self.finish(&mut compound, &[ssrc], leaving);
                datagrams.push((to, compound));
            }
        }
        datagrams
    }

    fn finish(&mut self, compound: &mut Compound, ssrcs: &[u32], leaving: &[u32]) {
        compound.description(ssrcs, &self.config.cname);
        let leaving: Vec<u32> = ssrcs.iter().copied().filter(|ssrc| leaving.contains(ssrc)).collect();
        compound.goodbye(&leaving);
        self.counts.bye_sent += leaving.len() as u64;
        self.weigh(compound.bytes().len());
    }

    /// Where reports on a stream go: to the group; or to where its sender's RTCP comes from, and while that is unknown to the port
    /// that goes with its own.
    fn reports_to(&self, stream: &ReceptionFigures) -> SocketAddr {
        if self.config.to_group && stream.destination.ip().is_multicast() && !self.config.mux {
            return rtcp_address(stream.destination, false);
        }
        let known = self.members.get(stream.ssrc).and_then(|member| member.from);
        known.unwrap_or_else(|| rtcp_address(stream.source, self.config.mux))
    }

    /// What is said of a stream received (A.3).
    fn block(&mut self, now: Moment, stream: &ReceptionFigures) -> ReportBlock {
        let before = self.before.insert(stream.ssrc, (stream.expected, stream.received)).unwrap_or_default();
        let expected = stream.expected.saturating_sub(before.0);
        let lost = expected.saturating_sub(stream.received.saturating_sub(before.1));
        let all_lost = i128::from(stream.expected) - i128::from(stream.received);
        let report = self.members.get(stream.ssrc).and_then(|member| member.report);
        let (last_sr, delay) = report.map_or((0, 0), |(info, then_ns)| {
            let units = u128::from(now.ns.saturating_sub(then_ns)) * 65_536 / 1_000_000_000;
            (middle(info.ntp), u32::try_from(units).unwrap_or(u32::MAX))
        });
        ReportBlock {
            ssrc: stream.ssrc,
            // All of them is more than a byte holds.
            fraction_lost: (lost * 256).checked_div(expected).unwrap_or(0).min(255) as u8,
            lost: all_lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_seq: stream.highest_seq,
            jitter: stream.jitter,
            last_sr,
            delay,
        }
    }

    /// The last report of everybody who sent one.
    fn senders(&self) -> impl Iterator<Item = RtcpSender> + '_ {
        self.members.iter().filter_map(|(ssrc, member)| {
            let (info, _) = member.report?;
            Some(RtcpSender {
                ssrc,
                source: member.from?,
                cname: member.cname.clone(),
                packets: info.packets,
                octets: info.octets,
                unix_ns: unix_ns(info.ntp),
                rtp_timestamp: info.rtp,
                left: false,
            })
        })
    }

    /// What it all came to. `own`: the streams of this end.
    pub(crate) fn report(&self, own: &[SenderFigures]) -> Rtcp {
        let mut peers: Vec<RtcpPeer> = self
            .told
            .iter()
            .map(|(&(ssrc, stream), told)| {
                let clock_hz = own.iter().find(|s| s.ssrc == stream).map_or(1, |s| s.clock_hz.max(1));
                RtcpPeer {
                    ssrc,
                    source: told.from,
                    cname: self.members.get(ssrc).and_then(|member| member.cname.clone()),
                    stream,
                    fraction_lost: f64::from(told.block.fraction_lost) / 256.0,
                    lost: told.block.lost,
                    highest_seq: told.block.highest_seq,
                    jitter: told.block.jitter,
                    jitter_ns: u64::from(told.block.jitter) * 1_000_000_000 / u64::from(clock_hz),
                    rtt_ns: told.rtt_ns,
                }
            })
            .collect();
        peers.sort_by_key(|peer| (peer.stream, peer.ssrc));
        let mut senders: Vec<RtcpSender> =
            self.senders().chain(self.left.values().flatten().cloned()).collect();
        senders.sort_by_key(|sender| sender.ssrc);
        let rtt_ns = self.rtt.map(|(count, sum, min, max)| RoundTrip {
            count,
            min,
            // A mean is no longer than the longest.
            mean: (sum / u128::from(count)) as u64,
            max,
        });
        Rtcp { peers, senders, rtt_ns, ..self.counts.clone() }
    }
}

/// The address of RTCP that goes with one of RTP: the next port (RFC 3550 §11), or the same.
pub(crate) fn rtcp_address(rtp: SocketAddr, mux: bool) -> SocketAddr {
    // After the last port there is none: that it is the last is refused where it can be (65535 stays).
    SocketAddr::new(rtp.ip(), if mux { rtp.port() } else { rtp.port().saturating_add(1) })
}

/// `A - LSR - DLSR` of a block that arrived at `arrival`, in ns; `None` when it refers to no sender report, or its times contradict
/// each other.
fn round_trip_ns(arrival: u32, block: &ReportBlock) -> Option<u64> {
    if block.last_sr == 0 {
        return None;
    }
    let units = arrival.wrapping_sub(block.last_sr).wrapping_sub(block.delay);
    // Both ends round to 1/65536 s, so that the shortest may seem negative.
    let units = if units.cast_signed() >= -2 && units.cast_signed() < 0 { 0 } else { units };
    (units < LONGEST_RTT).then(|| u64::from(units) * 1_000_000_000 / 65_536)
}

/// The streams of each destination, in the order in which these first come.
fn by_destination<T: Copy>(streams: &[T], to: impl Fn(&T) -> SocketAddr) -> Vec<(SocketAddr, Vec<T>)> {
    let mut groups: Vec<(SocketAddr, Vec<T>)> = Vec::new();
    for &stream in streams {
        let to = to(&stream);
        match groups.iter_mut().find(|(address, _)| *address == to) {
            Some((_, members)) => members.push(stream),
            None => groups.push((to, vec![stream])),
        }
    }
    groups
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
