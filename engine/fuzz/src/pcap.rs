//! Captures: no bytes panic, and what is counted in the intervals is what is counted in all.

use std::path::Path;
use std::time::Duration;

use wirerate_engine::observe::{FormatChoice, RecvConfig, analyse_from};

/// Reads `input`: what to count, and behind that the capture.
pub fn check(input: &[u8]) {
    let Some((choice, capture)) = input.split_first() else { return };
    let target = if choice & 8 == 0 { "0.0.0.0:5004" } else { "[::]:5004" };
    let formats = [
        FormatChoice::Auto,
        FormatChoice::Wirerate,
        FormatChoice::Iperf2,
        FormatChoice::Raw,
        FormatChoice::Rtp,
        FormatChoice::Ts,
    ];
    let config = RecvConfig {
        format: formats[usize::from(choice & 7) % formats.len()],
        // An interval is at least that long; times of a capture may be anything.
        interval: Duration::from_millis(100),
        count: (choice & 16 != 0).then_some(3),
        duration: (choice & 32 != 0).then_some(Duration::from_secs(1)),
        ..RecvConfig::new(target.parse().expect("a target"))
    };
    let Ok(outcome) = analyse_from(&config, capture, Path::new("capture"), &mut |_| ()) else { return };
    let rx = outcome.report.rx.expect("a receiver's report");
    assert_eq!(rx.packets, rx.unique + rx.duplicate);
    // Each datagram has headers in the capture.
    assert!((rx.packets + rx.foreign + rx.corrupt) * 28 <= capture.len() as u64);
    let intervals = outcome.report.intervals.iter();
    let of_intervals: u64 = intervals.filter_map(|interval| interval.rx.as_ref()).map(|rx| rx.packets).sum();
    assert_eq!(of_intervals, rx.packets);
    assert_eq!(rx.streams.iter().map(|stream| stream.packets).sum::<u64>(), rx.packets);
}
