use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_800_000_000 * SECOND;

fn at(ns: u64) -> Moment {
    Moment::new(START + ns, 37 * SECOND as i64)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn session(ssrc: Option<u32>, interval_ns: Option<u64>) -> Session {
    let config = SessionConfig {
        ssrc,
        cname: if ssrc.is_some() { "receiver".to_owned() } else { "sender".to_owned() },
        interval_ns,
        at_once: true,
        to_group: true,
        mux: false,
        seed: 5,
    };
    Session::new(config, at(0))
}

fn sending(packets: u64) -> Figures {
    let stream = SenderFigures {
        ssrc: 0xa,
        to: address("192.0.2.2:5005"),
        packets,
        octets: packets * 160,
        anchor: (1000, START),
        clock_hz: 8000,
    };
    Figures { sent: vec![stream], received: Vec::new() }
}

fn receiving(expected: u64, received: u64, last_ns: u64) -> Figures {
    let stream = ReceptionFigures {
        ssrc: 0xa,
        source: address("192.0.2.1:40000"),
        destination: address("192.0.2.2:5004"),
        highest_seq: (65_535 + expected) as u32,
        expected,
        received,
        octets: received * 160,
        jitter: 16,
        last_ns: START + last_ns,
    };
    Figures { sent: Vec::new(), received: vec![stream] }
}

#[test]
fn two_ends_tell_each_other_loss_and_round_trip() {
    let (mut sender, mut receiver) = (session(None, Some(SECOND)), session(Some(0xb), Some(SECOND)));
    let (source, back) = (address("192.0.2.1:40001"), address("192.0.2.2:5005"));
    let first = sender.due(at(0), &sending(1));
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].0, back);
    // 10 ms on the way, answered a second later, 20 ms on the way back.
    receiver.receive(at(SECOND / 100), source, first[0].1.bytes(), &[]);
    let answer = receiver.due(at(SECOND + SECOND / 100), &receiving(50, 40, SECOND));
    assert_eq!(answer[0].0, source, "to where the sender's report came from");
    sender.receive(at(SECOND + 3 * SECOND / 100), back, answer[0].1.bytes(), &sending(50).sent);
    let told = sender.report(&sending(50).sent);
    let rtt = told.rtt_ns.unwrap();
    assert_eq!(rtt.count, 1);
    assert!(rtt.min.abs_diff(30_000_000) < 40_000, "{rtt:?}");
    let peer = &told.peers[0];
    assert_eq!((peer.ssrc, peer.stream, peer.lost, peer.jitter), (0xb, 0xa, 10, 16));
    assert_eq!((peer.fraction_lost, peer.jitter_ns), (51.0 / 256.0, 2_000_000));
    assert_eq!(peer.cname.as_deref(), Some("receiver"));
    // The next report is about what came since.
    let next = receiver.due(at(2 * SECOND + SECOND / 50), &receiving(100, 90, 2 * SECOND));
    sender.receive(at(2 * SECOND + SECOND / 25), back, next[0].1.bytes(), &sending(100).sent);
    let peer = &sender.report(&sending(100).sent).peers[0];
    assert_eq!((peer.lost, peer.fraction_lost), (10, 0.0));
    // Goodbye, by both.
    let bye = sender.farewell(at(3 * SECOND), &sending(100));
    receiver.receive(at(3 * SECOND), source, bye[0].1.bytes(), &[]);
    assert_eq!(receiver.left().collect::<Vec<_>>(), [0xa]);
    let said = receiver.report(&[]);
    assert_eq!((said.sr_received, said.rr_sent, said.bye_received), (2, 2, 1));
    let heard = &said.senders[0];
    assert_eq!((heard.ssrc, heard.packets, heard.octets, heard.left), (0xa, 100, 16_000, true));
    assert_eq!(heard.rtp_timestamp, 1000 + 3 * 8000);
    assert_eq!(heard.unix_ns, START + 3 * SECOND - 37 * SECOND);
    assert_eq!(sender.report(&[]).bye_sent, 1);
}

#[test]
fn before_anything_was_sent_or_heard_nothing_is_said() {
    let (mut sender, mut receiver) = (session(None, Some(SECOND)), session(Some(0xb), Some(SECOND)));
    assert!(sender.due(at(0), &sending(0)).is_empty());
    assert!(receiver.due(at(5 * SECOND), &Figures::default()).is_empty());
    assert!(sender.farewell(at(6 * SECOND), &sending(0)).is_empty(), "nor goodbye");
    assert_eq!(sender.due(at(7 * SECOND), &sending(1)).len(), 1, "and then at once");
}

#[test]
fn reports_on_groups_go_to_the_group_and_of_one_source_to_it() {
    let mut figures = receiving(1, 1, 0);
    figures.received[0].destination = address("239.1.2.3:5004");
    for (to_group, mux, expected) in
        [(true, false, "239.1.2.3:5005"), (false, false, "192.0.2.1:40001"), (true, true, "192.0.2.1:40000")]
    {
        let mut receiver = session(Some(0xb), Some(SECOND));
        (receiver.config.to_group, receiver.config.mux) = (to_group, mux);
        assert_eq!(receiver.due(at(0), &figures)[0].0, address(expected));
    }
}

#[test]
fn many_streams_take_several_datagrams_of_modest_size() {
    let mut figures = sending(1);
    let stream = figures.sent[0];
    figures.sent = (0..40).map(|n| SenderFigures { ssrc: n, ..stream }).collect();
    let mut sender = session(None, Some(SECOND));
    let datagrams = sender.due(at(0), &figures);
    assert_eq!(datagrams.len(), 3);
    assert!(datagrams.iter().all(|(_, compound)| compound.bytes().len() < 1200));
    assert_eq!(sender.report(&[]).sr_sent, 40);
    // And as many sources.
    let mut figures = receiving(10, 10, 0);
    let stream = figures.received[0];
    figures.received = (0..40).map(|n| ReceptionFigures { ssrc: n, ..stream }).collect();
    let mut receiver = session(Some(99), Some(SECOND));
    assert_eq!(receiver.due(at(0), &figures).len(), 2);
}

#[test]
fn what_is_no_rtcp_and_what_collides_is_counted() {
    let mut sender = session(None, Some(SECOND));
    let from = address("192.0.2.9:5005");
    sender.receive(at(0), from, b"hello", &[]);
    let mut other = Compound::new();
    other.receiver_report(0xa, &[]);
    sender.receive(at(0), from, other.bytes(), &sending(1).sent);
    let report = sender.report(&[]);
    assert_eq!((report.malformed, report.collisions, report.rr_received), (1, 1, 0));
    // What comes back from a group is nobody else's.
    let own = sender.due(at(0), &sending(1)).remove(0).1;
    sender.receive(at(1), from, own.bytes(), &sending(1).sent);
    let report = sender.report(&[]);
    assert_eq!((report.collisions, report.sr_received), (1, 0));
}

#[test]
fn by_the_book_two_report_every_five_seconds_or_so() {
    let mut sender = session(None, None);
    let mut said = Vec::new();
    for ms in 0..600_000u64 {
        let now = at(ms * 1_000_000);
        if !sender.due(now, &sending(ms / 20 + 1)).is_empty() {
            said.push(ms);
        }
    }
    assert_eq!(said[0], 0, "in a session of two the first is said at once");
    let gaps: Vec<u64> = said.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // 5 s × (0.5 to 1.5) / 1.21828, and a little longer by timer reconsideration.
    assert!(gaps.iter().all(|gap| (2052..=6157).contains(gap)), "{gaps:?}");
    let mean = gaps.iter().sum::<u64>() / gaps.len() as u64;
    assert!((3800..=5600).contains(&mean), "{mean}");
}

#[test]
fn who_reports_seldom_is_not_forgotten_by_who_reports_often() {
    let mut sender = session(None, Some(SECOND / 2));
    let mut other = Compound::new();
    other.receiver_report(0xb, &[]);
    other.description(&[0xb], "slow");
    sender.receive(at(0), address("192.0.2.2:5005"), other.bytes(), &[]);
    // Enough bandwidth for the shortest interval.
    for second in 1..=24 {
        sender.due(at(second * SECOND), &sending(1000 * second));
    }
    assert_eq!(sender.members.len(), 1);
    for second in 25..=30 {
        sender.due(at(second * SECOND), &sending(1000 * second));
    }
    assert_eq!(sender.members.len(), 0, "five intervals of 5 s");
}

#[test]
fn among_many_a_goodbye_waits() {
    let mut receiver = session(Some(0xb), None);
    assert_eq!(receiver.farewell_wait_ns(at(0)), 0);
    for ssrc in 100..200 {
        let mut other = Compound::new();
        other.receiver_report(ssrc, &[]);
        receiver.receive(at(SECOND), address("192.0.2.9:5005"), other.bytes(), &[]);
    }
    let wait = receiver.farewell_wait_ns(at(2 * SECOND));
    assert!((SECOND..=4 * SECOND).contains(&wait), "{wait}");
}

proptest! {
    #[test]
    fn no_datagrams_panic(
        datagrams in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..100), any::<bool>(), 0u64..1 << 40), 0..30),
    ) {
        let mut session = session(Some(0xb), None);
        for (mut bytes, shaped, now) in datagrams {
            if shaped && bytes.len() >= 4 {
                (bytes[0], bytes[1], bytes[2]) = (0x80 | bytes[0] & 3, 200 + bytes[1] % 8, 0);
                bytes[3] = (bytes.len() / 4 - 1) as u8;
                bytes.truncate(bytes.len() / 4 * 4);
            }
            session.receive(at(now), address("192.0.2.9:5005"), &bytes, &sending(1).sent);
            let _ = session.due(at(now), &receiving(now, now / 2, now));
        }
        let _ = session.report(&sending(1).sent);
    }

    #[test]
    fn the_fraction_is_of_what_was_expected_since(losses in prop::collection::vec((1u64..1000, 0u64..1000), 1..20)) {
        let mut receiver = session(Some(0xb), Some(SECOND));
        let (mut expected, mut received) = (0, 0);
        for (n, (more, lost)) in (0..).zip(losses) {
            let lost = lost.min(more);
            expected += more;
            received += more - lost;
            let compound = receiver.due(at(n * SECOND), &receiving(expected, received, n * SECOND)).remove(0).1;
            let Packet::Rr { blocks, .. } = &rtcp::parse(compound.bytes()).unwrap()[0] else { panic!("a report") };
            prop_assert_eq!(u64::from(blocks[0].fraction_lost), (lost * 256 / more).min(255));
            prop_assert_eq!(u64::try_from(blocks[0].lost).unwrap(), expected - received);
        }
    }
}
