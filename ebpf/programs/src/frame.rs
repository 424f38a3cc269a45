//! Reads headers of a frame within the bounds that the verifier can follow.

use core::ptr;

use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::{TcContext, XdpContext};
use wirerate_ebpf_types::steer::Address;

use crate::probe::{self, Header};

/// Bytes of the frame check sequence, which no program sees.
pub const FCS: u32 = 4;

/// The linear part of a frame, which holds the headers.
pub struct Frame {
    data: usize,
    end: usize,
}

impl Frame {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self { data: ctx.data(), end: ctx.data_end() }
    }

    /// The linear part as it is now: what was read before is not used again, because the verifier does not follow a pointer that
    /// was one of two.
    #[inline(always)]
    pub fn of_skb(ctx: &TcContext) -> Self {
        let skb = ctx.skb.skb;
        // SAFETY: the context that the program was called with.
        let (data, end) = unsafe {
            (ptr::read_volatile(&raw const (*skb).data), ptr::read_volatile(&raw const (*skb).data_end))
        };
        Self { data: data as usize, end: end as usize }
    }

    /// Whether the linear part ends before `offset`.
    #[inline(always)]
    pub fn is_shorter_than(&self, offset: usize) -> bool {
        self.data + offset > self.end
    }

    /// The bytes at `offset`, if they are in the frame.
    #[inline(always)]
    pub fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let start = self.data + offset;
        if start + N > self.end {
            return None;
        }
        // SAFETY: the N bytes from `start` end before the linear part does; bytes need no alignment.
        Some(unsafe { ptr::read(start as *const [u8; N]) })
    }

    /// The big-endian number at `offset`, if it is in the frame.
    #[inline(always)]
    pub fn read_u16(&self, offset: usize) -> Option<u16> {
        self.read(offset).map(u16::from_be_bytes)
    }

    /// The IPv6 address at `offset`, if it is in the frame.
    #[inline(always)]
    pub fn read_address(&self, offset: usize) -> Option<Address> {
        let start = self.data + offset;
        if start + size_of::<Address>() > self.end {
            return None;
        }
        // SAFETY: the bytes from `start` end before the linear part does; the read does not rely on alignment.
        Some(unsafe { ptr::read_unaligned(start as *const Address) })
    }

    /// The probe header at `offset`, if it is in the frame.
    #[inline(always)]
    pub fn header(&self, offset: usize) -> Option<Header> {
        let start = self.data + offset;
        if start + probe::LEN > self.end {
            return None;
        }
        // SAFETY: the bytes from `start` end before the linear part does; headers in front of it are of even lengths, and
        // the kernel lets a frame begin at an even address.
        Some(Header::of_words(unsafe { ptr::read(start as *const [u16; probe::LEN / 2]) }))
    }

    /// The big-endian numbers at `offset`, if they are in the frame.
    #[inline(always)]
    pub fn read_u64s<const N: usize>(&self, offset: usize) -> Option<[u64; N]> {
        let start = self.data + offset;
        if start + N * 8 > self.end {
            return None;
        }
        // SAFETY: the bytes from `start` end before the linear part does; the read does not rely on alignment.
        Some(unsafe { ptr::read_unaligned(start as *const [u64; N]) }.map(u64::from_be))
    }
}

/// Bytes of the whole frame, all buffers, without FCS.
#[inline(always)]
pub fn frame_bytes(ctx: &XdpContext) -> u64 {
    // SAFETY: the context is the one that the program was called with.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) }
}
