//! What a receiving socket knows of what it receives: who sent it, where to, and how many datagrams it is.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use super::groups::Range;
use crate::clock;
use crate::clock::device::{Line, Shared};
use crate::profile::size::Framing;
use crate::queue::{RxMeta, RxSpec, Sink, StampCounts};

/// Of linux/in.h and linux/in6.h; the C library's headers lack them.
pub(super) const IP_RECVFRAGSIZE: i32 = 25;
/// As above.
pub(super) const IPV6_RECVFRAGSIZE: i32 = 77;

/// Room for a source address of either version.
pub(super) const NAME_LEN: usize = size_of::<libc::sockaddr_in6>();

/// Room for the control messages: IPV6_PKTINFO (16 + 20, aligned), UDP_GRO, IP_RECVFRAGSIZE and SCM_TIMESTAMPING.
pub(super) const CONTROL_LEN: usize = 40 + 2 * INT_LEN + STAMPS_LEN;

/// Room for SCM_TIMESTAMPING: a header of 16 bytes, and three times of 16, of which the first is the kernel's and the last the NIC's
/// (Documentation/networking/timestamping.rst).
const STAMPS_LEN: usize = 64;

/// Room for a message of an `int`: a header of 16 bytes, and it, aligned.
const INT_LEN: usize = 24;

/// What the datagrams of one socket have in common.
#[derive(Debug, Clone)]
pub(super) struct Addressing {
    destination: SocketAddr,
    overhead: u16,
    /// Whether the kernel delivers several datagrams in one buffer.
    gro: bool,
    /// Whether the kernel stamps them.
    stamped: bool,
    /// The clock by which the NIC does.
    nic: Option<Arc<Shared>>,
    /// Whether the kernel tells where each was sent to.
    told: bool,
    /// What is wanted of them, where others come, too.
    wanted: Option<Range>,
}

/// When a batch was taken over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// CLOCK_TAI in ns.
    now_ns: u64,
    /// What the kernel's stamps, which are of CLOCK_REALTIME, lack to CLOCK_TAI; `None` where there are none.
    tai_minus_utc_ns: Option<i64>,
    /// What the NIC's stamps are on CLOCK_TAI, where they are wanted.
    nic: Option<Line>,
    /// Payloads by who stamped them.
    pub(super) stamps: StampCounts,
}

impl Taken {
    /// When a buffer of `count` datagrams with these stamps arrived.
    #[inline]
    fn arrived(&mut self, told: &Told, count: usize) -> u64 {
        let Some(offset_ns) = self.tai_minus_utc_ns else { return self.now_ns };
        // Later than now it can be only when the clock was set in between.
        let kernel_ns =
            told.stamp_ns.map(|stamp_ns| stamp_ns.saturating_add_signed(offset_ns).min(self.now_ns));
        if let Some(line) = self.nic {
            return self.stamps.enter(line, told.nic_ns, kernel_ns, self.now_ns, count as u64);
        }
        kernel_ns.unwrap_or_else(|| {
            self.stamps.missing += count as u64;
            self.now_ns
        })
    }
}

impl Addressing {
    /// For a socket bound to `destination`, with UDP_GRO or without, with the kernel's time stamps or without, and with those of the NIC by a clock.
    pub(super) fn new(destination: SocketAddr, gro: bool, stamped: bool, nic: Option<Arc<Shared>>) -> Self {
        // Ethernet 14, IP without options, UDP 8, FCS 4. The socket sees no frames; the kernel takes VLAN tags off.
        let ip = if destination.is_ipv6() { 40 } else { 20 };
        let told = destination.ip().is_unspecified();
        Self { destination, overhead: 14 + ip + 8 + 4, gro, stamped, nic, told, wanted: None }
    }

    /// The same for a socket that is bound to no address, and of whose datagrams only these are wanted.
    pub(super) fn of_groups(self, wanted: Range) -> Self {
        Self { told: true, wanted: Some(wanted), ..self }
    }

    /// Whether the kernel may deliver several datagrams in one buffer.
    pub(super) fn gro(&self) -> bool {
        self.gro
    }

    /// Bytes of control messages to ask for: no destination when the socket is bound to an address.
    pub(super) fn control_len(&self) -> usize {
        let stamps = if self.stamped { STAMPS_LEN } else { 0 };
        match (self.told, self.gro) {
            (true, _) => CONTROL_LEN - STAMPS_LEN + stamps,
            (false, true) => 2 * INT_LEN + stamps,
            (false, false) => INT_LEN + stamps,
        }
    }

    /// What has just been taken over, was so now.
    #[inline]
    pub(super) fn taken(&self) -> Taken {
        let tai_minus_utc_ns = self.stamped.then(clock::tai_minus_utc_ns);
        let nic = self.nic.as_deref().map(Shared::line);
        Taken { now_ns: clock::tai_ns(), tai_minus_utc_ns, nic, stamps: StampCounts::default() }
    }

    /// Hands to `sink` a buffer that came with this source address and these control messages, as the kernel wrote them. Returns how
    /// many datagrams it was.
    #[inline]
    pub(super) fn hand_over<S: Sink>(
        &self,
        sink: &mut S,
        name: &[u8],
        control: &[u8],
        payload: &[u8],
        taken: &mut Taken,
    ) -> usize {
        let told = control_messages(control);
        let (stride, count) = match told.segment {
            Some(size) if size < payload.len() => (size, payload.len().div_ceil(size)),
            _ => (payload.len(), 1),
        };
        let meta = self.meta(name, &told, taken.arrived(&told, count));
        if !self.wants(&meta, &told) {
            return 0;
        }
        if let Some(mtu) = told.fragment {
            self.reassembled(sink, meta, payload, mtu);
            return 1;
        }
        sink.run(&meta, payload, stride, count);
        count
    }

    /// As [`hand_over`](Self::hand_over), if it is a datagram that came in fragments; whether it is.
    pub(super) fn hand_over_reassembled<S: Sink>(
        &self,
        sink: &mut S,
        name: &[u8],
        control: &[u8],
        payload: &[u8],
        taken: &mut Taken,
    ) -> bool {
        let told = control_messages(control);
        let Some(mtu) = told.fragment else { return false };
        let arrived_ns = taken.arrived(&told, 1);
        self.reassembled(sink, self.meta(name, &told, arrived_ns), payload, mtu);
        true
    }

    /// Whether a datagram that came with this source address and these control messages is wanted at all.
    pub(super) fn is_wanted(&self, name: &[u8], control: &[u8]) -> bool {
        let told = control_messages(control);
        self.wants(&self.meta(name, &told, 0), &told)
    }

    #[inline]
    fn wants(&self, meta: &RxMeta, told: &Told) -> bool {
        self.wanted.is_none_or(|range| range.takes(meta.source.ip(), meta.destination.ip(), told.interface))
    }

    #[inline]
    fn meta(&self, name: &[u8], told: &Told, arrived_ns: u64) -> RxMeta {
        let mut destination = self.destination;
        if let Some(address) = told.destination {
            destination.set_ip(address);
        }
        RxMeta {
            source: socket_address(name).unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)),
            destination,
            arrived_ns,
            overhead: self.overhead,
            frames: 1,
        }
    }

    /// Hands over a datagram that came in fragments, the longest of which was an IP packet of `mtu` bytes.
    #[cold]
    fn reassembled<S: Sink>(&self, sink: &mut S, mut meta: RxMeta, payload: &[u8], mtu: u32) {
        let framing = Framing { ipv6: self.destination.is_ipv6(), vlan: false, mtu: Some(mtu) };
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let wire = framing.wire(length);
        // As if all but the last were that long; 65,535 bytes in the smallest fragments have more than fits.
        meta.frames = u16::try_from(wire.frames).unwrap_or(u16::MAX);
        meta.overhead = u16::try_from(wire.bytes - u64::from(length)).unwrap_or(u16::MAX);
        sink.run(&meta, payload, payload.len(), 1);
    }
}

/// Bytes of payload that a buffer has to hold: several datagrams together are as long as the longest that there is.
pub(super) fn buffer_len(spec: &RxSpec, addressing: &Addressing) -> usize {
    if addressing.gro() { usize::from(u16::MAX) } else { usize::from(spec.max_payload) }
}

/// Reads a `sockaddr_in` or `sockaddr_in6`.
#[inline]
fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => {
            let address: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            Some(SocketAddr::new(Ipv4Addr::from(address).into(), port))
        }
        libc::AF_INET6 => {
            let address: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(address), port, 0, scope).into())
        }
        _ => None,
    }
}

/// What control messages tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    /// Of IP_PKTINFO or IPV6_PKTINFO: where the packet was sent to.
    destination: Option<IpAddr>,
    /// Of the same: the index of the interface that it came by.
    interface: Option<u32>,
    /// Of UDP_GRO: payload of each datagram but the last, in bytes; never 0.
    segment: Option<usize>,
    /// Of IP_RECVFRAGSIZE or IPV6_RECVFRAGSIZE: the longest of the fragments that it came in, as IP packet, in bytes; never 0.
    fragment: Option<u32>,
    /// Of SCM_TIMESTAMPING: CLOCK_REALTIME in ns when the kernel took it from the driver; never 0.
    stamp_ns: Option<u64>,
    /// Of SCM_TIMESTAMPING: the NIC's own clock in ns when it had it; never 0.
    nic_ns: Option<u64>,
}

#[inline]
fn control_messages(mut control: &[u8]) -> Told {
    let mut told = Told::default();
    while let Some((level, kind, data, rest)) = next_message(control) {
        match (level, kind) {
            // struct in_pktinfo: index, local address, destination address of the header.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let address = data.get(8..).and_then(|d| d.first_chunk::<4>());
                told.destination = address.map(|a| Ipv4Addr::from(*a).into());
                told.interface = data.first_chunk().map(|index| u32::from_ne_bytes(*index));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                told.destination = data.first_chunk::<16>().map(|a| Ipv6Addr::from(*a).into());
                let index = data.get(16..).and_then(|d| d.first_chunk());
                told.interface = index.map(|index| u32::from_ne_bytes(*index));
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let size = data.first_chunk().map(|size| i32::from_ne_bytes(*size));
                told.segment = size.and_then(|size| usize::try_from(size).ok()).filter(|&size| size > 0);
            }
            (libc::IPPROTO_IP, IP_RECVFRAGSIZE) | (libc::IPPROTO_IPV6, IPV6_RECVFRAGSIZE) => {
                let size = data.first_chunk().map(|size| i32::from_ne_bytes(*size));
                told.fragment = size.and_then(|size| u32::try_from(size).ok()).filter(|&size| size > 0);
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
                told.stamp_ns = timespec_ns(data).filter(|&ns| ns > 0);
                told.nic_ns = data.get(32..).and_then(timespec_ns).filter(|&ns| ns > 0);
            }
            _ => {}
        }
        control = rest;
    }
    told
}

/// Reads a `timespec`; `None` when it is no time after 1970.
#[inline]
pub(super) fn timespec_ns(data: &[u8]) -> Option<u64> {
    let long = |at: usize| data.get(at..)?.first_chunk().map(|b| i64::from_ne_bytes(*b));
    let (seconds, nanos) = (u64::try_from(long(0)?).ok()?, u64::try_from(long(8)?).ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Level, type and data of the first message, and what follows it.
#[inline]
pub(super) fn next_message(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let len = usize::from_ne_bytes(*control.first_chunk()?);
    let int = |at: usize| control.get(at..)?.first_chunk().map(|b| i32::from_ne_bytes(*b));
    let (level, kind) = (int(HEADER - 8)?, int(HEADER - 4)?);
    let data = control.get(HEADER..len)?;
    let rest = control.get(len.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
    Some((level, kind, data, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::device::{Comparison, Follower};

    #[test]
    fn addresses_as_the_kernel_writes_them() {
        for text in ["192.0.2.1:5001", "[2001:db8::1]:65535", "[fe80::1%3]:7"] {
            let address: SocketAddr = text.parse().unwrap();
            let native = socket2::SockAddr::from(address);
            // socket2 shows no bytes, so the layout is written out.
            let mut bytes = vec![];
            bytes.extend(native.family().to_ne_bytes());
            bytes.extend(address.port().to_be_bytes());
            match address {
                SocketAddr::V4(v4) => bytes.extend(v4.ip().octets()),
                SocketAddr::V6(v6) => {
                    bytes.extend([0; 4]);
                    bytes.extend(v6.ip().octets());
                    bytes.extend(v6.scope_id().to_ne_bytes());
                }
            }
            assert_eq!(socket_address(&bytes), Some(address));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(name in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
                          control in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
                          len in 0usize..100, level in 0i32..50, kind in 0i32..60) {
            let _ = socket_address(&name);
            let _ = control_messages(&control);
            let mut message = vec![];
            message.extend(len.to_ne_bytes());
            message.extend(level.to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(&control);
            let _ = control_messages(&message);
        }
    }

    /// SCM_TIMESTAMPING with a time of the kernel, an unused one, and one of the NIC, in seconds and ns each.
    fn stamps(times: [i64; 6]) -> Vec<u8> {
        let mut message = vec![];
        message.extend(64usize.to_ne_bytes());
        message.extend(libc::SOL_SOCKET.to_ne_bytes());
        message.extend(libc::SCM_TIMESTAMPING.to_ne_bytes());
        times.iter().for_each(|time| message.extend(time.to_ne_bytes()));
        message
    }

    const NOW: Taken = Taken {
        now_ns: 3_000_000_000,
        tai_minus_utc_ns: Some(1_000_000_000),
        nic: None,
        stamps: StampCounts { nic: 0, kernel: 0, missing: 0, implausible: 0 },
    };

    #[test]
    fn a_stamp_is_the_first_of_three_times_and_not_later_than_the_hand_over() {
        let told = control_messages(&stamps([1, 7, 0, 0, 0, 0]));
        assert_eq!(told, Told { stamp_ns: Some(1_000_000_007), ..Told::default() });
        let mut taken = NOW;
        assert_eq!(taken.arrived(&told, 1), 2_000_000_007);
        let late = Told { stamp_ns: Some(2_500_000_000), ..told };
        assert_eq!(taken.arrived(&late, 1), 3_000_000_000, "the clock was set back");
        assert_eq!((taken.arrived(&Told::default(), 5), taken.stamps.missing), (3_000_000_000, 5));
        // None was asked for.
        let mut taken = Taken { tai_minus_utc_ns: None, ..NOW };
        assert_eq!((taken.arrived(&Told::default(), 5), taken.stamps.missing), (3_000_000_000, 0));
        assert_eq!(control_messages(&stamps([0; 6])), Told::default(), "the driver's came first, or none");
    }

    #[test]
    fn a_stamp_of_the_nic_is_the_third_and_counts_where_the_kernels_does_not_contradict_it() {
        let told = control_messages(&stamps([1, 500, 0, 0, 70, 3]));
        let both = Told { stamp_ns: Some(1_000_000_500), nic_ns: Some(70_000_000_003), ..Told::default() };
        assert_eq!(told, both);
        let alone = control_messages(&stamps([0, 0, 0, 0, 70, 3]));
        assert_eq!(alone, Told { stamp_ns: None, ..both });
        // The NIC's clock is 68 s ahead of CLOCK_TAI, and goes as fast.
        let at = |n: u64| Comparison { device_ns: 68_000_000_000 + n, tai_ns: n, error_ns: 40 };
        let line = Follower::begin(at(1_000_000_000), at(1_100_000_000)).unwrap().line();
        let mut taken = Taken { nic: Some(line), ..NOW };
        let mut arrived = |told: &Told, expected: u64, counts: [u64; 4]| {
            assert_eq!(taken.arrived(told, 2), expected, "{told:?}");
            let StampCounts { nic, kernel, missing, implausible } = taken.stamps;
            assert_eq!([nic, kernel, missing, implausible], counts, "{told:?}");
        };
        arrived(&both, 2_000_000_003, [2, 0, 0, 0]);
        // Its clock is not known better than that.
        arrived(&Told { nic_ns: Some(70_000_000_540), ..both }, 2_000_000_500, [4, 0, 0, 0]);
        arrived(&Told { nic_ns: None, ..both }, 2_000_000_500, [4, 2, 0, 0]);
        arrived(&Told::default(), 3_000_000_000, [4, 2, 2, 0]);
        // The clock was set: a second ahead, and three back.
        arrived(&Told { nic_ns: Some(71_000_000_003), ..both }, 2_000_000_500, [4, 4, 2, 2]);
        arrived(&Told { nic_ns: Some(68_000_000_003), ..both }, 2_000_000_500, [4, 6, 2, 4]);
        arrived(&Told { nic_ns: Some(u64::MAX), ..Told::default() }, 3_000_000_000, [4, 6, 4, 6]);
        arrived(&alone, 2_000_000_003, [6, 6, 4, 6]);
    }

    #[test]
    fn a_message_of_length_zero_ends_the_search() {
        assert_eq!(control_messages(&[0; 64]), Told::default());
    }
}
