//! The workers themselves, sender to receiver, over queues in plain memory: what the wire does to the packets is
//! what the report says, to the packet.

use std::sync::Arc;
use std::thread;

use crate::clock;
use crate::control::Stop;
use crate::generate::worker::TxJob;
use crate::generate::{schedule::Schedule, worker as sender};
use crate::measure::handover::handover;
use crate::measure::tally::{RxTally, TxTally};
use crate::observe::{Observer, ObserverSpec, worker as receiver};
use crate::packet::probe::{Kind, Probe};
use crate::profile::payload::Payload;
use crate::profile::segments::Segments;
use crate::profile::size::{Framing, SizeList, Sizes};
use crate::queue::memory::{Fate, pair_with};
use crate::queue::{Flow, Tuning, TxSpec};
use crate::report::{Rx, RxCollector, Tx, TxCollector};

/// Offset of the UDP payload in an IPv4 frame without tags.
const PAYLOAD: usize = 42;

/// Sends `count` packets over `streams` streams; `fate` decides on each by its stream and number. Messages pass.
fn run(streams: u16, count: u64, fate: impl Fn(u16, u64) -> Fate + Send + 'static) -> (Tx, Rx) {
    let flow = |stream: u16| Flow {
        stream,
        source: ([192, 0, 2, 1], 1000 + stream).into(),
        destination: ([239, 1, 2, 3], 5001).into(),
        destination_mac: [1, 0, 0x5e, 1, 2, 3],
    };
    let spec = TxSpec {
        interface: None,
        queue: 0,
        flows: (0..streams).map(flow).collect(),
        ttl: 1,
        dscp: 0,
        fragment: false,
        vlan: None,
        rtp: None,
        iperf2: false,
        payload: Arc::new(Payload::pattern()),
        max_payload: 200,
        segments: Segments::Auto,
        txtime: None,
        tuning: Tuning::default(),
    };
    let (tx, rx) = pair_with(&spec, move |frame| match Probe::parse(&frame[PAYLOAD..]) {
        Ok(Probe { kind: Kind::Data, stream, sequence, .. }) => fate(stream, sequence),
        _ => Fate::Pass,
    })
    .unwrap();
    let sizes = Sizes::from_lengths(&SizeList::Cycle(vec![18, 100, 200]), Framing::default()).unwrap();
    // Slower than the receiver, which so never runs out of frames.
    let schedule = Schedule::new(sizes, (0..streams).collect(), Some(200_000.0), Some(count));
    let job = TxJob { run: 7, rtp: None, iperf2: None, schedule, duration: None };

    let stop = Stop::default();
    let (rx_filler, rx_emptier) = handover(|| RxTally::new(0));
    let (tx_filler, tx_emptier) = handover(|| TxTally::new(0));
    let ready_ns = clock::tai_ns();
    let receiving = {
        let stop = stop.clone();
        thread::spawn(move || {
            let observer = Observer::new(ObserverSpec { ready_ns, ..ObserverSpec::default() });
            receiver::run(rx, observer, rx_filler, &stop)
        })
    };
    let (last, broken) = sender::run(tx, job, tx_filler, &Stop::default());
    assert!(broken.is_none(), "{broken:?}");
    let mut sent = TxCollector::new();
    tx_emptier.drain(|t| sent.absorb(t));
    sent.absorb(&last);

    stop.request();
    let (last, broken) = receiving.join().unwrap();
    assert!(broken.is_none(), "{broken:?}");
    let mut received = RxCollector::new();
    received.clocks().look();
    rx_emptier.drain(|t| received.absorb(t));
    received.absorb(&last);
    assert!(received.streams().iter().all(|s| s.end.is_some()), "every stream has said its end");
    (sent.finish(), received.finish())
}

#[test]
fn a_perfect_wire() {
    let (tx, rx) = run(3, 10_000, |_, _| Fate::Pass);
    assert_eq!((tx.packets, tx.errors, tx.messages), (10_000, 0, 3 + 15));
    assert_eq!((rx.packets, rx.unique, rx.lost, rx.lost_tail), (10_000, 10_000, 0, 0));
    assert_eq!((rx.payload_bytes, rx.frame_bytes), (tx.payload_bytes, tx.frame_bytes));
    assert_eq!(rx.streams.iter().map(|s| s.unique).collect::<Vec<_>>(), [3334, 3333, 3333]);
    assert_eq!(rx.latency_ns.unwrap().count, 10_000);
    // One gap less than hand-overs, none of which was longer than the pace allows.
    let departures = tx.inter_departure_ns.unwrap();
    assert!((10_000 / 20 - 1..10_000).contains(&departures.count), "{departures:?}");
    let arrivals = rx.inter_arrival_ns.unwrap();
    assert!((1..10_000).contains(&arrivals.count), "{arrivals:?}");
    assert!(tx.burst.max <= 20, "more than 100 µs' worth at once: {:?}", tx.burst);
}

#[test]
fn what_the_wire_does_is_what_the_report_says() {
    let fate = |stream: u16, n: u64| match (stream, n) {
        // The start, the end, a hole of fifty, and now and then one of each kind.
        (0, 0..3) | (0, 4_990..) => Fate::Drop,
        (1, 1_000..1_050) => Fate::Drop,
        (_, n) if n % 500 == 77 => Fate::Drop,
        (_, n) if n % 500 == 177 => Fate::Twice,
        _ => Fate::Pass,
    };
    let (tx, rx) = run(2, 10_000, fate);
    assert_eq!(tx.packets, 10_000);
    let stream = |id: usize| &rx.streams[id];
    assert_eq!((stream(0).lost, stream(0).lost_tail), (3 + 10, 10));
    assert_eq!((stream(1).lost, stream(1).lost_tail), (50 + 10, 0));
    assert_eq!((rx.duplicate, rx.reordered, rx.late), (20, 0, Some(0)));
    assert_eq!(rx.unique + rx.lost + rx.lost_tail, 10_000);
    assert_eq!(rx.packets, rx.unique + rx.duplicate);
}

#[test]
fn overtaken_packets_are_reordered_and_not_lost() {
    let fate = |_, n: u64| if n % 500 == 277 { Fate::Late } else { Fate::Pass };
    let (_, rx) = run(1, 5_000, fate);
    assert_eq!((rx.unique, rx.lost, rx.duplicate, rx.reordered, rx.late), (5_000, 0, 0, 10, Some(0)));
}

#[test]
fn a_stream_of_which_only_the_end_arrives_is_lost() {
    let (_, rx) = run(1, 1_000, |_, _| Fate::Drop);
    assert_eq!((rx.packets, rx.lost + rx.lost_tail), (0, 1_000));
}
