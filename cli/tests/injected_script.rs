//! A sender of our own that loses, copies and reorders by a known script: what each datapath counts is what the script's definitions give.

use std::collections::HashSet;
use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use wirerate_engine::clock::tai_ns;
use wirerate_engine::lab::{Host, INTERFACE, Lab};
use wirerate_engine::packet::probe::{End, Kind, MESSAGE_LEN, Message, Probe};

mod common;

use common::Running;

const TARGET: &str = "udp://10.77.0.11:5001";
const NUMBERS: u64 = 120_000;
const STREAM: u16 = 5;

/// Numbers in the order in which they are sent.
struct Script(Vec<u64>);

/// Pseudo-random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

impl Script {
    /// Losses singly and in bursts, neighbours swapped, datagrams held back singly and by the dozen, copies soon and late. With `far`, some are held
    /// back further than the window of 65,536.
    fn new(seed: u64, far: bool) -> Self {
        let (mut dice, mut sent) = (Dice(seed), Vec::new());
        // Where each is to stand: its number, and a little more for those held back. A stable sort does the rest.
        let mut n = 10;
        while n < NUMBERS - 30 {
            match dice.below(1000) {
                0..3 => n += 1 + dice.below(3),
                3 => n += 50,
                4..10 => {
                    sent.extend([(n + 1, n), (n, n + 1)].map(|(place, number)| (place * 2, number)));
                    n += 2;
                }
                10..14 => {
                    let (length, back) = (1 + dice.below(12), 3 + dice.below(300));
                    sent.extend((n..n + length).map(|number| ((number + back) * 2 + 1, number)));
                    n += length;
                }
                14..18 => {
                    let again = dice.below(400);
                    sent.extend([(n * 2, n), ((n + again) * 2 + 1, n)]);
                    n += 1;
                }
                18 if far && n < NUMBERS - 80_000 && dice.below(4) == 0 => {
                    sent.push(((n + 70_000) * 2 + 1, n));
                    n += 1;
                }
                _ => {
                    sent.push((n * 2, n));
                    n += 1;
                }
            }
        }
        sent.sort_by_key(|(place, _)| *place);
        Self(sent.into_iter().map(|(_, number)| number).collect())
    }

    /// Sends it as stream `STREAM` of `run`, gently, and then its end.
    fn send(&self, host: &Host, run: u32) {
        host.netns.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect("10.77.0.11:5001").unwrap();
            let mut payload = [0; MESSAGE_LEN];
            let probe = |kind, sequence| Probe {
                kind,
                run,
                stream: STREAM,
                sequence,
                time: tai_ns() & ((1 << 40) - 1),
            };
            let first_ns = tai_ns();
            for (sent, number) in self.0.iter().enumerate() {
                probe(Kind::Data, *number).emit(&mut payload);
                assert_eq!(socket.send(&payload).unwrap(), payload.len());
                if sent % 32 == 31 {
                    sleep(Duration::from_micros(300));
                }
            }
            let end = End { issued: NUMBERS, failed: 0, first_ns, last_ns: tai_ns() };
            for _ in 0..5 {
                probe(Kind::End, NUMBERS).emit(&mut payload);
                Message { end, ..Message::default() }.emit(&mut payload[..MESSAGE_LEN]);
                socket.send(&payload[..MESSAGE_LEN]).unwrap();
                sleep(Duration::from_millis(5));
            }
        });
    }

    /// What has to be counted, by the definitions.
    fn expected(&self) -> Expected {
        let (mut seen, mut unique) = (HashSet::new(), Vec::new());
        self.0.iter().filter(|n| seen.insert(**n)).for_each(|n| unique.push(*n));
        let mut want = Expected {
            unique: unique.len() as u64,
            duplicate: (self.0.len() - unique.len()) as u64,
            ..Expected::default()
        };
        // The highest number up to each arrival.
        let highest: Vec<u64> = unique
            .iter()
            .scan(0, |top, n| {
                *top = (*top).max(*n);
                Some(*top)
            })
            .collect();
        for (i, n) in unique.iter().enumerate() {
            if highest[i] == *n {
                continue;
            }
            let first_higher = highest.partition_point(|top| top <= n);
            let extent = (i - first_higher) as u64;
            want.reordered += 1;
            want.late += u64::from(highest[i] - n >= 65_536);
            want.extent_sum += extent;
            want.extent_max = want.extent_max.max(extent);
            let higher = unique[..i].iter().rev().take_while(|m| *m > n).count() as u64;
            want.three += u64::from(higher >= 3);
        }
        let mut numbers = unique.clone();
        numbers.sort_unstable();
        let mut next = 0;
        for n in numbers {
            want.period(next, n);
            next = n + 1;
        }
        want.lost = want.missing;
        want.period(next, NUMBERS);
        want
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    unique: u64,
    duplicate: u64,
    reordered: u64,
    late: u64,
    extent_sum: u64,
    extent_max: u64,
    three: u64,
    /// Up to the highest number.
    lost: u64,
    missing: u64,
    periods: u64,
    longest: u64,
}

impl Expected {
    /// All from `from` up to `to` is missing.
    fn period(&mut self, from: u64, to: u64) {
        self.missing += to - from;
        self.periods += u64::from(to > from);
        self.longest = self.longest.max(to - from);
    }
}

/// The report of a receiver that lost nothing itself, of the script sent to it.
fn received(lab: &Lab, backend: &str, script: &Script) -> Value {
    for run in 1..=5 {
        let args = ["recv", TARGET, "--iface", INTERFACE, "--backend", backend, "--idle", "10s"];
        let receiver = Running::ready_on(&lab.receivers[0], &args);
        script.send(&lab.sender, run);
        let mut report = receiver.report();
        if report["ledger"]["paths"][0]["drops"].as_array().expect("drops").is_empty() {
            return report["rx"].take();
        }
        eprintln!("once more: this machine lost packets itself");
    }
    panic!("this machine lost packets of its own five times");
}

fn counted(backend: &str) {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for seed in [3, 11] {
        let script = Script::new(seed, backend != "xdp");
        let want = script.expected();
        assert!(want.three > 100 && want.duplicate > 100 && want.periods > 100, "{want:?}");
        let rx = received(&lab, backend, &script);
        let stream = &rx["streams"][0];
        assert_eq!((rx["streams"].as_array().unwrap().len(), &stream["id"]), (1, &STREAM.into()));
        for part in [&rx, stream] {
            let number = |pointer: &str| {
                part.pointer(pointer).unwrap_or_else(|| panic!("{pointer}: {part}")).as_u64().unwrap()
            };
            let mut got = Expected {
                unique: number("/unique"),
                duplicate: number("/duplicate"),
                reordered: number("/reordered"),
                lost: number("/lost"),
                missing: number("/lost") + number("/lost_tail"),
                // What the kernel's sink does not know.
                ..script.expected()
            };
            if backend != "xdp" {
                got.late = number("/late");
                got.extent_sum = number("/reordering/extent_packets/sum");
                got.extent_max = number("/reordering/extent_packets/max");
                got.three = number("/reordering/three_or_more");
                got.periods = number("/loss_periods/length_packets/count");
                got.longest = number("/loss_periods/length_packets/max");
                assert_eq!(number("/loss_periods/length_packets/sum"), want.missing);
                assert!(got.late > 0, "{want:?}");
            }
            assert_eq!(got, want, "{backend}");
        }
    }
}

#[test]
fn uring() {
    counted("uring");
}

#[test]
fn mmsg() {
    counted("mmsg");
}

#[test]
fn afxdp() {
    counted("afxdp");
}

/// Counts; how far and how long the kernel's sink does not know.
#[test]
fn xdp() {
    counted("xdp");
}
