use super::*;

const S: u64 = 1_000_000_000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn sources(digits: &str) -> Vec<IpAddr> {
    digits.bytes().map(|digit| IpAddr::from([10, 0, 0, digit - b'0'])).collect()
}

fn include(digits: &str) -> SourceFilter {
    SourceFilter::Include(sources(digits))
}

fn exclude(digits: &str) -> SourceFilter {
    SourceFilter::Exclude(sources(digits))
}

/// `TO_EX 1 []`: record, last octet of the group, sources by last octet.
fn said(messages: &[Message]) -> Vec<String> {
    let last = |ip: &IpAddr| ip.to_string().rsplit(['.', ':']).next().unwrap().to_owned();
    let mut all = Vec::new();
    for message in messages {
        message.packet(ip(if message.version.is_ipv6() { "fe80::1" } else { "10.0.0.1" })).unwrap();
        match &message.body {
            Body::Report(records) => all.extend(records.iter().map(|r| {
                let sources: Vec<_> = r.sources.iter().map(last).collect();
                format!("{} {} {}", r.kind.name(), last(&r.group), sources.join("")).trim().to_owned()
            })),
            Body::Join(group) => all.push(format!("join {}", last(group))),
            Body::Leave(group) => all.push(format!("leave {}", last(group))),
            Body::Query(_) => panic!("a host asks nothing"),
        }
    }
    all
}

fn query(version: Version, group: Option<&str>, digits: &str) -> Heard {
    let query =
        Query { group: group.map(ip), sources: sources(digits), max_response_ms: 4000, ..Query::default() };
    let query =
        if version.names_sources() { Query { robustness: 3, interval_s: 10, ..query } } else { query };
    heard(version, Body::Query(query))
}

fn heard(version: Version, body: Body) -> Heard {
    let message = Message { version, body };
    Heard { source: ip("10.0.0.254"), destination: message.destination(), message, defects: vec![] }
}

/// All that is said from `from` up to `until`, by the host's own clock.
fn until(host: &mut Host, until_ns: u64) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(next) = host.next_ns().filter(|next| *next <= until_ns) {
        let messages = host.due(next, 1500);
        all.extend(said(&messages));
    }
    all
}

#[test]
fn changes_are_told_as_often_as_messages_may_be_lost() {
    let mut host = Host::new(Version::Igmp3, true, 7);
    let g = ip("239.0.0.1");
    let changes = [
        (include("12"), "ALLOW 1 12"),
        (include("12"), ""),
        (include("23"), "ALLOW 1 3,BLOCK 1 1"),
        (exclude("45"), "TO_EX 1 45"),
        (exclude("56"), "ALLOW 1 4,BLOCK 1 6"),
        (include("7"), "TO_IN 1 7"),
        (include(""), "BLOCK 1 7"),
        (exclude(""), "TO_EX 1"),
        (include(""), "TO_IN 1"),
    ];
    for (now, (filter, expected)) in (1..).map(|n| 3 * n * S).zip(changes) {
        host.set(now, g, &filter);
        let once: Vec<String> = expected.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        assert_eq!(said(&host.due(now, 1500)), once, "{filter:?}");
        // Again within a second.
        assert_eq!(until(&mut host, now + S + 1), once, "{filter:?}");
        assert!(!host.is_telling());
    }
    assert!(host.is_empty() && host.groups.is_empty());
}

#[test]
fn a_change_during_a_change_takes_its_place() {
    let mut host = Host::new(Version::Igmp3, true, 7);
    let g = ip("239.0.0.1");
    host.set(S, g, &exclude(""));
    host.due(S, 1500);
    host.set(S + 1, g, &include(""));
    assert_eq!(until(&mut host, 9 * S), ["TO_IN 1", "TO_IN 1"]);
    host.set(10 * S, g, &include("12"));
    host.due(10 * S, 1500);
    host.set(10 * S + 1, g, &include("13"));
    assert_eq!(until(&mut host, 19 * S), ["ALLOW 1 13", "BLOCK 1 2", "ALLOW 1 13", "BLOCK 1 2"]);
}

#[test]
fn queries_are_answered_in_time() {
    let mut host = Host::new(Version::Igmp3, true, 3);
    host.set(0, ip("239.0.0.1"), &include("12"));
    host.set(0, ip("239.0.0.2"), &exclude("3"));
    host.set(0, ip("239.0.0.3"), &exclude(""));
    until(&mut host, 5 * S);
    host.hear(10 * S, &query(Version::Igmp3, None, ""));
    assert!(host.next_ns().unwrap() <= 14 * S);
    assert_eq!(until(&mut host, 14 * S), ["IS_IN 1 12", "IS_EX 2 3", "IS_EX 3"]);
    host.hear(20 * S, &query(Version::Igmp3, Some("239.0.0.2"), ""));
    host.hear(20 * S, &query(Version::Igmp3, Some("239.0.0.1"), "23"));
    host.hear(20 * S, &query(Version::Igmp3, Some("239.0.0.9"), ""));
    let mut answers = until(&mut host, 24 * S);
    answers.sort();
    assert_eq!(answers, ["IS_EX 2 3", "IS_IN 1 2"]);
    // Nothing of what is asked for is wanted.
    host.hear(30 * S, &query(Version::Igmp3, Some("239.0.0.2"), "3"));
    assert_eq!(until(&mut host, 34 * S), Vec::<String>::new());
    host.hear(40 * S, &query(Version::Igmp3, Some("239.0.0.2"), "34"));
    host.hear(40 * S, &query(Version::Igmp3, Some("239.0.0.2"), "35"));
    assert_eq!(until(&mut host, 44 * S), ["IS_IN 2 45"]);
    assert_eq!(host.queries_answered(), 6);
    // QRV 3 was heard.
    host.leave_all(50 * S);
    assert_eq!(until(&mut host, 60 * S).len(), 9);
}

#[test]
fn an_older_querier_is_followed_until_it_is_silent() {
    let mut host = Host::new(Version::Igmp3, true, 3);
    host.hear(0, &query(Version::Igmp2, None, ""));
    // 2 × 125 s + 4 s.
    assert_eq!((host.version(253 * S), host.version(254 * S)), (Version::Igmp2, Version::Igmp3));
    host.set(S, ip("239.0.0.1"), &exclude(""));
    host.set(S, ip("239.0.0.2"), &exclude(""));
    let mut joins = until(&mut host, 20 * S);
    joins.sort();
    assert_eq!(joins, ["join 1", "join 1", "join 2", "join 2"]);
    host.hear(30 * S, &query(Version::Igmp2, None, ""));
    host.hear(30 * S, &heard(Version::Igmp2, Body::Join(ip("239.0.0.1"))));
    assert_eq!(until(&mut host, 34 * S), ["join 2"]);
    host.leave_all(40 * S);
    // The other one's report was the last for group 1.
    assert_eq!(until(&mut host, 60 * S), ["leave 2"]);
    let mut forced = Host::new(Version::Igmp3, false, 3);
    forced.hear(0, &query(Version::Igmp2, None, ""));
    assert_eq!(forced.version(S), Version::Igmp3);
    let mut mld = Host::new(Version::Mld1, true, 3);
    mld.set(0, ip("ff15::1"), &exclude(""));
    mld.leave_all(S);
    assert_eq!(said(&mld.due(S, 1500)), ["leave 1"]);
}

#[test]
fn thousands_of_groups_fit_into_few_packets() {
    let mut host = Host::new(Version::Mld2, true, 1);
    for n in 0..3000u128 {
        let group = u128::from(std::net::Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 1)) + n;
        host.set(0, IpAddr::V6(group.into()), &exclude(""));
    }
    // 1,444 bytes of records of 20 bytes each.
    assert_eq!(host.due(0, 1500).len(), 3000usize.div_ceil(72));
}
