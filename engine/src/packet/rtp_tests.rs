use super::*;
use proptest::prelude::*;

fn header() -> impl Strategy<Value = Header> {
    (any::<bool>(), 0u8..128, any::<u16>(), any::<u32>(), any::<u32>()).prop_map(
        |(marker, payload_type, sequence, timestamp, ssrc)| Header {
            marker,
            payload_type,
            sequence,
            timestamp,
            ssrc,
        },
    )
}

/// CSRCs, extension (profile and words), padding.
type Drawn = (Vec<u32>, Option<(u16, Vec<[u8; 4]>)>, u8);

fn options() -> impl Strategy<Value = Drawn> {
    let words = proptest::collection::vec(any::<[u8; 4]>(), 0..10);
    (
        proptest::collection::vec(any::<u32>(), 0..=MAX_CSRCS),
        proptest::option::of((any::<u16>(), words)),
        prop_oneof![Just(0), any::<u8>()],
    )
}

fn emitted(header: &Header, (csrcs, extension, padding): &Drawn, payload: &[u8]) -> Vec<u8> {
    let data: Vec<u8> = extension.iter().flat_map(|(_, words)| words.concat()).collect();
    let extension = extension.as_ref().map(|(profile, _)| Extension { profile: *profile, data: &data });
    let options = Options { csrcs, extension, padding: *padding };
    let mut bytes = vec![0xaa; options.header_len()];
    bytes.extend(payload);
    bytes.resize(bytes.len() + usize::from(*padding), 0xaa);
    options.emit(header, &mut bytes);
    bytes
}

proptest! {
    #[test]
    fn every_packet_reads_back(header in header(), options in options(), payload in proptest::collection::vec(any::<u8>(), 0..100)) {
        let bytes = emitted(&header, &options, &payload);
        let rtp = Rtp::parse(&bytes).expect("emitted");
        prop_assert_eq!(rtp.header, header);
        prop_assert_eq!(rtp.payload, &payload[..]);
        prop_assert_eq!(rtp.padding, options.2);
        prop_assert_eq!(rtp.csrcs().collect::<Vec<_>>(), options.0);
        let extension = rtp.extension.map(|found| (found.profile, found.data.to_vec()));
        prop_assert_eq!(extension, options.1.map(|(profile, words)| (profile, words.concat())));
    }

    #[test]
    fn the_short_emitter_is_the_long_one_without_options(header in header()) {
        let (mut short, mut long) = ([0; HEADER_LEN], [0xaa; HEADER_LEN]);
        header.emit(&mut short);
        Options::default().emit(&header, &mut long);
        prop_assert_eq!(short, long);
        prop_assert_eq!(Header::parse(&short), Ok(header));
    }

    #[test]
    fn what_is_cut_short_is_no_packet_or_another(header in header(), options in options(), cut in 1usize..100) {
        let bytes = emitted(&header, &options, &[]);
        let without_padding = bytes.len() - usize::from(options.2);
        let left = bytes.len().saturating_sub(cut);
        if left < without_padding {
            prop_assert!(Rtp::parse(&bytes[..left]).is_err());
        }
    }

    #[test]
    fn a_probe_behind_the_header_reads_back_and_any_changed_byte_is_seen(
        header in header(), run in 0..=probe::MAX_RUN, stream: u16, sequence in 0u64..1 << 40, time in 0u64..1 << 40,
        at in 0..PROBED_LEN, flip in 1u8..=255,
    ) {
        let probe = Probe { kind: probe::Kind::Data, run, stream, sequence, time };
        let mut bytes = [0xaa; PROBED_LEN];
        header.emit(&mut bytes);
        emit_probe(&mut bytes, &probe);
        prop_assert_eq!(fold(sum(&bytes)), probe::CHECK_SUM);
        prop_assert_eq!(parse_probe(&bytes), Some(probe));
        prop_assert_eq!(Rtp::parse(&bytes).map(|rtp| rtp.header), Ok(header));
        bytes[at] ^= flip;
        prop_assert_eq!(parse_probe(&bytes), None);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), first in 0x80u8..0xc0) {
        for first in [first, bytes.first().copied().unwrap_or(0)] {
            let mut bytes = bytes.clone();
            bytes.splice(..bytes.len().min(1), [first]);
            looks_like_rtp(&bytes);
            parse_probe(&bytes);
            if let Ok(rtp) = Rtp::parse(&bytes) {
                prop_assert!(rtp.payload.len() + usize::from(rtp.padding) <= bytes.len() - HEADER_LEN);
                rtp.csrcs().count();
                rtp.extension.map(|extension| extension.elements().count());
            }
        }
    }
}

#[test]
fn the_bytes_on_the_wire() {
    let header = Header {
        marker: true,
        payload_type: 96,
        sequence: 0x0102,
        timestamp: 0x0304_0506,
        ssrc: 0x0708_090a,
    };
    let options = Options {
        csrcs: &[0x0b0c_0d0e],
        extension: Some(Extension { profile: ONE_BYTE, data: &[0x10, 0xff, 0, 0] }),
        padding: 2,
    };
    let mut bytes = [0xcc; 27];
    options.emit(&header, &mut bytes);
    let expected = [
        &[0xb1, 0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14][..],
        &[0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0],
        &[0xcc, 0, 2],
    ];
    assert_eq!(bytes[..], expected.concat());
}

#[test]
fn elements_of_both_forms() {
    let elements = |profile, data: &'static [u8]| {
        Extension { profile, data }.elements().map(|e| (e.id, e.data)).collect::<Vec<_>>()
    };
    assert_eq!(
        elements(ONE_BYTE, &[0x10, 0xaa, 0x00, 0x21, 0xbb, 0xcc, 0xf0, 0x10]),
        [(1, &[0xaa][..]), (2, &[0xbb, 0xcc][..])]
    );
    assert_eq!(elements(0x1000, &[1, 0, 0, 2, 1, 0xdd, 3, 9]), [(1, &[][..]), (2, &[0xdd][..])]);
    assert_eq!(elements(0x1234, &[1, 0, 0, 2]), []);
}

#[test]
fn padding_that_does_not_fit() {
    let mut bytes = [0; 16];
    bytes[0] = 0xa0;
    assert_eq!(Rtp::parse(&bytes), Err(NotRtp::Padding));
    bytes[15] = 5;
    assert_eq!(Rtp::parse(&bytes), Err(NotRtp::Padding));
    bytes[15] = 4;
    assert_eq!(Rtp::parse(&bytes).map(|rtp| rtp.payload.len()), Ok(0));
    assert_eq!(Rtp::parse(&bytes[..12]), Err(NotRtp::Padding));
}

#[test]
fn rtcp_and_others_do_not_look_like_it() {
    let mut bytes = [0; 28];
    bytes[0] = 0x80;
    assert!(looks_like_rtp(&bytes));
    for rtcp in 192..=223 {
        bytes[1] = rtcp;
        assert!(!looks_like_rtp(&bytes), "second byte {rtcp}");
    }
    bytes[1] = 0x80 | 96;
    assert!(looks_like_rtp(&bytes));
    bytes[0] = 0x47;
    assert!(!looks_like_rtp(&bytes));
}

#[test]
fn clocks_of_static_types() {
    assert_eq!(static_type(0).map(|t| t.clock_hz), Some(8000));
    assert_eq!(static_type(PT_MP2T).map(|t| t.clock_hz), Some(90_000));
    assert_eq!(static_type(9).map(|t| t.clock_hz), Some(8000));
    assert_eq!(static_type(96), None);
    assert_eq!(static_type(72), None);
}
