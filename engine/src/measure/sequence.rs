//! What became of the numbers of one stream: an exact tracker of constant cost.
//!
//! Every number from 0 to the highest seen is either received or missing. The last 65,536 of them stand in a
//! bitmap, so that within it a copy is always told from a datagram that is late. The missing ones are kept as runs, with the arrival that jumped over each,
//! as far back as 2,048 runs go, so that a datagram that comes later than the window is still told exactly from a copy. What is older is
//! forgotten but for its figures; a number from that far back counts as a copy and is [said](Tracker::undecided).
//!
//! Datagrams that follow one another cost no more than the bitmap, and that only once a number has come out of order.
#![forbid(unsafe_code)]

use super::iperf::{Arrived, AsIperf, Iperf3Lost};
use super::loss::Loss;
use super::missing::{Jump, Missing, Run};
use super::reorder::{Reordering, Stretches};
use super::tally::RxCounters;

/// Most missing runs that are remembered.
pub const MAX_RUNS: usize = 2048;

/// Most stretches of consecutive arrivals that are remembered, for n-reordering.
const STRETCHES: usize = 64;

/// Highest number: at a thousand million packets a second it takes centuries.
pub const MAX_NUMBER: u64 = 1 << 62;

/// What a number turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Higher than all before it.
    InOrder,
    /// Not seen before, after a higher one.
    Reordered,
    /// Not seen before, after the window had passed it. Reordered too.
    Late,
    /// Seen before.
    Duplicate,
}

/// When a datagram arrived, and others before it, by the receiver's clock in ns.
#[derive(Debug, Clone, Copy, Default)]
pub struct When {
    /// The first of the stream.
    pub first_ns: u64,
    /// The one before it, copies counted.
    pub last_ns: u64,
    /// This one.
    pub now_ns: u64,
    /// From the stamp of the one with the highest number before it to its own, where they have stamps.
    pub sent_gap_ns: Option<u64>,
}

/// The numbers of one stream. `WORDS` and `RUNS` size the window (64 numbers a word) and the memory behind it.
///
/// What is needed once a number came out of order is made when one does: a stream without loss needs none of it.
#[derive(Debug, Clone)]
pub struct Tracker<const WORDS: usize = 1024, const RUNS: usize = MAX_RUNS> {
    /// First number that arrived; 0 before.
    base: u64,
    /// One more than the highest number that arrived; 0 before.
    next: u64,
    unique: u64,
    /// None as long as all from `base` to `next` have arrived in order.
    disorder: Option<Box<Disorder<WORDS, RUNS>>>,
    end: Option<Ended>,
}

/// What is known of a stream that did not come all in order.
#[derive(Debug, Clone)]
struct Disorder<const WORDS: usize, const RUNS: usize> {
    /// Bit `n % (64 × WORDS)` says whether number `n` arrived, for the numbers up to the highest.
    window: Box<[u64]>,
    missing: Missing<RUNS>,
    stretches: Stretches<STRETCHES>,
    reordering: Reordering,
    iperf3: Iperf3Lost,
    /// Of the different numbers that arrived, those below the first.
    unique_before_base: u64,
    duplicate: u64,
    reordered: u64,
    late: u64,
    undecided: u64,
    /// See [`Loss::refilled`].
    refilled: u64,
}

/// What is known from the sender's end.
#[derive(Debug, Clone, Copy)]
struct Ended {
    issued: u64,
    head_is_lost: bool,
}

/// How a stream was lost and reordered, worked out when it is over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// Number of the datagram that arrived first; `None` when none did.
    pub first_number: Option<u64>,
    /// Of what is lost, gaps and tail.
    pub loss: Loss,
    /// Of what is reordered.
    pub reordering: Reordering,
    /// What iperf3 would have printed.
    pub as_iperf3: AsIperf,
    /// What iperf 2 would have printed.
    pub as_iperf2: AsIperf,
}

impl<const WORDS: usize, const RUNS: usize> Default for Tracker<WORDS, RUNS> {
    fn default() -> Self {
        const { assert!(WORDS.is_power_of_two() && RUNS > 0) }
        Self { base: 0, next: 0, unique: 0, disorder: None, end: None }
    }
}

impl<const WORDS: usize, const RUNS: usize> Tracker<WORDS, RUNS> {
    /// The number that a shortened one is to be unwrapped near: the highest so far.
    #[inline]
    pub fn near(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// The number that comes next when nothing happens; 0 before the first.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes in number `n`, which arrived at the time that `when` has. No sender gets to [`MAX_NUMBER`]; higher ones count as that.
    #[inline]
    pub fn arrive(&mut self, n: u64, when: &When) -> Arrival {
        if n == self.next && n <= MAX_NUMBER {
            self.follow(1);
            return Arrival::InOrder;
        }
        self.out_of_line(n.min(MAX_NUMBER), when)
    }

    /// Takes in the next `count` numbers, in order, as [`arrive`](Self::arrive) one by one. They are to be less than [`MAX_NUMBER`].
    #[inline]
    pub fn follow(&mut self, count: u64) {
        if let Some(disorder) = &mut self.disorder {
            disorder.shift(self.next, self.next + count, u64::MAX);
        }
        self.next += count;
        self.unique += count;
    }

    /// Every arrival that is not plainly in order.
    fn out_of_line(&mut self, n: u64, when: &When) -> Arrival {
        if self.next == 0 {
            (self.base, self.next, self.unique) = (n, n + 1, 1);
            return Arrival::InOrder;
        }
        let (base, next) = (self.base, self.next);
        let disorder =
            self.disorder.get_or_insert_with(|| Box::new(Disorder::begin(base, next, when.first_ns)));
        let arrival = if n >= next {
            disorder.jump(n, next, self.unique + 1, base, when);
            self.next = n + 1;
            Arrival::InOrder
        } else {
            disorder.not_higher(n, next, self.unique + 1, base, when)
        };
        self.unique += u64::from(arrival != Arrival::Duplicate);
        arrival
    }

    /// The sender has issued the numbers 0 to `issued - 1`. `head_is_lost`: the receiver was ready before the first of them, so
    /// that what is missing before the first arrival was lost. Only the first call counts.
    pub fn end(&mut self, issued: u64, head_is_lost: bool) {
        self.end.get_or_insert(Ended { issued, head_is_lost });
    }

    /// As [`end`](Self::end), of an end that is repeated with rising numbers: the lowest counts.
    pub fn end_at_most(&mut self, issued: u64) {
        let ended = self.end.get_or_insert(Ended { issued, head_is_lost: false });
        ended.issued = ended.issued.min(issued);
    }

    /// How many numbers the sender has issued, once it has ended.
    pub fn issued(&self) -> Option<u64> {
        self.end.map(|end| end.issued)
    }

    /// Arrivals counted as duplicates that may have been late: their runs had been forgotten.
    pub fn undecided(&self) -> u64 {
        self.disorder.as_ref().map_or(0, |d| d.undecided)
    }

    /// Different numbers that arrived.
    #[inline]
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// Numbers that arrived again.
    pub fn duplicate(&self) -> u64 {
        self.disorder.as_ref().map_or(0, |d| d.duplicate)
    }

    /// Sets the fields of `counters` that come from the sequence.
    pub fn counters(&self, counters: &mut RxCounters) {
        let mut unique_before_base = 0;
        if let Some(d) = &self.disorder {
            counters.duplicate = d.duplicate;
            counters.reordered = d.reordered;
            counters.late = d.late;
            counters.undecided = d.undecided;
            unique_before_base = d.unique_before_base;
        }
        counters.unique = self.unique;
        counters.packets = self.unique + counters.duplicate;
        let (mut before, mut gaps) = (0, 0);
        if self.next > 0 {
            before = self.base - unique_before_base;
            gaps = self.next - self.base - (self.unique - unique_before_base);
        }
        let head_is_lost = self.head_is_lost();
        counters.lost = if head_is_lost { gaps + before } else { gaps };
        counters.before_start = if head_is_lost { 0 } else { before };
        counters.lost_tail = self.end.map_or(0, |end| end.issued.saturating_sub(self.next));
    }

    fn head_is_lost(&self) -> bool {
        self.end.is_some_and(|end| end.head_is_lost)
    }

    /// How what is lost and reordered is spread. Looks at every run that is missing.
    pub fn detail(&self) -> Detail {
        let mut loss = match &self.disorder {
            Some(d) => d.missing.loss(self.base, self.head_is_lost()),
            None => Loss::default(),
        };
        if self.disorder.is_none() && self.head_is_lost() && self.base > 0 {
            loss.lost(0, self.base - 1);
        }
        if let Some(end) = self.end.filter(|end| end.issued > self.next) {
            loss.lost(self.next, end.issued - 1);
        }
        let mut arrived = Arrived {
            next: self.next,
            unique: self.unique,
            duplicate: 0,
            reordered: 0,
            iperf3: Iperf3Lost(self.base),
            issued: self.issued(),
        };
        let mut reordering = Reordering::default();
        if let Some(d) = &self.disorder {
            loss.refilled = d.refilled;
            reordering = d.reordering.clone();
            (arrived.duplicate, arrived.reordered, arrived.iperf3) = (d.duplicate, d.reordered, d.iperf3);
        }
        Detail {
            first_number: (self.next > 0).then_some(self.base),
            loss,
            reordering,
            as_iperf3: arrived.as_iperf3(),
            as_iperf2: arrived.as_iperf2(),
        }
    }
}

impl<const WORDS: usize, const RUNS: usize> Disorder<WORDS, RUNS> {
    const WINDOW: u64 = WORDS as u64 * 64;

    /// All from `base` up to `next` have arrived, the first of them at `first_ns`.
    #[cold]
    fn begin(base: u64, next: u64, first_ns: u64) -> Self {
        let mut disorder = Self {
            window: vec![0; WORDS].into_boxed_slice(),
            missing: Missing::default(),
            stretches: Stretches::begin(base),
            reordering: Reordering::default(),
            iperf3: Iperf3Lost(base),
            unique_before_base: 0,
            duplicate: 0,
            reordered: 0,
            late: 0,
            undecided: 0,
            refilled: 0,
        };
        disorder.shift(base.max(next.saturating_sub(Self::WINDOW)), next, u64::MAX);
        if base > 0 {
            let jump = Jump { index: 1, at_ns: first_ns, silence_ns: None, sent_gap_ns: None };
            disorder.missing.open(Run { from: 0, to: base - 1, jump }, base);
        }
        disorder
    }

    /// Arrival `index` is number `n`, of which at least the number `next` has been left out.
    fn jump(&mut self, n: u64, next: u64, index: u64, base: u64, when: &When) {
        // A jump further than the window clears all of it.
        self.shift(next, n.min(next + Self::WINDOW), 0);
        self.mark(n);
        let silence_ns = Some(when.now_ns.saturating_sub(when.last_ns));
        let jump = Jump { index, at_ns: when.now_ns, silence_ns, sent_gap_ns: when.sent_gap_ns };
        self.missing.open(Run { from: next, to: n - 1, jump }, base);
        self.stretches.jumped(n, index);
        self.iperf3.jumped(n - next);
    }

    /// Arrival `index` is number `n`, lower than `next`; but if it is a copy, it is no arrival.
    fn not_higher(&mut self, n: u64, next: u64, index: u64, base: u64, when: &When) -> Arrival {
        self.iperf3.not_higher();
        let inside = next - n <= Self::WINDOW;
        let jump = match (inside, inside && self.mark(n)) {
            (true, false) => return self.copy(),
            (true, true) => self.missing.take(n, base),
            (false, _) => match self.missing.take(n, base) {
                None => {
                    self.undecided += u64::from(self.missing.has_forgotten(n));
                    return self.copy();
                }
                jump => jump,
            },
        };
        self.refilled += u64::from(jump.is_none());
        self.unique_before_base += u64::from(n < base);
        self.reordered += 1;
        self.reordering.reordered(index, when.now_ns, jump);
        self.reordering.preceded(self.stretches.higher_before(n, index));
        self.stretches.reordered(n, index, next);
        if inside {
            return Arrival::Reordered;
        }
        self.late += 1;
        Arrival::Late
    }

    fn copy(&mut self) -> Arrival {
        self.duplicate += 1;
        Arrival::Duplicate
    }

    /// Sets the bit of `n`; whether it was clear.
    #[inline]
    fn mark(&mut self, n: u64) -> bool {
        let at = n % Self::WINDOW;
        let (word, bit) = (&mut self.window[(at / 64) as usize], 1 << (at % 64));
        let clear = *word & bit == 0;
        *word |= bit;
        clear
    }

    /// Lets the numbers `from..to`, of which all (`arrived` all ones) or none (0) have arrived, take the places of those a window lower.
    #[inline(never)]
    fn shift(&mut self, from: u64, to: u64, arrived: u64) {
        let mut m = from;
        while m < to {
            // Up to the end of a word.
            let at = m % Self::WINDOW;
            let span = (64 - at % 64).min(to - m);
            let mask = (u64::MAX >> (64 - span)) << (at % 64);
            let word = &mut self.window[(at / 64) as usize];
            *word = *word & !mask | arrived & mask;
            m += span;
        }
    }
}

#[cfg(test)]
#[path = "sequence_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod pattern_tests;
