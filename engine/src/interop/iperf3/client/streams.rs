//! Connecting a client's streams: a hello and its answer for each, one after the other.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::{SockAddr, Socket};

use crate::interop::iperf3::Control;
use crate::interop::iperf3::config::ClientConfig;
use crate::interop::iperf3::event::Parameters;
use crate::interop::iperf3::failure::{Code, Failure};
use crate::interop::iperf3::header::{HELLO, is_reply};
use crate::interop::iperf3::link::Link;
use crate::interop::iperf3::sockets;
use crate::queue::socket::next_datagram;

/// How long an answer is waited for, as in iperf3.
const ANSWER: Duration = Duration::from_secs(30);

/// After this a hello, or its answer, is held for lost; iperf3 sends it once.
const AGAIN: Duration = Duration::from_secs(1);

/// Longest wait: a signal is noticed within.
const PATIENCE: Duration = Duration::from_millis(50);

/// The streams' sockets, connected and answered, in the order in which they are opened.
pub(super) fn connect(
    config: &ClientConfig,
    control: &Control,
    link: &Link,
    parameters: &Parameters,
) -> Result<Vec<Socket>, Failure> {
    (0..parameters.streams())
        .map(|place| {
            let socket = open(config, link, place)?;
            sockets::prepare(&socket, parameters, !parameters.server_sends(place))?;
            greet(&socket, link, control)?;
            Ok(socket)
        })
        .collect()
}

fn open(config: &ClientConfig, link: &Link, place: usize) -> Result<Socket, Failure> {
    let failed = |error: std::io::Error| Failure::new(Code::StreamConnect).because(&error);
    let any = match link.remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // In the range of ports: checked with the configuration.
    let port = config.client_port.map_or(0, |port| port.saturating_add(place as u16));
    let local = SocketAddr::new(config.bind.unwrap_or(any), port);
    let socket = sockets::datagrams(local, config.device.as_deref()).map_err(failed)?;
    socket.connect(&SockAddr::from(link.remote)).map_err(failed)?;
    Ok(socket)
}

fn greet(socket: &Socket, link: &Link, control: &Control) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut said: Option<Instant> = None;
    loop {
        if control.is_requested() {
            let mut failure = Failure::new(Code::ClientTerminated);
            failure.interrupted = true;
            return Err(failure);
        }
        if said.is_none_or(|said| said.elapsed() >= AGAIN) {
            socket.send(&HELLO).map_err(|error| Failure::new(Code::StreamWrite).because(&error))?;
            said = Some(Instant::now());
        }
        let mut fds =
            [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(link.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut fds, Some(TimeSpec::from_duration(PATIENCE)), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                return Err(Failure::new(Code::StreamConnect).because(&std::io::Error::from(error)));
            }
        }
        // Data of another stream may overtake the answer; it is of another socket.
        while let Some(datagram) = next_datagram(socket) {
            if is_reply(&datagram) {
                return Ok(());
            }
        }
        // The server has something to say before all streams stand: that it cannot be.
        if fds[1].any() == Some(true) {
            return Err(Failure::new(Code::StreamConnect).detail("the server gave up"));
        }
        if begun.elapsed() >= ANSWER {
            let late = std::io::Error::from_raw_os_error(libc::EAGAIN);
            return Err(Failure::new(Code::StreamRead)
                .because(&late)
                .detail("no answer to the hello of a stream: does UDP pass between the hosts?"));
        }
    }
}
