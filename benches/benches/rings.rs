//! What a packet costs in the AF_XDP datapath itself: queues connected in memory, no kernel and no NIC.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wirerate_benches::spec;
use wirerate_engine::observe::{Observer, ObserverSpec};
use wirerate_engine::queue::memory::{Fate, pair, pair_with};
use wirerate_engine::queue::ring;
use wirerate_engine::queue::{Receive, Run, RxMeta, Sink, Stamper, Transmit, Wait};

const BATCH: u16 = 64;

/// Takes datagrams and does nothing with them.
struct Count(u64);

impl Sink for Count {
    fn run(&mut self, _: &RxMeta, _: &[u8], _: usize, count: usize) {
        self.0 += count as u64;
    }
}

fn rings(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    for batch in [1u32, 64] {
        group.throughput(Throughput::Elements(batch.into()));
        group.bench_with_input(BenchmarkId::new("there and back", batch), &batch, |b, &batch| {
            let (mut producer, mut consumer) = ring::in_memory::<u64>(2048, 0);
            b.iter(|| {
                producer.reserve(batch);
                for n in 0..batch {
                    producer.write(n.into());
                }
                producer.commit();
                consumer.available(batch);
                while let Some(n) = consumer.read() {
                    std::hint::black_box(n);
                }
                consumer.release();
            });
        });
    }
    group.finish();
}

/// One flow stamps frames that hold its packets already; many flows rewrite headers.
fn transmit(c: &mut Criterion) {
    let mut group = c.benchmark_group("transmit");
    group.throughput(Throughput::Elements(BATCH.into()));
    for (flows, len) in [(1, 18), (1, 1472), (16, 18), (16, 1472)] {
        group.bench_function(BenchmarkId::new(format!("{flows} flows"), len), |b| {
            let (mut tx, _rx) = pair_with(&spec(flows, len), |_| Fate::Drop).unwrap();
            let mut stamper = Stamper::new(1);
            let mut next = 0;
            b.iter(|| {
                let run = |flow| Run {
                    flow,
                    len,
                    count: BATCH / flows,
                    first_seq: next * u64::from(BATCH / flows),
                };
                let runs: [Run; 16] = std::array::from_fn(|n| run(n as u16 % flows));
                let taken = tx.submit(&runs[..usize::from(flows)], &mut stamper).unwrap();
                assert_eq!(taken, usize::from(BATCH));
                next += 1;
                tx.reap(Wait::No).unwrap()
            });
        });
    }
    group.finish();
}

fn both(c: &mut Criterion) {
    let mut group = c.benchmark_group("transmit and receive");
    group.throughput(Throughput::Elements(BATCH.into()));
    for len in [18, 1472] {
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            let (mut tx, mut rx) = pair(&spec(1, len)).unwrap();
            let mut stamper = Stamper::new(1);
            let mut sink = Count(0);
            let mut first_seq = 0;
            b.iter(|| {
                let taken =
                    tx.submit(&[Run { flow: 0, len, count: BATCH, first_seq }], &mut stamper).unwrap();
                first_seq += taken as u64;
                tx.reap(Wait::No).unwrap();
                rx.poll(&mut sink, Wait::No).unwrap()
            });
            assert_eq!(sink.0, first_seq);
        });
    }
    group.finish();
}

/// As `both`, with the observer behind: what a receive worker does with each frame, beside the sender.
fn checked(c: &mut Criterion) {
    let mut group = c.benchmark_group("transmit, receive and check");
    group.throughput(Throughput::Elements(BATCH.into()));
    for len in [18, 64, 1472] {
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            let (mut tx, mut rx) = pair(&spec(1, len)).unwrap();
            let mut stamper = Stamper::new(1);
            let mut observer = Observer::new(ObserverSpec::default());
            let mut first_seq = 0;
            b.iter(|| {
                let taken =
                    tx.submit(&[Run { flow: 0, len, count: BATCH, first_seq }], &mut stamper).unwrap();
                first_seq += taken as u64;
                tx.reap(Wait::No).unwrap();
                rx.poll(&mut observer, Wait::No).unwrap()
            });
            assert_eq!(observer.packets(), first_seq);
        });
    }
    group.finish();
}

/// What a receive worker does with each frame of streams that take turns. Without the sender, which is not measured: instructions do not show what is not in the cache.
fn in_turn(c: &mut Criterion) {
    let mut group = c.benchmark_group("receive streams in turn");
    group.throughput(Throughput::Elements(BATCH.into()));
    for streams in [1u16, 16, 10_000] {
        group.bench_function(BenchmarkId::from_parameter(streams), |b| {
            let (mut tx, mut rx) = pair(&spec(streams, 64)).unwrap();
            let mut stamper = Stamper::new(1);
            let mut observer = Observer::new(ObserverSpec::default());
            let (mut sent, turn) = (0, u64::from(streams));
            let mut receive = |observer: &mut Observer| {
                let runs: Vec<_> = (sent..sent + u64::from(BATCH))
                    .map(|n| Run { flow: (n % turn) as u16, len: 64, count: 1, first_seq: n / turn })
                    .collect();
                assert_eq!(tx.submit(&runs, &mut stamper).unwrap(), runs.len());
                tx.reap(Wait::No).unwrap();
                sent += u64::from(BATCH);
                let start = Instant::now();
                rx.poll(observer, Wait::No).unwrap();
                start.elapsed()
            };
            // Every stream is known, and has come again.
            for _ in 0..3 * turn.div_ceil(BATCH.into()) {
                receive(&mut observer);
            }
            b.iter_custom(|batches| (0..batches).map(|_| receive(&mut observer)).sum());
            assert_eq!(observer.packets(), sent);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = rings, transmit, both, checked, in_turn
}
criterion_main!(benches);
