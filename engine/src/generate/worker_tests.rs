use super::*;
use crate::generate::txtime::Ahead;
use crate::measure::handover::handover;
use crate::packet::probe::Probe;
use crate::profile::size::{Framing, SizeList, Sizes};
use crate::queue::{Completed, TxCaps};
use crate::report::{Tx, TxCollector};

/// A queue that keeps a log of what it took, in pieces of at most `room`.
struct Log<'a> {
    batch: u16,
    segments: u16,
    room: usize,
    taken: &'a mut Vec<(u64, usize)>,
    done: u64,
}

impl Transmit for Log<'_> {
    fn caps(&self) -> TxCaps {
        TxCaps { batch: self.batch, segments: self.segments, max_payload: 1472 }
    }

    fn submit(&mut self, runs: &[Run], stamper: &mut Stamper) -> Result<usize, QueueError> {
        let taken = runs.iter().map(|run| usize::from(run.count)).sum::<usize>().min(self.room);
        self.taken.push((stamper.refresh(), taken));
        self.done += taken as u64;
        Ok(taken)
    }

    fn reap(&mut self, _: Wait) -> Result<Completed, QueueError> {
        Ok(Completed { packets: std::mem::take(&mut self.done), failed: 0 })
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn send_message(&mut self, _: u16, _: &[u8]) -> Result<(), QueueError> {
        Ok(())
    }
}

/// A queue that keeps the times of departure of what it took, and when it took each.
struct Timetable<'a> {
    given: &'a mut Vec<(u64, u64)>,
    done: u64,
}

impl Transmit for Timetable<'_> {
    fn caps(&self) -> TxCaps {
        TxCaps { batch: 64, segments: 1, max_payload: 1472 }
    }

    fn submit(&mut self, runs: &[Run], stamper: &mut Stamper) -> Result<usize, QueueError> {
        let now_ns = stamper.refresh();
        let taken = runs.iter().map(|run| usize::from(run.count)).sum();
        for n in 0..taken {
            let departs_ns = stamper.depart(n).expect("each has a time");
            let mut payload = [0; 18];
            stamper.stamp(&mut payload, 0, 0);
            assert_eq!(
                Probe::parse(&payload).unwrap().time,
                departs_ns & ((1 << 40) - 1),
                "the stamp is the time"
            );
            self.given.push((now_ns, departs_ns));
        }
        self.done += taken as u64;
        Ok(taken)
    }

    fn reap(&mut self, _: Wait) -> Result<Completed, QueueError> {
        Ok(Completed { packets: std::mem::take(&mut self.done), failed: 0 })
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn send_message(&mut self, _: u16, _: &[u8]) -> Result<(), QueueError> {
        Ok(())
    }
}

#[test]
fn times_of_departure_are_an_interval_apart_and_ahead() {
    const INTERVAL_NS: u64 = 500_000;
    let sizes = Sizes::from_lengths(&SizeList::Cycle(vec![18]), Framing::default()).unwrap();
    // A lead that no machine is late by: all times are then as planned.
    let ahead = Ahead { lead_ns: 60_000_000_000, head_start_ns: 40_000_000 };
    let schedule = Schedule::new(sizes, vec![0], Some(2_000.0), Some(300)).ahead(Some(ahead));
    let (filler, emptier) = handover(|| TxTally::new(0));
    let mut given = Vec::new();
    let begin_ns = clock::tai_ns();
    let queue = Timetable { given: &mut given, done: 0 };
    let (last, broken) = run(
        queue,
        TxJob { run: 1, rtp: None, iperf2: None, schedule, duration: None },
        filler,
        &Stop::default(),
    );
    assert!(broken.is_none());
    let mut collector = TxCollector::new();
    emptier.drain(|t| collector.absorb(t));
    collector.absorb(&last);
    assert_eq!(given.len(), 300);
    assert!(given[0].1 >= begin_ns + ahead.lead_ns, "the first is due the whole lead after the start");
    assert!(given.windows(2).all(|two| two[1].1 - two[0].1 == INTERVAL_NS));
    assert!(given.iter().all(|(now_ns, at_ns)| now_ns + ahead.head_start_ns < *at_ns));
    let tx = collector.finish();
    assert_eq!((tx.packets, tx.overdue, tx.burst.max), (300, Some(0), 1));
    assert_eq!(tx.duration_ns, 299 * INTERVAL_NS, "from departure to departure");
    let gaps = tx.inter_departure_ns.unwrap();
    assert_eq!(gaps.count, 299);
    assert!(gaps.p50.abs_diff(INTERVAL_NS) <= INTERVAL_NS / 100);
}

#[test]
fn what_is_overdue_leaves_when_it_can_and_is_counted() {
    let sizes = Sizes::from_lengths(&SizeList::Cycle(vec![18]), Framing::default()).unwrap();
    // Each packet is handed over as it is due, and needs a second more.
    let ahead = Ahead { lead_ns: 1_000_000, head_start_ns: 1_000_000_000 };
    let ahead = Ahead { lead_ns: ahead.head_start_ns, ..ahead };
    let schedule = Schedule::new(sizes, vec![0], Some(2_000.0), Some(20)).ahead(Some(ahead));
    let (filler, _emptier) = handover(|| TxTally::new(0));
    let mut given = Vec::new();
    let queue = Timetable { given: &mut given, done: 0 };
    let (last, _) = run(
        queue,
        TxJob { run: 1, rtp: None, iperf2: None, schedule, duration: None },
        filler,
        &Stop::default(),
    );
    assert_eq!(given.len(), 20);
    assert!(given.windows(2).all(|two| two[1].1 >= two[0].1), "in order");
    // The first is on time; any later one is late by the time of a look at the clock at least.
    assert!((1..=20).contains(&last.overdue.unwrap()), "{:?}", last.overdue);
}

/// Sends for 200 ms, and gives what left when, beside the report.
fn paced(
    pps: u32,
    burst: Option<u32>,
    (batch, segments): (u16, u16),
    room: usize,
) -> (Vec<(u64, usize)>, Tx) {
    let sizes = Sizes::from_lengths(&SizeList::Cycle(vec![18]), Framing::default()).unwrap();
    let schedule = Schedule::new(sizes, vec![0], Some(pps.into()), None).in_bursts(burst);
    let job = TxJob { run: 1, rtp: None, iperf2: None, schedule, duration: Some(Duration::from_millis(200)) };
    let (filler, emptier) = handover(|| TxTally::new(0));
    let mut taken = Vec::new();
    let begin_ns = clock::tai_ns();
    let queue = Log { batch, segments, room, taken: &mut taken, done: 0 };
    let (last, broken) = run(queue, job, filler, &Stop::default());
    assert!(broken.is_none());
    let mut collector = TxCollector::new();
    emptier.drain(|t| collector.absorb(t));
    collector.absorb(&last);
    let tx = collector.finish();

    // Whatever the machine does: at no time more has left than was due, by clocks that differ by less than this, and never
    // more than fits the time.
    const APART_NS: u64 = 1_000_000;
    let mut sent = 0;
    for (at_ns, packets) in &taken {
        sent += *packets as u64;
        let due = u128::from(at_ns - begin_ns + APART_NS) * u128::from(pps) / 1_000_000_000 + 1;
        assert!(u128::from(sent) <= due, "{sent} left when {due} were due");
    }
    assert_eq!(tx.packets, sent);
    assert!(sent > 0 && sent <= u64::from(pps / 5), "{sent} in 200 ms");
    (taken, tx)
}

#[test]
fn batches_never_defeat_the_rate() {
    // Super-buffers of 128 segments, sixteen a call; a ring of 64; and a queue that takes seven at a time.
    for (pps, batch, room) in
        [(2_000_000, (2048, 128), 2048), (300_000, (64, 1), 64), (100_000, (2048, 128), 7)]
    {
        let (taken, tx) = paced(pps, None, batch, room);
        let burst = u64::from(pps / 10_000);
        // In pieces, what falls due meanwhile joins in.
        let whole = room as u64 >= burst;
        assert!(!whole || tx.burst.max <= burst + burst / 50 + 1, "above 100 µs' worth: {:?}", tx.burst);
        assert!(taken.iter().all(|(_, packets)| *packets <= room));
    }
}

#[test]
fn packet_by_packet() {
    let (taken, tx) = paced(20_000, Some(1), (2048, 128), 2048);
    assert!(taken.iter().all(|(_, packets)| *packets == 1));
    assert_eq!(tx.burst.max, 1);
    assert_eq!(tx.inter_departure_ns.unwrap().count, taken.len() as u64 - 1);
}

#[test]
fn bursts_are_whole_and_the_last_is_the_rest() {
    for (batch, room) in [((2048, 128), 2048), ((64, 1), 64), ((2048, 16), 30)] {
        let (taken, tx) = paced(20_000, Some(100), batch, room);
        // A queue with room for less takes a burst in pieces, and it counts as one all the same.
        let most = room.min(batch.0.into()).min(100);
        assert!(taken.iter().all(|(_, packets)| *packets <= most));
        assert!(taken[0].1 == most, "the first waited for the others: {taken:?}");
        assert!(tx.burst.p50.abs_diff(100) <= 1 && tx.burst.max <= 101, "{:?}", tx.burst);
        assert!(tx.inter_departure_ns.unwrap().count < 40, "4,000 packets are 40 bursts at most");
    }
}

#[test]
fn a_count_below_a_burst_is_sent() {
    let sizes = Sizes::from_lengths(&SizeList::Cycle(vec![18]), Framing::default()).unwrap();
    let schedule = Schedule::new(sizes, vec![0], Some(10_000.0), Some(130)).in_bursts(Some(50));
    let (filler, emptier) = handover(|| TxTally::new(0));
    let mut taken = Vec::new();
    let queue = Log { batch: 64, segments: 1, room: 64, taken: &mut taken, done: 0 };
    let (_, broken) = run(
        queue,
        TxJob { run: 1, rtp: None, iperf2: None, schedule, duration: None },
        filler,
        &Stop::default(),
    );
    drop(emptier);
    assert!(broken.is_none());
    assert_eq!(taken.iter().map(|(_, packets)| *packets).collect::<Vec<_>>(), [50, 50, 30]);
}
