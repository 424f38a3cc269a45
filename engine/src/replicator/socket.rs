//! Copies made by packet sockets: `recvmmsg` at the interface that groups arrive on, `sendmmsg` at those of members. Buffers of several segments pass whole (GRO on
//! one side, GSO on the other), and checksums that an interface was to fill in are filled in behind.
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};

use super::counters::{Board, Map, PortBoard, Shared, UserPlane, View, Workers, addresses};
use super::filter;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::queue::spec::Interface;
use crate::sys::packet::{Batch, PacketSocket, Segmented};

/// Frames taken with one system call.
const BATCH: usize = 64;
/// The longest buffer that the kernel hands over, with what stands before it.
const LONGEST: usize = 65_536 + 256;
/// Bytes that may wait to be read.
const RECEIVE_BUFFER: i32 = 32 << 20;
/// How often the worker looks whether it is to end while nothing comes.
const PATIENCE: Duration = Duration::from_millis(50);

/// A worker for each interface of `from`.
pub(super) fn start(from: &[Interface], to: &[Interface]) -> Result<(UserPlane, Workers)> {
    let shared = Arc::new(Shared::default());
    let board = Board::new(to.len());
    let mut work = Vec::new();
    for interface in from {
        let cannot = |name: &str, e: io::Error| {
            Error::environment(format!("{name}: cannot open a packet socket"))
                .because(e)
                .fix("run as root, or with CAP_NET_RAW")
        };
        let rx = PacketSocket::listen(interface.index, &filter::GROUPS, true)
            .map_err(|e| cannot(&interface.name, e))?;
        // The system's limit will do where more is not granted.
        let _ = rx.set_receive_buffer(RECEIVE_BUFFER);
        let tx = to
            .iter()
            .map(|port| {
                let socket = PacketSocket::open(port.index).map_err(|e| cannot(&port.name, e))?;
                socket.set_segmented().map_err(|e| cannot(&port.name, e))?;
                Ok(socket)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut worker = Worker {
            name: interface.name.clone(),
            rx,
            pending: tx.iter().map(|_| Vec::with_capacity(BATCH)).collect(),
            tx,
            batch: Batch::new(BATCH, LONGEST),
            view: View::new(&shared),
            board: Arc::clone(&board),
        };
        work.push(move |stop: &Stop| worker.run(stop));
    }
    let workers = Workers::start(work, Arc::clone(&shared), board)?;
    Ok((UserPlane(shared), workers))
}

struct Worker {
    name: String,
    rx: PacketSocket,
    tx: Vec<PacketSocket>,
    /// By port: the frames of the batch that go there.
    pending: Vec<Vec<u16>>,
    batch: Batch,
    view: View,
    board: Arc<Board>,
}

impl Worker {
    fn run(&mut self, stop: &Stop) -> Result<()> {
        while !stop.is_requested() {
            let received = match self.batch.receive(&self.rx) {
                Ok(received) => received,
                // It says so once, and is usable again when the interface is up.
                Err(e) if e.raw_os_error() == Some(libc::ENETDOWN) => 0,
                Err(e) => return Err(Error::failed(format!("{}: receiving", self.name)).because(e)),
            };
            if received == 0 {
                self.board.lost.fetch_add(self.rx.dropped().unwrap_or(0), Relaxed);
                let mut fds = [PollFd::new(self.rx.as_fd(), PollFlags::POLLIN)];
                match ppoll(&mut fds, Some(PATIENCE.into()), None) {
                    Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
                    Err(e) => return Err(Error::failed(format!("{}: waiting", self.name)).because(e)),
                }
            }
            sort(&self.batch, received, self.view.now(), &mut self.pending, &self.board);
            for (port, numbers) in self.pending.iter_mut().enumerate().filter(|(_, n)| !n.is_empty()) {
                send(&mut self.batch, &self.tx[port], numbers, &self.board.ports[port]);
                numbers.clear();
            }
        }
        self.board.lost.fetch_add(self.rx.dropped().unwrap_or(0), Relaxed);
        Ok(())
    }
}

/// Notes for each port which frames of the batch go there.
fn sort(batch: &Batch, received: usize, map: &Map, pending: &mut [Vec<u16>], board: &Board) {
    // A batch is less than a u16 holds.
    for number in 0..received as u16 {
        let parts = Segmented::split(batch.frame(usize::from(number)));
        let Some((segments, frame, (source, group))) =
            parts.and_then(|(segments, frame)| Some((segments, frame, addresses(frame)?)))
        else {
            board.malformed.fetch_add(1, Relaxed);
            continue;
        };
        let (source, group): (IpAddr, IpAddr) = (source, group);
        let Some(route) = map.route(source, group) else {
            board.no_member.fetch_add(segments.count(frame.len()), Relaxed);
            continue;
        };
        route.tally.add(segments.count(frame.len()), frame.len() as u64);
        for &port in &route.ports {
            pending[port].push(number);
        }
    }
}

/// Sends the frames with these numbers. One that is refused is counted, and the next is tried.
fn send(batch: &mut Batch, socket: &PacketSocket, numbers: &[u16], board: &PortBoard) {
    let mut left = numbers;
    while !left.is_empty() {
        let datagrams = |batch: &Batch, numbers: &[u16]| -> u64 {
            let count = |number: &u16| {
                Segmented::split(batch.frame(usize::from(*number)))
                    .map_or(1, |(segments, frame)| segments.count(frame.len()))
            };
            numbers.iter().map(count).sum()
        };
        match batch.send(socket, left) {
            Ok(sent) => {
                let sent = sent.clamp(1, left.len());
                board.taken.fetch_add(datagrams(batch, &left[..sent]), Relaxed);
                left = &left[sent..];
            }
            Err(e) => {
                board.errno.store(u64::from(e.raw_os_error().unwrap_or(0).unsigned_abs()), Relaxed);
                board.refused.fetch_add(datagrams(batch, &left[..1]), Relaxed);
                left = &left[1..];
            }
        }
    }
}
