//! PIM messages of version 2 (RFC 7761 §4.9): what routers tell their neighbours of who wants what. They are read, never written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum;
use super::ip::Ip;
use crate::multicast::message::{Defect, Unread, is_host};

/// Protocol number, and next header.
pub const PROTOCOL: u8 = 103;
/// ALL-PIM-ROUTERS.
pub const ROUTERS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 13);
/// ALL-PIM-ROUTERS.
pub const ROUTERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 13);
/// A hold time that never ends.
pub const FOR_EVER: u16 = 0xffff;

const HEADER: usize = 4;
const HELLO: u8 = 0;
const REGISTER: u8 = 1;
const JOIN_PRUNE: u8 = 3;

/// What a router says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// That it is there (§4.9.2).
    Hello(Hello),
    /// What it wants of a neighbour, and what it wants no more (§4.9.5).
    JoinPrune(JoinPrune),
    /// A message of another type, by its name.
    Other(&'static str),
}

/// A router's greeting. Options that it does not have are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// How long it is believed to be there, in s; 0: it goes.
    pub holdtime_s: Option<u16>,
    /// The highest becomes the designated router.
    pub dr_priority: Option<u32>,
    /// Another one than before: it has started anew.
    pub generation: Option<u32>,
    /// Its other addresses on the link.
    pub addresses: Vec<IpAddr>,
}

/// Joins and prunes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinPrune {
    /// The neighbour that is asked; the others overhear it.
    pub upstream: IpAddr,
    /// How long a join holds, in s.
    pub holdtime_s: u16,
    /// Groups, in the order of the message.
    pub groups: Vec<Group>,
}

/// What is wanted of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its address.
    pub group: IpAddr,
    /// Bits of it that count.
    pub prefix_len: u8,
    /// Wanted.
    pub joined: Vec<Source>,
    /// Wanted no more.
    pub pruned: Vec<Source>,
}

/// A source, or what stands for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The source; with `wildcard` the rendezvous point.
    pub address: IpAddr,
    /// W: all sources, (*,G).
    pub wildcard: bool,
    /// R: on the tree of the rendezvous point.
    pub rpt: bool,
}

/// A message with the packet that carried it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The router that sent it.
    pub source: IpAddr,
    /// Where it was sent to.
    pub destination: IpAddr,
    /// What it says.
    pub message: Message,
    /// What is wrong with it.
    pub defects: Vec<Defect>,
}

impl Heard {
    /// Whether a router takes it in.
    pub fn is_valid(&self) -> bool {
        !self.defects.iter().any(|defect| matches!(defect, Defect::Checksum | Defect::Source(_)))
    }
}

/// Reads an IP packet.
///
/// # Errors
/// When it is no PIM of version 2, or cannot be read.
pub fn parse(packet: &[u8]) -> Result<Heard, Unread> {
    let (at, parsed) = match packet.first().map(|byte| byte >> 4) {
        Some(4) => (9, Ip::parse_v4(packet)),
        Some(6) => (6, Ip::parse_v6(packet)),
        _ => return Err(Unread::Foreign),
    };
    if packet.get(at) != Some(&PROTOCOL) {
        return Err(Unread::Foreign);
    }
    let (ip, len) = parsed.ok_or(Unread::Malformed("its IP header, or a fragment"))?;
    let body = &packet[len..len + usize::from(ip.payload_len)];
    let (head, rest) =
        body.split_first_chunk::<HEADER>().ok_or(Unread::Malformed("it ends within its header"))?;
    if head[0] >> 4 != 2 {
        return Err(Unread::Foreign);
    }
    let kind = head[0] & 0xf;
    let message = match kind {
        HELLO => Message::Hello(hello(rest)?),
        JOIN_PRUNE => Message::JoinPrune(join_prune(rest)?),
        _ => Message::Other(name(kind)),
    };
    let mut defects = Vec::new();
    if !has_right_checksum(&ip, kind, body) {
        defects.push(Defect::Checksum);
    }
    // Only to neighbours: the others are unicast between routers far apart.
    if matches!(kind, HELLO | JOIN_PRUNE) {
        let wanted = if ip.source.is_ipv4() { IpAddr::from(ROUTERS_V4) } else { ROUTERS_V6.into() };
        if ip.ttl != 1 {
            defects.push(Defect::HopLimit(ip.ttl));
        }
        if ip.destination != wanted {
            defects.push(Defect::Destination(wanted));
        }
    }
    if !is_host(ip.source) {
        defects.push(Defect::Source(ip.source));
    }
    if let Message::JoinPrune(message) = &message {
        for group in &message.groups {
            defects.extend((!group.group.is_multicast()).then_some(Defect::NotAGroup(group.group)));
            let mut sources = group.joined.iter().chain(&group.pruned);
            defects.extend(
                sources.find(|source| !is_host(source.address)).map(|s| Defect::NotASource(s.address)),
            );
        }
    }
    Ok(Heard { source: ip.source, destination: ip.destination, message, defects })
}

/// §4.9: over the message, of a Register over its first eight bytes.
fn has_right_checksum(ip: &Ip, kind: u8, body: &[u8]) -> bool {
    let right = |body: &[u8]| checksum::fold(sum(ip, body)) == 0xffff;
    // A receiver has to take in a Register whose sum is of all of it, too (§4.9.3).
    right(body) || (kind == REGISTER && body.get(..8).is_some_and(right))
}

/// With the pseudo-header in IPv6 only.
fn sum(ip: &Ip, body: &[u8]) -> u64 {
    let pseudo = match ip.source {
        IpAddr::V6(_) => checksum::pseudo_sum(ip.source, ip.destination, PROTOCOL, body.len() as u32),
        IpAddr::V4(_) => 0,
    };
    pseudo + checksum::sum(body)
}

fn name(kind: u8) -> &'static str {
    match kind {
        REGISTER => "register",
        2 => "register stop",
        4 => "bootstrap",
        5 => "assert",
        6 => "graft",
        7 => "graft acknowledgement",
        8 => "candidate rendezvous point",
        9 => "state refresh",
        10 => "election of a designated forwarder",
        11 => "ECMP redirect",
        12 => "flooding of sources",
        _ => "a message of another type",
    }
}

fn hello(mut bytes: &[u8]) -> Result<Hello, Unread> {
    const SHORT: Unread = Unread::Malformed("it ends within its options");
    let mut hello = Hello::default();
    while !bytes.is_empty() {
        let (&[a, b, c, d], rest) = bytes.split_first_chunk().ok_or(SHORT)?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([c, d]))).ok_or(SHORT)?;
        bytes = rest;
        let two = || value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        let four = || value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match u16::from_be_bytes([a, b]) {
            1 => hello.holdtime_s = two(),
            19 => hello.dr_priority = four(),
            20 => hello.generation = four(),
            24 => {
                let mut list = value;
                while !list.is_empty() {
                    let (address, rest) = unicast(list)?;
                    hello.addresses.push(address);
                    list = rest;
                }
            }
            _ => {}
        }
    }
    Ok(hello)
}

fn join_prune(bytes: &[u8]) -> Result<JoinPrune, Unread> {
    const SHORT: Unread = Unread::Malformed("it ends within its groups");
    let (upstream, rest) = unicast(bytes)?;
    let (&[_, groups, high, low], mut rest) = rest.split_first_chunk().ok_or(SHORT)?;
    let mut message = JoinPrune { upstream, holdtime_s: u16::from_be_bytes([high, low]), groups: Vec::new() };
    for _ in 0..groups {
        let (&[family, encoding, _, prefix_len], behind) = rest.split_first_chunk().ok_or(SHORT)?;
        let (group, behind) = address(family, encoding, behind)?;
        let (&[a, b, c, d], behind) = behind.split_first_chunk().ok_or(SHORT)?;
        let (joined, behind) = sources(behind, u16::from_be_bytes([a, b]))?;
        let (pruned, behind) = sources(behind, u16::from_be_bytes([c, d]))?;
        message.groups.push(Group { group, prefix_len, joined, pruned });
        rest = behind;
    }
    Ok(message)
}

/// Encoded-Unicast (§4.9.1).
fn unicast(bytes: &[u8]) -> Result<(IpAddr, &[u8]), Unread> {
    let (&[family, encoding], rest) =
        bytes.split_first_chunk().ok_or(Unread::Malformed("it ends within an address"))?;
    address(family, encoding, rest)
}

fn address(family: u8, encoding: u8, bytes: &[u8]) -> Result<(IpAddr, &[u8]), Unread> {
    const SHORT: Unread = Unread::Malformed("it ends within an address");
    match (family, encoding) {
        (1, 0) => bytes.split_first_chunk::<4>().map(|(a, rest)| (IpAddr::from(*a), rest)).ok_or(SHORT),
        (2, 0) => bytes.split_first_chunk::<16>().map(|(a, rest)| (IpAddr::from(*a), rest)).ok_or(SHORT),
        _ => Err(Unread::Malformed("an address of a family that nobody knows")),
    }
}

/// Encoded-Sources (§4.9.1).
fn sources(mut bytes: &[u8], number: u16) -> Result<(Vec<Source>, &[u8]), Unread> {
    let mut sources = Vec::new();
    for _ in 0..number {
        let (&[family, encoding, flags, _], rest) =
            bytes.split_first_chunk().ok_or(Unread::Malformed("it ends within its sources"))?;
        let (address, rest) = address(family, encoding, rest)?;
        sources.push(Source { address, wildcard: flags & 2 != 0, rpt: flags & 1 != 0 });
        bytes = rest;
    }
    Ok((sources, bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::ip::{V4_LEN, V6_LEN};

    fn addressed(out: &mut Vec<u8>, address: IpAddr, between: &[u8]) {
        out.extend([if address.is_ipv4() { 1 } else { 2 }, 0]);
        out.extend(between);
        match address {
            IpAddr::V4(v4) => out.extend(v4.octets()),
            IpAddr::V6(v6) => out.extend(v6.octets()),
        }
    }

    /// By the letter of §4.9.
    fn write(message: &Message) -> Vec<u8> {
        let mut out = vec![0x20, 0, 0, 0];
        match message {
            Message::Hello(hello) => {
                for (kind, value) in [
                    (1u16, hello.holdtime_s.map(|n| n.to_be_bytes().to_vec())),
                    (19, hello.dr_priority.map(|n| n.to_be_bytes().to_vec())),
                    // LAN prune delay, which is not read.
                    (2, Some(vec![1, 2, 3, 4])),
                    (20, hello.generation.map(|n| n.to_be_bytes().to_vec())),
                    (24, {
                        let mut list = Vec::new();
                        hello.addresses.iter().for_each(|a| addressed(&mut list, *a, &[]));
                        Some(list).filter(|list| !list.is_empty())
                    }),
                ] {
                    let Some(value) = value else { continue };
                    out.extend(kind.to_be_bytes());
                    out.extend((value.len() as u16).to_be_bytes());
                    out.extend(value);
                }
            }
            Message::JoinPrune(message) => {
                out[0] = 0x23;
                addressed(&mut out, message.upstream, &[]);
                out.extend([0, message.groups.len() as u8]);
                out.extend(message.holdtime_s.to_be_bytes());
                for group in &message.groups {
                    addressed(&mut out, group.group, &[0, group.prefix_len]);
                    out.extend((group.joined.len() as u16).to_be_bytes());
                    out.extend((group.pruned.len() as u16).to_be_bytes());
                    for source in group.joined.iter().chain(&group.pruned) {
                        let flags = 4 | u8::from(source.wildcard) << 1 | u8::from(source.rpt);
                        addressed(
                            &mut out,
                            source.address,
                            &[flags, if source.address.is_ipv4() { 32 } else { 128 }],
                        );
                    }
                }
            }
            Message::Other(_) => out[0] = 0x25,
        }
        out
    }

    fn packet(source: IpAddr, mut body: Vec<u8>) -> Vec<u8> {
        let six = source.is_ipv6();
        let destination = if six { IpAddr::from(ROUTERS_V6) } else { ROUTERS_V4.into() };
        let ip =
            Ip { source, destination, dscp: 48, ttl: 1, protocol: PROTOCOL, payload_len: body.len() as u16 };
        let pseudo =
            if six { checksum::pseudo_sum(source, destination, PROTOCOL, body.len() as u32) } else { 0 };
        let check = checksum::finish(pseudo + checksum::sum(&body));
        body[2..4].copy_from_slice(&check.to_be_bytes());
        let mut packet = vec![0; if six { V6_LEN } else { V4_LEN }];
        ip.emit(&mut packet);
        packet.extend(body);
        packet
    }

    fn addresses(six: bool, first: u8) -> impl Strategy<Value = IpAddr> {
        any::<[u8; 16]>().prop_map(move |mut bytes| {
            bytes[0] = first;
            if six { IpAddr::from(bytes) } else { IpAddr::from([first, bytes[1], bytes[2], bytes[3]]) }
        })
    }

    fn sources_of(six: bool) -> impl Strategy<Value = Vec<Source>> {
        let source = (addresses(six, if six { 0x20 } else { 10 }), any::<bool>(), any::<bool>())
            .prop_map(|(address, wildcard, rpt)| Source { address, wildcard, rpt });
        proptest::collection::vec(source, 0..4)
    }

    fn message(six: bool) -> impl Strategy<Value = Message> {
        let host = if six { 0x20 } else { 10 };
        let group =
            (addresses(six, if six { 0xff } else { 239 }), any::<u8>(), sources_of(six), sources_of(six))
                .prop_map(|(group, prefix_len, joined, pruned)| Group { group, prefix_len, joined, pruned });
        let groups = proptest::collection::vec(group, 0..4);
        prop_oneof![
            (
                any::<Option<u16>>(),
                any::<Option<u32>>(),
                any::<Option<u32>>(),
                proptest::collection::vec(addresses(six, host), 0..3)
            )
                .prop_map(|(holdtime_s, dr_priority, generation, addresses)| Message::Hello(
                    Hello { holdtime_s, dr_priority, generation, addresses }
                )),
            (addresses(six, host), any::<u16>(), groups).prop_map(|(upstream, holdtime_s, groups)| {
                Message::JoinPrune(JoinPrune { upstream, holdtime_s, groups })
            }),
            Just(Message::Other("assert")),
        ]
    }

    fn any_message() -> impl Strategy<Value = (IpAddr, Message)> {
        any::<bool>().prop_flat_map(|six| (addresses(six, if six { 0xfe } else { 10 }), message(six)))
    }

    proptest! {
        #[test]
        fn reads_what_the_rfc_writes((source, message) in any_message()) {
            let heard = parse(&packet(source, write(&message))).unwrap();
            prop_assert_eq!(&heard.message, &message);
            prop_assert_eq!(heard.source, source);
            prop_assert_eq!(&heard.defects, &[]);
        }

        /// Wherever it is cut, and the header says so, it is malformed or says less; it never panics.
        #[test]
        fn cut_short((source, message) in any_message(), at in any::<prop::sample::Index>()) {
            let body = write(&message);
            let at = at.index(body.len());
            if at >= HEADER {
                let _ = parse(&packet(source, body[..at].to_vec()));
            }
            let whole = packet(source, body);
            prop_assert!(parse(&whole[..whole.len() - 1]).is_err());
        }

        #[test]
        fn one_bit_is_seen((source, message) in any_message(), bit in any::<prop::sample::Index>()) {
            let mut bytes = packet(source, write(&message));
            let head = if source.is_ipv6() { V6_LEN } else { V4_LEN };
            let bit = bit.index((bytes.len() - head) * 8);
            bytes[head + bit / 8] ^= 1 << (bit % 8);
            if let Ok(heard) = parse(&bytes) {
                prop_assert!(heard.defects.contains(&Defect::Checksum));
                prop_assert!(!heard.is_valid());
            }
        }

        #[test]
        fn any_bytes_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..200), six in any::<bool>()) {
            let source = if six { IpAddr::from([0xfe; 16]) } else { IpAddr::from([10, 0, 0, 1]) };
            let mut body = vec![0x20 | bytes.first().copied().unwrap_or(0) & 3, 0, 0, 0];
            body.extend(&bytes);
            let _ = parse(&packet(source, body));
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let hello = Message::Hello(Hello::default());
        let mut bytes = packet(IpAddr::from([10, 0, 0, 1]), write(&hello));
        bytes[8] = 64;
        bytes[19] = 14;
        let heard = parse(&bytes).unwrap();
        assert_eq!(heard.defects, [Defect::HopLimit(64), Defect::Destination(ROUTERS_V4.into())]);
        bytes[20] = 0x10;
        assert_eq!(parse(&bytes), Err(Unread::Foreign), "version 1");
        assert_eq!(parse(&bytes[..20]), Err(Unread::Malformed("its IP header, or a fragment")));
    }

    /// A Register's sum is of its first eight bytes (§4.9.3), and of all of it by older routers.
    #[test]
    fn registers() {
        let head = [0x21, 0, 0, 0, 0, 0, 0, 0];
        let inner = [0x45, 1, 2, 3];
        let source = IpAddr::from([10, 0, 0, 1]);
        let mut bytes = packet(source, [&head[..], &inner].concat());
        let whole = parse(&bytes).unwrap();
        assert_eq!((whole.message, &whole.defects[..]), (Message::Other("register"), &[][..]));
        let sum = checksum::finish(checksum::sum(&head));
        bytes[V4_LEN + 2..V4_LEN + 4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(parse(&bytes).unwrap().defects, []);
        bytes[V4_LEN + 5] = 1;
        assert_eq!(parse(&bytes).unwrap().defects, [Defect::Checksum]);
    }
}
