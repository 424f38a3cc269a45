use super::*;
use proptest::prelude::*;

fn block() -> impl Strategy<Value = ReportBlock> {
    (any::<[u32; 5]>(), any::<u8>(), -0x80_0000..=0x7f_ffff).prop_map(
        |([ssrc, highest_seq, jitter, last_sr, delay], fraction_lost, lost)| ReportBlock {
            ssrc,
            fraction_lost,
            lost,
            highest_seq,
            jitter,
            last_sr,
            delay,
        },
    )
}

fn info() -> impl Strategy<Value = SenderInfo> {
    (any::<u64>(), any::<[u32; 3]>()).prop_map(|(ntp, [rtp, packets, octets])| SenderInfo {
        ntp,
        rtp,
        packets,
        octets,
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        info in info(), blocks in prop::collection::vec(block(), 0..80), name in "[a-zA-Z0-9@.]{0,60}",
        ssrcs in prop::collection::vec(prop_oneof![any::<u32>(), 0u32..300], 1..70), from_sender: bool,
    ) {
        let mut compound = Compound::new();
        if from_sender {
            compound.sender_report(ssrcs[0], &info, &blocks);
        } else {
            compound.receiver_report(ssrcs[0], &blocks);
        }
        compound.description(&ssrcs, &name);
        compound.goodbye(&ssrcs);
        let packets = parse(compound.bytes()).unwrap();
        prop_assert_eq!(matches!(packets[0], Packet::Sr { .. }), from_sender);
        let (mut read, mut named, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for packet in packets {
            match packet {
                Packet::Sr { ssrc, info: i, blocks } => {
                    prop_assert_eq!((ssrc, i), (ssrcs[0], info));
                    read.extend(blocks);
                }
                Packet::Rr { ssrc, blocks } => {
                    prop_assert_eq!(ssrc, ssrcs[0]);
                    read.extend(blocks);
                }
                Packet::Sdes(names) => named.extend(names),
                Packet::Bye { ssrcs, reason } => {
                    prop_assert_eq!(reason, None);
                    left.extend(ssrcs);
                }
                Packet::Other(kind) => prop_assert!(false, "type {}", kind),
            }
        }
        prop_assert_eq!(read, blocks);
        prop_assert_eq!(named, ssrcs.iter().map(|&s| (s, name.as_bytes())).collect::<Vec<_>>());
        prop_assert_eq!(left, ssrcs);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
        is_rtcp(&bytes);
    }

    #[test]
    fn no_damaged_packet_panics(
        info in info(), blocks in prop::collection::vec(block(), 0..4), cut: prop::sample::Index,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut compound = Compound::new();
        compound.sender_report(1, &info, &blocks);
        compound.description(&[1, 2], "name@host");
        compound.goodbye(&[1]);
        let mut bytes = compound.bytes().to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = parse(&bytes);
    }
}

#[test]
fn the_bytes_on_the_wire() {
    let mut compound = Compound::new();
    let block = ReportBlock {
        ssrc: 0x0102_0304,
        fraction_lost: 64,
        lost: -2,
        highest_seq: 0x0001_fde8,
        jitter: 7,
        last_sr: 0xaabb_ccdd,
        delay: 65_536,
    };
    compound.receiver_report(9, &[block]);
    compound.description(&[9], "a@b");
    #[rustfmt::skip]
    let expected = [
        0x81, 201, 0, 7, 0, 0, 0, 9,
        1, 2, 3, 4, 64, 0xff, 0xff, 0xfe, 0, 1, 0xfd, 0xe8, 0, 0, 0, 7, 0xaa, 0xbb, 0xcc, 0xdd, 0, 1, 0, 0,
        0x81, 202, 0, 3, 0, 0, 0, 9, 1, 3, b'a', b'@', b'b', 0, 0, 0,
    ];
    assert_eq!(compound.bytes(), expected);
}

#[test]
fn losses_beyond_24_bits_are_held_at_the_ends() {
    let mut compound = Compound::new();
    let block = |lost| ReportBlock {
        ssrc: 1,
        fraction_lost: 0,
        lost,
        highest_seq: 0,
        jitter: 0,
        last_sr: 0,
        delay: 0,
    };
    compound.receiver_report(1, &[block(i32::MAX), block(i32::MIN)]);
    let Packet::Rr { blocks, .. } = &parse(compound.bytes()).unwrap()[0] else { panic!("a receiver report") };
    assert_eq!([blocks[0].lost, blocks[1].lost], [0x7f_ffff, -0x80_0000]);
}

#[test]
fn reduced_size_padding_and_unknown_types_are_read() {
    // A sender report alone, as RFC 3550 does not allow and simple senders have it.
    let mut alone = Compound::new();
    alone.sender_report(5, &SenderInfo { ntp: 1, rtp: 2, packets: 3, octets: 4 }, &[]);
    assert_eq!(parse(alone.bytes()).unwrap().len(), 1);
    // An application-defined packet, then a goodbye with a reason and padding.
    let bytes = [
        &app_header(5, *b"test", 16)[..],
        &[1, 2, 3, 4],
        &[0xa1, 203, 0, 3, 0, 0, 0, 5, 2, b'h', b'i', 0, 0, 0, 0, 4],
    ];
    let bytes = bytes.concat();
    let packets = parse(&bytes).unwrap();
    assert_eq!(packets[0], Packet::Other(APP));
    assert_eq!(packets[1], Packet::Bye { ssrcs: vec![5], reason: Some(b"hi") });
}

#[test]
fn what_is_wrong_is_told() {
    let mut good = Compound::new();
    good.receiver_report(5, &[]);
    good.description(&[5], "x");
    let changed = |at: usize, value: u8| {
        let mut bytes = good.bytes().to_vec();
        bytes[at] = value;
        parse(&bytes).map(|packets| packets.len())
    };
    assert_eq!(changed(0, 0x80), Ok(2));
    assert_eq!(changed(8, 0x41), Err(NotRtcp::Version(1)), "of the second packet, too");
    assert_eq!(changed(1, 0), Err(NotRtcp::Type(0)));
    assert_eq!(changed(0, 0x81), Err(NotRtcp::Contents(RR)));
    assert_eq!(changed(0, 0xa0), Err(NotRtcp::Padding), "padding of a packet that is not the last");
    assert_eq!(changed(3, 200), Err(NotRtcp::Short));
    assert_eq!(parse(&[]), Err(NotRtcp::Short));
}
