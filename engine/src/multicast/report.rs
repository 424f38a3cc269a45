//! What `wirerate groups` reports: plain data, described by docs/groups.schema.json.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use serde::Serialize;

use super::message::{Body, Defect, Heard, RecordKind, Version};
use super::own;
use super::state::{self, Mode, Timers};
use crate::report::Warning;

/// Version of the schema.
pub const SCHEMA: &str = "wirerate.groups/1";

/// The report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// When it began, RFC 3339, UTC.
    pub started_at: String,
    /// This host's own memberships, by interface; absent unless they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Vec<own::Interface>>,
    /// What was heard; absent unless somebody listened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard: Option<Wire>,
    /// What was joined; absent unless something was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined: Option<Joined>,
    /// What our querier did; absent unless there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queried: Option<Queried>,
    /// What a reader should know.
    pub warnings: Vec<Warning>,
}

/// What was heard.
#[derive(Debug, Default, Serialize)]
pub struct Wire {
    /// How long, in ns: from the start, or from the first to the last packet of a capture.
    pub duration_ns: u64,
    /// Queries.
    pub queries: u64,
    /// Reports of memberships and of their changes; IGMPv2's and MLDv1's, too.
    pub reports: u64,
    /// Leaves of IGMPv2, "done" of MLDv1. Those of newer versions are reports.
    pub leaves: u64,
    /// Messages with a defect, which are among the others.
    pub defective: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Messages that the kernel had no room for before they were read.
    pub missed: u64,
    /// State at the end, by interface and family.
    pub links: Vec<Link>,
}

/// One of IGMP and MLD on one interface.
#[derive(Debug, Serialize)]
pub struct Link {
    /// The interface's name; in a capture that tells none, its number.
    pub interface: String,
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// Who asks; absent when nobody was heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub querier: Option<Querier>,
    /// By which memberships expire: the querier's, or the RFC's where it told none.
    pub timers: Timers,
    /// Groups that have members.
    pub groups: Vec<Group>,
}

/// A querier.
#[derive(Debug, Serialize)]
pub struct Querier {
    /// Its address.
    pub address: IpAddr,
    /// What it speaks.
    pub version: Version,
    /// General queries that it sent.
    pub queries: u64,
}

/// A group with members.
#[derive(Debug, Serialize)]
pub struct Group {
    /// Its address.
    pub group: IpAddr,
    /// What all members together want.
    pub mode: Mode,
    /// Sources that are asked for; in exclude mode those that were asked for by name.
    pub sources: Vec<IpAddr>,
    /// Sources that nobody wants.
    pub excluded: Vec<IpAddr>,
    /// The oldest version that its members speak.
    pub version: Version,
    /// When it ends unless it is renewed, in ms from the end on.
    pub expires_ms: u64,
    /// The hosts that reported it. With IGMPv1, IGMPv2 and MLDv1 there may be more, which kept silent because they heard one of these.
    pub reporters: Vec<Reporter>,
}

/// A host that reported a group.
#[derive(Debug, Serialize)]
pub struct Reporter {
    /// Its address.
    pub host: IpAddr,
    /// What it speaks.
    pub version: Version,
    /// How its sources are meant.
    pub mode: Mode,
    /// Its sources.
    pub sources: Vec<IpAddr>,
    /// How often it told of the group.
    pub reports: u64,
    /// How long before the end it was last heard, in ms.
    pub heard_ms_ago: u64,
}

impl Link {
    /// What `link` is at `now_ns`, its groups expired up to then.
    pub fn of(interface: &str, ipv6: bool, link: &state::Link, now_ns: u64) -> Self {
        let ms = |ns: u64| ns / 1_000_000;
        let newest = if ipv6 { Version::Mld2 } else { Version::Igmp3 };
        let group = |(address, group): (&IpAddr, &state::Group)| Group {
            group: *address,
            mode: group.mode,
            sources: group.wanted().collect(),
            excluded: group.unwanted().collect(),
            version: group.older.map_or(newest, |(version, _)| version),
            expires_ms: ms(group
                .sources
                .values()
                .copied()
                .chain([group.expires_ns])
                .max()
                .unwrap_or(0)
                .saturating_sub(now_ns)),
            reporters: group
                .reporters
                .iter()
                .map(|(host, reporter)| Reporter {
                    host: *host,
                    version: reporter.version,
                    mode: reporter.mode,
                    sources: reporter.sources.iter().copied().collect(),
                    reports: reporter.reports,
                    heard_ms_ago: ms(now_ns.saturating_sub(reporter.last_ns)),
                })
                .collect(),
        };
        Self {
            interface: interface.to_owned(),
            family: if ipv6 { "ipv6" } else { "ipv4" },
            querier: link.querier.as_ref().map(|querier| Querier {
                address: querier.address,
                version: querier.version,
                queries: querier.queries,
            }),
            timers: link.timers,
            groups: link.groups.iter().map(group).collect(),
        }
    }
}

/// What came of joining.
#[derive(Debug, Default, Serialize)]
pub struct Joined {
    /// Who spoke: `kernel` or `emitted`, reports of our own.
    pub by: &'static str,
    /// Groups or channels that were to be joined.
    pub groups: u64,
    /// Those that were.
    pub held: u64,
    /// Sockets that it took (kernel).
    pub sockets: u64,
    /// From the first to the last join, in ns.
    pub joining_ns: u64,
    /// Reports that we sent, leaves among them (emitted).
    pub reports_sent: u64,
    /// Queries that we answered (emitted).
    pub queries_answered: u64,
}

/// What our querier did.
#[derive(Debug, Default, Serialize)]
pub struct Queried {
    /// Whether it was the querier at the end, by family.
    pub elected: Vec<Election>,
    /// General queries sent.
    pub general: u64,
    /// Queries for a group, or some of its sources, sent.
    pub specific: u64,
}

/// How an election ended.
#[derive(Debug, Serialize)]
pub struct Election {
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// Our address.
    pub address: IpAddr,
    /// We are the querier.
    pub is_querier: bool,
    /// Who else is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<IpAddr>,
}

/// A message as it was heard.
#[derive(Debug, Serialize)]
pub struct Line {
    /// When, in ns since 1970, UTC.
    pub at_ns: u64,
    /// The interface's name; in a capture that tells none, its number.
    pub interface: String,
    /// `in`, or `out` when this host sent it; absent in a capture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<&'static str>,
    /// Who sent it.
    pub source: IpAddr,
    /// To where.
    pub destination: IpAddr,
    /// In which version.
    pub version: Version,
    /// What it says.
    pub says: Vec<Said>,
    /// What is wrong with it.
    pub defects: Vec<Defect>,
}

/// One statement of a message.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Said {
    /// A query.
    Query {
        /// Absent in a general query.
        #[serde(skip_serializing_if = "Option::is_none")]
        group: Option<IpAddr>,
        /// Of these sources only.
        sources: Vec<IpAddr>,
        /// To be answered within, in ms.
        max_response_ms: u32,
        /// The S flag.
        suppress: bool,
        /// QRV; absent in older versions and where it is 0.
        #[serde(skip_serializing_if = "Option::is_none")]
        robustness: Option<u8>,
        /// QQI; absent in older versions and where it is 0.
        #[serde(skip_serializing_if = "Option::is_none")]
        interval_s: Option<u32>,
    },
    /// A member that wants all sources, now or still.
    Join {
        /// Of this group.
        group: IpAddr,
        /// What said so in a report with records.
        #[serde(skip_serializing_if = "Option::is_none")]
        record: Option<&'static str>,
    },
    /// A member of all sources that is none any more.
    Leave {
        /// Of this group.
        group: IpAddr,
        /// What said so in a report with records.
        #[serde(skip_serializing_if = "Option::is_none")]
        record: Option<&'static str>,
    },
    /// A member that names sources.
    Sources {
        /// Of this group.
        group: IpAddr,
        /// IS_IN, IS_EX, TO_IN, TO_EX, ALLOW or BLOCK.
        record: &'static str,
        /// These sources.
        sources: Vec<IpAddr>,
    },
}

impl Line {
    /// The message `heard` at `at_ns`.
    pub fn of(at_ns: u64, interface: &str, direction: Option<&'static str>, heard: &Heard) -> Self {
        let says = match &heard.message.body {
            Body::Query(query) => vec![Said::Query {
                group: query.group,
                sources: query.sources.clone(),
                max_response_ms: query.max_response_ms,
                suppress: query.suppress,
                robustness: Some(query.robustness).filter(|n| *n > 0),
                interval_s: Some(query.interval_s).filter(|n| *n > 0),
            }],
            Body::Join(group) => vec![Said::Join { group: *group, record: None }],
            Body::Leave(group) => vec![Said::Leave { group: *group, record: None }],
            Body::Report(records) => records
                .iter()
                .map(|record| {
                    let (group, name) = (record.group, record.kind.name());
                    match (record.kind, record.sources.is_empty()) {
                        (RecordKind::ToExclude | RecordKind::IsExclude, true) => {
                            Said::Join { group, record: Some(name) }
                        }
                        (RecordKind::ToInclude | RecordKind::IsInclude, true) => {
                            Said::Leave { group, record: Some(name) }
                        }
                        _ => Said::Sources { group, record: name, sources: record.sources.clone() },
                    }
                })
                .collect(),
        };
        Self {
            at_ns,
            interface: interface.to_owned(),
            direction,
            source: heard.source,
            destination: heard.destination,
            version: heard.message.version,
            says,
            defects: heard.defects.clone(),
        }
    }
}
