use std::io::Write;

use super::*;
use crate::packet::rtp::{self, Header};
use crate::report::Rx;

/// An IPv4 packet from 192.0.2.1 with a datagram to 192.0.2.2:5004.
fn packet(payload: &[u8]) -> Vec<u8> {
    packet_from("192.0.2.1", payload)
}

/// The same from another.
fn packet_from(source: &str, payload: &[u8]) -> Vec<u8> {
    let udp_len = (udp::HEADER_LEN + payload.len()) as u16;
    let [source, destination] = [source, "192.0.2.2"].map(|a| a.parse().unwrap());
    let ip = Ip { source, destination, dscp: 0, ttl: 1, protocol: ip::UDP, payload_len: udp_len };
    let mut bytes = vec![0; ip::V4_LEN + udp::HEADER_LEN];
    ip.emit(&mut bytes);
    Udp { source: 1000, destination: 5004, len: udp_len, checksum: 0 }.emit(&mut bytes[ip::V4_LEN..]);
    bytes.extend(payload);
    bytes
}

/// Ten packets of RTP without number 5, PCMU, 20 ms apart.
fn packets() -> impl Iterator<Item = (u64, Vec<u8>)> {
    (0u16..10).filter(|n| *n != 5).map(|n| {
        let mut bytes = [0; rtp::HEADER_LEN + 160];
        let (sequence, timestamp) = (65_530u16.wrapping_add(n), u32::from(n) * 160);
        Header { marker: n == 0, payload_type: 0, sequence, timestamp, ssrc: 9 }.emit(&mut bytes);
        (1_700_000_000_000_000 + u64::from(n) * 20_000, packet(&bytes))
    })
}

fn pcap(link: u32, header: &[u8]) -> Vec<u8> {
    pcap_of(link, header, packets())
}

fn pcap_of(link: u32, header: &[u8], packets: impl Iterator<Item = (u64, Vec<u8>)>) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0];
    file.extend(link.to_le_bytes());
    for (us, packet) in packets {
        let len = (header.len() + packet.len()) as u32;
        for word in [(us / 1_000_000) as u32, (us % 1_000_000) as u32, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(header);
        file.extend(packet);
    }
    file
}

/// With a resolution of 2^20 in a second: one that is no power of ten.
fn pcapng() -> Vec<u8> {
    let mut file = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let len = (12 + body.len()) as u32;
        [&kind.to_le_bytes()[..], &len.to_le_bytes(), body, &len.to_le_bytes()]
            .iter()
            .for_each(|b| file.extend(*b));
    };
    block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    block(1, &[101, 0, 0, 0, 0, 0, 4, 0, 9, 0, 1, 0, 0x94, 0, 0, 0, 0, 0, 0, 0]);
    for (us, packet) in packets() {
        let stamp = (u128::from(us) << 20) / 1_000_000;
        let len = (packet.len() as u32).to_le_bytes();
        let high = ((stamp >> 32) as u32).to_le_bytes();
        let mut body = [&[0; 4][..], &high, &(stamp as u32).to_le_bytes(), &len, &len, &packet].concat();
        body.resize(body.len().next_multiple_of(4), 0);
        block(6, &body);
    }
    file
}

fn analysed(file: &[u8], target: &str, change: fn(&mut RecvConfig)) -> (Rx, Vec<&'static str>) {
    let mut config = RecvConfig::new(target.parse().unwrap());
    change(&mut config);
    let mut at = tempfile::NamedTempFile::new().unwrap();
    at.write_all(file).unwrap();
    let outcome = analyse(&config, at.path(), &mut |_| ()).unwrap();
    let codes = outcome.report.warnings.iter().map(|w| w.code).collect();
    (outcome.report.rx.unwrap(), codes)
}

#[test]
fn every_kind_of_capture_holds_the_same() {
    let ethernet = [[0; 12].as_slice(), &[8, 0]].concat();
    let sll = [[0; 14].as_slice(), &[8, 0]].concat();
    let sll2 = [[8, 0].as_slice(), &[0; 18]].concat();
    for file in [
        pcap(1, &ethernet),
        pcap(101, &[]),
        pcap(113, &sll),
        pcap(276, &sll2),
        pcap(0, &[2, 0, 0, 0]),
        pcapng(),
    ] {
        for target in ["rtp://192.0.2.2:5004", "0.0.0.0:5004"] {
            let (rx, warnings) = analysed(&file, target, |_| ());
            assert_eq!((rx.packets, rx.lost, rx.before_start, rx.foreign), (9, 1, 0, 0));
            let rtp = rx.streams[0].rtp.as_ref().unwrap();
            assert_eq!(
                (rtp.ssrc, rtp.expected, rtp.wraps, rtp.jitter_units, rtp.clock_hz),
                (9, 10, 1, 0, 8000)
            );
            assert_eq!((warnings, rx.duration_ns / 1_000_000), (vec![], 179 + u64::from(file[0] != 10)));
        }
    }
}

/// One SSRC after another on a flow, and one of them from another address, too (RFC 3550 §8.2).
#[test]
fn sources_that_change_and_collide_are_told() {
    let rtp = |n: u16, ssrc| {
        let mut bytes = [0; rtp::HEADER_LEN + 160];
        let timestamp = u32::from(n) * 160;
        Header { marker: false, payload_type: 0, sequence: n, timestamp, ssrc }.emit(&mut bytes);
        bytes
    };
    let told = |sources: &[(&str, u32)]| {
        let packets = sources.iter().flat_map(|&(source, ssrc)| {
            (0..3u16).map(move |n| {
                (1_700_000_000_000_000 + u64::from(n) * 20_000, packet_from(source, &rtp(n, ssrc)))
            })
        });
        let (rx, _) = analysed(&pcap_of(101, &[], packets), "rtp://192.0.2.2:5004", |_| ());
        assert_eq!((rx.packets, rx.lost, rx.foreign), (3 * sources.len() as u64, 0, 0));
        let rtp = rx.rtp.unwrap();
        (rtp.flows, rtp.ssrcs, rtp.ssrc_changes, rtp.ssrc_collisions)
    };
    assert_eq!(told(&[("192.0.2.1", 9)]), (1, 1, 0, 0));
    assert_eq!(told(&[("192.0.2.1", 9), ("192.0.2.1", 10)]), (1, 2, 1, 0));
    assert_eq!(told(&[("192.0.2.1", 9), ("192.0.2.3", 10)]), (2, 2, 0, 0));
    assert_eq!(told(&[("192.0.2.1", 9), ("192.0.2.3", 9)]), (2, 2, 0, 1));
    assert_eq!(told(&[("192.0.2.1", 9), ("192.0.2.1", 10), ("192.0.2.3", 9)]), (2, 3, 1, 1));
}

#[test]
fn what_is_not_wanted_is_left_out_and_ends_are_kept() {
    let file = pcap(101, &[]);
    let (rx, warnings) = analysed(&file, "192.0.2.3:5004", |_| ());
    assert_eq!((rx.packets, &warnings[..]), (0, &["nothing-heard"][..]));
    let (rx, _) = analysed(&file, "192.0.2.2:5004", |c| c.count = Some(4));
    assert_eq!(rx.packets, 4);
    let (rx, _) = analysed(&file, "192.0.2.2:5004", |c| c.duration = Some(Duration::from_millis(60)));
    assert_eq!(rx.packets, 3);
    let (rx, warnings) = analysed(&file[..file.len() - 10], "192.0.2.2:5004", |_| ());
    assert_eq!((rx.packets, &warnings[..]), (8, &["capture-broken-off"][..]));
}

#[test]
fn what_is_no_capture_is_refused() {
    let config = RecvConfig::new("192.0.2.2:5004".parse().unwrap());
    let cut = &pcap(101, &[])[..10];
    for (bytes, why) in [
        (&b"hello, world, this is no capture"[..], "neither pcap nor pcapng"),
        (b"", "the file is empty"),
        (cut, "its header is cut off"),
    ] {
        let mut at = tempfile::NamedTempFile::new().unwrap();
        at.write_all(bytes).unwrap();
        let error = analyse(&config, at.path(), &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let error = analyse(&config, Path::new("/nowhere"), &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}
