//! When packets left, as the kernel says: it stamps a packet as it gives it to the driver (SOF_TIMESTAMPING_TX_SOFTWARE,
//! Documentation/networking/timestamping.rst) and returns it, with the stamp, by the error queue of its socket.
//!
//! The whole packet comes back, and its probe header says which it is. Numbering packets in the kernel (SOF_TIMESTAMPING_OPT_ID) would copy less, but
//! older kernels also number those that they then refuse.
#![forbid(unsafe_code)]

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use socket2::Socket;

use crate::clock;
use crate::error::{Error, Result};
use crate::packet::follow_up::Departed;
use crate::packet::probe::{Kind, Probe};
use crate::sys;

/// Bytes of error queue: for some hundred packets with all that the kernel needs for each.
const ERROR_QUEUE: usize = 4 << 20;

/// Bytes read of each packet: headers of the link layer, of IP with options, of UDP, and the probe's.
const READ: usize = 192;

/// Where a payload may begin: after Ethernet with up to two VLAN tags or nothing, IPv4 or IPv6, and UDP.
const PAYLOADS: [usize; 8] = [42, 62, 46, 66, 50, 70, 28, 48];

/// The stamps of one queue's packets.
#[derive(Debug)]
pub(super) struct Stamps {
    /// Packets of each flow whose stamp has not come.
    awaited: Vec<usize>,
    control: Vec<u8>,
}

impl Stamps {
    /// Has the kernel stamp what leaves by `sockets`, one for each flow.
    pub(super) fn of(sockets: &[Socket]) -> Result<Self> {
        let flags = libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
        for socket in sockets {
            let refused =
                |e| Error::environment("SO_TIMESTAMPING: the kernel refuses to stamp what leaves").because(e);
            sys::socket::set_int(
                socket.as_fd(),
                libc::SOL_SOCKET,
                libc::SO_TIMESTAMPING,
                flags.cast_signed(),
            )
            .map_err(refused)?;
            socket.set_recv_buffer_size(ERROR_QUEUE).map_err(refused)?;
        }
        Ok(Self { awaited: vec![0; sockets.len()], control: cmsg_space!([libc::timespec; 3], [u8; 64]) })
    }

    /// The kernel took `packets` of `flow`.
    pub(super) fn taken(&mut self, flow: u16, packets: usize) {
        self.awaited[usize::from(flow)] += packets;
    }

    /// Packets whose stamp has not come.
    pub(super) fn awaited(&self) -> usize {
        self.awaited.iter().sum()
    }

    /// Appends what has come.
    pub(super) fn collect(&mut self, sockets: &[Socket], into: &mut Vec<(u16, Departed)>) {
        let offset_ns = clock::tai_minus_utc_ns();
        for (flow, socket) in (0u16..).zip(sockets) {
            let awaited = &mut self.awaited[usize::from(flow)];
            while *awaited > 0 {
                let mut bytes = [0; READ];
                let Some((len, utc_ns)) = one(socket, &mut bytes, &mut self.control) else { break };
                // Messages are stamped, too.
                let found = PAYLOADS.iter().find_map(|&at| Probe::parse(bytes[..len].get(at..)?).ok());
                if let Some(Probe { kind: Kind::Data, sequence, .. }) = found {
                    *awaited -= 1;
                    if let Some(utc_ns) = utc_ns {
                        into.push((
                            flow,
                            Departed { sequence, tai_ns: utc_ns.saturating_add_signed(offset_ns) },
                        ));
                    }
                }
            }
        }
    }
}

/// The next packet of the error queue: how many of its bytes were read, and its stamp on CLOCK_REALTIME in ns, if it has one.
#[expect(clippy::ptr_arg, reason = "nix takes a vector")]
fn one(socket: &Socket, bytes: &mut [u8], control: &mut Vec<u8>) -> Option<(usize, Option<u64>)> {
    let mut vectors = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut vectors, Some(control), flags).ok()?;
    let stamp = message.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampsns(stamps) => {
            let seconds = u64::try_from(stamps.system.tv_sec()).ok()?;
            let nanos = u64::try_from(stamps.system.tv_nsec()).ok()?;
            Some(seconds * 1_000_000_000 + nanos).filter(|&ns| ns > 0)
        }
        _ => None,
    });
    Some((message.bytes, stamp))
}
