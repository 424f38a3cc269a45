//! Messages, memberships and members as text.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use comfy_table::{Table, presets};
use wirerate_engine::multicast::own;
use wirerate_engine::multicast::report::{Group, Joined, Line, Link, Report, Route, Router, Said, Wire};
use wirerate_engine::multicast::state::Mode;

use crate::text::{count, time};

/// Groups of one interface that a table shows.
const MOST_GROUPS: usize = 200;

/// A line for each statement of a message: time (UTC), interface, direction, host, version, what it says.
pub fn lines(line: &Line) -> String {
    shown(line, usize::MAX)
}

/// One line for a message: its first statement, and how many more there are.
pub fn brief(line: &Line) -> String {
    shown(line, 1)
}

fn shown(line: &Line, most: usize) -> String {
    let at = humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_nanos(line.at_ns)).to_string();
    // The time of day.
    let at = at.get(11..26).unwrap_or(&at);
    let head = format!(
        "{at}  {:<10} {:<3} {:<24} {:<6}",
        line.interface,
        line.direction.unwrap_or(""),
        line.source.to_string(),
        line.version
    );
    let defects: Vec<String> = line.defects.iter().map(ToString::to_string).collect();
    let defects = if defects.is_empty() { String::new() } else { format!("  ({})", defects.join(", ")) };
    if line.says.is_empty() {
        return format!("{head} report without records{defects}");
    }
    let more = match line.says.len().saturating_sub(most) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let one = |said| format!("{head} {}{more}{defects}", say(said));
    line.says.iter().take(most).map(one).collect::<Vec<_>>().join("\n")
}

fn say(said: &Said) -> String {
    let by = |record: &Option<&str>| record.map_or(String::new(), |record| format!(" ({record})"));
    match said {
        Said::Join { group, record } => format!("join {group}{}", by(record)),
        Said::Leave { group, record } => format!("leave {group}{}", by(record)),
        Said::Sources { group, record, sources } => {
            let verb = match *record {
                "ALLOW" => "allow",
                "BLOCK" => "block",
                "IS_EX" | "TO_EX" => "exclude",
                _ => "include",
            };
            format!("{verb} {group} {} ({record})", list(sources))
        }
        Said::Query { group, sources, max_response_ms, suppress, robustness, interval_s } => {
            let mut text = match group {
                None => "general query".to_owned(),
                Some(group) if sources.is_empty() => format!("query for {group}"),
                Some(group) => format!("query for {group} from {}", list(sources)),
            };
            let _ = write!(text, ", answers within {}", time(u64::from(*max_response_ms) * 1_000_000));
            if let Some(interval) = interval_s {
                let _ = write!(text, ", every {interval} s");
            }
            if let Some(robustness) = robustness {
                let _ = write!(text, ", robustness {robustness}");
            }
            if *suppress {
                text += ", S";
            }
            text
        }
        Said::Hello { holdtime_s, dr_priority } => {
            let mut text = match holdtime_s {
                Some(0) => "router goes".to_owned(),
                Some(u16::MAX) => "router, for ever".to_owned(),
                Some(seconds) => format!("router, for {seconds} s"),
                None => "router".to_owned(),
            };
            if let Some(priority) = dr_priority {
                let _ = write!(text, ", priority {priority}");
            }
            text
        }
        Said::RouterJoin(route) => format!("join {}, for {} s", wanted(route), route.holdtime_s),
        Said::RouterPrune(route) => format!("prune {}", wanted(route)),
        Said::Pim { what } => (*what).to_owned(),
    }
}

/// What a router wants, and of whom.
fn wanted(route: &Route) -> String {
    let from = from(route.source, route.rendezvous_point);
    format!("{} {from}, of {}", route.group, route.upstream)
}

fn from(source: Option<IpAddr>, rendezvous_point: Option<IpAddr>) -> String {
    match (source, rendezvous_point) {
        (Some(source), _) => format!("from {source}"),
        (None, Some(point)) => format!("from all by {point}"),
        (None, None) => "from all".to_owned(),
    }
}

fn list(sources: &[IpAddr]) -> String {
    sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The whole report.
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    if let Some(interfaces) = &report.host {
        text += &host(interfaces);
    }
    if let Some(joined) = &report.joined {
        text += &held(joined);
    }
    if let Some(queried) = &report.queried {
        for one in &queried.elected {
            let how = match one.other {
                Some(other) => format!("{other} asks instead, the lower address"),
                None => "we ask".to_owned(),
            };
            let _ = writeln!(text, "querier    {} ({}): {how}", one.address, one.family);
        }
        let _ = writeln!(
            text,
            "asked      {} general queries, {} for groups or sources",
            count(queried.general),
            count(queried.specific)
        );
    }
    if let Some(wire) = &report.heard {
        text += &heard(wire);
    }
    text
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header.iter().copied());
    table
}

fn host(interfaces: &[own::Interface]) -> String {
    let mut text = String::new();
    for interface in interfaces {
        let speaks = |speaks: &Option<own::Speaks>, name: &str| {
            speaks.map(|speaks| {
                let version = speaks.version.map_or(name.to_owned(), |version| version.to_string());
                format!("{version} ({})", if speaks.forced { "forced" } else { "follows the querier" })
            })
        };
        let versions: Vec<String> =
            [speaks(&interface.igmp, "IGMP"), speaks(&interface.mld, "MLD")].into_iter().flatten().collect();
        let _ = writeln!(text, "{} (index {})  {}", interface.name, interface.index, versions.join(", "));
        let mut table = table(&["group", "hardware address", "users", "wants"]);
        for group in &interface.groups {
            let mac = if group.in_link_filter {
                group.mac.clone()
            } else {
                format!("{} (not in the filter)", group.mac)
            };
            table.add_row([group.group.to_string(), mac, group.users.to_string(), wants(group)]);
        }
        if !interface.groups.is_empty() {
            let _ = writeln!(text, "{table}");
        }
        if !interface.other_link_addresses.is_empty() {
            let _ =
                writeln!(text, "also let in, without a group: {}", interface.other_link_addresses.join(", "));
        }
        text.push('\n');
    }
    if text.is_empty() { "no interface has a group\n".to_owned() } else { text }
}

/// What sockets want of a group, with how many of them where it is not one.
fn wants(group: &own::Group) -> String {
    let named = |count: fn(&own::Source) -> u32| {
        let sources = group.sources.iter().filter(|source| count(source) > 0);
        let shown = sources.map(|s| match count(s) {
            1 => s.source.to_string(),
            n => format!("{} ({n})", s.source),
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    let (included, excluded) = (named(|s| s.included), named(|s| s.excluded));
    match (group.mode, included.is_empty(), excluded.is_empty()) {
        (Some(Mode::Include), ..) => format!("only {included}"),
        (None, ..) => format!("{included}, perhaps all"),
        (_, true, true) => "all".to_owned(),
        (_, true, false) => format!("all; without {excluded}"),
        (_, false, true) => format!("all; {included} by name"),
        (_, false, false) => format!("all; {included} by name; without {excluded}"),
    }
}

fn held(joined: &Joined) -> String {
    let mut text = format!(
        "joined     {} of {} groups in {}",
        count(joined.held),
        count(joined.groups),
        time(joined.joining_ns)
    );
    if joined.by == "kernel" {
        let _ = writeln!(text, ", by the kernel, for {} sockets", count(joined.sockets));
    } else {
        let _ = writeln!(
            text,
            ", by {} reports of our own, which answered {} queries, too",
            count(joined.reports_sent),
            count(joined.queries_answered)
        );
    }
    text
}

fn heard(wire: &Wire) -> String {
    let mut text = String::new();
    let mut total = format!(
        "heard      {} queries, {} reports, {} leaves in {}",
        count(wire.queries),
        count(wire.reports),
        count(wire.leaves),
        time(wire.duration_ns)
    );
    for (number, what) in [
        (wire.pim, "PIM messages"),
        (wire.defective, "with a defect"),
        (wire.malformed, "unreadable besides"),
        (wire.missed, "missed by this program"),
    ] {
        if number > 0 {
            let _ = write!(total, "; {} {what}", count(number));
        }
    }
    let _ = writeln!(text, "{total}");
    for link in &wire.links {
        text += &of_link(link);
    }
    wire.routers.iter().for_each(|router| text += &of_router(router));
    text
}

fn of_router(router: &Router) -> String {
    let within = |ms: Option<u64>| ms.map_or("never".to_owned(), |ms| format!("in {}", time(ms * 1_000_000)));
    let priority = router.dr_priority.map_or(String::new(), |priority| format!(", priority {priority}"));
    let mut text = format!(
        "\n{} router {}{priority}, ends {}\n",
        router.interface,
        router.address,
        within(router.expires_ms)
    );
    if router.joins.is_empty() {
        return text + "wants no group of its neighbours\n";
    }
    let mut table = table(&["group", "wants", "of", "ends"]);
    for join in router.joins.iter().take(MOST_GROUPS) {
        table.add_row([
            join.group.to_string(),
            from(join.source, join.rendezvous_point),
            join.upstream.to_string(),
            within(join.expires_ms),
        ]);
    }
    let _ = writeln!(text, "{table}");
    if let more @ 1.. = router.joins.len().saturating_sub(MOST_GROUPS) {
        let _ = writeln!(text, "and {} groups more, which --json has", count(more as u64));
    }
    text
}

fn of_link(link: &Link) -> String {
    let name = if link.family == "ipv4" { "IPv4" } else { "IPv6" };
    let querier = link.querier.as_ref().map_or("no querier".to_owned(), |querier| {
        format!(
            "querier {} ({}, {} general queries)",
            querier.address,
            querier.version,
            count(querier.queries)
        )
    });
    let timers = &link.timers;
    let mut text = format!(
        "\n{} {name}  {querier}; a member is believed for {}\n",
        link.interface,
        time(timers.membership_ms() * 1_000_000)
    );
    if link.groups.is_empty() {
        return text + "no member\n";
    }
    let mut table =
        table(&["group", "wants", "version", "expires in", "host", "its own wants", "reports", "last heard"]);
    for group in link.groups.iter().take(MOST_GROUPS) {
        let mut first = [
            group.group.to_string(),
            filter(group.mode, &group.sources, &group.excluded),
            group.version.to_string(),
            time(group.expires_ms * 1_000_000),
        ];
        if group.reporters.is_empty() {
            table.add_row(first.into_iter().chain([(); 4].map(|()| "-".to_owned())));
            continue;
        }
        for reporter in &group.reporters {
            let (included, excluded) = match reporter.mode {
                Mode::Include => (&reporter.sources[..], &[][..]),
                Mode::Exclude => (&[][..], &reporter.sources[..]),
            };
            let own = [
                format!("{} ({})", reporter.host, reporter.version),
                filter(reporter.mode, included, excluded),
                count(reporter.reports),
                format!("{} ago", time(reporter.heard_ms_ago * 1_000_000)),
            ];
            table.add_row(first.into_iter().chain(own));
            first = Default::default();
        }
    }
    let _ = writeln!(text, "{table}");
    if let more @ 1.. = link.groups.len().saturating_sub(MOST_GROUPS) {
        let _ = writeln!(text, "and {} groups more, which --json has", count(more as u64));
    }
    let old = |group: &Group| !group.version.names_sources();
    if link.groups.iter().any(old) {
        text += "where versions before IGMPv3 and MLDv2 are spoken, a member that hears another's report keeps silent: there may be more\n";
    }
    text
}

fn filter(mode: Mode, included: &[IpAddr], excluded: &[IpAddr]) -> String {
    match (mode, included.is_empty(), excluded.is_empty()) {
        (Mode::Include, ..) => format!("only {}", list(included)),
        (Mode::Exclude, true, true) => "all".to_owned(),
        (Mode::Exclude, false, true) => format!("all; {} by name", list(included)),
        (Mode::Exclude, true, false) => format!("all but {}", list(excluded)),
        (Mode::Exclude, false, false) => format!("all but {}; {} by name", list(excluded), list(included)),
    }
}
