//! What transmit and receive workers have in common: a thread on its own CPU that opens its queue there, says how
//! that went, and begins when everybody is ready.
#![forbid(unsafe_code)]

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{Builder, JoinHandle};

use crate::error::{Error, Result};
use crate::host::cpu;
use crate::host::sched::Policy;
use crate::queue::socket::offload::Offload;
use crate::queue::{QueueError, afxdp};

/// How a queue was granted, in the report's words.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    /// `zero-copy`, `copy`, `plain`, `gso`, `gro`, `live`.
    pub mode: &'static str,
    /// What a reader should know about it.
    pub notes: Vec<String>,
    /// How many datagrams sockets hand over in one buffer; it may be refused later.
    pub offload: Option<Offload>,
    /// The NUMA node that frames lie on, where the kernel has nodes.
    pub memory_node: Option<u32>,
}

impl Granted {
    /// Nothing yet.
    pub(crate) fn none() -> Self {
        Self { mode: "plain", notes: Vec::new(), offload: None, memory_node: None }
    }

    /// UDP sockets that send.
    pub(crate) fn sending(offload: Offload) -> Self {
        Self {
            mode: if offload.segments() > 1 { "gso" } else { "plain" },
            offload: Some(offload),
            ..Self::none()
        }
    }

    /// UDP sockets that receive.
    pub(crate) fn receiving(offload: Offload) -> Self {
        Self {
            mode: if offload.segments() > 1 { "gro" } else { "plain" },
            offload: Some(offload),
            ..Self::none()
        }
    }

    /// AF_XDP.
    pub(crate) fn of(granted: &afxdp::Granted) -> Self {
        let notes =
            granted.refused.iter().map(|why| format!("zero-copy was refused ({why}); the kernel copies"));
        Self {
            mode: if granted.zero_copy { "zero-copy" } else { "copy" },
            notes: notes.collect(),
            offload: None,
            memory_node: granted.memory_node,
        }
    }
}

/// A worker that has opened its queue and waits for the start.
#[derive(Debug)]
pub(crate) struct Worker<T> {
    thread: JoinHandle<Option<(Box<T>, Option<QueueError>)>>,
    go: Option<Sender<u64>>,
}

/// Starts a thread named `name` on a CPU and with a policy, opens a queue there with `open`, and runs `work` on it once
/// [`Worker::go`] is called, with the start that it was given. `open` gives the queue and whatever the starter wants to know of it.
///
/// # Errors
/// When the thread cannot be started or pinned, or is refused the policy, or as `open` fails.
pub(crate) fn start<Q, I, T>(
    name: String,
    (cpu, policy): (usize, Policy),
    open: impl FnOnce() -> Result<(Q, I)> + Send + 'static,
    work: impl FnOnce(Q, u64) -> (Box<T>, Option<QueueError>) + Send + 'static,
) -> Result<(Worker<T>, I)>
where
    Q: 'static,
    I: Send + 'static,
    T: Send + 'static,
{
    let (ready, readiness) = mpsc::channel::<Result<I>>();
    let (go, may_go): (Sender<u64>, Receiver<u64>) = mpsc::channel();
    let thread = Builder::new()
        .name(name)
        .spawn(move || {
            let opened = cpu::pin(cpu).and_then(|()| policy.apply()).and_then(|()| open());
            let (queue, info) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return None;
                }
            };
            let _ = ready.send(Ok(info));
            // The starter gave up when the channel is closed instead.
            let start_ns = may_go.recv().ok()?;
            Some(work(queue, start_ns))
        })
        .map_err(|e| Error::failed("cannot start a worker thread").because(e))?;
    let info = readiness
        .recv()
        .map_err(|_| Error::failed("a worker ended while it opened its queue (a defect)"))??;
    Ok((Worker { thread, go: Some(go) }, info))
}

impl<T> Worker<T> {
    /// Lets the worker begin; `start_ns` (CLOCK_TAI) is the start that all workers share.
    pub(crate) fn go(&mut self, start_ns: u64) {
        if let Some(go) = self.go.take() {
            let _ = go.send(start_ns);
        }
    }

    /// Whether it has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the worker's last tally, and the reason when its queue broke.
    ///
    /// # Errors
    /// When it panicked or never began.
    pub(crate) fn join(mut self) -> Result<(Box<T>, Option<QueueError>)> {
        self.go = None;
        match self.thread.join() {
            Ok(Some(end)) => Ok(end),
            Ok(None) => Err(Error::failed("a worker never began (a defect)")),
            Err(_) => {
                Err(Error::failed("a worker panicked (a defect); what the others measured is reported"))
            }
        }
    }
}
