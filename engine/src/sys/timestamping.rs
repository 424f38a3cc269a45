//! Single packets with the kernel's time stamps (SO_TIMESTAMPING, Documentation/networking/timestamping.rst).
#![forbid(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, RecvMsg, SockaddrStorage, TimestampingFlag, Timestamps, recvmsg,
    setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;

/// Bytes for the control messages of one packet: times, addresses, TTL, class, and an error with its address.
pub const CONTROL: usize = 512;

/// When a packet passed, by the kernel or the NIC. In ns since 1970; `None` where there is no stamp.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamps {
    /// By the kernel: CLOCK_REALTIME.
    pub software_ns: Option<u64>,
    /// By the NIC: its own clock.
    pub hardware_ns: Option<u64>,
}

/// A packet that was received, and what the kernel says of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Received {
    /// Bytes of payload; more than the buffer has when it was cut.
    pub len: usize,
    /// Who sent it.
    pub source: Option<SocketAddr>,
    /// Our address that it was sent to, and the interface it came by.
    pub destination: Option<(IpAddr, u32)>,
    /// It was sent to a group or a broadcast address.
    pub to_many: bool,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// DSCP and ECN.
    pub class: Option<u8>,
    /// When it came.
    pub stamps: Stamps,
}

/// Asks for stamps of what is received from now on, and with `transmit` of what is sent. The NIC's come where somebody switched them on (`hwstamp_ctl`,
/// `ptp4l`). The kernel begins to stamp what is received in the background, a moment later.
///
/// # Errors
/// The kernel's own.
pub fn enable(fd: BorrowedFd<'_>, transmit: bool) -> io::Result<()> {
    let mut flags = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_RAW_HARDWARE
        | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_RX_HARDWARE;
    if transmit {
        flags |=
            TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE | TimestampingFlag::SOF_TIMESTAMPING_TX_HARDWARE;
    }
    Ok(setsockopt(&fd, sockopt::Timestamping, &flags)?)
}

/// Takes the next packet; `None` when there is none.
///
/// # Errors
/// The kernel's own; ECONNREFUSED and its like when an earlier packet was answered so.
pub fn receive(fd: BorrowedFd<'_>, payload: &mut [u8], control: &mut [u8]) -> io::Result<Option<Received>> {
    take(fd, payload, control, MsgFlags::MSG_TRUNC)
}

/// Takes the next packet that was sent and stamped from the socket's error queue: the frame, as far as there is room, and its times; `None`
/// when there is none. Errors that were queued there without a time are passed by.
///
/// # Errors
/// The kernel's own.
pub fn transmitted(fd: BorrowedFd<'_>, frame: &mut [u8], control: &mut [u8]) -> io::Result<Option<Received>> {
    loop {
        match take(fd, frame, control, MsgFlags::MSG_ERRQUEUE)? {
            Some(packet) if packet.stamps == Stamps::default() => {}
            taken => return Ok(taken),
        }
    }
}

fn take(
    fd: BorrowedFd<'_>,
    payload: &mut [u8],
    control: &mut [u8],
    flags: MsgFlags,
) -> io::Result<Option<Received>> {
    let mut slices = [IoSliceMut::new(payload)];
    let flags = flags | MsgFlags::MSG_DONTWAIT;
    match recvmsg::<SockaddrStorage>(fd.as_raw_fd(), &mut slices, Some(control), flags) {
        Ok(message) => Ok(Some(described(&message))),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn described(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Received {
    let mut packet = Received { len: message.bytes, ..Received::default() };
    packet.source = message.address.as_ref().and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into())))
    });
    for control in message.cmsgs().into_iter().flatten() {
        match control {
            ControlMessageOwned::ScmTimestampsns(stamps) => packet.stamps = Stamps::of(&stamps),
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let address = IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                packet.destination = Some((address, info.ipi_ifindex.cast_unsigned()));
                packet.to_many = info.ipi_addr.s_addr != info.ipi_spec_dst.s_addr;
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let address = IpAddr::from(info.ipi6_addr.s6_addr);
                packet.destination = Some((address, info.ipi6_ifindex));
                packet.to_many = address.is_multicast();
            }
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                packet.ttl = u8::try_from(ttl).ok();
            }
            ControlMessageOwned::Ipv4Tos(tos) => packet.class = Some(tos),
            ControlMessageOwned::Ipv6TClass(class) => packet.class = u8::try_from(class).ok(),
            _ => {}
        }
    }
    packet
}

impl Stamps {
    fn of(stamps: &Timestamps) -> Self {
        // All zeros: no stamp.
        let ns = |time: &TimeSpec| {
            let ns = time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs();
            (ns > 0).then_some(ns)
        };
        Self { software_ns: ns(&stamps.system), hardware_ns: ns(&stamps.hw_raw) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn a_packet_is_stamped_on_both_ways() {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !stamped_on_both_ways() {
            assert!(std::time::Instant::now() < deadline, "no packet was stamped when it was received");
        }
    }

    /// Whether the kernel has switched stamping on by now.
    fn stamped_on_both_ways() -> bool {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        enable(receiver.as_fd(), false).unwrap();
        enable(sender.as_fd(), true).unwrap();
        sender.send_to(b"hello", receiver.local_addr().unwrap()).unwrap();
        let (mut bytes, mut control) = ([0; 200], [0; CONTROL]);
        let sent =
            transmitted(sender.as_fd(), &mut bytes, &mut control).unwrap().expect("looped back at once");
        assert_eq!(bytes[..sent.len][sent.len - 5..], *b"hello");
        let came = receive(receiver.as_fd(), &mut bytes, &mut control).unwrap().expect("delivered at once");
        assert_eq!((came.len, came.source), (5, Some(sender.local_addr().unwrap())));
        assert_eq!(came.stamps.hardware_ns, None);
        assert!(receive(receiver.as_fd(), &mut bytes, &mut control).unwrap().is_none());
        assert!(transmitted(sender.as_fd(), &mut bytes, &mut control).unwrap().is_none());
        let left = sent.stamps.software_ns.expect("switched on with the option");
        came.stamps.software_ns.inspect(|came| assert!(left <= *came)).is_some()
    }
}
