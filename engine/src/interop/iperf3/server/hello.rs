//! The UDP socket that hellos come to, and how it becomes a stream's.
//!
//! A stream is a connected socket with the port of the others. The kernel gives a datagram to a connected socket that it fits, and else to one that is not connected. Between
//! binding and connecting, a new socket would take other clients' hellos away; so the socket that a hello came to is connected itself, after a new one has taken its
//! place, and what others had sent to it by then is read and goes the same way.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{SockAddr, Socket};

use crate::interop::iperf3::failure::{Code, Failure};
use crate::interop::iperf3::sockets;

/// Datagrams looked at in one round, so that a flood does not keep the server from anything else.
const AT_ONCE: usize = 128;

/// More than fit into a socket's buffer: none of them may be taken for a stream's data.
const ALL: usize = 16_384;

/// A socket that hellos come to.
#[derive(Debug)]
pub(super) struct Hellos {
    address: SocketAddr,
    device: Option<String>,
    socket: Socket,
}

impl Hellos {
    /// At `address`, whose port is not 0.
    pub(super) fn open(address: SocketAddr, device: Option<&str>) -> io::Result<Self> {
        let socket = sockets::datagrams(address, device)?;
        Ok(Self { address, device: device.map(str::to_owned), socket })
    }

    /// Takes what has come. `who` says which test awaits a hello from an address, if any does; each such test gets one socket at a time, connected to that address.
    /// Everything else is ignored, and nothing is answered.
    pub(super) fn take(
        &mut self,
        mut who: impl FnMut(SocketAddr) -> Option<usize>,
    ) -> Vec<(usize, Result<Socket, Failure>)> {
        let mut heard = VecDeque::new();
        drain(&self.socket, AT_ONCE, &mut heard);
        let mut streams: Vec<(usize, Result<Socket, Failure>)> = Vec::new();
        let mut known: Vec<SocketAddr> = Vec::new();
        while let Some(from) = heard.pop_front() {
            // Streams are opened one after the other: a second hello of a test in one round is a repetition.
            let Some(test) = who(from).filter(|test| streams.iter().all(|(other, _)| other != test)) else {
                continue;
            };
            if known.contains(&from) {
                continue;
            }
            known.push(from);
            let stream = self.connect(from, &mut heard);
            streams.push((test, stream));
        }
        streams
    }

    /// Connects the socket to `from`, with a new one in its place, and adds to `heard` what others had sent to it.
    fn connect(&mut self, from: SocketAddr, heard: &mut VecDeque<SocketAddr>) -> Result<Socket, Failure> {
        let next = sockets::datagrams(self.address, self.device.as_deref())
            .map_err(|error| Failure::new(Code::StreamListen).because(&error))?;
        let socket = std::mem::replace(&mut self.socket, next);
        socket
            .connect(&SockAddr::from(from))
            .map_err(|error| Failure::new(Code::StreamAccept).because(&error))?;
        drain(&socket, ALL, heard);
        Ok(socket)
    }
}

impl AsFd for Hellos {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Who has sent something to `socket`, of at most so many datagrams.
fn drain(socket: &Socket, most: usize, heard: &mut VecDeque<SocketAddr>) {
    let mut datagram = [MaybeUninit::uninit(); 4];
    for _ in 0..most {
        match socket.recv_from(&mut datagram) {
            Ok((_, from)) => heard.extend(from.as_socket()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nothing more, or what the network says of a reply.
            Err(_) => return,
        }
    }
}
