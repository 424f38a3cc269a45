//! Datagrams cut for any MTU: the pieces are put together again to what was cut, by what their IP headers say, and none is taken for a whole datagram.

use std::net::{IpAddr, SocketAddr};

use wirerate_engine::packet::checksum::{fold, sum};
use wirerate_engine::packet::fragment::V6_HEADER;
use wirerate_engine::packet::frame::{Headers, Marks, parse_udp};
use wirerate_engine::packet::udp::HEADER_LEN;
use wirerate_engine::queue::Flow;

use super::script::Script;

/// Cuts the datagram that `input` describes.
pub fn check(input: &[u8]) {
    let mut script = Script::new(input);
    let flags = script.byte();
    let ipv6 = flags & 1 != 0;
    let (mtu, length) = (u32::from(script.word()), script.word());
    let identification = u32::from(script.word()) << 16 | u32::from(script.word());
    let marks =
        Marks { ttl: script.byte(), dscp: script.byte(), vlan: (flags & 2 != 0).then(|| script.word()) };
    let mut address =
        || -> IpAddr { if ipv6 { script.bytes::<16>().into() } else { script.bytes::<4>().into() } };
    let (source, destination) = (address(), address());
    let flow = Flow {
        stream: 0,
        source: SocketAddr::new(source, script.word()),
        destination: SocketAddr::new(destination, script.word()),
        destination_mac: script.bytes(),
    };
    let Ok(headers) = Headers::new(&flow, script.bytes(), marks) else { return };
    let length = length.min(headers.max_payload());
    let body: Vec<u8> = script.take(64).iter().copied().chain([1]).cycle().take(length.into()).collect();
    let mut whole = vec![0; headers.len()];
    headers.write(&mut whole, length, sum(&body));
    whole.extend(&body);
    let found = parse_udp(&whole).expect("our own datagram");
    assert_eq!((found.source, found.destination), (flow.source, flow.destination));
    assert_eq!(found.payload, headers.len()..whole.len());

    let cutter = headers.cutter(mtu);
    if cutter.fits(length) {
        assert_eq!(cutter.packets(length), 1);
        return;
    }
    let datagram = &whole[headers.len() - HEADER_LEN..];
    let mut together = vec![None; datagram.len()];
    let mut ended = false;
    let pieces = cutter.packets(length);
    for piece in cutter.pieces(length) {
        let bytes = &datagram[usize::from(piece.offset)..][..usize::from(piece.len)];
        let mut frame = vec![0; headers.link_len() + cutter.fragment_header()];
        // The unit that every fragment has may be more than a tiny MTU allows, and the IP packet then too long.
        let at = headers.write_fragment(&mut frame, piece, identification);
        assert_eq!(at, frame.len());
        frame.extend(bytes);
        // With an MTU that not even an empty datagram fits, one piece is the whole of it.
        assert_eq!(parse_udp(&frame).is_some(), pieces == 1 && !ipv6);
        let ip = &frame[headers.link_len()..];
        let (offset, more) = if ipv6 { read_v6(ip, identification) } else { read_v4(ip, identification) };
        for (place, byte) in together[offset..].iter_mut().zip(bytes) {
            assert_eq!(place.replace(*byte), None, "two pieces overlap");
        }
        assert!(!ended, "a piece follows the last");
        ended = !more;
    }
    assert!(ended);
    assert_eq!(together.into_iter().collect::<Option<Vec<u8>>>().as_deref(), Some(datagram));
}

/// Offset in bytes and whether others follow (RFC 791 §3.1).
fn read_v4(ip: &[u8], identification: u32) -> (usize, bool) {
    let word = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    assert_eq!(fold(sum(&ip[..20])), 0xffff, "the header's checksum");
    assert_eq!(usize::from(word(2)), ip.len());
    assert_eq!(word(4), identification as u16);
    assert_eq!(word(6) & 0xc000, 0, "don't fragment");
    (usize::from(word(6) & 0x1fff) * 8, word(6) & 0x2000 != 0)
}

/// The same of IPv6 (RFC 8200 §4.5).
fn read_v6(ip: &[u8], identification: u32) -> (usize, bool) {
    let word = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    assert_eq!(usize::from(word(4)), ip.len() - 40);
    assert_eq!((ip[6], ip[40], ip[41]), (44, 17, 0));
    assert_eq!([word(44), word(46)], [(identification >> 16) as u16, identification as u16]);
    assert_eq!(V6_HEADER, 8);
    (usize::from(word(42) & !7), word(42) & 1 != 0)
}
