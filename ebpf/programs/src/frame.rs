//! Reads headers of a frame within the bounds that the verifier can follow.

use core::ptr;

use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use wirerate_ebpf_types::steer::Address;

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
}

/// Bytes of the whole frame, all buffers, without FCS.
#[inline(always)]
pub fn frame_bytes(ctx: &XdpContext) -> u64 {
    // SAFETY: the context is the one that the program was called with.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) }
}
