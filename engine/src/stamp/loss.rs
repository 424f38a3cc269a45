//! Where answers are missing: on the way there or on the way back.
#![forbid(unsafe_code)]

use super::report::Split;
use crate::measure::sequence::{Arrival, Tracker, When};
use crate::measure::tally::RxCounters;

/// What is known of the reflector's own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbering {
    /// To be told from the answers.
    #[default]
    Auto,
    /// It counts its answers of each session (RFC 8762 §4).
    Stateful,
    /// It repeats the sender's numbers.
    Stateless,
}

impl Numbering {
    /// The name that selects it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Stateful => "stateful",
            Self::Stateless => "stateless",
        }
    }
}

/// Follows both numbers of all answers.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The sender's numbers of packets that were answered.
    answered: Tracker,
    /// The reflector's numbers.
    answers: Tracker,
    /// Answers to the same packet under two numbers of the reflector: the packet came to it twice.
    doubled_there: u64,
    /// Answers whose two numbers differ.
    differ: u64,
}

impl Numbers {
    /// Takes in an answer.
    pub(super) fn arrive(&mut self, sender: u32, reflector: u32) -> Arrival {
        let arrival = self.answered.arrive(sender.into(), &When::default());
        let of_reflector = self.answers.arrive(reflector.into(), &When::default());
        self.differ += u64::from(sender != reflector);
        self.doubled_there += u64::from(arrival == Arrival::Duplicate && of_reflector != Arrival::Duplicate);
        arrival
    }

    pub(super) fn counters(&self) -> RxCounters {
        counters(&self.answered)
    }

    /// Whether the reflector is known to count by itself.
    pub(super) fn is_stateful(&self, told: Numbering) -> Option<bool> {
        match told {
            Numbering::Stateful => Some(true),
            Numbering::Stateless => Some(false),
            Numbering::Auto => (self.differ > 0).then_some(true),
        }
    }

    /// Of `sent` packets, how many were lost on which way; or why that cannot be told.
    pub(super) fn split(&self, sent: u64, told: Numbering) -> Result<Split, &'static str> {
        let lost = sent - self.answered.unique().min(sent);
        if lost == 0 {
            return Ok(Split { forward: 0, backward: 0, unplaced: 0 });
        }
        match self.is_stateful(told) {
            Some(true) => {}
            Some(false) => return Err("the reflector repeats the sender's numbers (stateless)"),
            None => return Err("whether the reflector counts its answers cannot be told from them"),
        }
        let (asked, came) = (self.answered.next(), self.answers.next());
        // Each answer has a number; what came to the reflector twice was answered twice.
        let back = came - self.answers.unique();
        let there = asked
            .checked_sub(came - self.doubled_there.min(came))
            .ok_or("the reflector has counted more answers than this session has packets")?;
        // Behind the last packet that was answered nothing is known.
        let unplaced = sent.saturating_sub(asked);
        if there + back + unplaced != lost {
            return Err("the reflector's numbers do not add up with the sender's");
        }
        Ok(Split { forward: there, backward: back, unplaced })
    }
}

fn counters(tracker: &Tracker) -> RxCounters {
    let mut counters = RxCounters::default();
    tracker.counters(&mut counters);
    counters
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A stateful reflector: the answers to those of `packets` that arrive (`Some`) and whose answer arrives (`true`).
    fn played(packets: &[(bool, bool)]) -> Numbers {
        let (mut numbers, mut count) = (Numbers::default(), 0);
        for (n, (there, back)) in packets.iter().enumerate() {
            if *there {
                if *back {
                    numbers.arrive(n as u32, count);
                }
                count += 1;
            }
        }
        numbers
    }

    #[test]
    fn a_stateless_reflector_tells_no_direction() {
        let mut numbers = Numbers::default();
        for n in [0, 1, 3] {
            numbers.arrive(n, n);
        }
        assert!(numbers.split(4, Numbering::Auto).is_err());
        assert!(numbers.split(4, Numbering::Stateless).is_err());
        let split = numbers.split(5, Numbering::Stateful).unwrap();
        assert_eq!((split.forward, split.backward, split.unplaced), (0, 1, 1));
    }

    #[test]
    fn a_session_that_others_have_used_is_not_believed() {
        let mut numbers = Numbers::default();
        numbers.arrive(0, 100);
        numbers.arrive(2, 101);
        assert!(numbers.split(3, Numbering::Auto).is_err());
    }

    #[test]
    fn what_came_twice_on_the_way_there_is_no_loss() {
        let mut numbers = Numbers::default();
        // Packet 1 came twice, packet 2 was lost.
        for (s, r) in [(0, 0), (1, 1), (1, 2), (3, 3)] {
            numbers.arrive(s, r);
        }
        let split = numbers.split(4, Numbering::Auto);
        // The two agree by chance, but for one answer.
        assert_eq!(split.map(|s| (s.forward, s.backward)), Ok((1, 0)));
        assert_eq!(numbers.counters().duplicate, 1);
    }

    proptest! {
        #[test]
        fn every_loss_is_on_its_way(packets in prop::collection::vec((prop::bool::weighted(0.8), prop::bool::weighted(0.8)), 1..300)) {
            let numbers = played(&packets);
            let sent = packets.len() as u64;
            let known = packets.iter().rposition(|(there, back)| *there && *back).map_or(0, |at| at + 1);
            let there = packets[..known].iter().filter(|(there, _)| !there).count() as u64;
            let back = packets[..known].iter().filter(|(there, back)| *there && !back).count() as u64;
            let split = numbers.split(sent, Numbering::Stateful).unwrap();
            let lost = packets.iter().filter(|(there, back)| !there || !back).count() as u64;
            prop_assert_eq!(split.forward + split.backward + split.unplaced, lost);
            if known > 0 {
                prop_assert_eq!((split.forward, split.backward), (there, back));
            }
        }

        #[test]
        fn no_numbers_panic(answers in prop::collection::vec((any::<u32>(), any::<u32>()), 0..50), sent: u64) {
            let mut numbers = Numbers::default();
            for (s, r) in answers {
                numbers.arrive(s, r);
            }
            let _ = numbers.split(sent, Numbering::Stateful);
            let _ = numbers.split(sent, Numbering::Auto);
        }
    }
}
