//! The hot paths do not allocate: counted, not believed.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wirerate_engine::measure::tally::RxTally;
use wirerate_engine::observe::{Observer, ObserverSpec};
use wirerate_engine::packet::rtp::{HEADER_LEN, Header};
use wirerate_engine::profile::payload::Payload;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::queue::memory::pair;
use wirerate_engine::queue::{Flow, Receive, Run, RxMeta, Sink, Stamper, Transmit, Tuning, TxSpec, Wait};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Sends and receives `batches` batches of 64 packets and hands over a tally, as the workers do.
fn rounds(
    tx: &mut impl Transmit,
    rx: &mut impl Receive,
    observer: &mut Observer,
    tally: &mut RxTally,
    batches: std::ops::Range<u64>,
) {
    let mut stamper = Stamper::new(1);
    for batch in batches {
        let mut runs = [Run { flow: 0, len: 100, count: 64, first_seq: batch * 64 }];
        stamper.refresh();
        while runs[0].count > 0 {
            let taken = tx.submit(&runs, &mut stamper).unwrap();
            runs[0].count -= taken as u16;
            runs[0].first_seq += taken as u64;
            tx.reap(Wait::No).unwrap();
            while rx.poll(observer, Wait::No).unwrap() > 0 {}
        }
    }
    observer.tally(tally);
}

#[test]
fn sending_and_receiving_allocate_nothing_once_a_stream_is_known() {
    let flow = Flow {
        stream: 0,
        source: ([192, 0, 2, 1], 1000).into(),
        destination: ([239, 1, 2, 3], 5001).into(),
        destination_mac: [1, 0, 0x5e, 1, 2, 3],
    };
    let spec = TxSpec {
        interface: None,
        queue: 0,
        flows: vec![flow],
        ttl: 1,
        dscp: 0,
        fragment: false,
        vlan: None,
        rtp: None,
        iperf2: false,
        payload: Arc::new(Payload::pattern()),
        max_payload: 100,
        segments: Segments::Auto,
        txtime: None,
        tuning: Tuning::default(),
    };
    let (mut tx, mut rx) = pair(&spec).unwrap();
    let mut observer = Observer::new(ObserverSpec::default());
    let mut tally = RxTally::new(0);
    rounds(&mut tx, &mut rx, &mut observer, &mut tally, 0..100);

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    rounds(&mut tx, &mut rx, &mut observer, &mut tally, 100..1_100);
    let after = ALLOCATIONS.load(Ordering::Relaxed);
    assert_eq!(tally.counters.unique, 1_100 * 64);
    assert_eq!(after - before, 0, "allocations in 64,000 packets");
    media();
}

/// Gives `observer` a packet of each of a hundred RTP sources with a transport stream in it, and hands over a tally.
fn sources(observer: &mut Observer, tally: &mut RxTally, sequence: u16) {
    let mut bytes = [0; HEADER_LEN + 188];
    bytes[HEADER_LEN..HEADER_LEN + 4].copy_from_slice(&[0x47, 1, 0, 0x10 | sequence as u8 & 0x0f]);
    let meta = RxMeta {
        source: ([192, 0, 2, 1], 1000).into(),
        destination: ([239, 1, 2, 3], 5004).into(),
        arrived_ns: 1_800_000_000_000_000_000 + u64::from(sequence) * 20_000_000,
        overhead: 46,
        frames: 1,
    };
    for ssrc in 0..100 {
        let timestamp = u32::from(sequence) * 1800;
        Header { marker: false, payload_type: 33, sequence, timestamp, ssrc }.emit(&mut bytes);
        observer.run(&meta, &bytes, bytes.len(), 1);
    }
    observer.tally(tally);
}

/// Called by the one test: the count is of the whole process.
fn media() {
    let mut observer = Observer::new(ObserverSpec::default());
    let mut tally = RxTally::new(0);
    let mut given = |numbers: std::ops::Range<u16>| {
        numbers.filter(|n| n % 10 != 5).for_each(|sequence| sources(&mut observer, &mut tally, sequence));
    };
    // The first that is missing opens the tracker's window.
    given(0..20);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    given(20..500);
    let after = ALLOCATIONS.load(Ordering::Relaxed);
    assert_eq!((tally.streams.len(), tally.counters.packets, tally.counters.lost), (100, 45_000, 5_000));
    // What is missing is remembered in memory that doubles: a dozen times for each source, and never for a packet.
    assert!(after - before <= 1200, "{} allocations in 43,200 packets of 100 sources", after - before);
}
