//! `sink_tc`: counts the datagrams that rules select and drops them, as skbs: where there is no native XDP, and where one skb
//! holds many datagrams (GSO, GRO). Of these it reads the headers one by one; the payload is never copied.
//!
//! Everything that no rule selects passes untouched. Fragments to a selected address pass too, and are counted apart.

use core::ptr;

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_ktime_get_tai_ns, bpf_loop, bpf_skb_load_bytes};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use wirerate_ebpf_types::steer::Verdict;

use crate::frame::{FCS, Frame};
use crate::packet::{Packet, parse};
use crate::probe::{self, Header};
use crate::sink::{self, Sink};
use crate::steer::{by_rules, count};

/// Bytes that hold the headers of most packets: Ethernet with two tags, IPv6 with some extensions, UDP, probe.
const HEADERS: u32 = 128;

/// Datagrams that follow one another taken in by one call, which costs as much as one of them.
const AT_ONCE: u32 = 8;

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
    let room = length as usize >= probe::LEN + probe::END_LEN;
    segments
        .sink
        .datagram(Some(header), length, || if room { body_at(skb, at + probe::LEN as u32) } else { None });
    i64::from(segments.left == 0)
}

#[inline(always)]
fn read_header(skb: *mut __sk_buff, at: u32, header: &mut Header) {
    // It writes zeros where it fails.
    // SAFETY: the helper writes as many bytes as it is told, which fit.
    unsafe { bpf_skb_load_bytes(skb.cast(), at, ptr::from_mut(header).cast(), probe::LEN as u32) };
}

#[inline(always)]
fn body_at(skb: *mut __sk_buff, at: u32) -> Option<[u64; probe::END_LEN / 8]> {
    let mut body = [0_u64; probe::END_LEN / 8];
    // SAFETY: the helper writes as many bytes as it is told, which fit, or fails.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), at, (&raw mut body).cast(), probe::END_LEN as u32) };
    if failed != 0 { None } else { Some(body.map(u64::from_be)) }
}
