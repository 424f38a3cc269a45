//! Headers of frames: those of a flow's packets of one size are the same, and are read once.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;

use crate::packet::ethernet::FCS_LEN;
use crate::packet::frame::parse_udp;
use crate::queue::{RxMeta, Sink};

/// Headers over IPv4 and IPv6 without tags and options, bytes.
const V4: usize = 42;
const V6: usize = 62;

/// Where the addresses of Ethernet end, which say nothing that is read here.
const ADDRESSES: usize = 12;

/// Longest headers that are kept: longer ones are read each time.
const KEPT: usize = 96;

/// What was read from the last frame with a UDP datagram.
#[derive(Debug)]
pub(super) struct Last {
    /// Up to the end of the UDP header.
    headers: [u8; KEPT],
    /// Bytes of its frame; 0: there was none.
    len: usize,
    payload: Range<usize>,
    meta: RxMeta,
    /// Whether `meta` is what the sink was given last.
    given: bool,
}

impl Default for Last {
    fn default() -> Self {
        const NOBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        let meta = RxMeta { source: NOBODY, destination: NOBODY, arrived_ns: 0, overhead: 0 };
        Self { headers: [0; KEPT], len: 0, payload: 0..0, meta, given: false }
    }
}

impl Last {
    /// What is delivered from now on arrived at `arrived_ns`.
    #[inline]
    pub(super) fn batch(&mut self, arrived_ns: u64) {
        self.meta.arrived_ns = arrived_ns;
        self.given = false;
    }

    /// Hands the datagram in `bytes`, a frame without FCS, to the sink; whether there is one.
    #[inline(always)]
    pub(super) fn deliver<S: Sink>(&mut self, bytes: &[u8], sink: &mut S) -> bool {
        // The same lengths in a frame of the same length: its payload lies in the same place.
        if self.given
            && bytes.len() == self.len
            && self.same_headers(bytes)
            && let Some(payload) = bytes.get(self.payload.clone())
        {
            sink.one_more(&self.meta, payload);
            return true;
        }
        self.read(bytes, sink)
    }

    #[inline]
    fn same_headers(&self, bytes: &[u8]) -> bool {
        match self.payload.start {
            V4 => same::<V4>(bytes, &self.headers),
            V6 => same::<V6>(bytes, &self.headers),
            len => bytes.get(ADDRESSES..len) == self.headers.get(ADDRESSES..len),
        }
    }

    /// As [`deliver`](Self::deliver), for a frame with other headers than the last or the first of a batch.
    #[inline(never)]
    fn read<S: Sink>(&mut self, bytes: &[u8], sink: &mut S) -> bool {
        let Some(found) = parse_udp(bytes) else { return false };
        let start = found.payload.start;
        if let Some(headers) = self.headers.get_mut(..start) {
            headers.copy_from_slice(&bytes[..start]);
            self.len = bytes.len();
        } else {
            self.len = 0;
        }
        self.payload = found.payload;
        self.meta.source = found.source;
        self.meta.destination = found.destination;
        self.meta.overhead = found.overhead + FCS_LEN as u16;
        self.given = true;
        let payload = &bytes[self.payload.clone()];
        sink.run(&self.meta, payload, payload.len().max(1), 1);
        true
    }
}

/// Whether both have the same bytes from the EtherType to `END`, in few wide comparisons.
#[inline]
fn same<const END: usize>(a: &[u8], b: &[u8]) -> bool {
    let (Some(a), Some(b)) = (a.first_chunk::<END>(), b.first_chunk::<END>()) else { return false };
    let eight =
        |bytes: &[u8; END], at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let differ = |at: usize| eight(a, at) ^ eight(b, at);
    // The last eight overlap those before.
    let mut all = differ(END - 8);
    let mut at = ADDRESSES;
    while at + 8 <= END {
        all |= differ(at);
        at += 8;
    }
    all == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::frame::{FrameTemplate, Marks};
    use crate::profile::payload::Payload;
    use crate::queue::Flow;
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

    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let address = |v6: bool, last: u8| {
            if v6 { format!("[2001:db8::{last}]:9") } else { format!("10.0.0.{last}:9") }
        };
        (any::<bool>(), 1u8..3, 18u16..22, prop_oneof![Just(None), Just(Some(7))], 0usize..3).prop_map(
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
            let mut last = Last::default();
            for (now, (mut frame, times, at, value, damage)) in (1..).zip(frames) {
                last.batch(now);
                for _ in 0..times {
                    let (mut kept, mut anew) = (Given::default(), Given::default());
                    let mut other = Last::default();
                    other.batch(now);
                    prop_assert_eq!(last.deliver(&frame, &mut kept), other.deliver(&frame, &mut anew));
                    prop_assert_eq!(kept, anew);
                    if damage == 0 {
                        let at = at.index(frame.len());
                        frame[at] = value;
                    }
                }
            }
        }
    }
}
