use super::*;
use crate::multicast::message::{Record, RecordKind};

const S: u64 = 1_000_000_000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn timers() -> Timers {
    Timers { robustness: 2, query_interval_ms: 20_000, response_ms: 2_000, last_member_ms: 1_000 }
}

fn heard(version: Version, source: &str, body: Body) -> Heard {
    let message = Message { version, body };
    Heard { source: ip(source), destination: message.destination(), message, defects: vec![] }
}

fn report(kind: RecordKind, sources: &[&str]) -> Heard {
    let sources = sources.iter().map(|s| ip(s)).collect();
    let record = Record::new(kind, ip("239.1.1.1"), sources);
    heard(Version::Igmp3, "10.0.0.9", Body::Report(vec![record]))
}

/// Seconds and queries up to `until_s`; `G` for general ones, then group, sources and S flag.
fn asked(querier: &mut Querier, until_s: u64) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    while let Some(next) = querier.next_ns().filter(|next| *next <= until_s * S) {
        for message in querier.due(next) {
            let Body::Query(query) = &message.body else { panic!("a querier asks") };
            assert_eq!(message.packet(querier.address()).map(|_| ()).ok(), Some(()));
            let what = match query.group {
                None => "general".to_owned(),
                Some(_) => {
                    format!("{} sources{}", query.sources.len(), if query.suppress { " S" } else { "" })
                }
            };
            all.push((next / S, what));
        }
    }
    all
}

fn shown(all: &[(u64, String)]) -> Vec<String> {
    all.iter().map(|(s, what)| format!("{s} {what}")).collect()
}

#[test]
fn it_begins_quickly_and_goes_on_evenly() {
    let mut querier = Querier::new(Version::Igmp3, ip("10.0.0.5"), timers(), 0);
    assert_eq!(shown(&asked(&mut querier, 50)), ["0 general", "5 general", "25 general", "45 general"]);
    assert_eq!(querier.general, 4);
}

#[test]
fn the_lower_address_asks() {
    let mut querier = Querier::new(Version::Igmp3, ip("10.0.0.5"), timers(), 0);
    asked(&mut querier, 1);
    let query = |source| {
        let query = Query { max_response_ms: 2000, robustness: 2, interval_s: 20, ..Query::default() };
        heard(Version::Igmp3, source, Body::Query(query))
    };
    for other in ["10.0.0.6", "0.0.0.0"] {
        querier.hear(S, &query(other));
        assert_eq!(querier.other(), None);
    }
    querier.hear(2 * S, &query("10.0.0.4"));
    assert_eq!(querier.other(), Some(ip("10.0.0.4")));
    querier.hear(3 * S, &report(RecordKind::ToExclude, &[]));
    querier.hear(3 * S, &report(RecordKind::ToInclude, &[]));
    // Silent until 2 × 20 s + 1 s have passed without the other one.
    assert_eq!(shown(&asked(&mut querier, 50)), ["43 general"]);
    assert_eq!(querier.other(), None);
}

#[test]
fn a_leave_makes_it_ask_the_others() {
    let mut querier = Querier::new(Version::Igmp3, ip("10.0.0.5"), timers(), 0);
    asked(&mut querier, 5);
    querier.hear(6 * S, &report(RecordKind::ToExclude, &[]));
    querier.hear(7 * S, &report(RecordKind::ToInclude, &[]));
    let first = asked(&mut querier, 7);
    assert_eq!(shown(&first), ["7 0 sources"]);
    // Somebody still wants it: routers are not to believe the second query.
    querier.hear(7 * S + 1, &report(RecordKind::IsExclude, &[]));
    assert_eq!(shown(&asked(&mut querier, 20)), ["8 0 sources S"]);
    assert_eq!(querier.link.groups.len(), 1);
    querier.hear(20 * S, &report(RecordKind::ToInclude, &[]));
    assert_eq!(shown(&asked(&mut querier, 22)), ["20 0 sources", "21 0 sources"]);
    querier.due(22 * S);
    assert_eq!(querier.link.groups.len(), 0);
    querier.hear(23 * S, &report(RecordKind::Allow, &["10.0.0.1", "10.0.0.2"]));
    querier.hear(24 * S, &report(RecordKind::Block, &["10.0.0.1", "10.0.0.2"]));
    assert_eq!(shown(&asked(&mut querier, 24)), ["24 2 sources"]);
    querier.hear(24 * S + 1, &report(RecordKind::IsInclude, &["10.0.0.2"]));
    assert_eq!(shown(&asked(&mut querier, 25)), ["25 general", "25 1 sources S", "25 1 sources"]);
    assert_eq!(querier.specific, 7);
}

#[test]
fn versions_before_ask_for_groups_only() {
    let mut querier = Querier::new(Version::Igmp2, ip("10.0.0.5"), timers(), 0);
    asked(&mut querier, 5);
    querier.hear(6 * S, &heard(Version::Igmp2, "10.0.0.9", Body::Join(ip("239.1.1.1"))));
    querier.hear(7 * S, &heard(Version::Igmp2, "10.0.0.9", Body::Leave(ip("239.1.1.1"))));
    assert_eq!(shown(&asked(&mut querier, 10)), ["7 0 sources", "8 0 sources"]);
    let mut oldest = Querier::new(Version::Igmp1, ip("10.0.0.5"), timers(), 0);
    oldest.hear(6 * S, &heard(Version::Igmp2, "10.0.0.9", Body::Join(ip("239.1.1.1"))));
    oldest.hear(7 * S, &heard(Version::Igmp2, "10.0.0.9", Body::Leave(ip("239.1.1.1"))));
    assert!(asked(&mut oldest, 10).iter().all(|(_, what)| what == "general"));
}
