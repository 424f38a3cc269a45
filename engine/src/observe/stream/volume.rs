//! Bytes and frames of a stream.
#![forbid(unsafe_code)]

use crate::profile::size::MIN_FRAME;
use crate::queue::RxMeta;

/// How much has come. Datagrams as large as the last one are only counted; their sums are products.
#[derive(Debug)]
pub(super) struct Volume {
    /// Of the last one: payload in bytes, bytes of the frame around it, frames.
    last: (usize, u16, u16),
    /// How many like the last are not in the sums.
    alike: u64,
    sums: Sums,
    shortest: usize,
    longest: usize,
}

/// The sums of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    /// UDP payload.
    pub(super) payload_bytes: u64,
    /// Frames with FCS.
    pub(super) frame_bytes: u64,
    pub(super) frames: u64,
}

impl Default for Volume {
    fn default() -> Self {
        Self { last: (0, 0, 0), alike: 0, sums: Sums::default(), shortest: usize::MAX, longest: 0 }
    }
}

impl Volume {
    /// Takes in `count` datagrams with `length` bytes of payload each.
    #[inline(always)]
    pub(super) fn add(&mut self, meta: &RxMeta, length: usize, count: u64) {
        let this = (length, meta.overhead, meta.frames);
        if this != self.last {
            self.change(this);
        }
        self.alike += count;
    }

    /// Takes in `count` more that are as large as the last one.
    pub(super) fn add_alike(&mut self, count: u64) {
        self.alike += count;
    }

    #[inline(never)]
    fn change(&mut self, to: (usize, u16, u16)) {
        self.sums = self.sums();
        (self.last, self.alike) = (to, 0);
        self.shortest = self.shortest.min(to.0);
        self.longest = self.longest.max(to.0);
    }

    pub(super) fn sums(&self) -> Sums {
        let (length, overhead, frames) = self.last;
        let frame = (length as u64 + u64::from(overhead)).max(u64::from(MIN_FRAME));
        Sums {
            payload_bytes: self.sums.payload_bytes + length as u64 * self.alike,
            frame_bytes: self.sums.frame_bytes + frame * self.alike,
            frames: self.sums.frames + u64::from(frames) * self.alike,
        }
    }

    /// Whether a datagram of `length` bytes would be neither the shortest nor the longest of all.
    pub(super) fn spans(&self, length: usize) -> bool {
        (self.shortest..=self.longest).contains(&length)
    }
}
