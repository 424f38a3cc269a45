//! IP packets of an interface as they pass, in both directions, with the kernel's time stamps: packet(7).
#![forbid(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, SockFilter, Socket, Type};

use super::packet;

/// Bytes of what the kernel holds until it is read: some ten thousand packets.
const BUFFER: usize = 64 << 20;

/// What passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Bytes of the IP packet; more than the buffer has when it was cut.
    pub len: usize,
    /// The interface's index.
    pub interface: u32,
    /// This host sent it.
    pub outgoing: bool,
    /// Hardware address of the sender; zeros where there is none.
    pub mac: [u8; 6],
    /// By the kernel, CLOCK_REALTIME, ns since 1970.
    pub at_ns: u64,
}

/// A socket that sees IP packets from their IP header on.
#[derive(Debug)]
pub struct Tap {
    socket: Socket,
}

impl Tap {
    /// Sees the packets that pass `filter`, a classic BPF program over the IP packet, of the interface with this index, or with 0 of all of them, in the calling thread's
    /// network namespace.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and setsockopt(2); EPERM without CAP_NET_RAW.
    pub fn open(interface: u32, filter: &[SockFilter]) -> io::Result<Self> {
        // Protocol 0: nothing is received before the filter is there.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), None)?;
        socket.attach_filter(filter)?;
        let _ = super::socket::set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER as i32);
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        packet::bind(socket.as_fd(), interface)?;
        Ok(Self { socket })
    }

    /// Has the interface with this index take in what is sent to any group, joined or not, for as long as this is open: NICs filter by their own list.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn take_all_groups(&self, interface: u32) -> io::Result<()> {
        packet::let_all_groups_in(self.socket.as_fd(), interface)
    }

    /// The next packet, put into `buffer`; `None` when there is none within `patience`.
    ///
    /// # Errors
    /// The kernel's own; ENETDOWN once when the interface went down or away.
    pub fn next(&self, buffer: &mut [u8], patience: Duration) -> io::Result<Option<Passed>> {
        let mut poller = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut poller, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut control = [0; 128];
        let mut slices = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let message =
            match recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut slices, Some(&mut control), flags)
            {
                Ok(message) => message,
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        let stamp = message.cmsgs().into_iter().flatten().find_map(stamp).unwrap_or_default();
        let at_ns = u64::try_from(stamp.as_nanos()).unwrap_or(u64::MAX);
        let link = message.address.as_ref().and_then(|address| address.as_link_addr());
        Ok(link.map(|link| Passed {
            len: message.bytes,
            interface: link.ifindex() as u32,
            outgoing: link.pkttype() == libc::PACKET_OUTGOING,
            mac: link.addr().unwrap_or_default(),
            at_ns,
        }))
    }

    /// Waits until the kernel stamps packets as they pass, for up to `patience`; whether that was seen. The kernel begins to do so in a work queue, a moment after
    /// the first socket has asked for it; until then it makes a stamp up when a packet is read, and each reader gets another. A packet over the loopback interface tells: with a stamp from
    /// before it was read, the kernel stamps. Where that interface is down nothing is seen.
    ///
    /// # Errors
    /// Those of socket(2) and setsockopt(2).
    pub fn wait_for_stamps(&self, patience: Duration) -> io::Result<bool> {
        let probe = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        setsockopt(&probe, sockopt::ReceiveTimestampns, &true)?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if probe.send_to(&[0], probe.local_addr()?).is_err() {
                return Ok(false);
            }
            let sent = SystemTime::now();
            std::thread::sleep(Duration::from_millis(1));
            if stamp_of(&probe)?.is_some_and(|stamp| stamp <= sent) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Packets that were lost since the last call because nobody read them in time.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn dropped(&self) -> io::Result<u32> {
        packet::dropped(self.socket.as_fd())
    }
}

/// The time since 1970 that a control message tells.
fn stamp(control: ControlMessageOwned) -> Option<Duration> {
    match control {
        ControlMessageOwned::ScmTimestampns(time) => {
            Some(Duration::new(time.tv_sec().unsigned_abs(), u32::try_from(time.tv_nsec()).unwrap_or(0)))
        }
        _ => None,
    }
}

/// The stamp of the next datagram of a UDP socket; `None` when there is none.
fn stamp_of(socket: &std::net::UdpSocket) -> io::Result<Option<SystemTime>> {
    let (mut byte, mut control) = ([0; 1], [0; 64]);
    let mut slices = [IoSliceMut::new(&mut byte)];
    match recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    ) {
        Ok(message) => {
            Ok(message.cmsgs().into_iter().flatten().find_map(stamp).map(|since| UNIX_EPOCH + since))
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_stamps_after_a_while() {
        // A socket of the kind that is asked for stamps; its packets are of no interest.
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
        assert!(Tap { socket }.wait_for_stamps(Duration::from_secs(60)).unwrap());
    }
}
