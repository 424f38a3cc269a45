//! What a look at the clock costs.
#![forbid(unsafe_code)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use wirerate_engine::clock::{Quick, tai_ns};
use wirerate_engine::pacing::Pacer;

fn clocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("clock");
    group.bench_function("vDSO", |b| b.iter(|| black_box(tai_ns())));
    let mut quick = Quick::new();
    std::thread::sleep(std::time::Duration::from_millis(50));
    quick.anchor();
    group.bench_function("counter", |b| b.iter(|| black_box(quick.now_ns())));
    let mut pacer = Pacer::new(20e6, 0);
    let mut now_ns = 0;
    group.bench_function("pacer", |b| {
        b.iter(|| {
            now_ns += 25;
            let due = pacer.due(black_box(now_ns));
            pacer.sent(due);
            due
        })
    });
    group.finish();
}

criterion_group!(benches, clocks);
criterion_main!(benches);
