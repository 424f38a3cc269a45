//! A fixed amount of work for callgrind to count the instructions of; `scripts/instructions` runs it twice and divides the difference.
//!
//! `instructions drain LENGTH 1` measures times instead, with the kernel's part: see [`drain`].
//!
//! `instructions WHAT LENGTH PACKETS`, with the UDP payload's length in bytes. What is counted stands in functions that are not inlined:
//! [`receive`], [`check`] and [`stamp`] here, `wake_tx` of the wire in memory, which plays the kernel and is taken off what sending costs.
//!
//! Where they go, frame by frame: in sending, 35 into the frame (which it is, what it holds, stamp, descriptor), 13 into taking it back, the rest is a batch's share; in receiving, 14 into
//! the descriptor and whether it is within the frames, 10 into comparing the headers, 18 into comparing and moving on the probe header, 9 into the fill ring, 20 are a batch's share of
//! reading its first frame and of entering the figures, and of those 4 the jitter, which cannot be worked out for many at once.
//!
//! Where streams take turns, in receiving: 14 into the descriptor, 15 into seeing that the frame is laid out as the last one, 32 into finding the stream and comparing what is known of it, 13 into
//! the check, 13 into whether another stream's turn and the times are those of the packet before, 25 into the jitter and the number, 9 into the fill ring, 10 are the batch's share.

mod drain;

use std::hint::black_box;
use std::process::ExitCode;

use wirerate_benches::{spec, spec_to_groups};
use wirerate_engine::generate::send_on;
use wirerate_engine::observe::{Observer, ObserverSpec};
use wirerate_engine::profile::size::{Framing, SizeList, Sizes};
use wirerate_engine::queue::memory::{Fate, pair, pair_with};
use wirerate_engine::queue::{Receive, Run, RxMeta, Sink, Stamper, Transmit, TxSpec, Wait};

/// Groups of a receiver of many.
const GROUPS: u16 = 1000;

const BATCH: u16 = 64;
/// Segments of a super-buffer.
const SEGMENTS: usize = 64;

/// The send worker as it is: schedule, frames, stamps, rings. Without a pace, or with one that never makes it wait.
fn transmit(streams: u16, length: u16, packets: u64, pps: Option<f64>) {
    let (tx, _rx) = pair_with(&spec(streams, length), |_| Fate::Drop).expect("a pair in memory");
    let sizes = Sizes::from_lengths(&SizeList::Cycle(vec![length.into()]), Framing::default())
        .expect("a length that fits");
    let (tally, broken) = send_on(tx, sizes, streams, pps, packets);
    assert!(broken.is_none() && tally.packets == packets, "{tally:?}");
}

/// Each datagram in a frame of its own: ring, frame, header, figures. So many of a flow come in a row.
fn receive_frames(spec: &TxSpec, in_a_row: u64, length: u16, packets: u64) {
    let flows = spec.flows.len();
    let (mut tx, mut rx) = pair(spec).expect("a pair in memory");
    let mut observer = Observer::new(ObserverSpec::default());
    let mut stamper = Stamper::new(1);
    let turn = flows as u64 * in_a_row;
    for first in (0..packets).step_by(BATCH.into()) {
        // In turn, as the schedule has it.
        let runs: Vec<_> = (first..first + u64::from(BATCH))
            .map(|n| {
                let first_seq = n / turn * in_a_row + n % in_a_row;
                Run { flow: (n % turn / in_a_row) as u16, len: length, count: 1, first_seq }
            })
            .collect();
        assert_eq!(tx.submit(&runs, &mut stamper).expect("a queue that works"), runs.len());
        tx.reap(Wait::No).expect("a queue that works");
        receive(&mut rx, &mut observer);
    }
    assert_eq!(observer.packets(), packets);
}

#[inline(never)]
fn receive<R: Receive>(rx: &mut R, observer: &mut Observer) {
    while rx.poll(observer, Wait::No).expect("a queue that works") > 0 {}
}

/// Super-buffers as a socket with GRO delivers them, of streams in turn, which are of one group each or of the same.
fn check_segments(streams: u16, by_group: bool, length: u16, packets: u64) {
    let stride = usize::from(length);
    let mut buf = vec![0; stride * SEGMENTS];
    let mut observer = Observer::new(ObserverSpec::default());
    let mut stamper = Stamper::new(1);
    for buffer in 0..packets / SEGMENTS as u64 {
        let sent_ns = stamper.refresh();
        let (turn, stream) = (buffer / u64::from(streams), buffer % u64::from(streams));
        stamp(&stamper, &mut buf, stride, stream as u16, turn * SEGMENTS as u64);
        let meta = RxMeta {
            source: ([192, 0, 2, 1], 1000).into(),
            destination: if by_group {
                let [high, low] = (stream as u16).to_be_bytes();
                ([239, 1, high, low], 5001).into()
            } else {
                ([239, 1, 2, 3], 5001).into()
            },
            arrived_ns: sent_ns + 10_000,
            overhead: 46,
            frames: 1,
        };
        check(&mut observer, &meta, &buf, stride);
    }
    assert_eq!(observer.packets(), packets);
}

/// What sending a super-buffer costs before the kernel has it: its headers.
#[inline(never)]
fn stamp(stamper: &Stamper, buf: &mut [u8], stride: usize, stream: u16, first: u64) {
    stamper.stamp_run(black_box(buf), stride, SEGMENTS, stream, first);
}

#[inline(never)]
fn check(observer: &mut Observer, meta: &RxMeta, buf: &[u8], stride: usize) {
    observer.run(meta, black_box(buf), stride, SEGMENTS);
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [what, length, packets] = &args[..] else {
        eprintln!("usage: instructions WHAT LENGTH PACKETS");
        return ExitCode::from(2);
    };
    let (Ok(length), Ok(packets)) = (length.parse(), packets.parse()) else {
        eprintln!("LENGTH and PACKETS are whole numbers");
        return ExitCode::from(2);
    };
    match what.as_str() {
        "tx" => transmit(1, length, packets, None),
        "tx-paced" => transmit(1, length, packets, Some(100e6)),
        "tx-16" => transmit(16, length, packets, None),
        "rx" => receive_frames(&spec(1, length), 1, length, packets),
        "rx-16" => receive_frames(&spec(16, length), 1, length, packets),
        "rx-10000" => receive_frames(&spec(10_000, length), 1, length, packets),
        "rx-groups" => receive_frames(&spec_to_groups(GROUPS, length), 1, length, packets),
        "rx-groups-runs" => receive_frames(&spec_to_groups(GROUPS, length), 16, length, packets),
        "tx-gso" | "rx-gro" => check_segments(1, false, length, packets),
        "rx-gro-10000" => check_segments(10_000, false, length, packets),
        "rx-gro-groups" => check_segments(GROUPS, true, length, packets),
        "drain" => {
            if let Err(error) = drain::run(GROUPS, length) {
                eprintln!("instructions: {error}");
                return ExitCode::FAILURE;
            }
        }
        _ => {
            eprintln!("unknown: {what}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
