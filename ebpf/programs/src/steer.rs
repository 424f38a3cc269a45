//! `steer`: hands the packets that rules select to the AF_XDP socket of their queue, and counts what became of all of them.
//!
//! Everything that no rule selects passes untouched, so that the kernel keeps answering ARP, neighbour discovery, IGMP, MLD
//! and PIM. Fragments to a selected address pass too, and are counted apart.

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_REDIRECT};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{HashMap, PerCpuArray, XskMap};
use aya_ebpf::programs::XdpContext;
use wirerate_ebpf_types::steer::{ANY_SOURCE, COUNTS, Count, DATAGRAMS, FRAGMENTS, QUEUES, RuleKey, Verdict};

use crate::frame::{Frame, frame_bytes};

/// The rules; a value says nothing. The loader sets the size.
#[map]
static STEER_RULES: HashMap<RuleKey, u32> = HashMap::with_max_entries(1, 0);

/// The sockets, by queue.
#[map]
static STEER_SOCKETS: XskMap = XskMap::with_max_entries(QUEUES, 0);

/// Packets and bytes, by [`Verdict::index`].
#[map]
static STEER_COUNTS: PerCpuArray<Count> = PerCpuArray::with_max_entries(COUNTS, 0);

/// 1 when some rule names a source; without one the first of the two look-ups is not needed.
#[unsafe(no_mangle)]
static STEER_BY_SOURCE: Global<u32> = Global::new(1);

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

const PROTOCOL_HOP_BY_HOP: u8 = 0;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ROUTING: u8 = 43;
const PROTOCOL_FRAGMENT: u8 = 44;
const PROTOCOL_DESTINATION_OPTIONS: u8 = 60;

const UDP_HEADER: usize = 8;

/// IPv6 extension headers that are walked: RFC 8200 §4.1 recommends no more than these before UDP.
const EXTENSIONS: usize = 4;

#[xdp(frags)]
pub fn steer(ctx: XdpContext) -> u32 {
    let bytes = frame_bytes(&ctx);
    let queue = ctx.rx_queue_index();
    let mut verdict = judge(&Frame::new(&ctx), bytes as usize);
    let mut action = XDP_PASS;
    if let Verdict::Redirected = verdict {
        match STEER_SOCKETS.redirect(queue, u64::from(XDP_PASS)) {
            Ok(_) => action = XDP_REDIRECT,
            Err(_) => verdict = Verdict::NoSocket,
        }
    }
    if let Some(count) = STEER_COUNTS.get_ptr_mut(verdict.index(queue)) {
        // SAFETY: this CPU's own element, and XDP programs do not interrupt one another on a CPU.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += bytes;
        }
    }
    action
}

/// What the rules say to a frame of `bytes`; [`Verdict::Redirected`] for what they select.
#[inline(always)]
fn judge(frame: &Frame, bytes: usize) -> Verdict {
    let mut offset = 12;
    let Some(mut ethertype) = frame.read_u16(offset) else { return Verdict::Passed };
    for _ in 0..2 {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_SERVICE_VLAN {
            break;
        }
        offset += 4;
        ethertype = match frame.read_u16(offset) {
            Some(ethertype) => ethertype,
            None => return Verdict::Passed,
        };
    }
    offset += 2;
    let verdict = match ethertype {
        ETHERTYPE_IPV4 => judge_ipv4(frame, offset, bytes),
        ETHERTYPE_IPV6 => judge_ipv6(frame, offset, bytes),
        _ => Some(Verdict::Passed),
    };
    verdict.unwrap_or(Verdict::Malformed)
}

/// None when the headers are cut short.
#[inline(always)]
fn judge_ipv4(frame: &Frame, offset: usize, bytes: usize) -> Option<Verdict> {
    let header: [u8; 20] = frame.read(offset)?;
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let packet_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4
        || header_bytes < 20
        || packet_bytes < header_bytes
        || offset + packet_bytes > bytes
    {
        return None;
    }
    let source = [u32::from_ne_bytes([header[12], header[13], header[14], header[15]]), 0, 0, 0];
    let destination = [u32::from_ne_bytes([header[16], header[17], header[18], header[19]]), 0, 0, 0];
    let mut key = RuleKey { destination, source, port: 0, version: 4, class: FRAGMENTS };
    // More fragments, or an offset; the third flag is "don't fragment".
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Some(fragment(&mut key));
    }
    if header[9] != PROTOCOL_UDP {
        return Some(Verdict::Passed);
    }
    datagram(frame, offset + header_bytes, packet_bytes - header_bytes, &mut key)
}

/// None when the headers are cut short.
#[inline(always)]
fn judge_ipv6(frame: &Frame, offset: usize, bytes: usize) -> Option<Verdict> {
    let first: [u8; 8] = frame.read(offset)?;
    let source = frame.read_address(offset + 8)?;
    let destination = frame.read_address(offset + 24)?;
    let mut left = usize::from(u16::from_be_bytes([first[4], first[5]]));
    let mut offset = offset + 40;
    if first[0] >> 4 != 6 || offset + left > bytes {
        return None;
    }
    let mut key = RuleKey { destination, source, port: 0, version: 6, class: FRAGMENTS };
    let mut next = first[6];
    for _ in 0..=EXTENSIONS {
        match next {
            PROTOCOL_UDP => return datagram(frame, offset, left, &mut key),
            PROTOCOL_FRAGMENT => return Some(fragment(&mut key)),
            PROTOCOL_HOP_BY_HOP | PROTOCOL_ROUTING | PROTOCOL_DESTINATION_OPTIONS => {}
            _ => return Some(Verdict::Passed),
        }
        let extension: [u8; 2] = frame.read(offset)?;
        let length = (usize::from(extension[1]) + 1) * 8;
        if length > left {
            return None;
        }
        next = extension[0];
        offset += length;
        left -= length;
    }
    Some(Verdict::Unwalked)
}

/// A UDP datagram of `left` bytes at `offset`; None when it is cut short.
#[inline(always)]
fn datagram(frame: &Frame, offset: usize, left: usize, key: &mut RuleKey) -> Option<Verdict> {
    let header: [u8; UDP_HEADER] = frame.read(offset)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if length < UDP_HEADER || length > left {
        return None;
    }
    key.port = u16::from_be_bytes([header[2], header[3]]);
    key.class = DATAGRAMS;
    Some(if selected(key) { Verdict::Redirected } else { Verdict::Passed })
}

#[inline(always)]
fn fragment(key: &mut RuleKey) -> Verdict {
    if selected(key) { Verdict::Fragment } else { Verdict::Passed }
}

/// Whether a rule names this source, or any source.
#[inline(always)]
fn selected(key: &mut RuleKey) -> bool {
    if STEER_BY_SOURCE.load() != 0 && STEER_RULES.get_ptr(*key).is_some() {
        return true;
    }
    key.source = ANY_SOURCE;
    STEER_RULES.get_ptr(*key).is_some()
}
