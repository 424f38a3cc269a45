//! Copies made by AF_XDP sockets: the XDP program hands over the frames of those groups that have members, a worker for each RX queue writes them into the ring of
//! each member's port.
#![forbid(unsafe_code)]

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::counters::{Board, Shared, UserPlane, View, Workers, addresses};
use super::plane::Plane;
use super::xdp::{Handle, Program};
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::multicast::snoop::Entry;
use crate::queue::afxdp::raw::{RawRx, RawTx};
use crate::queue::spec::Interface;
use crate::sys::ethtool::Ethtool;

/// How often a worker looks whether it is to end while nothing comes.
const PATIENCE: Duration = Duration::from_millis(50);
/// Batches that are sent together when they come without a pause.
const TOGETHER: usize = 4;

/// The program selects, the workers copy.
pub(super) struct Both(Handle, UserPlane);

impl Plane for Both {
    fn forward(&mut self, group: std::net::IpAddr, entries: &[Entry]) -> Result<()> {
        // Workers know of a group before its frames come.
        self.1.forward(group, entries)?;
        self.0.forward(group, entries)
    }
}

/// A worker for each queue of `from`, which is one interface: a queue's number is all that the program tells sockets apart by.
pub(super) fn start(
    from: &[Interface],
    to: &[Interface],
    most_groups: usize,
) -> Result<(Both, Handle, Workers)> {
    let [from] = from else {
        return Err(Error::usage("--by afxdp takes groups from one interface")
            .fix("name one in --from, or use --by xdp or --by socket"));
    };
    let queues = Ethtool::open(&from.name).and_then(|e| e.channels()).map_or(1, |c| c.rx.max(1));
    if queues > 1 {
        return Err(Error::environment(format!(
            "{}: it has {queues} queues, and --by afxdp serves one",
            from.name
        ))
        .fix(format!("ethtool -L {} combined 1, or --by xdp", from.name)));
    }
    let shared = Arc::new(Shared::default());
    let board = Board::new(to.len());
    let mut program = Program::load(to, most_groups, false)?;
    let rx = RawRx::open(from, 0)?;
    program.set_socket(0, &rx.fd().as_raw_fd())?;
    let tx = to.iter().map(|port| RawTx::open(port, 0)).collect::<Result<Vec<_>>>()?;
    program.attach(std::slice::from_ref(from))?;
    let mut worker = Worker {
        name: from.name.clone(),
        rx,
        tx,
        put: vec![0; to.len()],
        view: View::new(&shared),
        board: Arc::clone(&board),
    };
    let handle = Handle::new(program);
    let work = vec![move |stop: &Stop| worker.run(stop)];
    let workers = Workers::start(work, Arc::clone(&shared), board)?;
    Ok((Both(handle.clone(), UserPlane(shared)), handle, workers))
}

struct Worker {
    name: String,
    rx: RawRx,
    tx: Vec<RawTx>,
    /// By port: frames put into its ring since it was flushed.
    put: Vec<u64>,
    view: View,
    board: Arc<Board>,
}

impl Worker {
    fn run(&mut self, stop: &Stop) -> Result<()> {
        let failed = |name: &str, e| Error::failed(format!("{name}: AF_XDP")).because(e);
        while !stop.is_requested() {
            let mut received = 0;
            for _ in 0..TOGETHER {
                let batch = self.batch().map_err(|e| failed(&self.name, e))?;
                received += batch;
                if batch == 0 {
                    break;
                }
            }
            for (port, put) in self.put.iter_mut().enumerate().filter(|(_, put)| **put > 0) {
                let board = &self.board.ports[port];
                match self.tx[port].flush() {
                    Ok(dropped) => {
                        board.taken.fetch_add(put.saturating_sub(dropped), Relaxed);
                        board.refused.fetch_add(dropped, Relaxed);
                    }
                    Err(e) => {
                        board.errno.store(u64::from(e.raw_os_error().unwrap_or(0).unsigned_abs()), Relaxed);
                        board.refused.fetch_add(*put, Relaxed);
                    }
                }
                *put = 0;
            }
            if received == 0 {
                self.note_losses();
                self.rx.wait(PATIENCE).map_err(|e| failed(&self.name, e))?;
            }
        }
        self.note_losses();
        Ok(())
    }

    fn batch(&mut self) -> std::io::Result<usize> {
        let map = self.view.now();
        let (tx, put, board) = (&mut self.tx, &mut self.put, &self.board);
        self.rx.poll(|frame| {
            let Some((source, group)) = addresses(frame) else {
                board.malformed.fetch_add(1, Relaxed);
                return;
            };
            let Some(route) = map.route(source, group) else {
                board.no_member.fetch_add(1, Relaxed);
                return;
            };
            route.tally.add(1, frame.len() as u64);
            for &port in &route.ports {
                if tx[port].put(frame) {
                    put[port] += 1;
                } else {
                    board.ports[port].refused.fetch_add(1, Relaxed);
                }
            }
        })
    }

    /// What the kernel dropped at the queue.
    fn note_losses(&mut self) {
        let mut losses = Vec::new();
        self.rx.losses(&mut losses);
        self.board.lost.store(losses.iter().map(|loss| loss.packets).sum(), Relaxed);
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("name", &self.name).finish_non_exhaustive()
    }
}
