//! Message headers for buffers that are sent: one vector, and as control message the segment size (`udp(7)`, UDP_SEGMENT) or the time of
//! departure (SCM_TXTIME, tc-etf(8)).
#![expect(unsafe_code, reason = "message headers point to their vectors and control messages")]

use std::mem;

use super::slots::{Content, Slots};

/// A control message with a segment size in the first two bytes of its value, or a time, laid out as the kernel wants it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct Control {
    header: libc::cmsghdr,
    value: [u8; 8],
}

impl Control {
    fn new(level: libc::c_int, kind: libc::c_int, len: usize) -> Self {
        let header =
            libc::cmsghdr { cmsg_len: size_of::<libc::cmsghdr>() + len, cmsg_level: level, cmsg_type: kind };
        Self { header, value: [0; 8] }
    }
}

/// One header for each buffer of some [`Slots`]; only lengths change. The kernel takes a segment size from each message as
/// quickly as from the socket, and a message without one is never cut up.
#[derive(Debug)]
pub(super) struct Messages {
    /// Point to the vector and the control message of the same index.
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    controls: Box<[Control]>,
}

impl Messages {
    /// Headers for `count` buffers, which may be cut into segments.
    pub(super) fn new(slots: &mut Slots, count: usize) -> Self {
        Self::with(Control::new(libc::SOL_UDP, libc::UDP_SEGMENT, size_of::<u16>()), slots, count)
    }

    /// Headers for `count` buffers of one packet each, which [leave at](Self::leave_at) a time.
    pub(super) fn timed(slots: &mut Slots, count: usize) -> Self {
        Self::with(Control::new(libc::SOL_SOCKET, libc::SCM_TXTIME, size_of::<u64>()), slots, count)
    }

    fn with(control: Control, slots: &mut Slots, count: usize) -> Self {
        let mut vectors: Box<[libc::iovec]> = (0..count)
            .map(|slot| libc::iovec { iov_base: slots.address_mut(slot).cast(), iov_len: 0 })
            .collect();
        let mut controls = vec![control; count].into_boxed_slice();
        let headers = vectors
            .iter_mut()
            .zip(&mut controls)
            .map(|(vector, control)| {
                // SAFETY: all zeros is a valid mmsghdr: no address, no control messages.
                let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
                message.msg_hdr.msg_iov = vector;
                message.msg_hdr.msg_iovlen = 1;
                message.msg_hdr.msg_control = std::ptr::from_mut(control).cast();
                message
            })
            .collect();
        Self { headers, vectors, controls }
    }

    /// Makes header `slot` send what its buffer holds.
    #[inline]
    pub(super) fn set(&mut self, slot: usize, content: Content) {
        self.vectors[slot].iov_len = content.bytes();
        self.headers[slot].msg_hdr.msg_controllen = if content.count > 1 {
            self.controls[slot].value[..2].copy_from_slice(&content.len.to_ne_bytes());
            size_of::<Control>()
        } else {
            0
        };
    }

    /// Has the one packet of header `slot`, which is [set](Self::set), leave at `time_ns` on the clock of the queueing discipline.
    #[inline]
    pub(super) fn leave_at(&mut self, slot: usize, time_ns: u64) {
        debug_assert_eq!(self.controls[slot].header.cmsg_type, libc::SCM_TXTIME);
        self.controls[slot].value = time_ns.to_ne_bytes();
        self.headers[slot].msg_hdr.msg_controllen = size_of::<Control>();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::payload::Payload;

    /// The control message of header `slot` as its bytes.
    fn control(messages: &Messages, slot: usize) -> Vec<u8> {
        let header = &messages.headers[slot].msg_hdr;
        // SAFETY: the header points to a control message of the messages, which live, and says its length.
        unsafe { std::slice::from_raw_parts(header.msg_control.cast::<u8>(), header.msg_controllen) }.to_vec()
    }

    fn words(len: usize, level: i32, kind: i32) -> Vec<u8> {
        [&len.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes()].concat()
    }

    #[test]
    fn a_time_of_departure_is_a_control_message_of_the_socket() {
        let mut slots = Slots::new(3, 100, 18, &Payload::zero()).unwrap();
        let mut messages = Messages::timed(&mut slots, 3);
        messages.set(1, Content { flow: 0, len: 100, count: 1 });
        assert!(control(&messages, 1).is_empty(), "no time, no message");
        messages.leave_at(1, 0x0102_0304_0506_0708);
        // SOL_SOCKET and SCM_TXTIME; cmsg(3): the length is of header and value.
        let expected = [words(24, 1, 61), 0x0102_0304_0506_0708u64.to_ne_bytes().to_vec()].concat();
        assert_eq!(control(&messages, 1), expected);
        assert_eq!(messages.vectors[1].iov_len, 100);
        assert!(control(&messages, 2).is_empty());
    }

    #[test]
    fn a_segment_size_is_a_control_message_of_udp() {
        let mut slots = Slots::new(2, 300, 18, &Payload::zero()).unwrap();
        let mut messages = Messages::new(&mut slots, 2);
        messages.set(0, Content { flow: 0, len: 100, count: 3 });
        messages.set(1, Content { flow: 0, len: 100, count: 1 });
        let got = control(&messages, 0);
        assert_eq!(got[..18], [words(18, 17, 103), 100u16.to_ne_bytes().to_vec()].concat());
        assert_eq!((got.len(), messages.vectors[0].iov_len), (24, 300), "aligned as CMSG_SPACE does");
        assert!(control(&messages, 1).is_empty(), "one packet is not cut");
    }
}
