//! The transmit worker: one thread, one CPU, one queue, compiled once for each kind of queue.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::announce::{Announcer, written_as};
use super::follow_up::FollowUps;
use super::iperf2::{self, Ends, Iperf2};
use super::schedule::Schedule;
use crate::clock::{self, Claim, Quick};
use crate::control::Stop;
use crate::measure::gaps::Gaps;
use crate::measure::handover::Filler;
use crate::measure::tally::TxTally;
use crate::pacing::Departures;
use crate::packet::probe::{End, Kind, Message};
use crate::profile::rtp::Rtp;
use crate::profile::size::Wire;
use crate::queue::{QueueError, Run, Stamper, Transmit, Wait};

/// How often a tally is handed over.
pub(crate) const HANDOVER_NS: u64 = 50_000_000;

/// How long packets that are with the kernel may take once the last was submitted.
const DRAIN: Duration = Duration::from_secs(2);

/// When the end-of-stream messages are sent, in ms after the first of them: several, so that a short outage does not
/// swallow them all.
pub(crate) const END_PAUSES_MS: [u64; 5] = [0, 10, 20, 50, 100];

/// End-of-stream messages that each stream ends with.
pub(crate) const END_MESSAGES: u64 = END_PAUSES_MS.len() as u64;

/// Time before a packet is due at which sleeping ends and spinning begins: what a timer may be late.
const SPIN_NS: u64 = 60_000;

/// Runs submitted at once: streams that take turns, or sizes that change from packet to packet.
const MAX_RUNS: usize = 64;

/// What one worker is to do.
#[derive(Debug)]
pub(crate) struct TxJob {
    /// The sender's run.
    pub run: u32,
    /// RTP headers, if packets have some.
    pub rtp: Option<Rtp>,
    /// iperf 2's headers instead, if packets have them.
    pub iperf2: Option<Iperf2>,
    /// What to send, and when.
    pub schedule: Schedule,
    /// CLOCK_TAI in ns when to stop, counted from the first packet; `None`: not by time.
    pub duration: Option<Duration>,
}

/// Sends until the schedule is done, the time is up or `stop` is requested; then waits for the queue to drain and
/// sends the end-of-stream messages. Returns the last tally, with the reason when the queue broke.
pub(crate) fn run<T: Transmit>(
    mut queue: T,
    mut job: TxJob,
    mut tallies: Filler<TxTally>,
    stop: &Stop,
) -> (Box<TxTally>, Option<QueueError>) {
    // A timer that is 50 µs late by default would turn a paced stream into small bursts.
    let _ = nix::sys::prctl::set_timerslack(1);
    let mut totals = Totals::default();
    let mut messages = Messages {
        // iperf's servers would count our announcements.
        announcer: Announcer::new(job.run, job.rtp).silent(job.iperf2.is_some()),
        follow_ups: FollowUps::new(job.run, job.schedule.streams()),
    };
    let mut failure = send(&mut queue, &mut job, &mut tallies, &mut totals, &mut messages, stop).err();
    if failure.is_none() {
        failure = drain(&mut queue, job.schedule.lead_ns(), &mut totals).err();
        messages.follow_ups.finish(&mut queue);
    }
    totals.messages = messages.total();
    let mut ends = Ends::default();
    if failure.is_some() {
        settle(&mut queue, &mut totals);
    } else if let Some(iperf2) = &job.iperf2 {
        failure = iperf2::say_end(&mut queue, &job.schedule, iperf2, &mut ends).err();
        totals.messages += ends.messages;
    } else {
        failure = say_end(&mut queue, &job, &messages, &mut totals).err();
    }
    tallies.tally().iperf2 = ends;
    totals.fill(tallies.tally(), clock::tai_ns());
    (tallies.finish(), failure)
}

/// What is sent beside the packets.
#[derive(Debug)]
struct Messages {
    announcer: Announcer,
    follow_ups: FollowUps,
}

impl Messages {
    /// On the flow at this place, before the end.
    fn sent(&self, place: usize) -> u64 {
        self.announcer.sent(place) + self.follow_ups.sent(place)
    }

    fn total(&self) -> u64 {
        self.announcer.total() + self.follow_ups.total()
    }
}

/// The worker's own totals; copied into a tally when it is handed over.
#[derive(Debug, Default)]
struct Totals {
    packets: u64,
    errors: u64,
    payload_bytes: u64,
    messages: u64,
    issued: u64,
    turn: u64,
    wire: Wire,
    first_ns: u64,
    last_ns: u64,
    burst: u64,
    /// `Some` where packets have times of their own.
    overdue: Option<u64>,
    gaps: Gaps,
}

impl Totals {
    fn fill(&mut self, tally: &mut TxTally, now_ns: u64) {
        tally.at_ns = now_ns;
        tally.packets = self.packets;
        tally.errors = self.errors;
        tally.issued = self.issued;
        tally.turn = self.turn.max(1);
        tally.payload_bytes = self.payload_bytes;
        tally.frame_bytes = self.wire.bytes;
        tally.frames = self.wire.frames;
        tally.messages = self.messages;
        tally.first_ns = self.first_ns;
        tally.last_ns = self.last_ns;
        tally.overdue = self.overdue;
        self.gaps.hand_over(&mut tally.gaps);
    }

    /// Packets were handed over, to leave at once.
    #[inline]
    fn hand_over(&mut self, packets: usize, now_ns: u64, paced: bool) {
        if self.burst == 0 || !paced {
            self.gaps.mark(now_ns);
        }
        if self.first_ns == 0 {
            self.first_ns = now_ns;
        }
        self.last_ns = now_ns;
        self.burst += packets as u64;
    }

    /// Packets were handed over, each with its own time.
    #[inline]
    fn hand_over_timed(&mut self, packets: usize, departures: &Departures, tally: &mut TxTally) {
        let mut overdue = self.overdue.unwrap_or(0);
        for n in 0..packets {
            self.gaps.mark(departures.at(n));
            overdue += u64::from(departures.is_overdue(n));
        }
        self.overdue = Some(overdue);
        if self.first_ns == 0 {
            self.first_ns = departures.at(0);
        }
        self.last_ns = departures.at(packets - 1);
        tally.burst.saturating_record_n(1, packets as u64);
    }

    fn end_burst(&mut self, tally: &mut TxTally) {
        if self.burst > 0 {
            tally.burst.saturating_record(self.burst);
            self.burst = 0;
        }
    }
}

fn send<T: Transmit>(
    queue: &mut T,
    job: &mut TxJob,
    tallies: &mut Filler<TxTally>,
    totals: &mut Totals,
    messages: &mut Messages,
    stop: &Stop,
) -> Result<(), QueueError> {
    messages.announcer.look(queue, &job.schedule, 0, clock::tai_ns());
    let mut stamper =
        Stamper::new(job.run).with_rtp(job.rtp).with_iperf2(job.iperf2.as_ref().map(|iperf2| iperf2.header));
    let caps = queue.caps();
    let mut runs: Vec<Run> = Vec::with_capacity(usize::from(caps.batch).min(MAX_RUNS));
    // The pace is kept by a clock that is as far ahead as packets are handed over.
    let lead_ns = job.schedule.lead_ns();
    let start_ns = stamper.refresh() + lead_ns;
    job.schedule.start(start_ns, caps.segments);
    totals.turn = job.schedule.turn();
    let deadline_ns = job.duration.map_or(u64::MAX, |d| start_ns.saturating_add(nanos(d)));
    let mut handover_ns = start_ns + HANDOVER_NS;
    let mut time = Quick::new();
    loop {
        let now_ns = time.now_ns() + lead_ns;
        if now_ns >= handover_ns {
            handover_ns = now_ns + HANDOVER_NS;
            time.anchor();
            messages.announcer.look(queue, &job.schedule, totals.first_ns, now_ns - lead_ns);
            totals.messages = messages.total();
            // With a slow collector, what is new stays here.
            if tallies.can_hand_over() {
                totals.fill(tallies.tally(), now_ns - lead_ns);
                tallies.hand_over();
                tallies.tally().burst.reset();
                tallies.tally().lateness.reset();
            }
        }
        let time_is_up = now_ns >= deadline_ns;
        if (time_is_up && !job.schedule.is_paced()) || stop.is_requested() || job.schedule.is_done() {
            totals.end_burst(tallies.tally());
            return Ok(());
        }
        if time_is_up {
            job.schedule.close();
        }
        // What is due before the deadline leaves, also when this thread comes late.
        job.schedule.due(now_ns.min(deadline_ns - 1), caps.batch, &mut runs);
        let late_ns = if totals.burst == 0 { job.schedule.late_ns() } else { None };
        let departures = job.schedule.departures(now_ns - lead_ns);
        if let Some(departures) = departures {
            stamper.set_departures(departures);
        }
        let taken = if runs.is_empty() { 0 } else { queue.submit(&runs, &mut stamper)? };
        if taken == 0 {
            totals.end_burst(tallies.tally());
            if time_is_up {
                return Ok(());
            }
            // With nothing due there is time; with no room, the queue says when there is.
            let done =
                queue.reap(if runs.is_empty() { Wait::No } else { Wait::For(Duration::from_millis(1)) })?;
            totals.packets += done.packets;
            totals.errors += done.failed;
            if runs.is_empty() {
                wait_until(
                    &time,
                    job.schedule.next_ns().min(deadline_ns).min(handover_ns).saturating_sub(lead_ns),
                );
            }
            continue;
        }
        let took = job.schedule.took(taken, &runs);
        match &departures {
            None => {
                if let Some(late_ns) = late_ns {
                    tallies.tally().lateness.saturating_record(late_ns);
                }
                totals.hand_over(taken, now_ns, job.schedule.is_paced());
            }
            Some(departures) => totals.hand_over_timed(taken, departures, tallies.tally()),
        }
        totals.issued += taken as u64;
        if job.schedule.is_paced() && !job.schedule.is_burst_open() {
            // What comes next is due later, by the pace.
            totals.end_burst(tallies.tally());
        }
        totals.payload_bytes += took.payload_bytes;
        totals.wire.frames += took.wire.frames;
        totals.wire.bytes += took.wire.bytes;
        let done = queue.reap(Wait::No)?;
        totals.packets += done.packets;
        totals.errors += done.failed;
        messages.follow_ups.look(queue);
    }
}

/// Waits for what is with the kernel, which holds a packet for `lead_ns` at most.
fn drain<T: Transmit>(queue: &mut T, lead_ns: u64, totals: &mut Totals) -> Result<(), QueueError> {
    let deadline_ns = clock::tai_ns() + lead_ns + nanos(DRAIN);
    loop {
        let done = queue.reap(Wait::For(Duration::from_millis(1)))?;
        totals.packets += done.packets;
        totals.errors += done.failed;
        if queue.in_flight() == 0 || clock::tai_ns() >= deadline_ns {
            // What the kernel never gave back never left, as far as anyone can tell.
            totals.errors += queue.in_flight() as u64;
            return Ok(());
        }
    }
}

/// What a broken queue still knows; what it kept never left.
fn settle<T: Transmit>(queue: &mut T, totals: &mut Totals) {
    if let Ok(done) = queue.reap(Wait::No) {
        totals.packets += done.packets;
        totals.errors += done.failed;
    }
    totals.errors += queue.in_flight() as u64;
}

fn say_end<T: Transmit>(
    queue: &mut T,
    job: &TxJob,
    messages: &Messages,
    totals: &mut Totals,
) -> Result<(), QueueError> {
    // RTP without probe headers has none of their messages; its end is told by RTCP.
    if totals.issued == 0 || job.rtp.is_some_and(|rtp| !rtp.probe) {
        return Ok(());
    }
    for pause in END_PAUSES_MS {
        std::thread::sleep(Duration::from_millis(pause));
        let clock = Claim::read();
        for (place, (flow, stream, issued)) in job.schedule.issued().enumerate() {
            // The queue tells refusals per queue, not per stream: they stand with the worker's first stream, so that
            // they add up to the truth.
            let failed = if flow == 0 { totals.errors } else { 0 };
            let end = End { issued, failed, first_ns: totals.first_ns, last_ns: totals.last_ns };
            let message = Message { end, clock, announced: messages.sent(place) };
            let written = written_as(job.rtp.as_ref(), Kind::End, job.run, stream, &message);
            queue.send_message(flow, &written)?;
            totals.messages += 1;
        }
    }
    Ok(())
}

fn wait_until(time: &Quick, due_ns: u64) {
    loop {
        let now_ns = time.now_ns();
        let Some(left) = due_ns.checked_sub(now_ns).filter(|&left| left > 0) else { return };
        if left > SPIN_NS {
            std::thread::sleep(Duration::from_nanos(left - SPIN_NS));
        } else {
            std::hint::spin_loop();
        }
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
