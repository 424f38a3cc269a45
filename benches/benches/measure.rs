//! What one packet costs besides its queue: the sequence tracker, the probe header, the whole observer, the pacer.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wirerate_engine::measure::sequence::{Tracker, When};
use wirerate_engine::observe::{FormatChoice, Observer, ObserverSpec};
use wirerate_engine::pacing::Pacer;
use wirerate_engine::packet::probe::{LEN, Probe};
use wirerate_engine::profile::payload::Payload;
use wirerate_engine::queue::{RxMeta, Sink, Stamper};

const PACKETS: u64 = 4096;
const START_NS: u64 = 1_800_000_000_000_000_000;

/// What becomes of a number on its way: another one, or none.
type Fate = fn(u64) -> Option<u64>;

fn tracker(c: &mut Criterion) {
    let mut group = c.benchmark_group("tracker");
    group.throughput(Throughput::Elements(PACKETS));
    let cases: [(&str, Fate); 4] = [
        ("in order", Some),
        ("1 in 100 lost", |n| (n % 100 != 7).then_some(n)),
        ("pairs swapped", |n| Some(n ^ 1)),
        ("every one twice", |n| Some(n / 2)),
    ];
    for (name, fate) in cases {
        group.bench_function(name, |b| {
            let mut tracker: Tracker = Tracker::default();
            let mut next = 0;
            b.iter(|| {
                for n in (next..next + PACKETS).filter_map(fate) {
                    black_box(tracker.arrive(n, &When::default()));
                }
                next += PACKETS;
            });
        });
    }
    group.finish();
}

/// Buffers of `segments` datagrams of `length` bytes on `streams` streams in turn, one buffer a stream.
fn observer(c: &mut Criterion) {
    let mut group = c.benchmark_group("observer");
    group.throughput(Throughput::Elements(PACKETS));
    for (name, streams, segments, length, verify) in [
        ("one stream, single datagrams", 1, 1, 64, false),
        ("one stream, 64 segments", 1, 64, 64, false),
        ("one stream, 64 segments of 1448 bytes", 1, 64, 1448, false),
        ("256 streams in turn", 256, 1, 64, false),
        ("1472 bytes, verified", 1, 1, 1472, true),
    ] {
        group.bench_function(name, |b| {
            let verify = verify.then(|| Payload::pattern().into());
            let mut observer = Observer::new(ObserverSpec {
                format: FormatChoice::Auto,
                ready_ns: 0,
                verify,
                ..ObserverSpec::default()
            });
            let meta = RxMeta {
                source: "10.0.0.1:40000".parse().expect("an address"),
                destination: "239.1.2.3:5001".parse().expect("an address"),
                arrived_ns: START_NS + 10_000,
                overhead: 46,
                frames: 1,
            };
            let mut buf = vec![0; length * segments];
            buf.chunks_exact_mut(length).for_each(|p| Payload::pattern().fill(0, &mut p[LEN..]));
            let stamper = Stamper::new(1);
            let mut sequence = 0;
            b.iter(|| {
                let mut left = PACKETS as usize;
                while left > 0 {
                    for stream in 0..streams {
                        // As a super-buffer was sent: its headers are part of what is measured.
                        stamper.stamp_run(&mut buf, length, segments, stream, sequence);
                        observer.run(&meta, &buf, length, segments);
                        left -= segments;
                    }
                    sequence += segments as u64;
                }
            });
            black_box(observer.packets());
        });
    }
    group.finish();
}

/// A pacer that is asked as a worker asks it: once a batch.
fn pacing(c: &mut Criterion) {
    let mut group = c.benchmark_group("pacing");
    group.throughput(Throughput::Elements(PACKETS));
    for pps in [1e6, 20e6] {
        group.bench_function(format!("{} Mpps", pps / 1e6), |b| {
            let mut now = START_NS;
            let mut pacer = Pacer::new(pps, now);
            b.iter(|| {
                let mut sent = 0;
                while sent < PACKETS {
                    now += 1_000;
                    let due = pacer.due(black_box(now));
                    pacer.sent(due);
                    sent += u64::from(due);
                }
            });
        });
    }
    group.finish();
}

/// Headers alone: one by one, and in a buffer of segments.
fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("headers");
    const SEGMENTS: usize = 128;
    group.throughput(Throughput::Elements(SEGMENTS as u64));
    let stamper = Stamper::new(1);
    for length in [64, 1448] {
        let mut buf = vec![0; length * SEGMENTS];
        let mut next = 0;
        group.bench_function(format!("stamp, {length} bytes"), |b| {
            b.iter(|| {
                for payload in black_box(&mut buf[..]).chunks_exact_mut(length) {
                    stamper.stamp(payload, 0, next);
                    next += 1;
                }
            });
        });
        group.bench_function(format!("stamp_run, {length} bytes"), |b| {
            b.iter(|| {
                stamper.stamp_run(black_box(&mut buf[..]), length, SEGMENTS, 0, next);
                next += SEGMENTS as u64;
            });
        });
        group.bench_function(format!("parse, {length} bytes"), |b| {
            b.iter(|| black_box(&buf[..]).chunks_exact(length).all(|payload| Probe::parse(payload).is_ok()));
        });
    }
    group.finish();
}

criterion_group!(benches, tracker, headers, observer, pacing);
criterion_main!(benches);
