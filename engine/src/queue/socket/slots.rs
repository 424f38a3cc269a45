//! Payload buffers that remember what was written into them.
#![forbid(unsafe_code)]

use crate::profile::payload::Payload;
use crate::queue::Stamper;

/// What a buffer holds behind the probe header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// Index of the flow.
    pub(super) flow: u16,
    /// Payload length in bytes.
    pub(super) len: u16,
}

/// A fixed number of buffers of one size, allocated once. Where the payload is the same for every packet of one
/// flow and size, only the probe header is written anew.
#[derive(Debug)]
pub(super) struct Slots {
    memory: Box<[u8]>,
    stride: usize,
    contents: Box<[Option<Content>]>,
    varies: bool,
}

impl Slots {
    /// `count` buffers for payloads of at most `max_payload` bytes.
    pub(super) fn new(count: usize, max_payload: u16, payload: &Payload) -> Self {
        // Buffers of two packets never share a cache line.
        let stride = usize::from(max_payload).next_multiple_of(64).max(64);
        Self {
            memory: vec![0; stride * count].into_boxed_slice(),
            stride,
            contents: vec![None; count].into_boxed_slice(),
            varies: payload.varies(),
        }
    }

    /// Writes packet `sequence` of `stream` into buffer `slot`.
    #[inline]
    pub(super) fn write(
        &mut self,
        slot: usize,
        content: Content,
        payload: &Payload,
        stamper: &Stamper,
        stream: u16,
        sequence: u64,
    ) {
        let start = slot * self.stride;
        let buffer = &mut self.memory[start..start + usize::from(content.len)];
        if self.varies || self.contents[slot] != Some(content) {
            payload.fill(sequence, &mut buffer[crate::packet::probe::LEN..]);
            self.contents[slot] = Some(content);
        }
        stamper.stamp(buffer, stream, sequence);
    }

    /// What buffer `slot` holds.
    #[inline]
    pub(super) fn content(&self, slot: usize) -> Content {
        self.contents[slot].expect("only written buffers are asked for")
    }

    /// Where buffer `slot` lies; it stays there for as long as the slots live.
    #[inline]
    pub(super) fn address(&self, slot: usize) -> *const u8 {
        self.memory[slot * self.stride..].as_ptr()
    }

    /// The address for structures of the kernel that want it mutable, though sending only reads.
    #[inline]
    pub(super) fn address_mut(&mut self, slot: usize) -> *mut u8 {
        self.memory[slot * self.stride..].as_mut_ptr()
    }
}
