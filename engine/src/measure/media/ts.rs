//! What a transport stream says of itself: sync, continuity of each PID, tables, clock; and its media delivery index.
//!
//! It has no numbers but the four-bit counters: what they show missing is the least that was lost, and holds only where nothing was reordered,
//! which nobody can tell from them.

use super::few::Few;
use super::mdi::{self, Meter};
use crate::measure::jitter::Jitter;
use crate::packet::ts::{LEN, NULL, NotTs, PAT, PCR_HZ, PCR_WRAP, Ts};

/// PIDs of one stream that are told apart.
pub const MAX_PIDS: usize = 255;

/// Two clock references further apart than this are not of one clock: 10 s.
const MAX_PCR_STEP: u64 = 10 * PCR_HZ;

/// One PID's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pid {
    /// Packet identifier.
    pub pid: u16,
    /// Packets.
    pub packets: u64,
    /// Packets whose counter is not what follows the one before.
    pub continuity_errors: u64,
    /// Packets that the counters show missing.
    pub missing: u64,
    /// Packets whose counter is that of the one before, which is allowed once.
    pub repeated: u64,
    /// Packets whose payload is scrambled.
    pub scrambled: u64,
    /// Clock references.
    pub pcrs: u64,
}

/// The clock of the first PID that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// The PID.
    pub pid: u16,
    /// References.
    pub count: u64,
    /// Longest time from one to the next by the clock itself, in ns.
    pub max_interval_ns: u64,
    /// Jumps of the clock without an announcement.
    pub jumps: u64,
    /// Jitter of the arrivals against the clock (as RFC 3550 A.8 has it) and its highest value, in ns.
    pub jitter_ns: Option<(u64, u64)>,
    /// Rate of the whole stream by the clock, where nothing was missing, bit/s.
    pub rate_bps: Option<u64>,
}

/// The figures of one transport stream, as they are handed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Packets in sync, those with a transport error among them.
    pub packets: u64,
    /// Places where a packet should begin, and none does; a rest that is shorter than a packet is one.
    pub sync_errors: u64,
    /// Packets that were marked as broken before they came to us; not looked at.
    pub transport_errors: u64,
    /// Packets that contradict themselves.
    pub malformed: u64,
    /// Packets that hold nothing, to fill the rate.
    pub null_packets: u64,
    /// Of all PIDs.
    pub continuity_errors: u64,
    /// Of all PIDs.
    pub missing: u64,
    /// Packets of PIDs beyond [`MAX_PIDS`].
    pub untracked: u64,
    /// Programs of the last association table: number and PID of its map. Program 0 leads to the network's information.
    pub programs: Few<(u16, u16), 32>,
    /// Association tables that came.
    pub pats: u64,
    /// Map tables that came.
    pub pmts: u64,
    /// The clock.
    pub clock: Option<Clock>,
    /// Every PID but that of null packets, as they came.
    pub pids: Vec<Pid>,
    /// Delay factor and media loss rate.
    pub mdi: mdi::Figures,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    /// Of the last packet with a payload.
    last: Option<u8>,
    repeated: bool,
}

#[derive(Debug, Default)]
struct Reference {
    last: Option<u64>,
    /// Since the first, by the clock, in its units.
    ticks: u64,
    jitter: Jitter,
    /// Gaps told by numbers of datagrams.
    gaps: u64,
    /// Packets since the last reference, and how many had been missing then.
    packets: u64,
    missing: u64,
    /// Packets and units of the stretches between references in which nothing was missing: of all, and at the last interval.
    whole: (u64, u64),
    taken: (u64, u64),
    rate_bps: Option<u64>,
}

/// A transport stream as a receiver follows it.
#[derive(Debug)]
pub struct Transport {
    /// Without the PIDs', which are in `pids`.
    figures: Figures,
    pids: Vec<Pid>,
    /// Place in `pids` and `counters`, and one; 0 is none yet.
    index: Box<[u8]>,
    counters: Vec<Counter>,
    reference: Reference,
    meter: Meter,
    /// Told by the user.
    media_rate_bps: Option<u64>,
}

impl Transport {
    /// Of which nothing has come. The media rate is that of the stream's clock, if none is given.
    pub fn new(media_rate_bps: Option<u64>) -> Self {
        Self {
            figures: Figures::default(),
            pids: Vec::with_capacity(MAX_PIDS),
            index: vec![0; 1 << 13].into(),
            counters: Vec::with_capacity(MAX_PIDS),
            reference: Reference::default(),
            meter: Meter::default(),
            media_rate_bps,
        }
    }

    /// Writes the figures so far to `into`, whose memory is used again.
    pub fn tell(&self, into: &mut Figures) {
        let mut pids = std::mem::take(&mut into.pids);
        pids.clear();
        pids.extend_from_slice(&self.pids);
        *into = Figures { pids, ..self.figures.clone() };
        if let Some(clock) = &mut into.clock {
            clock.jitter_ns = self.reference.jitter.value();
            clock.rate_bps = rate(self.reference.whole);
        }
        into.mdi = self.meter.figures();
    }

    /// Before the next datagram others are missing, as its number says: the counters need not show it.
    pub fn gap(&mut self) {
        self.reference.gaps += 1;
    }

    /// Takes in what one datagram carried. `lost`: how many datagrams of the stream have been lost or out of order, where that is known.
    #[inline]
    pub fn arrive(&mut self, payload: &[u8], arrived_ns: u64, lost: Option<impl FnOnce() -> u64>) {
        let (packets, rest) = payload.as_chunks::<LEN>();
        packets.iter().for_each(|packet| self.packet(packet, arrived_ns));
        self.figures.sync_errors += u64::from(!rest.is_empty());
        let (figures, reference) = (&self.figures, &mut self.reference);
        self.meter.arrive(arrived_ns, (packets.len() * LEN) as u64, || {
            let lost = lost.map_or(figures.missing, |datagrams| datagrams() * packets.len() as u64);
            (lost, self.media_rate_bps.or_else(|| reference.take_rate()))
        });
    }

    #[inline]
    fn packet(&mut self, packet: &[u8; LEN], arrived_ns: u64) {
        let ts = match Ts::parse(packet) {
            Ok(ts) => ts,
            Err(NotTs::Sync) => {
                self.figures.sync_errors += 1;
                return;
            }
            Err(NotTs::Adaptation) => {
                self.figures.packets += 1;
                self.figures.malformed += 1;
                return;
            }
        };
        self.figures.packets += 1;
        self.reference.packets += 1;
        if ts.transport_error {
            self.figures.transport_errors += 1;
        } else if ts.pid == NULL {
            self.figures.null_packets += 1;
        } else {
            self.identified(&ts, arrived_ns);
        }
    }

    #[inline]
    fn identified(&mut self, ts: &Ts<'_>, arrived_ns: u64) {
        let Some(at) = self.place(ts.pid) else {
            self.figures.untracked += 1;
            return;
        };
        let (pid, counter) = (&mut self.pids[at], &mut self.counters[at]);
        pid.packets += 1;
        pid.scrambled += u64::from(ts.scrambled);
        pid.pcrs += u64::from(ts.pcr.is_some());
        if ts.payload.is_some() {
            let missing = counter.count(ts, pid);
            self.figures.continuity_errors += u64::from(missing.is_some());
            self.figures.missing += u64::from(missing.unwrap_or(0));
        } else if ts.discontinuity {
            counter.last = None;
        }
        if ts.unit_start && (ts.pid == PAT || self.figures.pats > 0) {
            self.table(ts);
        }
        if let Some(pcr) = ts.pcr {
            self.clock(ts, pcr, arrived_ns);
        }
    }

    #[inline]
    fn place(&mut self, pid: u16) -> Option<usize> {
        match self.index[usize::from(pid)] {
            0 => self.new_pid(pid),
            at => Some(usize::from(at) - 1),
        }
    }

    #[cold]
    fn new_pid(&mut self, pid: u16) -> Option<usize> {
        let at = self.counters.len();
        if at == MAX_PIDS {
            return None;
        }
        self.index[usize::from(pid)] = at as u8 + 1;
        self.counters.push(Counter::default());
        self.pids.push(Pid { pid, ..Pid::default() });
        Some(at)
    }

    fn table(&mut self, ts: &Ts<'_>) {
        if ts.pid == PAT {
            if let Some(programs) = ts.programs() {
                self.figures.pats += 1;
                self.figures.programs = Few::default();
                programs.for_each(|program| self.figures.programs.see(program));
            }
        } else if self.figures.programs.values().iter().any(|(n, pid)| *n != 0 && *pid == ts.pid) {
            self.figures.pmts += u64::from(ts.clock_pid().is_some());
        }
    }

    fn clock(&mut self, ts: &Ts<'_>, pcr: u64, arrived_ns: u64) {
        let missing = self.figures.missing + self.figures.sync_errors + self.reference.gaps;
        let clock = self.figures.clock.get_or_insert(Clock { pid: ts.pid, ..Clock::default() });
        if clock.pid != ts.pid {
            return;
        }
        clock.count += 1;
        let reference = &mut self.reference;
        let packets = std::mem::take(&mut reference.packets);
        let whole = std::mem::replace(&mut reference.missing, missing) == missing;
        let step = reference.last.replace(pcr).map(|last| (pcr + PCR_WRAP - last) % PCR_WRAP);
        match step {
            Some(step) if step <= MAX_PCR_STEP && !ts.discontinuity => {
                clock.max_interval_ns = clock.max_interval_ns.max(step * 1000 / 27);
                reference.ticks += step;
                if whole {
                    reference.whole = (reference.whole.0 + packets, reference.whole.1 + step);
                }
            }
            Some(_) => {
                clock.jumps += u64::from(!ts.discontinuity);
                reference.jitter.begin_anew();
            }
            None => {}
        }
        // To the ns, which a thousand 27ths are not.
        let sent_ns = reference.ticks / 27 * 1000 + reference.ticks % 27 * 1000 / 27;
        reference.jitter.arrive(sent_ns, arrived_ns);
    }
}

impl Counter {
    /// Takes in a packet with a payload; how many are missing, where it does not follow.
    #[inline]
    fn count(&mut self, ts: &Ts<'_>, pid: &mut Pid) -> Option<u8> {
        let ahead = match self.last.replace(ts.continuity) {
            Some(last) if !ts.discontinuity => ts.continuity.wrapping_sub(last) & 0x0f,
            _ => 1,
        };
        if ahead == 1 {
            self.repeated = false;
            return None;
        }
        if ahead == 0 && !std::mem::replace(&mut self.repeated, true) {
            pid.repeated += 1;
            return None;
        }
        self.repeated = ahead == 0;
        // Of a third copy nothing needs to be missing.
        let missing = ahead.saturating_sub(1);
        pid.continuity_errors += 1;
        pid.missing += u64::from(missing);
        Some(missing)
    }
}

impl Reference {
    /// The media rate of what came since the last call; that of before when no clock reference came.
    fn take_rate(&mut self) -> Option<u64> {
        let since = (self.whole.0 - self.taken.0, self.whole.1 - self.taken.1);
        self.taken = self.whole;
        self.rate_bps = rate(since).or(self.rate_bps);
        self.rate_bps
    }
}

/// Bits a second of so many packets in so many units of the clock.
fn rate((packets, ticks): (u64, u64)) -> Option<u64> {
    let bits = u128::from(packets) * LEN as u128 * 8;
    (bits * u128::from(PCR_HZ)).checked_div(ticks.into()).map(|rate| rate as u64)
}

#[cfg(test)]
#[path = "ts_tests.rs"]
mod tests;
