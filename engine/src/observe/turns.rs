//! What has to come next in each of many streams that take turns: all that a datagram needs of its stream, in one cache line.
#![forbid(unsafe_code)]

use super::moment::Moment;
use super::stream::Stream;
use crate::measure::jitter::Smoothed;
use crate::packet::ends::Ends;
use crate::packet::probe::{Header, Number};

/// A stream, and its next datagram. Those that came as foreseen are entered into the stream's figures when somebody [looks](Stream::take_turns) at them.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
pub(super) struct Turn {
    /// [`Header::constant`], with the length of the payload in the bits that it leaves free; 0: there is no such stream.
    pub(super) constant: u64,
    pub(super) next: Number,
    /// When the last one arrived.
    pub(super) last_ns: u64,
    /// As it is after the last one.
    pub(super) jitter: Smoothed,
    pub(super) ends: Ends,
    /// The place of the stream.
    pub(super) at: u16,
    /// The place of its sender, as in [`Moment`].
    pub(super) sender: u8,
}

// As it says at the top.
const _: () = assert!(size_of::<Turn>() == 64);

impl Turn {
    /// Whether a datagram is the one that comes next.
    #[inline(always)]
    pub(super) fn is(&self, header: Header, length: u16, ends: &Ends) -> bool {
        self.constant == header.constant() | u64::from(length)
            && header.has_number(self.next)
            && self.ends == *ends
            && header.is_checked()
    }

    /// Takes it in. Tells by how much its delay differs from that of the one before; `None` where that is too much, and it was not taken in.
    #[inline(always)]
    pub(super) fn take(&mut self, moment: &Moment) -> Option<i64> {
        let transit = moment.transit;
        let step = transit.checked_sub(self.jitter.transit())?;
        self.jitter.arrive_after(transit);
        self.next.advance();
        self.last_ns = moment.arrived_ns;
        Some(step)
    }
}

/// The turns of an observer's streams, by the place where a stream is looked for.
#[derive(Debug)]
pub(super) struct Turns {
    turns: Vec<Turn>,
    /// Somebody looked for one since the last was remembered.
    wanted: bool,
}

impl Turns {
    /// None yet, of as many places as are looked at: a power of two.
    pub(super) fn new(places: usize) -> Self {
        Self { turns: vec![Turn::default(); places], wanted: false }
    }

    /// Forgets all, and has as many places.
    pub(super) fn reset(&mut self, places: usize) {
        self.turns.clear();
        self.turns.resize(places, Turn::default());
    }

    /// The place of a header's stream: among a power of two of them, as [`Header::place`] has it.
    #[inline(always)]
    pub(super) fn of(&mut self, header: Header) -> Option<&mut Turn> {
        let mask = self.turns.len().wrapping_sub(1);
        self.turns.get_mut(usize::from(header.place()) & mask)
    }

    /// Somebody looks for turns: streams that are not found are worth remembering.
    #[inline]
    pub(super) fn look(&mut self) {
        self.wanted = true;
    }

    /// Remembers a stream if somebody looked for one since the last time.
    #[inline]
    pub(super) fn remember(&mut self, place: usize, turn: impl FnOnce() -> Option<Turn>) {
        if std::mem::take(&mut self.wanted)
            && let (Some(at), Some(turn)) = (self.turns.get_mut(place), turn())
        {
            *at = turn;
        }
    }

    /// Enters what came by the turn at `place` into the figures of its stream, and forgets it: it may go on otherwise now.
    #[inline]
    pub(super) fn forget(&mut self, place: usize, streams: &mut [Stream]) {
        if let Some(turn) = self.turns.get_mut(place)
            && turn.constant != 0
        {
            streams[usize::from(turn.at)].take_turns(turn);
            turn.constant = 0;
        }
    }

    /// Enters what came by all turns into the figures of their streams.
    pub(super) fn enter(&self, streams: &mut [Stream]) {
        for turn in self.turns.iter().filter(|turn| turn.constant != 0) {
            streams[usize::from(turn.at)].take_turns(turn);
        }
    }
}
