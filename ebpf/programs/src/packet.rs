//! What a frame holds, as far as the rules ask for it: from the Ethernet header to the UDP header.

use wirerate_ebpf_types::steer::{Address, DATAGRAMS, FRAGMENTS, RuleKey, Verdict};

use crate::frame::Frame;

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

/// What the rules are asked for, and where the payload lies.
pub struct Packet {
    /// With the packet's own source.
    pub rule: RuleKey,
    /// Of a datagram.
    pub source_port: u16,
    /// Offset of a datagram's payload.
    pub payload: usize,
    /// Its length by the UDP header.
    pub length: usize,
}

impl Packet {
    /// Nothing.
    #[inline(always)]
    pub fn new() -> Self {
        const NOWHERE: Address = [0; 4];
        let rule = RuleKey { destination: NOWHERE, source: NOWHERE, port: 0, version: 0, class: 0 };
        Self { rule, source_port: 0, payload: 0, length: 0 }
    }
}

/// Reads a frame of `bytes` into `packet`. [`Verdict::Redirected`] and [`Verdict::Fragment`]: if a rule selects it.
#[inline(always)]
pub fn parse(frame: &Frame, bytes: usize, packet: &mut Packet) -> Verdict {
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
        ETHERTYPE_IPV4 => ipv4(frame, offset, bytes, packet),
        ETHERTYPE_IPV6 => ipv6(frame, offset, bytes, packet),
        _ => Some(Verdict::Passed),
    };
    verdict.unwrap_or(Verdict::Malformed)
}

/// None when the headers are cut short.
#[inline(always)]
fn ipv4(frame: &Frame, offset: usize, bytes: usize, packet: &mut Packet) -> Option<Verdict> {
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
    packet.rule = RuleKey { destination, source, port: 0, version: 4, class: FRAGMENTS };
    // More fragments, or an offset; the third flag is "don't fragment".
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Some(Verdict::Fragment);
    }
    if header[9] != PROTOCOL_UDP {
        return Some(Verdict::Passed);
    }
    datagram(frame, offset + header_bytes, packet_bytes - header_bytes, packet)
}

/// None when the headers are cut short.
#[inline(always)]
fn ipv6(frame: &Frame, offset: usize, bytes: usize, packet: &mut Packet) -> Option<Verdict> {
    let first: [u8; 8] = frame.read(offset)?;
    let source = frame.read_address(offset + 8)?;
    let destination = frame.read_address(offset + 24)?;
    let mut left = usize::from(u16::from_be_bytes([first[4], first[5]]));
    let mut offset = offset + 40;
    if first[0] >> 4 != 6 || offset + left > bytes {
        return None;
    }
    packet.rule = RuleKey { destination, source, port: 0, version: 6, class: FRAGMENTS };
    let mut next = first[6];
    for _ in 0..=EXTENSIONS {
        match next {
            PROTOCOL_UDP => return datagram(frame, offset, left, packet),
            PROTOCOL_FRAGMENT => return Some(Verdict::Fragment),
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
fn datagram(frame: &Frame, offset: usize, left: usize, packet: &mut Packet) -> Option<Verdict> {
    let header: [u8; UDP_HEADER] = frame.read(offset)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if length < UDP_HEADER || length > left {
        return None;
    }
    packet.rule.port = u16::from_be_bytes([header[2], header[3]]);
    packet.rule.class = DATAGRAMS;
    packet.source_port = u16::from_be_bytes([header[0], header[1]]);
    packet.payload = offset + UDP_HEADER;
    packet.length = length - UDP_HEADER;
    Some(Verdict::Redirected)
}
