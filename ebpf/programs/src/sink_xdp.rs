//! `sink_xdp`: counts the datagrams that rules select and drops them, before the kernel makes skbs of them.
//!
//! Everything that no rule selects passes untouched. Fragments to a selected address pass too, and are counted apart.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::generated::bpf_ktime_get_tai_ns;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use wirerate_ebpf_types::steer::Verdict;

use crate::frame::{FCS, Frame, frame_bytes};
use crate::packet::{Packet, parse};
use crate::probe;
use crate::sink::{self, Sink};
use crate::steer::{by_rules, count};

#[xdp(frags)]
pub fn sink_xdp(ctx: XdpContext) -> u32 {
    let bytes = frame_bytes(&ctx);
    let frame = Frame::new(&ctx);
    let mut packet = Packet::new();
    let parsed = parse(&frame, bytes as usize, &mut packet);
    if let Verdict::Redirected = parsed
        && took(&frame, &mut packet)
    {
        return XDP_DROP;
    }
    let verdict = by_rules(parsed, &mut packet.rule);
    count(verdict, ctx.rx_queue_index(), bytes);
    XDP_PASS
}

/// Whether the datagram is selected; then it is counted.
#[inline(always)]
fn took(frame: &Frame, packet: &mut Packet) -> bool {
    let at = packet.payload;
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_tai_ns() };
    let Some(share) = sink::share() else { return false };
    let mut sink = Sink::new(share, packet, at as u32 + FCS, 0, now);
    let header = if packet.length < probe::LEN { None } else { frame.header(at) };
    let known = header.is_some_and(|header| sink.recall(&header));
    if !known && !matches!(by_rules(Verdict::Redirected, &mut packet.rule), Verdict::Redirected) {
        return false;
    }
    let length = packet.length;
    sink.datagram(header, length as u32, || {
        if length >= probe::LEN + probe::MESSAGE_LEN {
            return frame.read_u64s(at + probe::LEN);
        }
        if length < probe::LEN + probe::END_LEN {
            return None;
        }
        let [a, b, c, d] = frame.read_u64s(at + probe::LEN)?;
        Some([a, b, c, d, 0, 0, 0, 0])
    });
    sink.buffer_of(1);
    sink.release();
    true
}
