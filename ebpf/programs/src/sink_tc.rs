//! `sink_tc`: counts the datagrams that rules select and drops them, as skbs: where there is no native XDP, and where one skb
//! holds many datagrams (GSO, GRO). Of these it looks at the headers one by one, and at no payload; that of short
//! datagrams ([`SHORT`]) is read along with the headers.
//!
//! Everything that no rule selects passes untouched. Fragments to a selected address pass too, and are counted apart.

use core::ptr;

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_ktime_get_tai_ns, bpf_loop, bpf_skb_load_bytes};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::TcContext;
use wirerate_ebpf_types::steer::Verdict;

use crate::frame::{FCS, Frame};
use crate::packet::{Packet, parse};
use crate::probe::{self, Header, Message};
use crate::sink::{self, Sink};
use crate::steer::{by_rules, count};

/// Bytes that hold the headers of most packets: Ethernet with two tags, IPv6 with some extensions, UDP, probe.
const HEADERS: u32 = 128;

/// Datagrams that follow one another taken in by one call, which costs as much as one of them.
const AT_ONCE: u32 = 8;

/// Longest payload that is read along with the headers. It is not looked at.
const SHORT: u32 = 128;

/// Datagrams of one skb at most.
const MAX_SEGMENTS: u32 = 4096;

/// Bytes of a tag that the kernel has taken out of the frame.
const VLAN_TAG: u32 = 4;

#[classifier]
pub fn sink_tc(ctx: TcContext) -> i32 {
    let bytes = ctx.len();
    let headers = if bytes < HEADERS { bytes } else { HEADERS };
    if Frame::of_skb(&ctx).is_shorter_than(headers as usize) {
        // Where it fails, the headers are cut short.
        let _ = ctx.pull_data(headers);
    }
    let frame = Frame::of_skb(&ctx);
    let mut packet = Packet::new();
    let parsed = parse(&frame, bytes as usize, &mut packet);
    if let Verdict::Redirected = parsed
        && took(ctx.skb.skb, &frame, &mut packet)
    {
        return TC_ACT_SHOT;
    }
    let verdict = by_rules(parsed, &mut packet.rule);
    count(verdict, 0, u64::from(bytes));
    TC_ACT_UNSPEC
}

/// Whether the datagrams of `skb` are selected; then they are counted.
#[inline(always)]
fn took(skb: *mut __sk_buff, frame: &Frame, packet: &mut Packet) -> bool {
    // SAFETY: the context that the program was called with.
    let (stride, tagged) = unsafe { ((*skb).gso_size, (*skb).vlan_present) };
    let (at, total) = (packet.payload as u32, packet.length as u32);
    let tag = if tagged != 0 { VLAN_TAG } else { 0 };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_tai_ns() };
    let Some(share) = sink::share() else { return false };
    let mut segments = Segments {
        sink: Sink::new(share, packet, at + tag + FCS, stride, now),
        skb,
        at,
        stride,
        left: total,
    };
    let header = if packet.length < probe::LEN { None } else { frame.header(packet.payload) };
    let known = header.is_some_and(|header| segments.sink.recall(&header));
    if !known && !matches!(by_rules(Verdict::Redirected, &mut packet.rule), Verdict::Redirected) {
        return false;
    }
    let mut count = 1;
    if stride != 0 && stride < total {
        count = total.div_ceil(stride);
    }
    if count > MAX_SEGMENTS {
        count = MAX_SEGMENTS;
    }
    segments.sink.buffer_of(count);
    // SAFETY: the function is one that the kernel can call with this context.
    unsafe { bpf_loop(count, _sink_segments as *mut _, (&raw mut segments).cast(), 0) };
    segments.sink.release();
    true
}

/// What is left of an skb.
#[repr(C)]
struct Segments {
    sink: Sink,
    skb: *mut __sk_buff,
    /// Offset of the next payload.
    at: u32,
    /// Length of each but the last; 0 when there is but one.
    stride: u32,
    /// Bytes from `at` on.
    left: u32,
}

/// Takes in the next datagram, or [`AT_ONCE`] that follow one another; 1 when there are no more. Its name begins as it does so that it stays local
/// to the object, as the kernel wants of what it calls back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn _sink_segments(_: u32, segments: *mut Segments) -> i64 {
    // SAFETY: the context that the loop was called with.
    let segments = unsafe { &mut *segments };
    let (skb, stride) = (segments.skb, segments.stride);
    let (mut at, mut left) = (segments.at, segments.left);
    let mut ahead = segments.sink.ahead;
    if left >= AT_ONCE * stride
        && let Some(headers) = headers_at(skb, at, stride)
    {
        // All or none: the verifier follows what is left of each number of them.
        let mut behind = ahead;
        let mut taken = 0;
        while taken < AT_ONCE && behind.take(&headers.header(taken * stride), stride) {
            taken += 1;
        }
        if taken == AT_ONCE {
            (at, left) = (at + AT_ONCE * stride, left - AT_ONCE * stride);
            (segments.at, segments.left, segments.sink.ahead) = (at, left, behind);
            return i64::from(left == 0);
        }
    }
    let mut taken = 0;
    let (header, length) = loop {
        let length = if stride != 0 && stride < left { stride } else { left };
        // One of zeros is nobody's.
        let mut header = Header(0, 0, 0);
        if length >= probe::LEN as u32 {
            read_header(skb, at, &mut header);
        }
        if !ahead.take(&header, length) {
            break (header, length);
        }
        (at, left, taken) = (at + length, left - length, taken + 1);
        if left == 0 || taken == AT_ONCE {
            (segments.at, segments.left, segments.sink.ahead) = (at, left, ahead);
            return i64::from(left == 0);
        }
    };
    (segments.at, segments.left, segments.sink.ahead) = (at + length, left - length, ahead);
    segments.sink.datagram(Some(header), length, || body_at(skb, at + probe::LEN as u32, length));
    i64::from(segments.left == 0)
}

/// Room for the headers of [`AT_ONCE`] datagrams of up to [`SHORT`] bytes, with what is between them.
#[repr(C)]
struct Headers([u64; WORDS + 2]);

/// A power of two, so that the verifier sees the bounds.
const WORDS: usize = (AT_ONCE * SHORT / 8) as usize;

#[map]
static SINK_HEADERS: PerCpuArray<Headers> = PerCpuArray::with_max_entries(1, 0);

impl Headers {
    /// The one that begins `offset` bytes behind the first, a multiple of 8.
    #[inline(always)]
    fn header(&self, offset: u32) -> Header {
        let word = (offset / 8) as usize % WORDS;
        Header(self.0[word], self.0[word + 1], u64::from_le(u64::from_le(self.0[word + 2]) & 0xffff))
    }
}

/// The headers of [`AT_ONCE`] datagrams of `stride` bytes from `at` on, if these are so short that one copy with all that is between costs less
/// than one for each, and so long that words lie in memory as words do.
#[inline(always)]
fn headers_at<'a>(skb: *mut __sk_buff, at: u32, stride: u32) -> Option<&'a Headers> {
    let headers = SINK_HEADERS.get_ptr_mut(0)?;
    let bytes = AT_ONCE * stride;
    // The compiler would have the verifier look at a number that this one follows from.
    // SAFETY: a variable.
    let bytes = unsafe { ptr::read_volatile(&raw const bytes) };
    if bytes == 0 || bytes > AT_ONCE * SHORT || bytes % (AT_ONCE * 8) != 0 {
        return None;
    }
    // SAFETY: the helper writes as many bytes as it is told, no more than there is room for: this CPU's own, which nobody else has while softirqs are off.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), at, headers.cast(), bytes) };
    // SAFETY: as above.
    if failed != 0 { None } else { Some(unsafe { &*headers }) }
}

#[inline(always)]
fn read_header(skb: *mut __sk_buff, at: u32, header: &mut Header) {
    // It writes zeros where it fails.
    // SAFETY: the helper writes as many bytes as it is told, which fit.
    unsafe { bpf_skb_load_bytes(skb.cast(), at, ptr::from_mut(header).cast(), probe::LEN as u32) };
}

/// What stands at `at` in a message whose payload is of `length` bytes.
#[inline(always)]
fn body_at(skb: *mut __sk_buff, at: u32, length: u32) -> Option<Message> {
    let whole = length as usize >= probe::LEN + probe::MESSAGE_LEN;
    if (length as usize) < probe::LEN + probe::END_LEN {
        return None;
    }
    let mut body: Message = [0; probe::MESSAGE_LEN / 8];
    let bytes = if whole { probe::MESSAGE_LEN } else { probe::END_LEN };
    // SAFETY: the helper writes as many bytes as it is told, which fit, or fails.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), at, (&raw mut body).cast(), bytes as u32) };
    if failed != 0 { None } else { Some(body.map(u64::from_be)) }
}
