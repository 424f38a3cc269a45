//! Message headers for buffers that are sent: one vector, and the segment size as control message (`udp(7)`, UDP_SEGMENT).
#![expect(unsafe_code, reason = "message headers point to their vectors and control messages")]

use std::mem;

use super::slots::{Content, Slots};

/// A control message with the segment size, laid out as the kernel wants it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct SegmentSize {
    header: libc::cmsghdr,
    size: u16,
}

/// One header for each buffer of some [`Slots`]; only lengths change. The kernel takes a segment size from each message as
/// quickly as from the socket, and a message without one is never cut up.
#[derive(Debug)]
pub(super) struct Messages {
    /// Point to the vector and the control message of the same index.
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    sizes: Box<[SegmentSize]>,
}

impl Messages {
    /// Headers for `count` buffers.
    pub(super) fn new(slots: &mut Slots, count: usize) -> Self {
        let mut vectors: Box<[libc::iovec]> = (0..count)
            .map(|slot| libc::iovec { iov_base: slots.address_mut(slot).cast(), iov_len: 0 })
            .collect();
        let header = libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + size_of::<u16>(),
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        };
        let mut sizes = vec![SegmentSize { header, size: 0 }; count].into_boxed_slice();
        let headers = vectors
            .iter_mut()
            .zip(&mut sizes)
            .map(|(vector, size)| {
                // SAFETY: all zeros is a valid mmsghdr: no address, no control messages.
                let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
                message.msg_hdr.msg_iov = vector;
                message.msg_hdr.msg_iovlen = 1;
                message.msg_hdr.msg_control = std::ptr::from_mut(size).cast();
                message
            })
            .collect();
        Self { headers, vectors, sizes }
    }

    /// Makes header `slot` send what its buffer holds.
    #[inline]
    pub(super) fn set(&mut self, slot: usize, content: Content) {
        self.vectors[slot].iov_len = content.bytes();
        self.sizes[slot].size = content.len;
        self.headers[slot].msg_hdr.msg_controllen =
            if content.count > 1 { size_of::<SegmentSize>() } else { 0 };
    }

    /// The headers from `from` to before `to`, for `sendmmsg`.
    pub(super) fn range(&mut self, from: usize, to: usize) -> &mut [libc::mmsghdr] {
        &mut self.headers[from..to]
    }

    /// Where header `slot` lies; it stays there for as long as the messages live.
    #[inline]
    pub(super) fn address(&self, slot: usize) -> *const libc::msghdr {
        &raw const self.headers[slot].msg_hdr
    }
}
