//! Payload buffers that remember what was written into them.
#![forbid(unsafe_code)]

use memmap2::{Advice, MmapMut};

use crate::error::{Error, Result};
use crate::profile::payload::Payload;
use crate::queue::{Run, Stamper};

/// What a buffer holds: datagrams of one flow and one size, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Content {
    /// Index of the flow.
    pub(super) flow: u16,
    /// Payload length of each datagram in bytes.
    pub(super) len: u16,
    /// Datagrams.
    pub(super) count: u16,
}

impl Content {
    /// Payload of all datagrams in bytes.
    #[inline]
    pub(super) fn bytes(self) -> usize {
        usize::from(self.len) * usize::from(self.count)
    }
}

/// A fixed number of buffers of one size, allocated once. Where the payload is the same for every packet of one
/// flow and size, only the headers are written anew.
#[derive(Debug)]
pub(super) struct Slots {
    memory: MmapMut,
    size: usize,
    stride: usize,
    contents: Box<[Content]>,
    /// Length and number of the bodies that lie in each buffer, from an earlier packet or this one.
    bodies: Box<[(u16, u16)]>,
    varies: bool,
    /// Bytes of the headers that are written for each packet.
    head: usize,
}

impl Slots {
    /// `count` buffers of `size` bytes for packets with `head` bytes of headers before their payload, in huge pages where the kernel has some: what is sent from them without a copy is then of one piece for
    /// whoever reads it.
    ///
    /// # Errors
    /// Failed, when there is no memory.
    pub(super) fn new(count: usize, size: usize, head: usize, payload: &Payload) -> Result<Self> {
        let stride = stride(size);
        let bytes = stride * count;
        let memory = MmapMut::map_anon(bytes)
            .map_err(|e| Error::failed(format!("{bytes} bytes of memory for packets")).because(e))?;
        // A kernel without them goes on with small ones.
        let _ = memory.advise(Advice::HugePage);
        Ok(Self {
            memory,
            size,
            stride,
            contents: vec![Content::default(); count].into_boxed_slice(),
            bodies: vec![(0, 0); count].into_boxed_slice(),
            varies: payload.varies(),
            head,
        })
    }

    /// Writes the packets of `run` into buffer `slot`, as packets of `stream`.
    ///
    /// # Panics
    /// When a packet is shorter than its headers, or all of them are longer than the buffer.
    #[inline]
    pub(super) fn write(
        &mut self,
        slot: usize,
        run: &Run,
        stream: u16,
        payload: &Payload,
        stamper: &Stamper,
    ) {
        let &Run { flow, len, count, first_seq } = run;
        let content = Content { flow, len, count };
        let stride = usize::from(len);
        assert!(stride >= self.head && content.bytes() <= self.size, "payload length of the run");
        let buffer = &mut self.memory[slot * self.stride..][..content.bytes()];
        let (body_len, bodies) = self.bodies[slot];
        if self.varies || body_len != len || bodies < count {
            for (packet, sequence) in buffer.chunks_exact_mut(stride).zip(first_seq..) {
                payload.fill(sequence, &mut packet[self.head..]);
            }
            self.bodies[slot] = (len, count);
        }
        stamper.stamp_run(buffer, stride, usize::from(count), stream, first_seq);
        self.contents[slot] = content;
    }

    /// Buffers.
    pub(super) fn count(&self) -> usize {
        self.contents.len()
    }

    /// From one buffer to the next in bytes.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// What buffer `slot` holds.
    #[inline]
    pub(super) fn content(&self, slot: usize) -> Content {
        self.contents[slot]
    }

    /// Packet `n` of buffer `slot`.
    pub(super) fn packet(&self, slot: usize, n: u16) -> &[u8] {
        let len = usize::from(self.contents[slot].len);
        &self.memory[slot * self.stride + usize::from(n) * len..][..len]
    }

    /// Where buffer `slot` lies, for structures of the kernel that want it mutable though sending only reads; it stays there for as
    /// long as the slots live.
    pub(super) fn address_mut(&mut self, slot: usize) -> *mut u8 {
        self.memory[slot * self.stride..].as_mut_ptr()
    }
}

/// From one buffer of `size` bytes to the next: two never share a cache line, and large ones do not all begin in
/// the same sets of the cache.
pub(super) fn stride(size: usize) -> usize {
    size.next_multiple_of(64).max(64) + if size > 4096 { 4096 + 64 } else { 0 }
}
