//! The sequence tracker with any arrivals: its counts are those of a model that remembers every number.

use std::collections::HashSet;

use wirerate_engine::measure::sequence::{Arrival, MAX_NUMBER, Tracker, When};
use wirerate_engine::measure::tally::RxCounters;

use super::script::Script;

/// Numbers of the window that all trackers here have.
const WINDOW: u64 = 128;

/// Numbers stay below this, so that the model can count those that are missing.
const SMALL: u64 = 1 << 14;

/// Times tell how long an outage was, and nothing else.
const NEVER: When = When { first_ns: 0, last_ns: 0, now_ns: 0, sent_gap_ns: None };

/// Lets the numbers that `input` chooses arrive.
pub fn check(input: &[u8]) {
    with_model(input);
    with_anything(input);
}

fn counters<const R: usize>(tracker: &Tracker<2, R>) -> RxCounters {
    let mut counters = RxCounters::default();
    tracker.counters(&mut counters);
    counters
}

/// Steps near the highest number, as a network makes them.
fn with_model(input: &[u8]) {
    let mut script = Script::new(input);
    let mut exact = Tracker::<2, 1_000_000>::default();
    let mut forgetful = Tracker::<2, 2>::default();
    let mut seen = HashSet::new();
    let (mut first, mut highest, mut duplicate) = (0, 0, 0);
    while !script.is_over() {
        let step = script.byte();
        let n = match step {
            0..=199 => exact.next(),
            200..=219 => exact.next() + u64::from(step - 199) * 8,
            220..=239 => exact.next().saturating_sub(u64::from(script.byte())),
            240..=254 => exact.next().saturating_sub(u64::from(script.word())),
            255 => exact.next() + u64::from(script.word() % 512),
        };
        if n >= SMALL {
            break;
        }
        let arrival = exact.arrive(n, &NEVER);
        forgetful.arrive(n, &NEVER);
        if seen.is_empty() {
            (first, highest) = (n, n);
        }
        let expected = if !seen.insert(n) {
            duplicate += 1;
            Arrival::Duplicate
        } else if n >= highest {
            Arrival::InOrder
        } else if highest - n < WINDOW {
            Arrival::Reordered
        } else {
            Arrival::Late
        };
        assert_eq!(arrival, expected, "number {n}");
        highest = highest.max(n);
    }
    let missing = |from: u64, to: u64| (from..to).filter(|n| !seen.contains(n)).count() as u64;
    let (before, gaps) = if seen.is_empty() { (0, 0) } else { (missing(0, first), missing(first, highest)) };
    let got = counters(&exact);
    assert_eq!((got.unique, got.duplicate, got.undecided), (seen.len() as u64, duplicate, 0));
    assert_eq!((got.lost, got.before_start), (gaps, before));
    // What was forgotten makes late ones copies, and says so.
    let doubtful = counters(&forgetful);
    let mistaken = got.unique - doubtful.unique;
    assert_eq!(doubtful.packets, got.packets);
    assert_eq!(doubtful.lost + doubtful.before_start, gaps + before + mistaken);
    assert!(mistaken <= doubtful.undecided);
    exact.end(highest + 10, true);
    let ended = counters(&exact);
    let tail = if seen.is_empty() { 10 } else { 9 };
    assert_eq!((ended.lost, ended.before_start, ended.lost_tail), (gaps + before, 0, tail));
}

/// Any number at all, and stretches.
fn with_anything(input: &[u8]) {
    let mut script = Script::new(input);
    let mut tracker = Tracker::<2, 4>::default();
    let mut packets = 0;
    while !script.is_over() {
        match script.byte() {
            0..=99 => {
                let count = u64::from(script.byte());
                if tracker.next() < MAX_NUMBER - 255 {
                    tracker.follow(count);
                    packets += count;
                }
            }
            100..=199 => {
                tracker.arrive(script.long(), &NEVER);
                packets += 1;
            }
            200..=239 => {
                tracker
                    .arrive(tracker.near().saturating_add_signed(script.word().cast_signed().into()), &NEVER);
                packets += 1;
            }
            240..=249 => tracker.end(script.long(), script.byte() & 1 == 0),
            _ => tracker.end_at_most(script.long()),
        }
        let got = counters(&tracker);
        assert_eq!((got.packets, got.unique + got.duplicate), (packets, packets));
        assert!(got.late <= got.reordered && got.reordered <= got.unique);
        assert!(got.undecided <= got.duplicate);
        // Each number up to the highest is received or missing.
        assert_eq!(got.unique + got.lost + got.before_start, tracker.next());
    }
}
