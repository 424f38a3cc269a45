//! What `wirerate groups` reports: plain data, described by docs/groups.schema.json.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use serde::Serialize;

use super::message::{Body, Defect, Heard, RecordKind, Version};
use super::own;
use super::routers;
use super::state::{self, Mode, Timers};
use crate::packet::pim;
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
    /// PIM messages of routers.
    pub pim: u64,
    /// Messages with a defect, which are among the others.
    pub defective: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Messages that the kernel had no room for before they were read.
    pub missed: u64,
    /// State at the end, by interface and family.
    pub links: Vec<Link>,
    /// Multicast routers that were heard, by their PIM.
    pub routers: Vec<Router>,
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

/// A router that speaks PIM.
#[derive(Debug, Serialize)]
pub struct Router {
    /// The interface where it was heard; in a capture that tells none, its number.
    pub interface: String,
    /// Its address.
    pub address: IpAddr,
    /// Its priority for the election of the designated router; absent when it told none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dr_priority: Option<u32>,
    /// When it is believed to be gone unless it is heard again, in ms from the end on; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// What it wants of its neighbours.
    pub joins: Vec<RouterJoin>,
}

/// What a router wants.
#[derive(Debug, Serialize)]
pub struct RouterJoin {
    /// Of this group.
    pub group: IpAddr,
    /// From this source; absent: from all, by the tree of a rendezvous point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The rendezvous point, with all sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendezvous_point: Option<IpAddr>,
    /// The neighbour that is asked.
    pub upstream: IpAddr,
    /// When it ends unless it is renewed, in ms from the end on; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

/// The source, and the rendezvous point instead of it with all of them.
fn told(source: pim::Source) -> (Option<IpAddr>, Option<IpAddr>) {
    if source.wildcard { (None, Some(source.address)) } else { (Some(source.address), None) }
}

impl Router {
    /// What `router` is at `now_ns`.
    pub fn of(interface: &str, address: IpAddr, router: &routers::Router, now_ns: u64) -> Self {
        let ms = |at_ns: u64| at_ns.saturating_sub(now_ns) / 1_000_000;
        let joins = router.joins.iter().map(|(join, wanted)| {
            let (source, rendezvous_point) = told(join.source);
            let expires_ms = wanted.expires_ns.map(ms);
            RouterJoin { group: join.group, source, rendezvous_point, upstream: wanted.upstream, expires_ms }
        });
        Self {
            interface: interface.to_owned(),
            address,
            dr_priority: router.hello.as_ref().and_then(|hello| hello.dr_priority),
            expires_ms: router.expires_ns.map(ms),
            joins: joins.collect(),
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
    /// In which version of which protocol: that of [`Version::name`], or `PIMv2`.
    pub version: &'static str,
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
    /// A router that is there.
    Hello {
        /// For so long, in s; 65535 for ever, 0 no more. Absent when it told none.
        #[serde(skip_serializing_if = "Option::is_none")]
        holdtime_s: Option<u16>,
        /// Its priority for the election of the designated router.
        #[serde(skip_serializing_if = "Option::is_none")]
        dr_priority: Option<u32>,
    },
    /// A router that wants something.
    #[serde(rename = "router-join")]
    RouterJoin(Route),
    /// A router that wants it no more.
    #[serde(rename = "router-prune")]
    RouterPrune(Route),
    /// Another message of a router.
    Pim {
        /// Its name.
        what: &'static str,
    },
}

/// What a router wants of whom.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Of this group.
    pub group: IpAddr,
    /// From this source; absent: from all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The rendezvous point, with all sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendezvous_point: Option<IpAddr>,
    /// The neighbour that is asked.
    pub upstream: IpAddr,
    /// How long a join holds, in s.
    pub holdtime_s: u16,
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
            version: heard.message.version.name(),
            says,
            defects: heard.defects.clone(),
        }
    }

    /// The router's message `heard` at `at_ns`.
    pub fn of_pim(at_ns: u64, interface: &str, direction: Option<&'static str>, heard: &pim::Heard) -> Self {
        let says = match &heard.message {
            pim::Message::Hello(hello) => {
                vec![Said::Hello { holdtime_s: hello.holdtime_s, dr_priority: hello.dr_priority }]
            }
            pim::Message::Other(what) => vec![Said::Pim { what }],
            pim::Message::JoinPrune(message) => {
                let route = |group: &pim::Group, source: &pim::Source| {
                    let (source, rendezvous_point) = told(*source);
                    let (upstream, holdtime_s) = (message.upstream, message.holdtime_s);
                    Route { group: group.group, source, rendezvous_point, upstream, holdtime_s }
                };
                let of_group = |group: &pim::Group| {
                    let joined = group.joined.iter().map(|source| Said::RouterJoin(route(group, source)));
                    let pruned = group.pruned.iter().map(|source| Said::RouterPrune(route(group, source)));
                    joined.chain(pruned).collect::<Vec<_>>()
                };
                message.groups.iter().flat_map(of_group).collect()
            }
        };
        Self {
            at_ns,
            interface: interface.to_owned(),
            direction,
            source: heard.source,
            destination: heard.destination,
            version: "PIMv2",
            says,
            defects: heard.defects.clone(),
        }
    }
}
