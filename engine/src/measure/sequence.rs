//! What became of the numbers of one stream: an exact tracker of constant cost.
//!
//! Every number from 0 to the highest seen is either received or missing. The last 65,536 of them stand in a
//! bitmap; of older ones only the runs of missing numbers are kept, so that a datagram that comes later than the window
//! is still told exactly from a copy. Only when more than 1,024 such runs have piled up are the oldest forgotten; a number
//! from that far back counts as a copy and is [said](Tracker::undecided).
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::tally::RxCounters;

/// Most missing runs older than the window that are remembered.
pub const MAX_RUNS: usize = 1024;

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

/// The numbers of one stream. `WORDS` and `RUNS` size the window (64 numbers a word) and the memory behind it.
///
/// The window is made when the first number comes out of order: a stream without loss needs none.
#[derive(Debug, Clone)]
pub struct Tracker<const WORDS: usize = 1024, const RUNS: usize = MAX_RUNS> {
    /// First number that arrived; 0 before.
    base: u64,
    /// One more than the highest number that arrived; 0 before.
    next: u64,
    /// Bit `n % (64 × WORDS)` says whether number `n` arrived, for the numbers up to the highest. Empty as long as all
    /// from `base` to `next` have arrived in order.
    window: Box<[u64]>,
    /// Missing numbers below the window, as inclusive runs in rising order.
    missing: VecDeque<(u64, u64)>,
    /// Below this the missing runs have been forgotten.
    forgotten_below: u64,
    unique: u64,
    /// Of `unique`, those below the first that arrived.
    unique_before_base: u64,
    duplicate: u64,
    reordered: u64,
    late: u64,
    undecided: u64,
    end: Option<Ended>,
}

/// What is known from the sender's end.
#[derive(Debug, Clone, Copy)]
struct Ended {
    issued: u64,
    head_is_lost: bool,
}

impl<const WORDS: usize, const RUNS: usize> Default for Tracker<WORDS, RUNS> {
    fn default() -> Self {
        const { assert!(WORDS.is_power_of_two() && RUNS > 0) }
        Self {
            base: 0,
            next: 0,
            window: Box::default(),
            missing: VecDeque::new(),
            forgotten_below: 0,
            unique: 0,
            unique_before_base: 0,
            duplicate: 0,
            reordered: 0,
            late: 0,
            undecided: 0,
            end: None,
        }
    }
}

impl<const WORDS: usize, const RUNS: usize> Tracker<WORDS, RUNS> {
    const WINDOW: u64 = WORDS as u64 * 64;

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

    /// Takes in number `n`. No sender gets to [`MAX_NUMBER`]; higher ones count as that.
    #[inline]
    pub fn arrive(&mut self, n: u64) -> Arrival {
        if n == self.next && n <= MAX_NUMBER {
            self.follow(1);
            return Arrival::InOrder;
        }
        self.out_of_line(n.min(MAX_NUMBER))
    }

    /// Takes in the next `count` numbers, in order, as [`arrive`](Self::arrive) one by one. They are to be less than [`MAX_NUMBER`].
    #[inline]
    pub fn follow(&mut self, count: u64) {
        if !self.window.is_empty() {
            self.fill(count);
        }
        self.next += count;
        self.unique += count;
    }

    /// Every arrival that is not plainly in order.
    fn out_of_line(&mut self, n: u64) -> Arrival {
        if self.next == 0 {
            (self.base, self.next, self.unique) = (n, n + 1, 1);
            return Arrival::InOrder;
        }
        let (base, highest) = (self.base, self.next - 1);
        if self.window.is_empty() {
            self.open_window(base, highest);
        }
        if n > highest {
            self.advance(n, highest);
            self.next = n + 1;
            self.unique += 1;
            return Arrival::InOrder;
        }
        let inside = highest - n < Self::WINDOW;
        let fresh = if inside { self.mark(n) } else { self.take_missing(n) };
        if !fresh {
            self.duplicate += 1;
            return Arrival::Duplicate;
        }
        self.unique += 1;
        self.unique_before_base += u64::from(n < base);
        self.reordered += 1;
        if inside {
            Arrival::Reordered
        } else {
            self.late += 1;
            Arrival::Late
        }
    }

    #[cold]
    fn open_window(&mut self, base: u64, highest: u64) {
        self.window = vec![0; WORDS].into_boxed_slice();
        let low = (highest + 1).saturating_sub(Self::WINDOW);
        for n in base.max(low)..=highest {
            self.mark(n);
        }
        if base.min(low) > 0 {
            self.miss(0, base.min(low) - 1);
        }
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

    /// Moves the window up to `n`, which has arrived; what leaves it without having arrived becomes missing runs.
    #[inline]
    fn advance(&mut self, n: u64, highest: u64) {
        // A jump further than the window: all of it leaves, and with it numbers that were never inside.
        let (last, beyond) =
            if n - highest > Self::WINDOW { (highest + Self::WINDOW, true) } else { (n, false) };
        self.shift(highest + 1, last + 1, 0);
        if beyond {
            self.miss(highest + 1, n - Self::WINDOW);
        }
        self.mark(n);
    }

    /// Moves the window over the next `count` numbers, which have all arrived.
    fn fill(&mut self, count: u64) {
        self.shift(self.next, self.next + count, u64::MAX);
    }

    /// Lets the numbers `from..to`, of which all (`arrived` all ones) or none (0) have arrived, take the places of those a window lower;
    /// those of them that are still missing become missing runs.
    #[inline]
    fn shift(&mut self, from: u64, to: u64, arrived: u64) {
        let mut m = from;
        while m < to {
            // Up to the end of a word.
            let at = m % Self::WINDOW;
            let span = (64 - at % 64).min(to - m);
            let mask = (u64::MAX >> (64 - span)) << (at % 64);
            let word = &mut self.window[(at / 64) as usize];
            let gone = !*word & mask;
            *word = *word & !mask | arrived & mask;
            // A word's numbers are all below the window's size or none is.
            if gone != 0 && m >= Self::WINDOW {
                self.miss_bits(gone, m - Self::WINDOW - at % 64);
            }
            m += span;
        }
    }

    /// Remembers the numbers `first + i` for every bit `i` of `bits`.
    fn miss_bits(&mut self, mut bits: u64, first: u64) {
        while bits != 0 {
            let low = bits.trailing_zeros();
            let length = (bits >> low).trailing_ones();
            self.miss(first + u64::from(low), first + u64::from(low + length - 1));
            bits &= !((u64::MAX >> (64 - length)) << low);
        }
    }

    /// Remembers a run of missing numbers above all that are remembered.
    fn miss(&mut self, from: u64, to: u64) {
        match self.missing.back_mut() {
            Some((_, last)) if *last + 1 == from => *last = to,
            _ => {
                self.missing.push_back((from, to));
                self.forget();
            }
        }
    }

    fn forget(&mut self) {
        if self.missing.len() > RUNS
            && let Some((_, to)) = self.missing.pop_front()
        {
            self.forgotten_below = to + 1;
        }
    }

    /// Takes `n` out of the missing runs; whether it was there.
    #[cold]
    fn take_missing(&mut self, n: u64) -> bool {
        let at = self.missing.partition_point(|(_, to)| *to < n);
        match self.missing.get_mut(at) {
            Some(run) if run.0 <= n => {
                let (from, to) = *run;
                if from == to {
                    self.missing.remove(at);
                } else if n == from {
                    run.0 += 1;
                } else if n == to {
                    run.1 -= 1;
                } else {
                    run.1 = n - 1;
                    self.missing.insert(at + 1, (n + 1, to));
                    self.forget();
                }
                true
            }
            _ => {
                self.undecided += u64::from(n < self.forgotten_below);
                false
            }
        }
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
        self.undecided
    }

    /// Different numbers that arrived.
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// Numbers that arrived again.
    pub fn duplicate(&self) -> u64 {
        self.duplicate
    }

    /// Sets the fields of `counters` that come from the sequence.
    pub fn counters(&self, counters: &mut RxCounters) {
        counters.unique = self.unique;
        counters.duplicate = self.duplicate;
        counters.packets = self.unique + self.duplicate;
        counters.reordered = self.reordered;
        counters.late = self.late;
        counters.undecided = self.undecided;
        let (mut before, mut gaps) = (0, 0);
        if self.next > 0 {
            before = self.base - self.unique_before_base;
            gaps = self.next - self.base - (self.unique - self.unique_before_base);
        }
        let head_is_lost = self.end.is_some_and(|end| end.head_is_lost);
        counters.lost = if head_is_lost { gaps + before } else { gaps };
        counters.before_start = if head_is_lost { 0 } else { before };
        counters.lost_tail = self.end.map_or(0, |end| end.issued.saturating_sub(self.next));
    }
}

#[cfg(test)]
#[path = "sequence_tests.rs"]
mod tests;
