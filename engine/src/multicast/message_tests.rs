use std::io::Write;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::observe::capture::Capture;
use crate::packet::igmp as v4;
use crate::packet::mld as v6;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn group(six: bool) -> impl Strategy<Value = IpAddr> {
    any::<[u8; 16]>().prop_map(move |mut bytes| {
        if six {
            bytes[0] = 0xff;
            IpAddr::from(bytes)
        } else {
            IpAddr::from([0xe0 | bytes[0] & 0xf, bytes[1], bytes[2], bytes[3]])
        }
    })
}

fn host(six: bool) -> impl Strategy<Value = IpAddr> {
    any::<[u8; 16]>().prop_map(move |mut bytes| {
        if six {
            bytes[0] = 0x20;
            IpAddr::from(bytes)
        } else {
            IpAddr::from([10, bytes[1], bytes[2], bytes[3]])
        }
    })
}

fn query(version: Version) -> impl Strategy<Value = Query> {
    let six = version.is_ipv6();
    let group = proptest::option::of(group(six));
    (group, vec(host(six), 0..5), any::<u32>(), any::<bool>(), 0u8..8, any::<u32>()).prop_map(
        move |(group, sources, ms, suppress, robustness, interval_s)| {
            let sources = if group.is_some() { sources } else { Vec::new() };
            match version {
                Version::Igmp1 => Query { max_response_ms: 10_000, ..Query::default() },
                Version::Igmp2 => Query { group, max_response_ms: (ms % 255 + 1) * 100, ..Query::default() },
                Version::Mld1 => Query { group, max_response_ms: ms & 0xffff, ..Query::default() },
                _ => Query {
                    group,
                    sources,
                    max_response_ms: if six {
                        v6::decode(v6::encode(ms))
                    } else {
                        v4::decode(v4::encode(ms)) * 100
                    },
                    suppress,
                    robustness,
                    interval_s: v4::decode(v4::encode(interval_s)),
                },
            }
        },
    )
}

fn records(six: bool) -> impl Strategy<Value = Vec<Record>> {
    let record = (0usize..6, group(six), vec(host(six), 0..6))
        .prop_map(|(kind, group, sources)| Record::new(RecordKind::ALL[kind], group, sources));
    vec(record, 0..8)
}

/// Messages of this version.
pub(crate) fn message(version: Version) -> BoxedStrategy<Message> {
    let six = version.is_ipv6();
    let query = query(version).prop_map(Body::Query);
    let body = match version {
        Version::Igmp3 | Version::Mld2 => prop_oneof![query, records(six).prop_map(Body::Report)].boxed(),
        Version::Igmp1 => prop_oneof![query, group(six).prop_map(Body::Join)].boxed(),
        _ => prop_oneof![query, group(six).prop_map(Body::Join), group(six).prop_map(Body::Leave)].boxed(),
    };
    body.prop_map(move |body| Message { version, body }).boxed()
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        message(Version::Igmp1),
        message(Version::Igmp2),
        message(Version::Igmp3),
        message(Version::Mld1),
        message(Version::Mld2),
    ]
}

fn source(message: &Message) -> IpAddr {
    ip(if message.version.is_ipv6() { "fe80::1" } else { "192.0.2.1" })
}

proptest! {
    #[test]
    fn reads_what_it_wrote(message in any_message()) {
        let source = source(&message);
        let packet = message.packet(source).unwrap();
        let heard = parse(&packet).unwrap();
        prop_assert_eq!(&heard.defects, &vec![]);
        prop_assert_eq!(heard.destination, message.destination());
        prop_assert_eq!(heard.source, source);
        prop_assert_eq!(heard.message, message);
        for len in 0..packet.len() {
            prop_assert!(parse(&packet[..len]).is_err());
        }
    }

    #[test]
    fn no_bytes_panic_and_what_is_broken_is_told(
        message in any_message(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut packet = message.packet(source(&message)).unwrap();
        for (at, byte) in changes {
            *at.get_mut(&mut packet) = byte;
        }
        let _ = parse(&packet);
    }

    #[test]
    fn what_is_packed_is_all_of_it_and_fits(six: bool, records in records(false), more in records(true), mtu in 120usize..400) {
        let (version, records) = if six { (Version::Mld2, more) } else { (Version::Igmp3, records) };
        let messages = pack(version, records.clone(), mtu);
        let mut told = Vec::new();
        for message in &messages {
            prop_assert!(message.packet(source(message)).unwrap().len() <= mtu);
            let Body::Report(records) = &message.body else { unreachable!() };
            prop_assert!(!records.is_empty());
            told.extend(records.clone());
        }
        // Pieces of one record follow each other.
        let pairs = |records: &[Record]| -> Vec<(RecordKind, IpAddr, Option<IpAddr>)> {
            records.iter().flat_map(|r| {
                let sources: Vec<_> = if r.sources.is_empty() { vec![None] } else { r.sources.iter().copied().map(Some).collect() };
                sources.into_iter().map(|s| (r.kind, r.group, s))
            }).collect()
        };
        // At most five sources, 116 bytes of IPv6: only the smallest MTUs cut an exclude list.
        if mtu >= 48 + 8 + 20 + 80 {
            prop_assert_eq!(pairs(&told), pairs(&records));
        }
    }

    #[test]
    fn codes_are_rounded_down_and_hold_on(value: u32) {
        let (small, large) = (v4::decode(v4::encode(value)), v6::decode(v6::encode(value)));
        prop_assert!(small <= value && large <= value);
        prop_assert!(value > 31 << 10 || small > value - value / 16 - 1);
        prop_assert!(value > 0x1fff << 10 || large > value - value / 4096 - 1);
        prop_assert_eq!(v4::encode(small), v4::encode(value));
        prop_assert_eq!(v6::encode(large), v6::encode(value));
    }
}

/// The kernel's own, with what it was asked to do (`ip maddr`, sockets) when they were captured.
#[test]
fn the_kernel_s_messages_are_read() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/igmp_mld_kernel_vectors.pcap");
    let mut heard = Vec::new();
    let broken = Capture::open(&file).unwrap().read(&mut |packet| {
        let at = packet.link_len().unwrap();
        match parse(&packet.frame[at..]) {
            Ok(message) => heard.push(message),
            Err(error) => assert_eq!(error, Unread::Foreign),
        }
        true
    });
    assert_eq!(broken, None);
    let said: Vec<String> = heard
        .iter()
        .map(|heard| {
            assert_eq!(heard.defects, []);
            let Body::Report(records) = &heard.message.body else { panic!("{heard:?}") };
            records
                .iter()
                .map(|r| format!("{} {} {:?}", r.kind.name(), r.group, r.sources))
                .collect::<Vec<_>>()
                .join(", ")
        })
        .collect();
    let mut expected = Vec::new();
    for line in [
        "TO_EX 239.1.2.3 []",
        "ALLOW 232.1.1.1 [192.0.2.10]",
        "BLOCK 232.1.1.1 [192.0.2.10]",
        "TO_IN 239.1.2.3 []",
    ] {
        // Each is sent twice (QRV 2).
        expected.extend([line; 2]);
    }
    assert_eq!(said[..8], expected);
    // One report has both joins, the next tells one again, the last takes both back.
    assert_eq!(said[8..].len(), 6);
    assert!(said[8..].iter().any(|line| line.contains("ALLOW ff3e::8000:1 [2001:db8::10]")), "{said:?}");
    assert!(said[8..].iter().any(|line| line.contains("TO_EX ff15::abcd []")), "{said:?}");
    assert!(said.last().unwrap().contains("BLOCK ff3e::8000:1 [2001:db8::10]"), "{said:?}");
    // We write the very bytes of the kernel.
    let Heard { source, message, .. } = &heard[0];
    let packet = message.packet(*source).unwrap();
    let mut hex = String::new();
    packet.iter().for_each(|byte| hex += &format!("{byte:02x}"));
    assert_eq!(
        hex,
        "46c00028000040000102".to_owned() + "41f8c0000201e0000016940400002200e8f90000000104000000ef010203"
    );
}

#[test]
fn defects_are_told_and_the_message_is_kept() {
    let join = Message { version: Version::Igmp2, body: Body::Join(ip("239.1.2.3")) };
    let packet = join.packet(ip("192.0.2.1")).unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = packet.clone();
        change(&mut packet);
        let heard = parse(&packet).unwrap();
        assert_eq!(heard.message, join);
        (heard.is_valid(), heard.defects)
    };
    assert_eq!(with(&|p| p[8] = 64), (true, vec![Defect::HopLimit(64)]));
    assert_eq!(with(&|p| p[26] ^= 1), (false, vec![Defect::Checksum]));
    assert_eq!(with(&|p| p[20] = 0), (true, vec![Defect::NoRouterAlert]));
    assert_eq!(with(&|p| p[19] = 9), (true, vec![Defect::Destination(ip("239.1.2.3"))]));
    assert_eq!(with(&|p| p[12] = 224), (true, vec![Defect::Source(ip("224.0.2.1"))]));
    let report = Message {
        version: Version::Mld2,
        body: Body::Report(vec![Record::new(RecordKind::Allow, ip("ff3e::1"), vec![ip("2001:db8::1")])]),
    };
    let mut packet = report.packet(ip("fe80::1")).unwrap();
    packet[7] = 2;
    packet[42] = 1;
    packet[56] = 9;
    let heard = parse(&packet).unwrap();
    assert_eq!(
        heard.defects,
        [Defect::UnknownRecord(9), Defect::Checksum, Defect::HopLimit(2), Defect::NoRouterAlert]
    );
    assert_eq!(heard.message.body, Body::Report(vec![]));
    assert!(!heard.is_valid());
    assert!(report.packet(ip("2001:db8::1")).unwrap_err().to_string().contains("link-local"));
}

#[test]
fn what_a_version_cannot_say_is_refused() {
    for (version, body) in [
        (Version::Igmp1, Body::Leave(ip("239.1.2.3"))),
        (Version::Igmp2, Body::Report(vec![])),
        (Version::Igmp3, Body::Join(ip("239.1.2.3"))),
        (Version::Igmp2, Body::Join(ip("ff15::1"))),
        (Version::Mld1, Body::Join(ip("10.0.0.1"))),
        (Version::Igmp2, Body::Query(Query { robustness: 2, ..Query::default() })),
        (Version::Igmp3, Body::Query(Query { robustness: 8, ..Query::default() })),
        (Version::Igmp3, Body::Query(Query { sources: vec![ip("10.0.0.1")], ..Query::default() })),
    ] {
        let message = Message { version, body };
        assert!(message.packet(source(&message)).is_err(), "{message:?}");
    }
}

/// One message of every kind that there is.
fn every_kind() -> Vec<Message> {
    let mut messages = Vec::new();
    for (versions, group, source) in [
        ([Version::Igmp1, Version::Igmp2, Version::Igmp3], "239.1.2.3", "192.0.2.10"),
        ([Version::Mld1, Version::Mld1, Version::Mld2], "ff3e::8000:1", "2001:db8::10"),
    ] {
        let (group, source) = (ip(group), ip(source));
        for version in versions {
            let mut add = |body| messages.push(Message { version, body });
            let general = Query { max_response_ms: 10_000, ..Query::default() };
            let specific = Query { group: Some(group), max_response_ms: 1000, ..Query::default() };
            if version.names_sources() {
                let more = |q: Query| Query { robustness: 2, interval_s: 125, ..q };
                add(Body::Query(more(general)));
                add(Body::Query(more(specific.clone())));
                // Beyond what one byte says linearly.
                let slow = Query { max_response_ms: 40_000, ..specific };
                add(Body::Query(more(Query { sources: vec![source; 3], suppress: true, ..slow })));
                for kind in RecordKind::ALL {
                    add(Body::Report(vec![
                        Record::new(kind, group, vec![source, source]),
                        Record::new(kind, group, vec![]),
                    ]));
                }
            } else {
                add(Body::Query(general));
                add(Body::Join(group));
                if version != Version::Igmp1 {
                    add(Body::Query(specific));
                    add(Body::Leave(group));
                }
            }
        }
    }
    messages
}

/// An independent reader finds nothing to complain of. Skipped where there is no tshark.
#[test]
fn tshark_reads_every_kind_without_a_warning() {
    let mut file = tempfile::Builder::new().suffix(".pcap").tempfile().unwrap();
    let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    let messages = every_kind();
    for (n, message) in messages.iter().enumerate() {
        let frame = message.frame([2, 0, 0, 0, 0, 1], source(message)).unwrap();
        for word in [n as u32, 0, frame.len() as u32, frame.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    file.write_all(&bytes).unwrap();
    let tshark = |args: &[&str]| {
        let mut command = std::process::Command::new("tshark");
        command.arg("-r").arg(file.path()).args(["-o", "ip.check_checksum:TRUE"]).args(args);
        command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Ok(experts) =
        tshark(&["-Y", "_ws.expert.severity >= 0x400000 || _ws.malformed || !(igmp || icmpv6)"])
    else {
        assert!(std::env::var_os("WIRERATE_REQUIRE_ROOT").is_none(), "tshark is missing");
        eprintln!("SKIPPED: there is no tshark");
        return;
    };
    assert_eq!(experts, "");
    let fields = "-T fields -e igmp.version -e igmp.type -e icmpv6.type -e igmp.checksum.status -e icmpv6.checksum.status";
    let read = tshark(&fields.split(' ').collect::<Vec<_>>()).unwrap();
    assert_eq!(read.lines().count(), messages.len());
    for (line, message) in read.lines().zip(&messages) {
        let fields: Vec<&str> = line.split('\t').collect();
        assert!(fields[3] == "1" || fields[4] == "1", "{message:?}: {line}");
    }
}
