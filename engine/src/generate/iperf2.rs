//! A sender of iperf 2's datagrams: what they have to be, and the end of its streams.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::config::SendConfig;
use super::schedule::Schedule;
use crate::backend::Backend;
use crate::clock;
use crate::error::{Error, Result};
use crate::interop::iperf2::client::{Amount, Answer, ClientHeader, LEN, Test};
use crate::profile::size::Sizes;
use crate::queue::socket::next_datagram;
use crate::queue::{Flow, QueueError, Transmit};
use crate::target::Scheme;

/// How often the end of a stream is sent while its server does not answer.
const TRIES: u32 = 10;

/// How long an answer to each is waited for.
const PATIENCE_NS: u64 = 250_000_000;

/// Between two looks for answers.
const LOOK: Duration = Duration::from_millis(1);

/// What one worker needs to know of a test.
#[derive(Debug, Clone)]
pub(crate) struct Iperf2 {
    /// The headers of its datagrams.
    pub header: ClientHeader,
    /// Whether servers answer: those of groups do not.
    pub answered: bool,
    /// Where answers come to, flow by flow, where the queue has no sockets that they could come to.
    pub sockets_for: Vec<(SocketAddr, SocketAddr)>,
}

/// Whether the packets can be iperf's.
///
/// # Errors
/// `Usage`, saying what does not fit.
pub(super) fn check(config: &SendConfig, backend: Backend, sizes: &Sizes) -> Result<()> {
    let refuse = |what: String, fix: &str| Err(Error::usage(format!("--format iperf2: {what}")).fix(fix));
    if !config.iperf2 {
        return Ok(());
    }
    if backend == Backend::Xdp {
        let what = "the kernel's generator makes probe headers only".to_owned();
        return refuse(what, "use --backend afxdp, uring or mmsg");
    }
    if config.target.scheme == Scheme::Rtp || config.rtp.is_some() {
        return refuse("iperf's datagrams are no RTP".to_owned(), "send to udp://");
    }
    if config.tuning.kernel_stamps {
        let what = "the kernel's stamps follow in messages of wirerate's own".to_owned();
        return refuse(what, "leave --timestamps kernel out");
    }
    if usize::from(sizes.min()) < LEN {
        let what = format!("a payload of {} bytes is too small for its headers of {LEN}", sizes.min());
        return refuse(what, "use --length 76 or more");
    }
    Ok(())
}

/// The test that `config` asks for, as each of `flows`, with `pps` packets a second together, is told; `None` when the packets are not iperf's.
pub(super) fn test(config: &SendConfig, sizes: &Sizes, pps: Option<f64>, flows: usize) -> Option<Iperf2> {
    if !config.iperf2 {
        return None;
    }
    let bytes = config.bytes.or_else(|| Some((config.count? as f64 * sizes.mean()) as u64));
    let amount = match (bytes, config.duration) {
        (Some(bytes), _) => Amount::Bytes(bytes / flows.max(1) as u64),
        (None, time) => Amount::Time(time.map_or(0, |time| (time.as_secs_f64() * 100.0) as u32)),
    };
    let test = Test {
        port: config.target.destination.port(),
        length: sizes.max(),
        amount,
        rate_bps: pps.map_or(0, |pps| (pps * sizes.mean() * 8.0 / flows.max(1) as f64) as u64),
        tos: config.dscp << 2,
    };
    let answered = !config.target.is_group();
    let header = ClientHeader::new(&test, clock::tai_minus_utc_ns());
    Some(Iperf2 { header, answered, sockets_for: Vec::new() })
}

impl Iperf2 {
    /// The same for the worker that sends `flows` over `backend`.
    pub(super) fn of_worker(&self, backend: Backend, flows: &[Flow]) -> Self {
        let sockets = self.answered && backend.is_below_sockets();
        let sockets_for = flows.iter().filter(|_| sockets).map(|flow| (flow.source, flow.destination));
        Self { sockets_for: sockets_for.collect(), ..self.clone() }
    }
}

/// What was heard of the ends of a worker's streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    /// Messages sent.
    pub messages: u64,
    /// What servers said, by stream number.
    pub answers: Vec<(u16, Answer)>,
    /// Streams whose server should have answered, and did not.
    pub unanswered: u64,
}

/// Says the end of every stream: to a group once, otherwise until its server answers.
///
/// # Errors
/// When the queue is broken.
pub(super) fn say_end<T: Transmit>(
    queue: &mut T,
    schedule: &Schedule,
    iperf2: &Iperf2,
    ends: &mut Ends,
) -> std::result::Result<(), QueueError> {
    let mut open: Vec<(u16, u16, u64)> = schedule.issued().filter(|(_, _, issued)| *issued > 0).collect();
    let sockets: Vec<Option<Socket>> =
        iperf2.sockets_for.iter().map(|&(from, to)| socket(from, to)).collect();
    for repetition in 0..if iperf2.answered { TRIES } else { 1 } {
        for &(flow, _, issued) in &open {
            queue.send_message(flow, &iperf2.header.end(issued, repetition, clock::tai_ns()))?;
            ends.messages += 1;
        }
        let until_ns = clock::tai_ns() + PATIENCE_NS;
        while iperf2.answered && !open.is_empty() && clock::tai_ns() < until_ns {
            open.retain(|&(flow, stream, _)| {
                let answer = match sockets.get(usize::from(flow)) {
                    Some(socket) => socket.as_ref().and_then(next_datagram),
                    None => queue.answer(flow),
                };
                let answer = answer.as_deref().and_then(Answer::parse);
                ends.answers.extend(answer.map(|answer| (stream, answer)));
                answer.is_none()
            });
            std::thread::sleep(LOOK);
        }
    }
    ends.unanswered = if iperf2.answered { open.len() as u64 } else { 0 };
    Ok(())
}

/// A socket that gets what comes from `to` to `from`, unless somebody else has it.
fn socket(from: SocketAddr, to: SocketAddr) -> Option<Socket> {
    let socket = Socket::new(Domain::for_address(from), Type::DGRAM, Some(Protocol::UDP)).ok()?;
    socket.bind(&from.into()).ok()?;
    socket.connect(&to.into()).ok()?;
    Some(socket)
}
