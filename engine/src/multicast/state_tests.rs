use super::*;
use crate::multicast::message::Message;

const S: u64 = 1_000_000_000;
/// 2 × 125 s + 10 s.
const GMI: u64 = 260 * S;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn group() -> IpAddr {
    ip("239.1.2.3")
}

/// Sources by single digits.
fn sources(digits: &str) -> Vec<IpAddr> {
    digits.bytes().map(|digit| IpAddr::from([10, 0, 0, digit - b'0'])).collect()
}

fn heard(version: Version, source: &str, body: Body) -> Heard {
    let message = Message { version, body };
    let destination = message.destination();
    Heard { source: ip(source), destination, message, defects: Vec::new() }
}

fn says(link: &mut Link, now_ns: u64, host: &str, kind: RecordKind, digits: &str) -> String {
    let record = Record::new(kind, group(), sources(digits));
    shown(link.hear(now_ns, &heard(Version::Igmp3, host, Body::Report(vec![record]))))
}

/// `G` for a query of the group, `G12` for one of two sources.
fn shown(questions: Vec<Question>) -> String {
    let one = |q: Question| {
        assert_eq!(q.group, group());
        "G".to_owned() + &digits(q.sources.iter().copied())
    };
    questions.into_iter().map(one).collect::<Vec<_>>().join(" ")
}

fn digits(sources: impl Iterator<Item = IpAddr>) -> String {
    sources.map(|s| s.to_string().chars().last().unwrap()).collect()
}

/// `in 12`, `ex 1 -2`: mode, wanted sources, unwanted ones; nothing when the group is not there.
fn state(link: &Link) -> String {
    let Some(group) = link.groups.get(&group()) else { return String::new() };
    let (wanted, unwanted) = (digits(group.wanted()), digits(group.unwanted()));
    match group.mode {
        Mode::Include => {
            assert_eq!(unwanted, "");
            format!("in {wanted}")
        }
        Mode::Exclude => format!("ex {wanted} -{unwanted}"),
    }
}

/// Every line of the RFC's two tables: what is there, what comes, what is there then, what is asked.
#[test]
fn the_tables_of_the_rfc() {
    use RecordKind::*;
    for (before, kind, said, after, asked) in [
        ("in 12", IsInclude, "23", "in 123", ""),
        ("in 12", IsExclude, "23", "ex 2 -3", ""),
        ("ex 12 -34", IsInclude, "35", "ex 1235 -4", ""),
        ("ex 12 -34", IsExclude, "235", "ex 25 -3", ""),
        ("in 12", Allow, "23", "in 123", ""),
        ("in 12", Block, "23", "in 12", "G2"),
        ("in 12", ToExclude, "23", "ex 2 -3", "G2"),
        ("in 12", ToInclude, "23", "in 123", "G1"),
        ("ex 12 -34", Allow, "35", "ex 1235 -4", ""),
        ("ex 12 -34", Block, "235", "ex 125 -34", "G25"),
        ("ex 12 -34", ToExclude, "235", "ex 25 -3", "G25"),
        ("ex 12 -34", ToInclude, "25", "ex 125 -34", "G1 G"),
        ("ex  -", ToInclude, "", "ex  -", "G"),
        ("", ToInclude, "", "", ""),
        ("", Block, "1", "", ""),
        ("", ToExclude, "", "ex  -", ""),
        ("", Allow, "1", "in 1", ""),
    ] {
        let mut link = Link::default();
        match before {
            "" => {}
            "in 12" => _ = says(&mut link, S, "10.9.0.1", Allow, "12"),
            _ => {
                let (_, unwanted) = before.split_once('-').unwrap();
                says(&mut link, S, "10.9.0.1", ToExclude, unwanted);
                if before.contains("12") {
                    says(&mut link, S, "10.9.0.1", Allow, "12");
                }
            }
        }
        assert_eq!(state(&link), before);
        let questions = says(&mut link, 2 * S, "10.9.0.2", kind, said);
        let what = format!("{before} {} {said}", kind.name());
        assert_eq!(state(&link), after, "{what}");
        assert_eq!(questions, asked, "{what}");
    }
}

#[test]
fn members_are_believed_for_so_long() {
    use RecordKind::*;
    let mut link = Link::default();
    says(&mut link, 0, "10.9.0.1", ToExclude, "3");
    says(&mut link, S, "10.9.0.1", Allow, "1");
    says(&mut link, 2 * S, "10.9.0.2", IsInclude, "2");
    link.expire(GMI - 1);
    assert_eq!(state(&link), "ex 12 -3");
    assert_eq!(link.next_expiry_ns(), Some(GMI));
    // Exclude mode ends; what is asked for stays.
    link.expire(GMI);
    assert_eq!(state(&link), "in 12");
    link.expire(GMI + S);
    assert_eq!(state(&link), "in 2");
    link.expire(GMI + 2 * S);
    assert_eq!((state(&link).as_str(), link.next_expiry_ns()), ("", None));
    // In exclude mode a source that is no longer asked for is one that nobody wants.
    says(&mut link, 0, "10.9.0.1", Allow, "1");
    says(&mut link, S, "10.9.0.1", ToExclude, "1");
    link.expire(GMI);
    assert_eq!(state(&link), "ex  -1");
}

#[test]
fn a_query_shortens_and_an_answer_renews() {
    use RecordKind::*;
    let mut link = Link::default();
    says(&mut link, 0, "10.9.0.1", ToExclude, "");
    says(&mut link, 0, "10.9.0.1", ToInclude, "");
    let query = |suppress, sources| {
        let group = Some(group());
        let query = Query { group, sources, max_response_ms: 1000, suppress, ..Query::default() };
        heard(Version::Igmp3, "10.9.0.254", Body::Query(Query { robustness: 3, interval_s: 60, ..query }))
    };
    assert_eq!(link.hear(S, &query(true, vec![])), []);
    link.expire(100 * S);
    assert_eq!(state(&link), "ex  -");
    link.hear(100 * S, &query(false, vec![]));
    assert_eq!(link.next_expiry_ns(), Some(103 * S));
    says(&mut link, 102 * S, "10.9.0.2", IsExclude, "");
    // By what the querier told of itself: 3 × 60 s + 10 s.
    assert_eq!(link.next_expiry_ns(), Some(292 * S));
    says(&mut link, 102 * S, "10.9.0.2", Allow, "12");
    link.hear(103 * S, &query(false, sources("1")));
    link.expire(106 * S);
    assert_eq!(state(&link), "ex 2 -1");
    let reporters = &link.groups[&group()].reporters;
    assert_eq!(reporters.keys().copied().collect::<Vec<_>>(), [ip("10.9.0.2")]);
}

#[test]
fn each_host_s_own_word_is_kept() {
    use RecordKind::*;
    let mut link = Link::default();
    let of = |link: &Link, host: &str| {
        let reporter = link.groups.get(&group())?.reporters.get(&ip(host))?;
        Some((reporter.mode, digits(reporter.sources.iter().copied()), reporter.reports))
    };
    says(&mut link, 0, "10.9.0.1", Allow, "12");
    says(&mut link, 0, "10.9.0.2", ToExclude, "3");
    says(&mut link, 0, "10.9.0.2", Block, "4");
    // The answer to a query for some sources.
    says(&mut link, 0, "10.9.0.2", IsInclude, "3");
    assert_eq!(of(&link, "10.9.0.1"), Some((Mode::Include, "12".into(), 1)));
    assert_eq!(of(&link, "10.9.0.2"), Some((Mode::Exclude, "4".into(), 3)));
    says(&mut link, 0, "10.9.0.1", Block, "12");
    assert_eq!(of(&link, "10.9.0.1"), None);
    says(&mut link, 0, "10.9.0.2", ToInclude, "");
    assert_eq!(of(&link, "10.9.0.2"), None);
    // Until its last member had time to contradict.
    assert_eq!(state(&link), "ex 1234 -");
}

#[test]
fn old_hosts_make_the_group_theirs() {
    use RecordKind::*;
    let mut link = Link::default();
    link.hear(0, &heard(Version::Igmp2, "10.9.0.1", Body::Join(group())));
    assert_eq!(state(&link), "ex  -");
    assert_eq!(says(&mut link, S, "10.9.0.2", Block, "1"), "");
    assert_eq!(says(&mut link, S, "10.9.0.2", ToExclude, "1"), "");
    assert_eq!(state(&link), "ex  -");
    assert_eq!(link.groups[&group()].older, Some((Version::Igmp2, GMI)));
    let leave = heard(Version::Igmp2, "10.9.0.1", Body::Leave(group()));
    assert_eq!(shown(link.hear(2 * S, &leave)), "G");
    link.hear(3 * S, &heard(Version::Igmp1, "10.9.0.3", Body::Join(group())));
    assert_eq!(shown(link.hear(4 * S, &leave)), "");
    link.expire(3 * S + GMI);
    assert_eq!(state(&link), "");
}

#[test]
fn the_lowest_querier_counts_and_broken_messages_do_not() {
    let mut link = Link::default();
    let query = |source| {
        let query = Query { max_response_ms: 5000, robustness: 2, interval_s: 20, ..Query::default() };
        heard(Version::Igmp3, source, Body::Query(query))
    };
    for (second, source) in [(1, "10.0.0.9"), (2, "10.0.0.5"), (3, "10.0.0.7"), (4, "0.0.0.0")] {
        link.hear(second * S, &query(source));
    }
    let querier = link.querier.clone().unwrap();
    assert_eq!((querier.address, querier.last_ns, querier.queries), (ip("10.0.0.5"), 2 * S, 1));
    assert_eq!(link.timers.membership_ms(), 45_000);
    // 2 × 20 s + 2.5 s.
    link.expire(2 * S + 42_500 * MS);
    assert!(link.querier.is_some());
    link.expire(2 * S + 42_501 * MS);
    assert!(link.querier.is_none());
    let mut broken = heard(Version::Igmp2, "10.9.0.1", Body::Join(group()));
    broken.defects.push(crate::multicast::message::Defect::Checksum);
    link.hear(50 * S, &broken);
    assert!(link.groups.is_empty());
}
