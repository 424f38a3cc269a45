//! Headers of frames: those of a flow's packets of one size are the same, and are read once. Where flows take turns, they differ in what names the
//! flow, and only that is read.
#![forbid(unsafe_code)]

use std::iter;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::packet::ethernet::{FCS_LEN, TAG_LEN};
use crate::packet::frame::parse_udp;
use crate::queue::ring::{Desc, MORE};
use crate::queue::{RxMeta, Sink};

/// Headers over IPv4 and IPv6 without tags and options, bytes.
const V4: usize = 42;
const V6: usize = 62;

/// The same with one tag.
const V4_TAGGED: usize = V4 + TAG_LEN;
const V6_TAGGED: usize = V6 + TAG_LEN;

/// Where addresses and ports over IPv4 are.
const ENDS: usize = 26;

/// Where the addresses of Ethernet end, which say nothing that is read here.
const ADDRESSES: usize = 12;

/// Longest headers that are kept: longer ones are read each time.
const KEPT: usize = 96;

/// Longest packet that is put together from several frames, bytes.
pub(super) const LONGEST: usize = (1 << 16) + 256;

/// What was read from the last frame with a UDP datagram.
#[derive(Debug)]
pub(super) struct Last {
    /// Up to the end of the UDP header.
    headers: [u8; KEPT],
    /// Bytes of its frame; 0: it cannot come again, because there was none in this batch or its headers were too long.
    len: usize,
    /// Bytes of the last frame whose headers are kept, in this batch or before; 0: there is none.
    kept: usize,
    /// Bytes of the headers.
    start: usize,
    /// Bytes of the payload behind them.
    payload: usize,
    meta: RxMeta,
}

impl Default for Last {
    fn default() -> Self {
        const NOBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        let meta = RxMeta { source: NOBODY, destination: NOBODY, arrived_ns: 0, overhead: 0, frames: 1 };
        Self { headers: [0; KEPT], len: 0, kept: 0, start: ADDRESSES, payload: 0, meta }
    }
}

impl Last {
    /// What is delivered from now on arrived at `arrived_ns`.
    #[inline]
    pub(super) fn batch(&mut self, arrived_ns: u64) {
        self.meta.arrived_ns = arrived_ns;
        self.len = 0;
    }

    /// Hands the datagrams in frames that come next to the sink, as long as their headers are those of the last one.
    #[inline(always)]
    pub(super) fn again<'a, F: NextFrame<'a>, S: Sink>(&self, frames: &mut F, sink: &mut S) {
        match self.start {
            V4 => self.again_behind::<V4, _, _>(frames, sink),
            V6 => self.again_behind::<V6, _, _>(frames, sink),
            V4_TAGGED => self.again_behind::<V4_TAGGED, _, _>(frames, sink),
            V6_TAGGED => self.again_behind::<V6_TAGGED, _, _>(frames, sink),
            // With options.
            _ => {}
        }
    }

    #[inline(always)]
    fn again_behind<'a, const START: usize, F: NextFrame<'a>, S: Sink>(&self, frames: &mut F, sink: &mut S) {
        // The same lengths in a frame of the same length: its payload lies in the same place.
        let (len, payload) = (self.len as u32, self.payload);
        let Some(headers) = self.headers.first_chunk::<START>().copied() else { return };
        let payloads = iter::from_fn(|| {
            frames.next_if(len, |frame| {
                same(frame.first_chunk()?, &headers).then(|| frame.get(START..START + payload))?
            })
        });
        sink.more(&self.meta, payloads);
    }

    /// Hands the datagrams in frames that come next to the sink, as long as they are laid out as the last one over IPv4 and the sink knows them by their flow, which
    /// may be any.
    #[inline(always)]
    pub(super) fn turns<'a, F: NextFrame<'a>, S: Sink>(&self, frames: &mut F, sink: &mut S) {
        if self.start != V4 || !sink.turns(self.meta.arrived_ns) {
            return;
        }
        let Some(layout) = self.headers.first_chunk().map(layout_v4) else { return };
        let (len, payload) = (self.kept as u32, self.payload);
        let mut taken = |frame: &'a [u8]| {
            let headers = frame.first_chunk()?;
            let ends = headers[ENDS..].first_chunk()?;
            let behind = frame.get(V4..V4 + payload)?;
            (layout_v4(headers) == layout && sink.turn(ends, behind)).then_some(())
        };
        while frames.next_if(len, &mut taken).is_some() {}
    }

    /// Takes any other frame, or a piece of a packet whose `beginning` may have come before. When that is the whole of it, hands the
    /// datagram in it to the sink; whether there was one.
    #[inline(never)]
    pub(super) fn other<S: Sink>(
        &mut self,
        bytes: &[u8],
        desc: Desc,
        beginning: &mut Vec<u8>,
        sink: &mut S,
    ) -> Option<bool> {
        if desc.options & MORE == 0 && beginning.is_empty() && self.alike(bytes, sink) {
            return Some(true);
        }
        self.piece(bytes, desc, beginning, sink)
    }

    /// Hands the datagram in `bytes`, a whole frame without FCS, to the sink if its headers are laid out as those of the last one, whatever flow they name; whether
    /// they were.
    #[inline]
    fn alike<S: Sink>(&mut self, bytes: &[u8], sink: &mut S) -> bool {
        if bytes.len() != self.kept {
            return false;
        }
        // IPv4 with options may end where IPv6 does.
        let flow_only = match self.start {
            V4 => self.v4(bytes),
            V6 if self.meta.source.is_ipv6() => self.v6(bytes),
            _ => false,
        };
        if !flow_only {
            return false;
        }
        let Some(payload) = bytes.get(self.start..self.start + self.payload) else { return false };
        self.len = bytes.len();
        sink.run(&self.meta, payload, payload.len().max(1), 1);
        true
    }

    /// Reads the flow of `frame`, if it differs in nothing else that is read from the last one, which was of IPv4; whether that is so.
    #[inline]
    fn v4(&mut self, frame: &[u8]) -> bool {
        let (Some(a), Some(b)) = (frame.first_chunk::<V4>(), self.headers.first_chunk_mut::<V4>()) else {
            return false;
        };
        if layout_v4(a) != layout_v4(b) {
            return false;
        }
        *b = *a;
        let end = |address: usize, port: usize| {
            let octets: [u8; 4] = a[address..address + 4].try_into().expect("four bytes");
            SocketAddr::V4(SocketAddrV4::new(octets.into(), u16::from_be_bytes([a[port], a[port + 1]])))
        };
        self.meta.source = end(26, V4 - 8);
        self.meta.destination = end(30, V4 - 6);
        true
    }

    /// As [`v4`](Self::v4), of IPv6.
    #[inline]
    fn v6(&mut self, frame: &[u8]) -> bool {
        let (Some(a), Some(b)) = (frame.first_chunk::<V6>(), self.headers.first_chunk_mut::<V6>()) else {
            return false;
        };
        if layout_v6(a) != layout_v6(b) {
            return false;
        }
        *b = *a;
        let end = |address: usize, port: usize| {
            let octets: [u8; 16] = a[address..address + 16].try_into().expect("sixteen bytes");
            SocketAddr::V6(SocketAddrV6::new(octets.into(), u16::from_be_bytes([a[port], a[port + 1]]), 0, 0))
        };
        self.meta.source = end(22, V6 - 8);
        self.meta.destination = end(38, V6 - 6);
        true
    }

    /// As [`other`](Self::other), with all headers to be read.
    #[inline(never)]
    fn piece<S: Sink>(
        &mut self,
        bytes: &[u8],
        desc: Desc,
        beginning: &mut Vec<u8>,
        sink: &mut S,
    ) -> Option<bool> {
        let whole = desc.options & MORE == 0;
        if whole && beginning.is_empty() {
            return Some(self.read(bytes, sink));
        }
        // What comes next may be a piece with any content.
        self.len = 0;
        // Cut off rather than grown: what does not fit any IP packet fails to parse.
        let room = LONGEST - beginning.len();
        beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
        whole.then(|| {
            let delivered = self.read(beginning, sink);
            beginning.clear();
            delivered
        })
    }

    /// Reads the headers and hands the datagram to the sink; whether there is one.
    fn read<S: Sink>(&mut self, bytes: &[u8], sink: &mut S) -> bool {
        let Some(found) = parse_udp(bytes) else { return false };
        let start = found.payload.start;
        self.len = match self.headers.get_mut(..start) {
            Some(headers) => {
                headers.copy_from_slice(&bytes[..start]);
                bytes.len()
            }
            None => 0,
        };
        self.kept = self.len;
        let payload = &bytes[found.payload];
        self.start = start;
        self.payload = payload.len();
        self.meta.source = found.source;
        self.meta.destination = found.destination;
        self.meta.overhead = found.overhead + FCS_LEN as u16;
        // Chunks of 0 bytes are none, and cannot be asked for.
        sink.run(&self.meta, payload, payload.len().max(1), 1);
        true
    }
}

/// Frames that have arrived, in order.
pub(super) trait NextFrame<'a> {
    /// Takes the next one, without FCS, if it is `len` bytes long, a packet of its own, and `wanted` finds in it what it wants.
    fn next_if<T>(&mut self, len: u32, wanted: impl FnOnce(&'a [u8]) -> Option<T>) -> Option<T>;
}

/// Whether two frames' headers are the same from the EtherType on: few and wide comparisons.
#[inline(always)]
fn same<const END: usize>(a: &[u8; END], b: &[u8; END]) -> bool {
    // The last sixteen overlap those before.
    let mut all = differ(a, b, END - 16);
    let mut at = ADDRESSES;
    while at + 16 <= END {
        all |= differ(a, b, at);
        at += 16;
    }
    all == 0
}

/// What is read from headers over IPv4 besides the flow: EtherType, version and length; total length, flags and offset, protocol; length of UDP.
#[inline(always)]
fn layout_v4(headers: &[u8; V4]) -> (u32, u64, u16) {
    (
        u32::from_ne_bytes(some(headers, 12)) & 0xffff_ff00u32.to_be(),
        u64::from_ne_bytes(some(headers, 16)) & 0xffff_0000_ffff_00ffu64.to_be(),
        u16::from_ne_bytes(some(headers, V4 - 4)),
    )
}

/// As [`layout_v4`], over IPv6: EtherType, version, payload length and next header; length of UDP.
#[inline(always)]
fn layout_v6(headers: &[u8; V6]) -> (u64, u8, u16) {
    (
        u64::from_ne_bytes(some(headers, 12)) & 0xffff_f000_0000_ffffu64.to_be(),
        headers[20],
        u16::from_ne_bytes(some(headers, V6 - 4)),
    )
}

/// The bytes at `at`.
#[inline(always)]
fn some<const END: usize, const LEN: usize>(headers: &[u8; END], at: usize) -> [u8; LEN] {
    headers[at..at + LEN].try_into().expect("as many bytes")
}

/// Which bits of the sixteen bytes at `at` are not the same.
#[inline(always)]
fn differ<const END: usize>(a: &[u8; END], b: &[u8; END], at: usize) -> u128 {
    u128::from_ne_bytes(some(a, at)) ^ u128::from_ne_bytes(some(b, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ends::Ends;
    use crate::packet::frame::{FrameTemplate, Marks};
    use crate::profile::payload::Payload;
    use crate::queue::{Flow, PLAIN_OVERHEAD};
    use proptest::prelude::*;

    /// Everything as it was given.
    #[derive(Debug, Default, PartialEq)]
    struct Given(Vec<(SocketAddr, SocketAddr, u64, u16, Vec<u8>)>);

    impl Sink for Given {
        fn run(&mut self, meta: &RxMeta, buf: &[u8], _: usize, count: usize) {
            assert_eq!(count, 1);
            self.0.push((meta.source, meta.destination, meta.arrived_ns, meta.overhead, buf.to_vec()));
        }
    }

    /// As [`Given`], of which it takes all that it can by turns.
    #[derive(Debug, Default)]
    struct InTurn {
        given: Given,
        arrived_ns: u64,
    }

    impl Sink for InTurn {
        fn run(&mut self, meta: &RxMeta, buf: &[u8], stride: usize, count: usize) {
            self.given.run(meta, buf, stride, count);
        }

        fn turns(&mut self, arrived_ns: u64) -> bool {
            self.arrived_ns = arrived_ns;
            true
        }

        fn turn(&mut self, ends: &Ends, payload: &[u8]) -> bool {
            let end = |address: usize, port: usize| {
                SocketAddr::from((some::<_, 4>(ends, address), u16::from_be_bytes(some(ends, port))))
            };
            let (source, destination) = (end(0, 8), end(4, 10));
            assert_eq!(crate::packet::ends::ends(source, destination).as_ref(), Some(ends));
            self.given.0.push((source, destination, self.arrived_ns, PLAIN_OVERHEAD, payload.to_vec()));
            true
        }
    }

    /// A frame, until it is taken.
    struct One<'a>(Option<&'a [u8]>);

    impl<'a> NextFrame<'a> for One<'a> {
        fn next_if<T>(&mut self, len: u32, wanted: impl FnOnce(&'a [u8]) -> Option<T>) -> Option<T> {
            let wanted = self.0.filter(|frame| frame.len() == len as usize).and_then(wanted);
            self.0.take_if(|_| wanted.is_some());
            wanted
        }
    }

    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let address = |v6: bool, last: u8| {
            if v6 { format!("[2001:db8::{last}]:{last}") } else { format!("10.0.0.{last}:{last}") }
        };
        (any::<bool>(), 1u8..4, 18u16..20, prop_oneof![Just(None), Just(Some(7))], 0usize..3).prop_map(
            move |(v6, last, len, vlan, padding)| {
                let flow = Flow {
                    stream: 0,
                    source: address(v6, last).parse().unwrap(),
                    destination: address(v6, 9).parse().unwrap(),
                    destination_mac: [2; 6],
                };
                let marks = Marks { ttl: 1, dscp: 0, vlan };
                let template = FrameTemplate::new(&flow, [2; 6], marks, &Payload::Pattern, len).unwrap();
                let mut frame = template.frame().to_vec();
                frame.extend(vec![0; padding]);
                frame
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_read_before_changes_nothing(
            frames in prop::collection::vec((frame(), 1usize..4, any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..40),
        ) {
            let (mut last, mut last_in_turn) = (Last::default(), Last::default());
            for (now, (mut frame, times, at, value, damage)) in (1..).zip(frames) {
                last.batch(now);
                last_in_turn.batch(now);
                for _ in 0..times {
                    let (mut kept, mut anew) = (Given::default(), Given::default());
                    let mut other = Last::default();
                    other.batch(now);
                    let (whole, mut none) = (Desc::default(), Vec::new());
                    let mut next = One(Some(&frame));
                    last.again(&mut next, &mut kept);
                    let delivered = next.0.is_none()
                        || last.other(&frame, whole, &mut none, &mut kept) == Some(true);
                    let expected = other.piece(&frame, whole, &mut none, &mut anew);
                    prop_assert_eq!(Some(delivered), expected);
                    prop_assert_eq!(&kept, &anew);
                    let (mut next, mut in_turn) = (One(Some(&frame)), InTurn::default());
                    last_in_turn.turns(&mut next, &mut in_turn);
                    if next.0.is_some() {
                        last_in_turn.other(&frame, whole, &mut none, &mut in_turn);
                    }
                    prop_assert_eq!(&in_turn.given, &anew);
                    if damage == 0 {
                        let at = at.index(frame.len());
                        frame[at] = value;
                    }
                }
            }
        }
    }
}
