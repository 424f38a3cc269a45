//! Whole frames: what a queue that writes Ethernet itself sends, and reading the UDP datagram out of a received one.
//!
//! A stream's packets of one size differ in the probe header only, whose sum is a constant, so the UDP checksum is part of what
//! is written once: [`Headers`] hold what depends on the flow, [`BodySums`] what depends on the size, and [`FrameTemplate`] is both put together.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::checksum::{finish, fold, pseudo_sum, sum};
use super::ethernet::{self, Ethernet};
use super::ip::{self, Ip};
use super::probe;
use super::udp::{self, Udp};
use crate::error::{Error, Result};
use crate::profile::payload::Payload;
use crate::queue::{Flow, TxSpec};

/// Longest headers that [`Headers`] writes: Ethernet, one tag, IPv6, UDP.
pub const MAX_HEADERS: usize = ethernet::HEADER_LEN + ethernet::TAG_LEN + ip::V6_LEN + udp::HEADER_LEN;

/// Where the total length and the checksum lie in an IPv4 header, the payload length in an IPv6 one, and length and checksum in a UDP header.
pub(super) const V4_TOTAL: Range<usize> = 2..4;
pub(super) const V4_CHECK: Range<usize> = 10..12;
pub(super) const V6_PAYLOAD: Range<usize> = 4..6;
const UDP_LEN: Range<usize> = 4..6;
const UDP_CHECK: Range<usize> = 6..8;

/// What all packets of a queue are marked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP, 0 to 63.
    pub dscp: u8,
    /// VLAN identifier of an 802.1Q tag.
    pub vlan: Option<u16>,
}

impl From<&TxSpec> for Marks {
    fn from(spec: &TxSpec) -> Self {
        Self { ttl: spec.ttl, dscp: spec.dscp, vlan: spec.vlan }
    }
}

/// The headers of one flow, for a payload of any size.
#[derive(Debug, Clone)]
pub struct Headers {
    pub(super) bytes: [u8; MAX_HEADERS],
    len: u8,
    ip_at: u8,
    pub(super) v4: bool,
    /// Sum of the IPv4 header with total length and checksum 0.
    pub(super) ip_sum: u64,
    /// Sum of pseudo-header and ports, without the length, which stands in both.
    udp_sum: u64,
}

impl Headers {
    /// The headers of `flow`, sent from `source_mac`.
    ///
    /// # Errors
    /// `Usage` when the flow lacks what a socket would choose (source address, source port), mixes IP versions, or a mark is out of range.
    pub fn new(flow: &Flow, source_mac: [u8; 6], marks: Marks) -> Result<Self> {
        check(flow, marks)?;
        let v4 = flow.destination.is_ipv4();
        let ethernet = Ethernet {
            destination: flow.destination_mac,
            source: source_mac,
            vlan: marks.vlan,
            ethertype: if v4 { ethernet::IPV4 } else { ethernet::IPV6 },
        };
        let ip = Ip {
            source: flow.source.ip(),
            destination: flow.destination.ip(),
            dscp: marks.dscp,
            ttl: marks.ttl,
            protocol: ip::UDP,
            payload_len: 0,
        };
        let udp =
            Udp { source: flow.source.port(), destination: flow.destination.port(), len: 0, checksum: 0 };
        let mut bytes = [0; MAX_HEADERS];
        let ip_at = ethernet.emitted_len();
        let udp_at = ip_at + ip.emitted_len();
        let len = udp_at + udp::HEADER_LEN;
        ethernet.emit(&mut bytes);
        ip.emit(&mut bytes[ip_at..]);
        udp.emit(&mut bytes[udp_at..]);
        let mut ip_sum = 0;
        if v4 {
            let header = &mut bytes[ip_at..udp_at];
            header[V4_TOTAL].fill(0);
            header[V4_CHECK].fill(0);
            ip_sum = sum(header);
        }
        let udp_sum = pseudo_sum(ip.source, ip.destination, ip::UDP, 0) + sum(&bytes[udp_at..len]);
        // MAX_HEADERS fits a byte.
        Ok(Self { bytes, len: len as u8, ip_at: ip_at as u8, v4, ip_sum, udp_sum })
    }

    /// Their length in bytes: where the payload begins.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "headers are never empty")]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Bytes of the Ethernet header with its tag: where the IP header begins.
    pub fn link_len(&self) -> usize {
        usize::from(self.ip_at)
    }

    /// Longest UDP payload that the IP version can carry behind them.
    pub fn max_payload(&self) -> u16 {
        let taken = udp::HEADER_LEN + if self.v4 { ip::V4_LEN } else { 0 };
        u16::MAX - taken as u16
    }

    /// Writes the headers of a datagram with `payload_len` bytes of payload, whose words add up to `payload_sum`, to the start of `frame`.
    ///
    /// # Panics
    /// When `frame` is shorter than the headers, or `payload_len` more than [`max_payload`](Self::max_payload).
    #[inline]
    pub fn write(&self, frame: &mut [u8], payload_len: u16, payload_sum: u64) {
        assert!(payload_len <= self.max_payload(), "{payload_len} bytes do not fit an IP packet");
        let frame = &mut frame[..self.len()];
        frame.copy_from_slice(&self.bytes[..self.len()]);
        let (rest, udp) = frame.split_at_mut(self.len() - udp::HEADER_LEN);
        let ip = &mut rest[self.link_len()..];
        let udp_len = payload_len + udp::HEADER_LEN as u16;
        self.write_udp_fields(udp, udp_len, payload_sum);
        if self.v4 {
            let total = udp_len + ip::V4_LEN as u16;
            ip[V4_TOTAL].copy_from_slice(&total.to_be_bytes());
            ip[V4_CHECK].copy_from_slice(&finish(self.ip_sum + u64::from(total)).to_be_bytes());
        } else {
            ip[V6_PAYLOAD].copy_from_slice(&udp_len.to_be_bytes());
        }
    }

    /// Writes the UDP header of a datagram, as [`write`](Self::write) does, to the start of `datagram`.
    ///
    /// # Panics
    /// As [`write`](Self::write).
    pub fn write_udp(&self, datagram: &mut [u8], payload_len: u16, payload_sum: u64) {
        assert!(payload_len <= self.max_payload(), "{payload_len} bytes do not fit an IP packet");
        let udp = &mut datagram[..udp::HEADER_LEN];
        udp.copy_from_slice(&self.bytes[self.len() - udp::HEADER_LEN..self.len()]);
        self.write_udp_fields(udp, payload_len + udp::HEADER_LEN as u16, payload_sum);
    }

    #[inline]
    fn write_udp_fields(&self, udp: &mut [u8], udp_len: u16, payload_sum: u64) {
        udp[UDP_LEN].copy_from_slice(&udp_len.to_be_bytes());
        let check = udp::checksum(self.udp_sum + 2 * u64::from(udp_len) + payload_sum);
        udp[UDP_CHECK].copy_from_slice(&check.to_be_bytes());
    }
}

fn check(flow: &Flow, marks: Marks) -> Result<()> {
    let Flow { source, destination, .. } = flow;
    let wrong = |what: String| Err(Error::usage(format!("flow {source} → {destination}: {what}")));
    if source.is_ipv4() != destination.is_ipv4() {
        return wrong("source and destination are of different IP versions".into());
    }
    if source.ip().is_unspecified() || source.ip().is_multicast() {
        return wrong(format!("{} cannot be a frame's source address", source.ip()));
    }
    if source.port() == 0 || destination.port() == 0 {
        return wrong("a frame needs ports from 1 to 65535".into());
    }
    if marks.dscp > 63 {
        return wrong(format!("DSCP {} is more than 63", marks.dscp));
    }
    match marks.vlan {
        Some(vlan) if vlan > ethernet::MAX_VLAN => {
            wrong(format!("VLAN {vlan} is more than {}", ethernet::MAX_VLAN))
        }
        _ => Ok(()),
    }
}

/// The sums of payload bodies of every length, for a payload that does not vary.
#[derive(Debug, Clone)]
pub struct BodySums(Vec<u16>);

impl BodySums {
    /// For bodies of up to `max_len` bytes. `payload` must not vary: then a shorter body is the start of a longer one.
    pub fn new(payload: &Payload, max_len: usize) -> Self {
        debug_assert!(!payload.varies());
        let mut body = vec![0; max_len];
        payload.fill(0, &mut body);
        let mut total = 0;
        let mut sums = vec![0];
        for (at, byte) in body.iter().enumerate() {
            total += u64::from(*byte) << if at % 2 == 0 { 8 } else { 0 };
            sums.push(fold(total));
        }
        Self(sums)
    }

    /// The sum of a payload: headers, whose sum is that of a probe header, and `body` bytes behind them.
    ///
    /// # Panics
    /// When the body is longer than the sums were made for.
    #[inline]
    pub fn payload_sum(&self, body: usize) -> u64 {
        u64::from(probe::CHECK_SUM) + u64::from(self.0[body])
    }
}

/// The sum of the payload of a packet whose body is `body`, whatever its probe header says.
#[inline]
pub fn payload_sum(body: &[u8]) -> u64 {
    u64::from(probe::CHECK_SUM) + sum(body)
}

/// A frame with all that a stream's packets of one size have in common; only the probe header remains to be stamped.
#[derive(Debug, Clone)]
pub struct FrameTemplate {
    frame: Vec<u8>,
    payload: Range<usize>,
}

impl FrameTemplate {
    /// The frame of `flow` with `payload_len` bytes of UDP payload: headers, checksums, the payload's body, padded to
    /// [`ethernet::MIN_LEN`]. Its UDP checksum is right as soon as a probe header is stamped. When `payload` varies, the body is
    /// that of packet 0.
    ///
    /// # Errors
    /// `Usage` as [`Headers::new`], and when the payload is too short for a probe header or too long for an IP packet.
    pub fn new(
        flow: &Flow,
        source_mac: [u8; 6],
        marks: Marks,
        payload: &Payload,
        payload_len: u16,
    ) -> Result<Self> {
        let headers = Headers::new(flow, source_mac, marks)?;
        let fits = probe::LEN..=usize::from(headers.max_payload());
        if !fits.contains(&usize::from(payload_len)) {
            return Err(Error::usage(format!(
                "flow {} → {}: a payload of {payload_len} bytes is not within {} to {}",
                flow.source,
                flow.destination,
                fits.start(),
                fits.end(),
            )));
        }
        let range = headers.len()..headers.len() + usize::from(payload_len);
        let mut frame = vec![0; range.end.max(ethernet::MIN_LEN)];
        let body = &mut frame[range.start + probe::LEN..range.end];
        payload.fill(0, body);
        let sum = payload_sum(body);
        headers.write(&mut frame, payload_len, sum);
        Ok(Self { frame, payload: range })
    }

    /// The frame without FCS.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Where its UDP payload lies.
    pub fn payload(&self) -> Range<usize> {
        self.payload.clone()
    }
}

/// A UDP datagram as found in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpFrame {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// Where its payload lies in the frame.
    pub payload: Range<usize>,
    /// Bytes of the headers before it: Ethernet, tags, IP, UDP.
    pub overhead: u16,
}

/// Finds the UDP datagram in a frame without FCS: up to two VLAN tags, IPv4 with options, IPv6 without extension headers. Padding behind the datagram
/// is left out. `None` for anything else: fragments, and lengths that contradict each other.
#[inline]
pub fn parse_udp(frame: &[u8]) -> Option<UdpFrame> {
    let (ethernet, ip_at) = Ethernet::parse(frame)?;
    let packet = &frame[ip_at..];
    let (ip, ip_len) = match ethernet.ethertype {
        ethernet::IPV4 => Ip::parse_v4(packet)?,
        ethernet::IPV6 => Ip::parse_v6(packet)?,
        _ => return None,
    };
    if ip.protocol != ip::UDP {
        return None;
    }
    let udp_at = ip_at + ip_len;
    let udp = Udp::parse(&frame[udp_at..udp_at + usize::from(ip.payload_len)])?;
    let start = udp_at + udp::HEADER_LEN;
    Some(UdpFrame {
        source: socket_address(ip.source, udp.source),
        destination: socket_address(ip.destination, udp.destination),
        payload: start..udp_at + usize::from(udp.len),
        // 22 + 60 + 8 at most.
        overhead: start as u16,
    })
}

#[inline]
fn socket_address(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::probe::{Kind, Probe};
    use crate::packet::udp::Checksum;
    use proptest::prelude::*;

    fn flow() -> impl Strategy<Value = Flow> {
        let addresses = prop_oneof![
            any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
            any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        ];
        (addresses, 1u16.., 1u16.., any::<[u8; 6]>(), any::<u16>())
            .prop_filter("a source", |((a, _), ..)| !a.is_unspecified() && !a.is_multicast())
            .prop_map(|((a, b), source, destination, destination_mac, stream)| Flow {
                stream,
                source: SocketAddr::new(a, source),
                destination: SocketAddr::new(b, destination),
                destination_mac,
            })
    }

    fn marks() -> impl Strategy<Value = Marks> {
        (any::<u8>(), 0u8..64, proptest::option::of(0..=ethernet::MAX_VLAN))
            .prop_map(|(ttl, dscp, vlan)| Marks { ttl, dscp, vlan })
    }

    fn payload() -> impl Strategy<Value = Payload> {
        prop_oneof![
            Just(Payload::Pattern),
            Just(Payload::Zero),
            Just(Payload::random()),
            proptest::collection::vec(any::<u8>(), 1..300).prop_map(Payload::File),
        ]
    }

    /// The datagram found in `frame`, and what its checksums say.
    fn found(frame: &[u8]) -> (UdpFrame, Checksum) {
        let found = parse_udp(frame).expect("a UDP frame");
        let datagram = &frame[found.payload.start - udp::HEADER_LEN..found.payload.end];
        let check = udp::verify(found.source.ip(), found.destination.ip(), datagram);
        let (ethernet, at) = Ethernet::parse(frame).unwrap();
        if ethernet.ethertype == ethernet::IPV4 {
            assert_eq!(fold(sum(&frame[at..at + ip::V4_LEN])), 0xffff, "IPv4 header checksum");
        }
        (found, check)
    }

    proptest! {
        #[test]
        fn a_stamped_template_always_has_good_checksums(
            flow in flow(), marks in marks(), payload in payload(), len in 18u16..1500,
            run in 0..1u32 << 24, sequence: u64, time: u64,
        ) {
            let template = FrameTemplate::new(&flow, [2; 6], marks, &payload, len).unwrap();
            let mut frame = template.frame().to_vec();
            Probe { kind: Kind::Data, run, stream: flow.stream, sequence, time }.emit(&mut frame[template.payload()]);
            let (found, check) = found(&frame);
            prop_assert_eq!(check, Checksum::Good);
            prop_assert_eq!((found.source, found.destination), (flow.source, flow.destination));
            prop_assert_eq!(&found.payload, &template.payload());
            prop_assert_eq!(usize::from(found.overhead), template.payload().start);
            prop_assert!(frame.len() >= ethernet::MIN_LEN);
            let (ethernet, at) = Ethernet::parse(&frame).unwrap();
            prop_assert_eq!((ethernet.vlan, ethernet.destination), (marks.vlan, flow.destination_mac));
            let (ip, _) = Ip::parse_v4(&frame[at..]).or_else(|| Ip::parse_v6(&frame[at..])).unwrap();
            prop_assert_eq!((ip.ttl, ip.dscp), (marks.ttl, marks.dscp));
        }

        #[test]
        fn headers_and_sums_by_length_equal_the_template(
            flow in flow(), marks in marks(), payload in payload(), len in 18u16..1500,
        ) {
            prop_assume!(!payload.varies());
            let template = FrameTemplate::new(&flow, [2; 6], marks, &payload, len).unwrap();
            let headers = Headers::new(&flow, [2; 6], marks).unwrap();
            let mut bytes = [0xaa; MAX_HEADERS];
            headers.write(&mut bytes, len, BodySums::new(&payload, 1500).payload_sum(usize::from(len) - probe::LEN));
            prop_assert_eq!(&bytes[..headers.len()], &template.frame()[..headers.len()]);
        }

        #[test]
        fn no_frame_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            parse_udp(&bytes);
        }

        #[test]
        fn no_damaged_frame_panics_or_points_outside(
            flow in flow(), marks in marks(), len in 18u16..200, cut: prop::sample::Index,
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut frame = FrameTemplate::new(&flow, [2; 6], marks, &Payload::Zero, len).unwrap().frame;
            for (at, byte) in damage {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            frame.truncate(cut.index(frame.len() + 1));
            if let Some(found) = parse_udp(&frame) {
                prop_assert!(found.payload.start <= found.payload.end && found.payload.end <= frame.len());
            }
        }
    }

    #[test]
    fn the_smallest_frame_needs_no_padding_and_a_padded_one_is_read_without_it() {
        let flow = Flow {
            stream: 1,
            source: "192.0.2.1:1000".parse().unwrap(),
            destination: "239.1.2.3:5001".parse().unwrap(),
            destination_mac: [1, 0, 0x5e, 1, 2, 3],
        };
        let marks = Marks { ttl: 1, dscp: 46, vlan: None };
        let template = FrameTemplate::new(&flow, [2; 6], marks, &Payload::Zero, 18).unwrap();
        assert_eq!((template.frame().len(), template.payload()), (60, 42..60));
        let mut frame = template.frame().to_vec();
        frame.extend([0; 20]);
        assert_eq!(parse_udp(&frame).unwrap().payload, 42..60);
        assert!(FrameTemplate::new(&flow, [2; 6], marks, &Payload::Zero, 17).is_err());
        assert!(FrameTemplate::new(&flow, [2; 6], marks, &Payload::Zero, 65_508).is_err());
        assert!(FrameTemplate::new(&flow, [2; 6], marks, &Payload::Zero, 65_507).is_ok());
    }

    #[test]
    fn ipv4_options_are_skipped() {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x46, 0, 0, 34, 0, 0, 0, 0, 9, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1]);
        frame.extend([0, 7, 0, 9, 0, 10, 0, 0, 0xab, 0xcd]);
        let found = parse_udp(&frame).unwrap();
        assert_eq!(frame[found.payload], [0xab, 0xcd]);
        assert_eq!(found.destination, "10.0.0.2:9".parse().unwrap());
    }

    #[test]
    fn flows_that_no_frame_can_carry_are_named() {
        let good = Flow {
            stream: 0,
            source: "192.0.2.1:1000".parse().unwrap(),
            destination: "192.0.2.2:5001".parse().unwrap(),
            destination_mac: [2; 6],
        };
        let marks = Marks { ttl: 1, dscp: 0, vlan: None };
        assert!(Headers::new(&good, [2; 6], marks).is_ok());
        for (flow, marks) in [
            (Flow { source: "0.0.0.0:1000".parse().unwrap(), ..good }, marks),
            (Flow { source: "192.0.2.1:0".parse().unwrap(), ..good }, marks),
            (Flow { source: "[2001:db8::1]:1000".parse().unwrap(), ..good }, marks),
            (good, Marks { dscp: 64, ..marks }),
            (good, Marks { vlan: Some(4095), ..marks }),
        ] {
            let error = Headers::new(&flow, [2; 6], marks).unwrap_err();
            assert!(error.what.contains("192.0.2.2:5001"), "{error}");
        }
    }
}
