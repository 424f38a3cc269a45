//! IGMP messages and the IPv4 packets that carry them (RFC 1112 appendix I, RFC 2236, RFC 9776).

use std::net::{IpAddr, Ipv4Addr};

use super::checksum;
use super::ip::{self, Ip};
use crate::error::{Error, Result};
use crate::multicast::message;
use crate::multicast::message::{Body, Defect, Heard, Message, Query, Record, RecordKind, Unread, Version};

/// Protocol number.
pub const PROTOCOL: u8 = 2;
/// IPv4 header with Router Alert, bytes.
pub const CARRIER_LEN: usize = ip::V4_LEN + ROUTER_ALERT.len();
/// An IGMPv3 report without records, bytes.
pub const REPORT_LEN: usize = 8;

/// The option (RFC 2113).
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
/// Messages of IGMPv1 and IGMPv2, bytes.
const OLD_LEN: usize = 8;
/// An IGMPv3 query without sources, bytes.
const QUERY_LEN: usize = 12;
/// "Internetwork control" (RFC 9776 §4).
const TOS: u8 = 0xc0;

const QUERY: u8 = 0x11;
const REPORT_V1: u8 = 0x12;
const REPORT_V2: u8 = 0x16;
const LEAVE: u8 = 0x17;
const REPORT_V3: u8 = 0x22;

/// The number that the code of one byte stands for (RFC 9776 §4.1.1, §4.1.7).
pub fn decode(code: u8) -> u32 {
    match code {
        0..128 => u32::from(code),
        _ => (u32::from(code & 0xf) | 0x10) << (u32::from(code >> 4 & 7) + 3),
    }
}

/// The code of the largest number not above `value` that has one.
pub fn encode(value: u32) -> u8 {
    if value < 128 {
        return value as u8;
    }
    let value = value.min(31 << 10);
    // 8 to 15 bits: the highest five are kept.
    let exponent = value.ilog2() - 7;
    let mantissa = value >> (exponent + 3) & 0xf;
    (0x80 | exponent << 4 | mantissa) as u8
}

/// Writes `message` into an IPv4 packet from `source`.
///
/// # Errors
/// Usage: it is longer than an IPv4 packet may be.
pub fn packet(message: &Message, source: Ipv4Addr) -> Result<Vec<u8>> {
    let body = emit(message);
    // RFC 1112 knows no options.
    let options = if message.version == Version::Igmp1 { &[][..] } else { &ROUTER_ALERT };
    let total = ip::V4_LEN + options.len() + body.len();
    let total =
        u16::try_from(total).map_err(|_| Error::usage(format!("{total} bytes are no IPv4 packet")))?;
    let IpAddr::V4(destination) = message.destination() else { unreachable!("IGMP is of IPv4") };
    let mut packet = vec![0; ip::V4_LEN];
    packet[0] = 0x45 + (options.len() / 4) as u8;
    packet[1] = TOS;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    // Never fragmented, so that it needs no identification (RFC 6864 §4.1).
    packet[6] = 0x40;
    packet[8] = 1;
    packet[9] = PROTOCOL;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    packet.extend(options);
    let check = checksum::finish(checksum::sum(&packet));
    packet[10..12].copy_from_slice(&check.to_be_bytes());
    packet.extend(body);
    Ok(packet)
}

/// The bytes of a message whose addresses are of IPv4 and whose version has such a message.
fn emit(message: &Message) -> Vec<u8> {
    let old = |kind: u8, code: u8, group: Option<IpAddr>| {
        let mut bytes = vec![kind, code, 0, 0];
        push(&mut bytes, group.unwrap_or(Ipv4Addr::UNSPECIFIED.into()));
        bytes
    };
    let mut bytes = match (&message.body, message.version) {
        (Body::Query(_), Version::Igmp1) => old(QUERY, 0, None),
        (Body::Query(query), Version::Igmp2) => {
            old(QUERY, (query.max_response_ms / 100).clamp(1, 255) as u8, query.group)
        }
        (Body::Query(query), _) => {
            let mut bytes = old(QUERY, encode(query.max_response_ms / 100), query.group);
            extend(&mut bytes, query);
            bytes
        }
        (Body::Report(records), _) => {
            let mut bytes = vec![REPORT_V3, 0, 0, 0, 0, 0];
            append(&mut bytes, records);
            bytes
        }
        (Body::Join(group), Version::Igmp1) => old(REPORT_V1, 0, Some(*group)),
        (Body::Join(group), _) => old(REPORT_V2, 0, Some(*group)),
        (Body::Leave(group), _) => old(LEAVE, 0, Some(*group)),
    };
    let check = checksum::finish(checksum::sum(&bytes));
    bytes[2..4].copy_from_slice(&check.to_be_bytes());
    bytes
}

/// What queries of IGMPv3 and MLDv2 end with.
pub(super) fn extend(bytes: &mut Vec<u8>, query: &Query) {
    bytes.push(u8::from(query.suppress) << 3 | query.robustness & 7);
    bytes.push(encode(query.interval_s));
    bytes.extend(count(query.sources.len()).to_be_bytes());
    query.sources.iter().for_each(|source| push(bytes, *source));
}

/// Number of records, and records.
pub(super) fn append(bytes: &mut Vec<u8>, records: &[Record]) {
    bytes.extend(count(records.len()).to_be_bytes());
    for record in records {
        bytes.extend([record.kind as u8, 0]);
        bytes.extend(count(record.sources.len()).to_be_bytes());
        push(bytes, record.group);
        record.sources.iter().for_each(|source| push(bytes, *source));
    }
}

/// More than 65,535 of anything are more than a packet holds, which is refused for its length.
fn count(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn push(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => bytes.extend(v4.octets()),
        IpAddr::V6(v6) => bytes.extend(v6.octets()),
    }
}

/// Reads an IPv4 packet.
///
/// # Errors
/// When it is no IGMP, or cannot be read.
pub fn parse(packet: &[u8]) -> std::result::Result<Heard, Unread> {
    if packet.get(9) != Some(&PROTOCOL) {
        return Err(Unread::Foreign);
    }
    let (ip, len) = Ip::parse_v4(packet).ok_or(Unread::Malformed("its IPv4 header, or a fragment"))?;
    let body = &packet[len..len + usize::from(ip.payload_len)];
    let mut defects = Vec::new();
    let message = read(body, &mut defects)?;
    if checksum::fold(checksum::sum(body)) != 0xffff {
        defects.push(Defect::Checksum);
    }
    if ip.ttl != 1 {
        defects.push(Defect::HopLimit(ip.ttl));
    }
    if message.version != Version::Igmp1 && !has_router_alert(&packet[ip::V4_LEN..len]) {
        defects.push(Defect::NoRouterAlert);
    }
    // Unspecified: a host without an address yet (RFC 9776 §4.2.13), and a switch that asks for routers' want (RFC 4541 §2.1.1).
    if !message::is_host(ip.source) && !ip.source.is_unspecified() {
        defects.push(Defect::Source(ip.source));
    }
    let mut heard = Heard { source: ip.source, destination: ip.destination, message, defects };
    message::inspect(&mut heard);
    Ok(heard)
}

fn has_router_alert(mut options: &[u8]) -> bool {
    loop {
        match *options {
            [0, ..] | [] => return false,
            [1, ref rest @ ..] => options = rest,
            [0x94, 4, ..] => return true,
            [_, len, ..] if len >= 2 && usize::from(len) <= options.len() => {
                options = &options[usize::from(len)..];
            }
            _ => return false,
        }
    }
}

fn read(bytes: &[u8], defects: &mut Vec<Defect>) -> std::result::Result<Message, Unread> {
    let head: &[u8; OLD_LEN] = bytes.first_chunk().ok_or(Unread::Malformed("it ends within its header"))?;
    let group = Ipv4Addr::new(head[4], head[5], head[6], head[7]);
    let asked = Some(IpAddr::V4(group)).filter(|group| !group.is_unspecified());
    let old = |version, body| Ok(Message { version, body });
    match head[0] {
        QUERY if bytes.len() >= QUERY_LEN => {
            let mut query =
                Query { group: asked, max_response_ms: decode(head[1]) * 100, ..Query::default() };
            read_extension::<4>(&bytes[OLD_LEN..], &mut query)?;
            Ok(Message { version: Version::Igmp3, body: Body::Query(query) })
        }
        // RFC 9776 §7.1: the length tells versions apart, and what is in between is none of them.
        QUERY if bytes.len() > OLD_LEN => Err(Unread::Malformed("a query of 9 to 11 bytes is of no version")),
        QUERY if head[1] == 0 => {
            let query = Query { max_response_ms: 10_000, ..Query::default() };
            old(Version::Igmp1, Body::Query(query))
        }
        QUERY => {
            let max_response_ms = u32::from(head[1]) * 100;
            let query = Query { group: asked, max_response_ms, ..Query::default() };
            old(Version::Igmp2, Body::Query(query))
        }
        REPORT_V1 => old(Version::Igmp1, Body::Join(group.into())),
        REPORT_V2 => old(Version::Igmp2, Body::Join(group.into())),
        LEAVE => old(Version::Igmp2, Body::Leave(group.into())),
        REPORT_V3 => {
            let records = read_records::<4>(&bytes[6..], defects)?;
            Ok(Message { version: Version::Igmp3, body: Body::Report(records) })
        }
        _ => Err(Unread::Foreign),
    }
}

/// An address of `N` bytes at the start of `bytes`, and the rest.
fn address<const N: usize>(bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
    let (address, rest) = bytes.split_first_chunk::<N>()?;
    let address = match N {
        4 => IpAddr::from(*address.first_chunk::<4>()?),
        _ => IpAddr::from(*address.first_chunk::<16>()?),
    };
    Some((address, rest))
}

fn read_sources<const N: usize>(
    mut bytes: &[u8],
    number: u16,
) -> std::result::Result<(Vec<IpAddr>, &[u8]), Unread> {
    if bytes.len() < usize::from(number) * N {
        return Err(Unread::Malformed("it ends within its sources"));
    }
    let mut sources = Vec::with_capacity(usize::from(number));
    for _ in 0..number {
        let Some((source, rest)) = address::<N>(bytes) else { break };
        sources.push(source);
        bytes = rest;
    }
    Ok((sources, bytes))
}

/// What queries of IGMPv3 and MLDv2 end with: flags, QQIC, sources of `N` bytes. What comes behind is ignored (RFC 9776 §4.1.10).
pub(super) fn read_extension<const N: usize>(
    bytes: &[u8],
    query: &mut Query,
) -> std::result::Result<(), Unread> {
    let (&[flags, interval, high, low], rest) =
        bytes.split_first_chunk().ok_or(Unread::Malformed("it ends within its header"))?;
    query.suppress = flags & 8 != 0;
    query.robustness = flags & 7;
    query.interval_s = decode(interval);
    query.sources = read_sources::<N>(rest, u16::from_be_bytes([high, low]))?.0;
    Ok(())
}

/// Number of records and records, whose addresses have `N` bytes. Auxiliary data and what comes behind are ignored (RFC 9776 §4.2.10 and §4.2.11).
pub(super) fn read_records<const N: usize>(
    bytes: &[u8],
    defects: &mut Vec<Defect>,
) -> std::result::Result<Vec<Record>, Unread> {
    let short = Unread::Malformed("it ends within its records");
    let (number, mut bytes) = bytes.split_first_chunk().ok_or(short)?;
    let mut records = Vec::new();
    for _ in 0..u16::from_be_bytes(*number) {
        let (&[kind, auxiliary, high, low], rest) = bytes.split_first_chunk().ok_or(short)?;
        let (group, rest) = address::<N>(rest).ok_or(short)?;
        let (sources, rest) = read_sources::<N>(rest, u16::from_be_bytes([high, low]))?;
        bytes = rest.get(usize::from(auxiliary) * 4..).ok_or(short)?;
        match RecordKind::from_number(kind) {
            Some(kind) => records.push(Record { kind, group, sources }),
            None => defects.push(Defect::UnknownRecord(kind)),
        }
    }
    Ok(records)
}
