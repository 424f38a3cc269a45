//! What hosts and routers tell each other about groups: one model for IGMP (RFC 1112, 2236, 9776) and MLD (RFC 2710, 9777).
//!
//! The bytes are the business of [`igmp`] and [`mld`]; here is what they mean, and which packet carries them.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Serialize, Serializer};

use super::mac;
use crate::error::{Error, Result};
use crate::packet::ethernet::{self, Ethernet};
use crate::packet::{igmp, mld};

/// All systems of a link, to which general queries go.
pub const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// All routers of a link, to which IGMPv2 leaves go.
pub const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// Where IGMPv3 reports go (RFC 9776 §4.2.14).
pub const IGMPV3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
/// All nodes of a link, to which general queries go.
pub const ALL_NODES_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers of a link, to which MLDv1 "done" goes.
pub const ALL_ROUTERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Where MLDv2 reports go (RFC 9777 §5.2.14).
pub const MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// Protocol and version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Version {
    /// RFC 1112 appendix I.
    #[serde(rename = "IGMPv1")]
    Igmp1,
    /// RFC 2236.
    #[serde(rename = "IGMPv2")]
    Igmp2,
    /// RFC 9776.
    #[serde(rename = "IGMPv3")]
    Igmp3,
    /// RFC 2710, which does what IGMPv2 does.
    #[serde(rename = "MLDv1")]
    Mld1,
    /// RFC 9777, which does what IGMPv3 does.
    #[serde(rename = "MLDv2")]
    Mld2,
}

impl Version {
    /// Whether it speaks of IPv6 groups.
    pub fn is_ipv6(self) -> bool {
        matches!(self, Self::Mld1 | Self::Mld2)
    }

    /// Whether its reports and queries can name sources.
    pub fn names_sources(self) -> bool {
        matches!(self, Self::Igmp3 | Self::Mld2)
    }

    /// The newest for groups of the family of `group`.
    pub fn newest(group: IpAddr) -> Self {
        if group.is_ipv4() { Self::Igmp3 } else { Self::Mld2 }
    }

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Igmp1 => "IGMPv1",
            Self::Igmp2 => "IGMPv2",
            Self::Igmp3 => "IGMPv3",
            Self::Mld1 => "MLDv1",
            Self::Mld2 => "MLDv2",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Protocol and version.
    pub version: Version,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A router asks who is a member.
    Query(Query),
    /// IGMPv3 and MLDv2: what a host's memberships are, or how they change.
    Report(Vec<Record>),
    /// The versions before: the host is a member of this group.
    Join(IpAddr),
    /// IGMPv2 and MLDv1: the host was the last of its link to report this group, and is no member any more.
    Leave(IpAddr),
}

/// A query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// The group that is asked for; all of them in a general query.
    pub group: Option<IpAddr>,
    /// The sources that are asked for, within the group.
    pub sources: Vec<IpAddr>,
    /// Members answer within this time, in ms. IGMP counts in tenths of a second, and long times are rounded to what their codes can say
    /// (RFC 9776 §4.1.1, RFC 9777 §5.1.3). IGMPv1 has no such field: 10 s.
    pub max_response_ms: u32,
    /// IGMPv3 and MLDv2: other routers are not to shorten their timers (the S flag).
    pub suppress: bool,
    /// IGMPv3 and MLDv2: how often a message may be lost (QRV), 1 to 7; 0 says nothing.
    pub robustness: u8,
    /// IGMPv3 and MLDv2: seconds between general queries (QQIC, rounded to what its code can say); 0 says nothing.
    pub interval_s: u32,
}

/// What an IGMPv3 or MLDv2 report says of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// How `sources` are meant.
    pub kind: RecordKind,
    /// The group.
    pub group: IpAddr,
    /// Sources, by `kind`.
    pub sources: Vec<IpAddr>,
}

impl Record {
    /// A record of this kind for `group`.
    pub fn new(kind: RecordKind, group: IpAddr, sources: Vec<IpAddr>) -> Self {
        Self { kind, group, sources }
    }
}

/// The record types (RFC 9776 §4.2.12, RFC 9777 §5.2.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    /// MODE_IS_INCLUDE: wants what these sources send.
    IsInclude = 1,
    /// MODE_IS_EXCLUDE: wants what all but these send.
    IsExclude = 2,
    /// CHANGE_TO_INCLUDE_MODE; with no sources it is a leave.
    ToInclude = 3,
    /// CHANGE_TO_EXCLUDE_MODE; with no sources it is a join of the group.
    ToExclude = 4,
    /// ALLOW_NEW_SOURCES.
    Allow = 5,
    /// BLOCK_OLD_SOURCES.
    Block = 6,
}

impl RecordKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::IsInclude, Self::IsExclude, Self::ToInclude, Self::ToExclude, Self::Allow, Self::Block];

    /// By its number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// As the RFC abbreviates it.
    pub fn name(self) -> &'static str {
        match self {
            Self::IsInclude => "IS_IN",
            Self::IsExclude => "IS_EX",
            Self::ToInclude => "TO_IN",
            Self::ToExclude => "TO_EX",
            Self::Allow => "ALLOW",
            Self::Block => "BLOCK",
        }
    }

    /// Whether one record's sources may be told in several packets (RFC 9776 §4.2.16): those of an exclude list may not.
    fn divides(self) -> bool {
        !matches!(self, Self::IsExclude | Self::ToExclude)
    }
}

impl Message {
    /// Where the packet goes.
    ///
    /// # Panics
    /// Never for a message that [`packet`](Self::packet) accepts.
    pub fn destination(&self) -> IpAddr {
        let six = self.version.is_ipv6();
        let of = |v4: Ipv4Addr, v6: Ipv6Addr| if six { IpAddr::from(v6) } else { v4.into() };
        match &self.body {
            Body::Query(query) => query.group.unwrap_or_else(|| of(ALL_SYSTEMS, ALL_NODES_V6)),
            Body::Report(_) => of(IGMPV3_ROUTERS, MLDV2_ROUTERS),
            Body::Join(group) => *group,
            Body::Leave(_) => of(ALL_ROUTERS, ALL_ROUTERS_V6),
        }
    }

    /// The IP packet that carries it, from `source`: TTL or hop limit 1, with Router Alert (RFC 2113, RFC 2711).
    ///
    /// # Errors
    /// Usage: an address of the wrong family, a group that is none, or something that this version cannot say.
    pub fn packet(&self, source: IpAddr) -> Result<Vec<u8>> {
        self.check()?;
        match (source, self.version.is_ipv6()) {
            (IpAddr::V4(source), false) => igmp::packet(self, source),
            (IpAddr::V6(source), true) => mld::packet(self, source),
            _ => Err(Error::usage(format!("{source} cannot be the source of {}", self.version))),
        }
    }

    /// The Ethernet frame that carries it, without FCS, at least as long as a frame has to be.
    ///
    /// # Errors
    /// As [`packet`](Self::packet).
    pub fn frame(&self, hardware: [u8; 6], source: IpAddr) -> Result<Vec<u8>> {
        let packet = self.packet(source)?;
        let destination = mac::of_group(self.destination())
            .ok_or_else(|| Error::usage(format!("{} is not a multicast group", self.destination())))?;
        let ethertype = if self.version.is_ipv6() { ethernet::IPV6 } else { ethernet::IPV4 };
        let mut frame = vec![0; ethernet::HEADER_LEN];
        Ethernet { destination, source: hardware, vlan: None, ethertype }.emit(&mut frame);
        frame.extend(packet);
        frame.resize(frame.len().max(ethernet::MIN_LEN), 0);
        Ok(frame)
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::usage(format!("{}: {what}", self.version)));
        let six = self.version.is_ipv6();
        let group = |group: IpAddr| group.is_multicast() && group.is_ipv6() == six;
        let sources = |sources: &[IpAddr]| sources.iter().all(|s| s.is_ipv6() == six);
        match &self.body {
            Body::Query(query) => {
                let named = query.robustness > 0 || query.interval_s > 0 || query.suppress;
                if !self.version.names_sources() && (named || !query.sources.is_empty()) {
                    return wrong("its queries have no sources, S flag, QRV or QQIC".into());
                }
                if query.robustness > 7 {
                    return wrong(format!("QRV {} is more than three bits", query.robustness));
                }
                if query.group.is_none() && !query.sources.is_empty() {
                    return wrong("a general query names no sources".into());
                }
                if self.version == Version::Igmp1 && query.group.is_some() {
                    return wrong("it has general queries only".into());
                }
                match query.group {
                    Some(address) if !group(address) => wrong(format!("{address} is no group of its family")),
                    _ if !sources(&query.sources) => wrong("a source is not of its family".into()),
                    _ => Ok(()),
                }
            }
            Body::Report(_) if !self.version.names_sources() => wrong("its reports have no records".into()),
            Body::Report(records) => match records.iter().find(|r| !group(r.group) || !sources(&r.sources)) {
                Some(record) => wrong(format!("{} or its sources are not of its family", record.group)),
                None => Ok(()),
            },
            Body::Join(_) | Body::Leave(_) if self.version.names_sources() => {
                wrong("its reports have records".into())
            }
            Body::Leave(_) if self.version == Version::Igmp1 => wrong("it has no leave".into()),
            Body::Join(address) | Body::Leave(address) if !group(*address) => {
                wrong(format!("{address} is no group of its family"))
            }
            Body::Join(_) | Body::Leave(_) => Ok(()),
        }
    }
}

/// Reports with all `records`, each of which fits into an IP packet of `mtu` bytes. A record with more sources than fit is divided where its kind allows that, and
/// otherwise tells as many as fit (RFC 9776 §4.2.16).
///
/// # Panics
/// When not even one source fits: below 68 bytes.
pub fn pack(version: Version, records: impl IntoIterator<Item = Record>, mtu: usize) -> Vec<Message> {
    let (head, address) = if version.is_ipv6() {
        (mld::CARRIER_LEN + mld::REPORT_LEN, 16)
    } else {
        (igmp::CARRIER_LEN + igmp::REPORT_LEN, 4)
    };
    let room = mtu.checked_sub(head).expect("an MTU that IP allows");
    let most =
        (room.checked_sub(4 + address).expect("an MTU that IP allows") / address).min(usize::from(u16::MAX));
    assert!(most > 0, "an MTU that IP allows");
    let mut messages = Vec::new();
    let (mut batch, mut used) = (Vec::new(), 0);
    let mut add = |record: Record, messages: &mut Vec<Message>| {
        let len = 4 + address * (1 + record.sources.len());
        if used + len > room {
            messages.push(Message { version, body: Body::Report(std::mem::take(&mut batch)) });
            used = 0;
        }
        used += len;
        batch.push(record);
    };
    for mut record in records {
        if record.sources.len() <= most {
            add(record, &mut messages);
        } else if record.kind.divides() {
            for sources in record.sources.chunks(most) {
                add(Record { sources: sources.to_vec(), ..record }, &mut messages);
            }
        } else {
            record.sources.truncate(most);
            add(record, &mut messages);
        }
    }
    if !batch.is_empty() {
        messages.push(Message { version, body: Body::Report(batch) });
    }
    messages
}

/// A message with the packet that carried it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The host or router that sent it; unspecified for one that has no address yet, or that only snoops.
    pub source: IpAddr,
    /// Where it was sent to.
    pub destination: IpAddr,
    /// What it says.
    pub message: Message,
    /// What is wrong with it.
    pub defects: Vec<Defect>,
}

impl Heard {
    /// Whether a receiver that keeps to the RFC takes it in.
    pub fn is_valid(&self) -> bool {
        let six = self.message.version.is_ipv6();
        !self.defects.iter().any(|defect| match defect {
            Defect::Checksum => true,
            // RFC 9777 §6.2 and §7.4; IGMP's sender is asked for them, its receiver is not told to look.
            Defect::HopLimit(_) | Defect::NoRouterAlert | Defect::Source(_) => six,
            Defect::Destination(_)
            | Defect::NotAGroup(_)
            | Defect::NotASource(_)
            | Defect::UnknownRecord(_) => false,
        })
    }
}

/// What is wrong with a packet that nevertheless says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The message's checksum.
    Checksum,
    /// TTL or hop limit, which is 1.
    HopLimit(u8),
    /// The IP option Router Alert is missing.
    NoRouterAlert,
    /// The packet's source: neither link-local nor, for reports of MLDv2, unspecified; or for IGMP no host's address.
    Source(IpAddr),
    /// The packet's destination is not the one that the RFC has for this message, which is this.
    Destination(IpAddr),
    /// A group that is none; who receives this ignores it.
    NotAGroup(IpAddr),
    /// A source in a list that no host can be.
    NotASource(IpAddr),
    /// A record of a type that nobody has defined, which is left out.
    UnknownRecord(u8),
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum => f.write_str("wrong checksum"),
            Self::HopLimit(ttl) => write!(f, "TTL or hop limit {ttl}, not 1"),
            Self::NoRouterAlert => f.write_str("no Router Alert option"),
            Self::Source(source) => write!(f, "sent from {source}"),
            Self::Destination(wanted) => write!(f, "not sent to {wanted}"),
            Self::NotAGroup(group) => write!(f, "{group} is not a multicast group"),
            Self::NotASource(source) => write!(f, "{source} cannot be a source"),
            Self::UnknownRecord(kind) => write!(f, "record of unknown type {kind}"),
        }
    }
}

impl Serialize for Defect {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a packet says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// It is neither IGMP nor MLD, or another message of theirs (DVMRP, PIMv1, …).
    Foreign,
    /// It is one of them, and this is why it cannot be read.
    Malformed(&'static str),
}

/// Reads an IP packet.
///
/// # Errors
/// When it is none of ours, or cannot be read.
pub fn parse(packet: &[u8]) -> std::result::Result<Heard, Unread> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => igmp::parse(packet),
        Some(6) => mld::parse(packet),
        _ => Err(Unread::Foreign),
    }
}

/// What is to be said of addresses in a message, the same for both families.
pub(crate) fn inspect(heard: &mut Heard) {
    let mut defects = Vec::new();
    let mut look = |group: Option<IpAddr>, sources: &[IpAddr]| {
        defects.extend(group.filter(|g| !g.is_multicast()).map(Defect::NotAGroup));
        defects.extend(sources.iter().find(|s| !is_host(**s)).map(|s| Defect::NotASource(*s)));
    };
    match &heard.message.body {
        Body::Query(query) => look(query.group, &query.sources),
        Body::Report(records) => records.iter().for_each(|r| look(Some(r.group), &r.sources)),
        Body::Join(group) | Body::Leave(group) => look(Some(*group), &[]),
    }
    heard.defects.extend(defects);
    let wanted = heard.message.destination();
    // RFC 9776 §4.1.12 and §4.2.14: a query to any address of ours, and a report to any address, is taken in; a querier may ask one host alone.
    let alone = matches!(heard.message.body, Body::Query(_)) && is_host(heard.destination);
    if wanted != heard.destination && wanted.is_multicast() && !alone {
        heard.defects.push(Defect::Destination(wanted));
    }
}

/// Whether a host may have this address.
pub(crate) fn is_host(address: IpAddr) -> bool {
    !address.is_multicast() && !address.is_unspecified() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

#[cfg(test)]
#[path = "message_tests.rs"]
pub(crate) mod tests;
