//! The sockets of a test: listeners, the control connection, and streams.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::config::{Family, KeepAlive};
use super::event::Parameters;
use super::failure::{Code, Failure};
use crate::sys::socket as options;

/// Bytes of receive buffer that all streams of a test together ask for.
const RECEIVE_BUFFERS: u32 = 32 << 20;

/// Bytes of receive buffer that a stream asks for, at least and at most.
const RECEIVE_BUFFER: (u32, u32) = (256 << 10, 16 << 20);

/// Bytes of packets that a sending socket may have on their way through queueing discipline and NIC.
const SEND_BUFFER: u32 = 4 << 20;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// A dead peer is noticed after some 40 s of silence: what is sent to it has an end.
const KEEP_ALIVE: KeepAlive =
    KeepAlive { idle: Duration::from_secs(10), interval: Duration::from_secs(5), count: 6 };

/// The addresses to listen on.
pub(super) fn listening(bind: Option<IpAddr>, family: Family, port: u16) -> Vec<SocketAddr> {
    let any4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let any6 = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    match (bind, family) {
        (Some(address), _) => vec![SocketAddr::new(address, port)],
        (None, Family::V4) => vec![any4],
        (None, Family::V6) => vec![any6],
        (None, Family::Any) => vec![any6, any4],
    }
}

/// A TCP listener that does not block.
pub(super) fn listener(address: SocketAddr, device: Option<&str>) -> io::Result<Socket> {
    let socket = open(address, Type::STREAM, Protocol::TCP, device)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A UDP socket that hellos come to, or one of a stream; it does not block.
pub(super) fn datagrams(address: SocketAddr, device: Option<&str>) -> io::Result<Socket> {
    let socket = open(address, Type::DGRAM, Protocol::UDP, device)?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol, device: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.cloexec(), Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A stream's socket has the port of the next hello's.
    socket.set_reuse_address(true)?;
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    Ok(socket)
}

/// The server's addresses, of the family that is wanted.
pub(super) fn resolve(host: &str, port: u16, family: Family) -> Result<Vec<SocketAddr>, Failure> {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|error| Failure::new(Code::Connect).because(&error))?
        .filter(|address| match family {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        })
        .collect::<Vec<_>>();
    if found.is_empty() {
        let why = format!("{host} has no address of that IP version");
        return Err(Failure::new(Code::Connect).detail(why));
    }
    Ok(found)
}

/// A control connection to `address`.
pub(super) fn dial(
    address: SocketAddr,
    bind: Option<IpAddr>,
    device: Option<&str>,
    timeout: Option<Duration>,
) -> Result<TcpStream, Failure> {
    let failed = |error: io::Error| Failure::new(Code::Connect).because(&error);
    let socket = open(address, Type::STREAM, Protocol::TCP, device).map_err(|error| match device {
        Some(_) => Failure::new(Code::BindDevice).because(&error),
        None => failed(error),
    })?;
    if let Some(bind) = bind {
        socket.bind(&SocketAddr::new(bind, 0).into()).map_err(failed)?;
    }
    let address = SockAddr::from(address);
    match timeout {
        Some(timeout) => socket.connect_timeout(&address, timeout),
        None => socket.connect(&address),
    }
    .map_err(failed)?;
    Ok(socket.into())
}

/// What a control connection has at either end.
pub(super) fn tune_control(stream: &TcpStream, keep_alive: Option<KeepAlive>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let KeepAlive { idle, interval, count } = keep_alive.unwrap_or(KEEP_ALIVE);
    let mut wanted = TcpKeepalive::new();
    if !idle.is_zero() {
        wanted = wanted.with_time(idle);
    }
    if !interval.is_zero() {
        wanted = wanted.with_interval(interval);
    }
    if count > 0 {
        wanted = wanted.with_retries(count);
    }
    socket2::SockRef::from(stream).set_tcp_keepalive(&wanted)
}

/// The segment size of a control connection in bytes; 0 when the kernel does not tell.
pub(super) fn segment_size(stream: &TcpStream) -> u32 {
    let size = options::get_int(stream.as_fd(), libc::IPPROTO_TCP, libc::TCP_MAXSEG);
    size.ok().and_then(|size| u32::try_from(size).ok()).unwrap_or(0)
}

/// Prepares a stream's socket, at either end, as the parameters say.
pub(super) fn prepare(socket: &Socket, parameters: &Parameters, sends: bool) -> Result<(), Failure> {
    let buffer = |error: io::Error| Failure::new(Code::SetBuffer).because(&error);
    if parameters.window > 0 {
        // Within the limits of the system, as for everybody: net.core.rmem_max and wmem_max.
        let bytes = parameters.window as usize;
        socket.set_recv_buffer_size(bytes).map_err(buffer)?;
        socket.set_send_buffer_size(bytes).map_err(buffer)?;
    } else if sends {
        enlarge(socket, libc::SO_SNDBUFFORCE, SEND_BUFFER, Socket::set_send_buffer_size).map_err(buffer)?;
    } else {
        let share = RECEIVE_BUFFERS / u32::from(parameters.parallel.max(1));
        let bytes = share.clamp(RECEIVE_BUFFER.0, RECEIVE_BUFFER.1);
        enlarge(socket, libc::SO_RCVBUFFORCE, bytes, Socket::set_recv_buffer_size).map_err(buffer)?;
    }
    let ipv6 = ends(socket).is_ok_and(|(local, _)| local.is_ipv6()) || is_ipv6(socket);
    let tos = u32::from(parameters.tos);
    if tos > 0 {
        match ipv6 {
            true => socket
                .set_tclass_v6(tos)
                .map_err(|error| Failure::new(Code::SetTrafficClass).because(&error))?,
            false => socket.set_tos_v4(tos).map_err(|error| Failure::new(Code::SetTos).because(&error))?,
        }
    }
    if parameters.dont_fragment && !ipv6 {
        options::set_int(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
            .map_err(|error| Failure::new(Code::DontFragment).because(&error))?;
        let mtu = options::get_int(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MTU);
        if sends && mtu.is_ok_and(|mtu| i32::from(parameters.length) + 28 > mtu) {
            let long = io::Error::from_raw_os_error(libc::EMSGSIZE);
            return Err(Failure::new(Code::StreamWrite).because(&long));
        }
    }
    Ok(())
}

/// Asks for a buffer of `bytes`, past the system's limits where this process may.
fn enlarge(
    socket: &Socket,
    force: i32,
    bytes: u32,
    ask: impl Fn(&Socket, usize) -> io::Result<()>,
) -> io::Result<()> {
    match options::set_int(socket.as_fd(), libc::SOL_SOCKET, force, bytes.cast_signed()) {
        Ok(()) => Ok(()),
        Err(_) => ask(socket, bytes as usize),
    }
}

fn is_ipv6(socket: &Socket) -> bool {
    socket.local_addr().is_ok_and(|address| address.is_ipv6())
}

/// Both ends of a connected socket.
pub(super) fn ends(socket: &Socket) -> Result<(SocketAddr, SocketAddr), Failure> {
    let both = || Some((socket.local_addr().ok()?.as_socket()?, socket.peer_addr().ok()?.as_socket()?));
    both().ok_or_else(|| Failure::new(Code::InitStream).detail("a stream's socket is not connected"))
}

/// Send and receive buffer of a socket in bytes, as the kernel has them.
pub(super) fn buffers(socket: &Socket) -> (u32, u32) {
    let bytes = |size: io::Result<usize>| size.ok().and_then(|size| u32::try_from(size).ok()).unwrap_or(0);
    (bytes(socket.send_buffer_size()), bytes(socket.recv_buffer_size()))
}
