use proptest::prelude::*;

use super::*;

const LIFETIME: Duration = Duration::from_secs(260);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn heard(port: usize, host: &str, said: Said) -> Claim {
    Claim { port, host: ip(host), group: ip("239.1.2.3"), said }
}

fn table() -> (Table, Instant) {
    (Table::new(4, LIFETIME, 16), Instant::now())
}

fn ports(table: &Table) -> Vec<usize> {
    table.ports(ip("239.1.2.3"), None).into_iter().collect()
}

#[test]
fn the_last_host_that_leaves_takes_its_port_along() {
    let (mut table, now) = table();
    let changed = Effect { changed: true, ask: false };
    assert_eq!(table.hear(&heard(1, "10.0.0.1", Said::Exclude(vec![])), now), changed);
    assert_eq!(table.hear(&heard(1, "10.0.0.2", Said::Exclude(vec![])), now), Effect::default());
    assert_eq!(table.hear(&heard(1, "10.0.0.1", Said::Include(vec![])), now), Effect::default());
    assert_eq!(ports(&table), [1]);
    assert_eq!(table.hear(&heard(1, "10.0.0.2", Said::Include(vec![])), now), changed);
    assert_eq!(table.groups().count(), 0);
}

#[test]
fn older_hosts_are_asked_and_have_time_to_object() {
    let (mut table, now) = table();
    table.hear(&heard(0, "10.0.0.1", Said::Member), now);
    let effect = table.hear(&heard(0, "10.0.0.1", Said::Leaves), now);
    assert_eq!(effect, Effect { changed: false, ask: true });
    assert!(table.expire(now + LAST_MEMBER_TIME / 2).is_empty());
    let objection = now + LAST_MEMBER_TIME / 2;
    table.hear(&heard(0, "10.0.0.2", Said::Member), objection);
    assert!(table.expire(now + LAST_MEMBER_TIME).is_empty());
    table.hear(&heard(0, "10.0.0.2", Said::Leaves), objection);
    assert_eq!(table.expire(objection + LAST_MEMBER_TIME), [ip("239.1.2.3")]);
    assert!(ports(&table).is_empty());
}

#[test]
fn a_leave_of_somebody_who_never_joined_is_nothing() {
    let (mut table, now) = table();
    assert_eq!(table.hear(&heard(0, "10.0.0.1", Said::Leaves), now), Effect::default());
    assert_eq!(table.hear(&heard(0, "10.0.0.1", Said::Block(vec![ip("10.9.9.9")])), now), Effect::default());
    assert_eq!(table.groups().count(), 0);
}

#[test]
fn what_is_not_repeated_ends() {
    let (mut table, now) = table();
    table.hear(&heard(0, "10.0.0.1", Said::Exclude(vec![])), now);
    table.hear(&heard(2, "10.0.0.3", Said::Exclude(vec![])), now + LIFETIME / 2);
    assert_eq!(table.expire(now + LIFETIME), [ip("239.1.2.3")]);
    assert_eq!(ports(&table), [2]);
    assert_eq!(table.forget_port(2), [ip("239.1.2.3")]);
    assert!(ports(&table).is_empty());
}

#[test]
fn sources_have_ways_of_their_own() {
    let (mut table, now) = table();
    let (a, b) = (ip("10.9.0.1"), ip("10.9.0.2"));
    table.hear(&heard(0, "10.0.0.1", Said::Allow(vec![a])), now);
    table.hear(&heard(1, "10.0.0.2", Said::Exclude(vec![b])), now);
    let of = |source, ports: &[usize]| Entry { source, ports: ports.iter().copied().collect() };
    let group = ip("239.1.2.3");
    assert_eq!(table.entries(group), [of(Some(a), &[0, 1]), of(Some(b), &[]), of(None, &[1])]);
    table.hear(&heard(1, "10.0.0.2", Said::Allow(vec![b])), now);
    assert_eq!(table.entries(group), [of(Some(a), &[0, 1]), of(None, &[1])]);
    table.hear(&heard(0, "10.0.0.1", Said::Block(vec![a])), now);
    assert_eq!(table.entries(group), [of(None, &[1])]);
    assert_eq!(table.ports(group, Some(b)), [1].into());
}

#[test]
fn there_is_room_for_so_many_groups_and_hosts() {
    let now = Instant::now();
    let mut table = Table::new(1, LIFETIME, 2);
    for last in 0..5u8 {
        let group = IpAddr::from([239, 0, 0, last]);
        table.hear(&Claim { group, ..heard(0, "10.0.0.1", Said::Exclude(vec![])) }, now);
    }
    assert_eq!((table.groups().count(), table.refused()), (2, 3));
    let mut table = Table::new(1, LIFETIME, 2);
    for n in 0..1000u32 {
        let host = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        table.hear(&Claim { host, ..heard(0, "10.0.0.1", Said::Exclude(vec![])) }, now);
    }
    assert!(table.groups[&ip("239.1.2.3")][&0].len() <= HOSTS + 1);
    assert_eq!(ports(&table), [0]);
}

#[test]
fn nonsense_changes_nothing() {
    let (mut table, now) = table();
    for wrong in [
        heard(4, "10.0.0.1", Said::Exclude(vec![])),
        heard(0, "fe80::1", Said::Exclude(vec![])),
        Claim { group: ip("10.0.0.1"), ..heard(0, "10.0.0.1", Said::Member) },
        Claim { group: ip("224.0.0.251"), ..heard(0, "10.0.0.1", Said::Member) },
        Claim { group: ip("ff02::fb"), ..heard(0, "fe80::1", Said::Member) },
    ] {
        assert_eq!(table.hear(&wrong, now), Effect::default());
    }
    assert_eq!(table.groups().count(), 0);
}

fn sources() -> impl Strategy<Value = Vec<IpAddr>> {
    prop::collection::vec((0u8..4).prop_map(|n| IpAddr::from([10, 9, 0, n])), 0..4)
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        sources().prop_map(Said::Include),
        sources().prop_map(Said::Exclude),
        sources().prop_map(Said::Allow),
        sources().prop_map(Said::Block),
        Just(Said::Member),
        Just(Said::Leaves),
    ]
}

proptest! {
    /// An effect says so exactly when entries differ, sources have entries only where they go other ways, and all of them agree with `ports`.
    #[test]
    fn entries_are_what_hosts_want(all in prop::collection::vec((0usize..3, 0u8..3, said()), 0..40)) {
        let mut table = Table::new(3, LIFETIME, 4);
        let now = Instant::now();
        let group = ip("239.1.2.3");
        for (port, host, said) in all {
            let before = table.entries(group);
            let host = IpAddr::from([10, 0, 0, host]);
            let effect = table.hear(&Claim { port, host, group, said }, now);
            let entries = table.entries(group);
            prop_assert_eq!(effect.changed, entries != before);
            for n in 0..4 {
                let source = IpAddr::from([10, 9, 0, n]);
                let entry = entries.iter().find(|e| e.source == Some(source)).or(entries.last());
                prop_assert_eq!(entry.map(|e| e.ports.clone()).unwrap_or_default(), table.ports(group, Some(source)));
            }
        }
        table.expire(now + LIFETIME);
        prop_assert_eq!(table.groups().count(), 0);
    }
}
