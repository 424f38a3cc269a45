//! Packets that a queueing discipline lets go at their time: SO_TXTIME (tc-fq(8), tc-etf(8)).
//!
//! A packet counts as handed over once its time has passed. etf tells by the socket's error queue of those that missed it and were dropped;
//! fq drops none, and lets those that come late go at once.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
use socket2::Socket;

use crate::clock;
use crate::host::qdisc::{TimedQdisc, TxClock};
use crate::queue::Completed;

/// Bytes of error queue, for some hundred packets that missed their time.
const ERROR_QUEUE: usize = 256 << 10;

/// How long after its time a packet may still turn out to have missed it.
const GRACE_NS: u64 = 20_000_000;

/// Hand-overs that are told apart while their times have not passed.
const PENDING: usize = 64;

/// Packets handed over together.
#[derive(Debug, Clone, Copy)]
struct Pending {
    packets: u64,
    /// When the last of them leaves, CLOCK_TAI in ns.
    last_ns: u64,
}

/// The packets of one queue on their way to their times.
#[derive(Debug)]
pub(super) struct Timed {
    qdisc: TimedQdisc,
    pending: VecDeque<Pending>,
    in_flight: u64,
    /// Told of by an error queue, and not yet taken off what was handed over.
    missed: u64,
}

impl Timed {
    /// For packets that leave by `qdisc`.
    pub(super) fn new(qdisc: TimedQdisc) -> Self {
        Self { qdisc, pending: VecDeque::with_capacity(PENDING), in_flight: 0, missed: 0 }
    }

    /// What a time on CLOCK_TAI is ahead of the same time on the queueing discipline's clock, in ns.
    pub(super) fn offset_ns(&self) -> u64 {
        match self.qdisc.clock {
            TxClock::Tai => 0,
            TxClock::Monotonic => clock::tai_minus_monotonic_ns(),
        }
    }

    /// The kernel took `packets`, of which the last leaves at `last_ns` (CLOCK_TAI).
    pub(super) fn taken(&mut self, packets: u64, last_ns: u64) {
        if packets == 0 {
            return;
        }
        self.in_flight += packets;
        let full = self.pending.len() == PENDING;
        match self.pending.back_mut().filter(|_| full) {
            Some(back) => *back = Pending { packets: back.packets + packets, last_ns },
            None => self.pending.push_back(Pending { packets, last_ns }),
        }
    }

    /// Packets whose time has not passed.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight as usize
    }

    /// Waits for the next time to pass, at most for `limit`.
    pub(super) fn wait(&self, limit: Duration) {
        if let Some(front) = self.pending.front() {
            let left = (front.last_ns + GRACE_NS).saturating_sub(clock::tai_ns());
            thread::sleep(limit.min(Duration::from_nanos(left)));
        }
    }

    /// What became of the packets whose time has passed. The kernel is asked of those that missed it.
    pub(super) fn reap(&mut self, sockets: &[Socket]) -> Completed {
        let now_ns = clock::tai_ns();
        let mut passed = 0;
        while let Some(front) = self.pending.pop_front_if(|front| front.last_ns + GRACE_NS <= now_ns) {
            passed += front.packets;
        }
        if passed == 0 {
            return Completed::default();
        }
        if self.qdisc.clock == TxClock::Tai {
            self.missed += sockets.iter().map(missed).sum::<u64>();
        }
        self.in_flight -= passed;
        let failed = self.missed.min(passed);
        self.missed -= failed;
        Completed { packets: passed - failed, failed }
    }

    /// Sends one datagram that may leave as soon as the queueing discipline lets it: etf drops what has no time.
    pub(super) fn send_now(&self, socket: &Socket, payload: &[u8]) -> io::Result<usize> {
        let time_ns = clock::tai_ns().saturating_sub(self.offset_ns()) + self.qdisc.head_start_ns;
        let control = [ControlMessage::TxTime(&time_ns)];
        let vectors = [IoSlice::new(payload)];
        Ok(sendmsg::<()>(socket.as_raw_fd(), &vectors, &control, MsgFlags::MSG_DONTWAIT, None)?)
    }
}

/// Has the packets of `socket` take times for `qdisc`.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN, for etf; EINVAL before Linux 4.19.
pub(super) fn enable(socket: &Socket, qdisc: &TimedQdisc) -> io::Result<()> {
    let clockid = match qdisc.clock {
        TxClock::Tai => libc::CLOCK_TAI,
        TxClock::Monotonic => libc::CLOCK_MONOTONIC,
    };
    let mut flags = libc::SOF_TXTIME_REPORT_ERRORS;
    if qdisc.deadline {
        flags |= libc::SOF_TXTIME_DEADLINE_MODE;
    }
    if qdisc.clock == TxClock::Tai {
        socket.set_recv_buffer_size(ERROR_QUEUE)?;
    }
    Ok(setsockopt(socket, sockopt::TxTime, &libc::sock_txtime { clockid, flags })?)
}

/// Packets of which the socket's error queue tells, which without IP_RECVERR are those that missed their time.
fn missed(socket: &Socket) -> u64 {
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    let mut payload = [MaybeUninit::uninit(); 1];
    let mut packets = 0;
    while socket.recv_with_flags(&mut payload, flags).is_ok() {
        packets += 1;
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fq() -> TimedQdisc {
        TimedQdisc {
            kind: "fq",
            clock: TxClock::Monotonic,
            deadline: false,
            head_start_ns: 0,
            limit: 10_000,
            flow_limit: 100,
            horizon_ns: 10_000_000_000,
        }
    }

    #[test]
    fn packets_count_when_their_time_has_passed() {
        let mut timed = Timed::new(fq());
        let now = clock::tai_ns();
        timed.taken(0, now);
        timed.taken(3, now - 2 * GRACE_NS);
        timed.taken(4, now + 3_600_000_000_000);
        assert_eq!(timed.in_flight(), 7);
        assert_eq!(timed.reap(&[]), Completed { packets: 3, failed: 0 });
        assert_eq!((timed.in_flight(), timed.reap(&[])), (4, Completed::default()));
    }

    #[test]
    fn what_missed_its_time_is_taken_off() {
        let mut timed = Timed::new(fq());
        let passed = clock::tai_ns() - 2 * GRACE_NS;
        timed.missed = 5;
        timed.taken(3, passed);
        assert_eq!(timed.reap(&[]), Completed { packets: 0, failed: 3 });
        timed.taken(4, passed);
        assert_eq!(timed.reap(&[]), Completed { packets: 2, failed: 2 });
    }

    #[test]
    fn no_number_of_hand_overs_allocates() {
        let mut timed = Timed::new(fq());
        let capacity = timed.pending.capacity();
        let passed = clock::tai_ns() - 2 * GRACE_NS;
        (0..1000).for_each(|_| timed.taken(2, passed));
        assert_eq!((timed.pending.capacity(), timed.in_flight()), (capacity, 2000));
        assert_eq!(timed.reap(&[]).packets, 2000);
    }

    #[test]
    fn the_clock_of_fq_is_monotonic() {
        let before = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
        let told = Duration::from_nanos(clock::tai_ns() - Timed::new(fq()).offset_ns());
        assert!(told.abs_diff(before.into()) < Duration::from_secs(10));
        let etf = TimedQdisc { clock: TxClock::Tai, ..fq() };
        assert_eq!(Timed::new(etf).offset_ns(), 0);
    }
}
