//! MLD messages, which are ICMPv6, and the IPv6 packets that carry them (RFC 2710, RFC 9777).

use std::net::{IpAddr, Ipv6Addr};

use super::checksum;
use super::igmp::{append, extend, read_extension, read_records};
use super::ip::{self, Ip};
use crate::error::{Error, Result};
use crate::multicast::message;
use crate::multicast::message::{Body, Defect, Heard, Message, Query, Unread, Version};

/// Next header: ICMPv6.
pub const ICMPV6: u8 = 58;
/// IPv6 header and hop-by-hop options with Router Alert, bytes.
pub const CARRIER_LEN: usize = ip::V6_LEN + HOP_BY_HOP.len();
/// An MLDv2 report without records, bytes.
pub const REPORT_LEN: usize = 8;

/// Hop-by-hop options: Router Alert for MLD (RFC 2711), and padding of two bytes.
const HOP_BY_HOP: [u8; 8] = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
/// Messages of MLDv1, bytes.
const OLD_LEN: usize = 24;
/// An MLDv2 query without sources, bytes.
const QUERY_LEN: usize = 28;

const QUERY: u8 = 130;
const REPORT_V1: u8 = 131;
const DONE: u8 = 132;
const REPORT_V2: u8 = 143;

/// The number that the code of two bytes stands for (RFC 9777 §5.1.3).
pub fn decode(code: u16) -> u32 {
    match code {
        0..0x8000 => u32::from(code),
        _ => (u32::from(code & 0xfff) | 0x1000) << (u32::from(code >> 12 & 7) + 3),
    }
}

/// The code of the largest number not above `value` that has one.
pub fn encode(value: u32) -> u16 {
    if value < 0x8000 {
        return value as u16;
    }
    let value = value.min(0x1fff << 10);
    // 16 to 23 bits: the highest thirteen are kept.
    let exponent = value.ilog2() - 15;
    let mantissa = value >> (exponent + 3) & 0xfff;
    (0x8000 | exponent << 12 | mantissa) as u16
}

/// Writes `message` into an IPv6 packet from `source`, which has to be link-local.
///
/// # Errors
/// Usage: it is longer than an IPv6 packet may be, or routers would ignore its source.
pub fn packet(message: &Message, source: Ipv6Addr) -> Result<Vec<u8>> {
    if !may_send(message, source) {
        return Err(Error::usage(format!("{}: {source} is no link-local address", message.version))
            .fix("send from the interface's address in fe80::/10"));
    }
    let mut body = emit(message);
    let payload_len = HOP_BY_HOP.len() + body.len();
    let payload_len = u16::try_from(payload_len)
        .map_err(|_| Error::usage(format!("{payload_len} bytes are no payload of an IPv6 packet")))?;
    let ip = Ip {
        source: source.into(),
        destination: message.destination(),
        dscp: 0,
        ttl: 1,
        protocol: 0,
        payload_len,
    };
    let check = checksum::finish(sum(source.into(), ip.destination, &body));
    body[2..4].copy_from_slice(&check.to_be_bytes());
    let mut packet = vec![0; ip::V6_LEN];
    ip.emit(&mut packet);
    packet.extend(HOP_BY_HOP);
    packet.extend(body);
    Ok(packet)
}

/// With the pseudo-header (RFC 8200 §8.1).
fn sum(source: IpAddr, destination: IpAddr, body: &[u8]) -> u64 {
    checksum::pseudo_sum(source, destination, ICMPV6, body.len() as u32) + checksum::sum(body)
}

/// RFC 9777 §5.1.14 and §5.2.13: link-local, or for reports that are sent before there is such an address, unspecified.
fn may_send(message: &Message, source: Ipv6Addr) -> bool {
    let report = !matches!(message.body, Body::Query(_));
    source.is_unicast_link_local() || (report && source.is_unspecified())
}

/// The bytes of a message whose addresses are of IPv6 and whose version has such a message, with no checksum.
fn emit(message: &Message) -> Vec<u8> {
    let old = |kind: u8, code: u16, group: Option<IpAddr>| {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend(code.to_be_bytes());
        bytes.extend([0; 2]);
        let Some(IpAddr::V6(group)) = group.or(Some(Ipv6Addr::UNSPECIFIED.into())) else {
            unreachable!("MLD is of IPv6")
        };
        bytes.extend(group.octets());
        bytes
    };
    match (&message.body, message.version) {
        (Body::Query(query), Version::Mld1) => {
            old(QUERY, u16::try_from(query.max_response_ms).unwrap_or(u16::MAX), query.group)
        }
        (Body::Query(query), _) => {
            let mut bytes = old(QUERY, encode(query.max_response_ms), query.group);
            extend(&mut bytes, query);
            bytes
        }
        (Body::Report(records), _) => {
            let mut bytes = vec![REPORT_V2, 0, 0, 0, 0, 0];
            append(&mut bytes, records);
            bytes
        }
        (Body::Join(group), _) => old(REPORT_V1, 0, Some(*group)),
        (Body::Leave(group), _) => old(DONE, 0, Some(*group)),
    }
}

/// Reads an IPv6 packet.
///
/// # Errors
/// When it is no MLD, or cannot be read.
pub fn parse(packet: &[u8]) -> std::result::Result<Heard, Unread> {
    let Some((ip, len)) = Ip::parse_v6(packet) else {
        // Cut short by the capture, or padded to nothing: only what looks like ours is worth a word.
        let kind = match packet.get(6) {
            Some(0) if packet.get(40) == Some(&ICMPV6) => packet.get(48),
            Some(&ICMPV6) => packet.get(40),
            _ => None,
        };
        return Err(match kind {
            Some(&(QUERY | REPORT_V1 | DONE | REPORT_V2)) => Unread::Malformed("its IPv6 header"),
            _ => Unread::Foreign,
        });
    };
    let payload = &packet[len..len + usize::from(ip.payload_len)];
    let (body, alert) = match ip.protocol {
        ICMPV6 => (payload, false),
        0 => hop_by_hop(payload).ok_or(Unread::Foreign)?,
        _ => return Err(Unread::Foreign),
    };
    if !matches!(body.first(), Some(&(QUERY | REPORT_V1 | DONE | REPORT_V2))) {
        return Err(Unread::Foreign);
    }
    let mut defects = Vec::new();
    let message = read(body, &mut defects)?;
    if checksum::fold(sum(ip.source, ip.destination, body)) != 0xffff {
        defects.push(Defect::Checksum);
    }
    if ip.ttl != 1 {
        defects.push(Defect::HopLimit(ip.ttl));
    }
    if !alert {
        defects.push(Defect::NoRouterAlert);
    }
    if !matches!(ip.source, IpAddr::V6(source) if may_send(&message, source)) {
        defects.push(Defect::Source(ip.source));
    }
    let mut heard = Heard { source: ip.source, destination: ip.destination, message, defects };
    message::inspect(&mut heard);
    Ok(heard)
}

/// The ICMPv6 message behind hop-by-hop options, and whether Router Alert for MLD is among these.
fn hop_by_hop(bytes: &[u8]) -> Option<(&[u8], bool)> {
    let len = (usize::from(*bytes.get(1)?) + 1) * 8;
    let (options, body) = (bytes.get(2..len)?, &bytes[len..]);
    if bytes[0] != ICMPV6 {
        return None;
    }
    let (mut options, mut alert) = (options, false);
    loop {
        match *options {
            [0, ref rest @ ..] => options = rest,
            [kind, option_len, ref rest @ ..] if usize::from(option_len) <= rest.len() => {
                alert |= kind == 5 && rest[..usize::from(option_len)] == [0, 0];
                options = &rest[usize::from(option_len)..];
            }
            _ => return Some((body, alert)),
        }
    }
}

fn read(bytes: &[u8], defects: &mut Vec<Defect>) -> std::result::Result<Message, Unread> {
    if bytes[0] == REPORT_V2 {
        let records = bytes.get(6..).ok_or(Unread::Malformed("it ends within its header"))?;
        let records = read_records::<16>(records, defects)?;
        return Ok(Message { version: Version::Mld2, body: Body::Report(records) });
    }
    let head: &[u8; OLD_LEN] = bytes.first_chunk().ok_or(Unread::Malformed("it ends within its header"))?;
    let octets: &[u8; 16] = head.last_chunk().ok_or(Unread::Malformed("it ends within its header"))?;
    let group = IpAddr::from(*octets);
    let asked = Some(group).filter(|group| !group.is_unspecified());
    let code = u16::from_be_bytes([head[4], head[5]]);
    let old = |body| Ok(Message { version: Version::Mld1, body });
    match head[0] {
        QUERY if bytes.len() >= QUERY_LEN => {
            let mut query = Query { group: asked, max_response_ms: decode(code), ..Query::default() };
            read_extension::<16>(&bytes[OLD_LEN..], &mut query)?;
            Ok(Message { version: Version::Mld2, body: Body::Query(query) })
        }
        // RFC 9777 §8.1.
        QUERY if bytes.len() > OLD_LEN => {
            Err(Unread::Malformed("a query of 25 to 27 bytes is of no version"))
        }
        QUERY => {
            old(Body::Query(Query { group: asked, max_response_ms: u32::from(code), ..Query::default() }))
        }
        REPORT_V1 => old(Body::Join(group)),
        _ => old(Body::Leave(group)),
    }
}
