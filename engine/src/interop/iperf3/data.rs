//! The data of a test: its streams, the workers that send and receive them, and what they have counted.
#![forbid(unsafe_code)]

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::Socket;

use super::config::Backend;
use super::counters::{Received, Sent};
use super::cpus::{Place, Pool};
use super::event::{Parameters, Stream};
use super::failure::{Code, Failure};
use super::header::{Counters, SenderHeader};
use super::parameters::stream_id;
use super::receive::{self, ReceiveJob};
use super::send::{self, SendJob};
use super::sockets;
use crate::clock;
use crate::control::Stop;
use crate::error::Error;
use crate::generate::schedule::{Schedule, issued_of};
use crate::host::sched::Policy;
use crate::profile::payload::Payload;
use crate::profile::rate::{MAX_PPS, MIN_PPS};
use crate::profile::segments::Segments;
use crate::profile::size::{Framing, Sizes};
use crate::queue::socket::{self, ManyRx, MmsgTx, UringTx};
use crate::queue::{Flow, QueueError, Tuning, TxSpec};
use crate::worker::{Worker, start};

/// Bits a second that one worker sends easily: more streams get more workers.
const EASY: u64 = 4_000_000_000;

/// What the data of a test is opened with.
pub(super) struct Setup<'a> {
    pub(super) parameters: &'a Parameters,
    /// Whether this end is the server.
    pub(super) server: bool,
    /// Connected, in the order in which they were opened.
    pub(super) sockets: Vec<Socket>,
    pub(super) backend: Backend,
    /// The CPU of all workers.
    pub(super) affinity: Option<usize>,
    pub(super) pool: &'a Pool,
    /// Datagrams to send in all, where this end knows.
    pub(super) limit: Option<u64>,
    /// Time to send for, where this end knows.
    pub(super) duration: Option<Duration>,
}

/// What a stream has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Count {
    pub(super) bytes: u64,
    /// Sent, or the highest number.
    pub(super) packets: u64,
    pub(super) lost: u64,
    pub(super) out_of_order: u64,
    pub(super) jitter: f64,
}

/// The data of a test.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) streams: Vec<Stream>,
    /// "uring, gso".
    pub(super) datapath: String,
    pub(super) send_buffer: u32,
    pub(super) receive_buffer: u32,
    length: u64,
    sources: Vec<Source>,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    /// Whether the senders have begun.
    sending: bool,
    stop_sending: Stop,
    stop_receiving: Stop,
}

/// Where a stream is counted.
#[derive(Debug)]
enum Source {
    Sent { sender: usize, flow: u64 },
    Received(Arc<Received>),
}

#[derive(Debug)]
struct Sender {
    worker: Option<Worker<()>>,
    sent: Arc<Sent>,
    streams: u64,
    _place: Place,
}

#[derive(Debug)]
struct Receiver {
    worker: Option<Worker<()>>,
    forget_jitter: Arc<AtomicBool>,
    _place: Place,
}

impl Data {
    /// Opens queues over the sockets of a test; nothing flows before [`receive`](Self::receive) and [`send`](Self::send).
    pub(super) fn open(setup: Setup<'_>) -> Result<Self, Failure> {
        let parameters = setup.parameters;
        let mut data = Self {
            streams: Vec::with_capacity(setup.sockets.len()),
            datapath: String::new(),
            send_buffer: 0,
            receive_buffer: 0,
            length: parameters.length.into(),
            sources: Vec::with_capacity(setup.sockets.len()),
            senders: Vec::new(),
            receivers: Vec::new(),
            sending: false,
            stop_sending: Stop::default(),
            stop_receiving: Stop::default(),
        };
        (data.send_buffer, data.receive_buffer) = setup.sockets.first().map_or((0, 0), sockets::buffers);
        let (mut sending, mut receiving) = (Vec::new(), Vec::new());
        for (place, socket) in setup.sockets.into_iter().enumerate() {
            let sender = parameters.server_sends(place) == setup.server;
            let (local, remote) = sockets::ends(&socket)?;
            let fd = socket.as_raw_fd();
            data.streams.push(Stream { id: stream_id(place), socket: fd, local, remote, sender });
            // Set right when its worker is made.
            data.sources.push(Source::Sent { sender: 0, flow: 0 });
            if sender { sending.push((place, socket)) } else { receiving.push((place, socket)) }
        }
        let mut ways = Vec::new();
        let workers = workers(parameters.bandwidth, sending.len(), setup.pool.len());
        let total = sending.len() as u64;
        let mut before = 0;
        for sockets in shares(sending, workers) {
            let after = before + sockets.len() as u64;
            // The shares add up to the whole.
            let limit = setup.limit.map(|limit| share(limit, after, total) - share(limit, before, total));
            before = after;
            let place = setup.pool.take(setup.affinity, true)?;
            let way = data.add_sender(parameters, sockets, place, setup.backend, limit, setup.duration)?;
            ways.push(way);
        }
        let workers = workers_receiving(parameters.bandwidth, receiving.len(), setup.pool.len());
        for sockets in shares(receiving, workers) {
            let place = setup.pool.take(setup.affinity, false)?;
            ways.push(data.add_receiver(parameters, sockets, place)?);
        }
        ways.dedup();
        data.datapath = ways.join("; ");
        Ok(data)
    }

    fn add_sender(
        &mut self,
        parameters: &Parameters,
        sockets: Vec<(usize, Socket)>,
        place: Place,
        backend: Backend,
        limit: Option<u64>,
        duration: Option<Duration>,
    ) -> Result<String, Failure> {
        let number = self.senders.len();
        for (flow, (place, _)) in (0..).zip(&sockets) {
            self.sources[*place] = Source::Sent { sender: number, flow };
        }
        let streams = sockets.len() as u64;
        let flows = (0..)
            .zip(&sockets)
            .map(|(stream, (place, _))| {
                let Stream { local, remote, .. } = self.streams[*place];
                Flow { stream, source: local, destination: remote, destination_mac: [0; 6] }
            })
            .collect();
        let sockets: Vec<Socket> = sockets.into_iter().map(|(_, socket)| socket).collect();
        let payload = if parameters.repeating_payload { Payload::pattern() } else { Payload::random() };
        let spec = TxSpec {
            interface: None,
            queue: 0,
            flows,
            ttl: 64,
            dscp: 0,
            fragment: true,
            vlan: None,
            rtp: None,
            iperf2: false,
            payload: Arc::new(payload),
            max_payload: parameters.length,
            segments: Segments::Auto,
            txtime: None,
            tuning: Tuning::default(),
        };
        let counters = Counters::of(parameters.counters_64bit);
        let job = SendJob {
            schedule: schedule(parameters, streams as u16, limit),
            header: SenderHeader::new(counters, clock::tai_minus_monotonic_ns()),
            duration,
        };
        let sent = Arc::new(Sent::default());
        let (counts, stop, head) = (Arc::clone(&sent), self.stop_sending.clone(), counters.head_len());
        let name = format!("iperf3-tx-{number}");
        let here = (place.cpu, Policy::Other);
        let uring = match backend {
            Backend::Auto => socket::available().is_ok(),
            Backend::Uring => true,
            Backend::Mmsg => false,
        };
        let opened = if uring {
            let open = move || {
                let queue = UringTx::adopt(&spec, sockets, head)?;
                let segments = queue.offload().segments();
                Ok((queue, segments))
            };
            start(name, here, open, move |queue, _| ended(send::run(queue, job, &counts, &stop)))
        } else {
            let open = move || {
                let queue = MmsgTx::adopt(&spec, sockets, head)?;
                let segments = queue.offload().segments();
                Ok((queue, segments))
            };
            start(name, here, open, move |queue, _| ended(send::run(queue, job, &counts, &stop)))
        };
        let (worker, segments) = opened.map_err(init_failed)?;
        self.senders.push(Sender { worker: Some(worker), sent, streams, _place: place });
        Ok(format!("{}{}", if uring { "uring" } else { "mmsg" }, if segments > 1 { ", gso" } else { "" }))
    }

    fn add_receiver(
        &mut self,
        parameters: &Parameters,
        sockets: Vec<(usize, Socket)>,
        place: Place,
    ) -> Result<String, Failure> {
        let mut received = Vec::with_capacity(sockets.len());
        for (place, _) in &sockets {
            let counts = Arc::new(Received::default());
            self.sources[*place] = Source::Received(Arc::clone(&counts));
            received.push(counts);
        }
        let sockets: Vec<Socket> = sockets.into_iter().map(|(_, socket)| socket).collect();
        let forget_jitter = Arc::new(AtomicBool::new(false));
        let counters = Counters::of(parameters.counters_64bit);
        let job = ReceiveJob { counters, received, forget_jitter: Arc::clone(&forget_jitter) };
        let (stop, length) = (self.stop_receiving.clone(), parameters.length);
        let open = move || {
            let queue = ManyRx::adopt(sockets, length, true)?;
            let offloads = queue.offloads();
            Ok((queue, offloads))
        };
        let name = format!("iperf3-rx-{}", self.receivers.len());
        let work = move |queue, _| ended(receive::run(queue, &job, &stop));
        let (worker, offloads) = start(name, (place.cpu, Policy::Other), open, work).map_err(init_failed)?;
        self.receivers.push(Receiver { worker: Some(worker), forget_jitter, _place: place });
        Ok(format!("mmsg{}", if offloads { ", gro" } else { "" }))
    }

    /// Lets receivers begin, before the peer is told to send.
    pub(super) fn receive(&mut self) {
        self.receivers.iter_mut().filter_map(|r| r.worker.as_mut()).for_each(|w| w.go(clock::tai_ns()));
    }

    /// Lets senders begin.
    pub(super) fn send(&mut self) {
        self.sending = true;
        self.senders.iter_mut().filter_map(|s| s.worker.as_mut()).for_each(|w| w.go(clock::tai_ns()));
    }

    /// What each stream has done.
    pub(super) fn counts(&self) -> Vec<Count> {
        self.sources.iter().map(|source| self.count(source)).collect()
    }

    fn count(&self, source: &Source) -> Count {
        match source {
            Source::Sent { sender, flow } => {
                let Sender { sent, streams, .. } = &self.senders[*sender];
                let turn = sent.turn.load(Ordering::Relaxed).max(1);
                let packets = issued_of(sent.issued.load(Ordering::Relaxed), turn, *streams, *flow);
                // A queue tells what was refused, not of which stream: it is taken from the first.
                let failed = if *flow == 0 { sent.failed.load(Ordering::Relaxed) } else { 0 };
                Count { bytes: packets.saturating_sub(failed) * self.length, packets, ..Count::default() }
            }
            Source::Received(received) => {
                let arrivals = received.read();
                Count {
                    bytes: arrivals.bytes,
                    packets: arrivals.highest,
                    lost: arrivals.lost,
                    out_of_order: arrivals.out_of_order,
                    jitter: arrivals.jitter,
                }
            }
        }
    }

    /// Datagrams that this host refused to send.
    pub(super) fn refused(&self) -> u64 {
        self.senders.iter().map(|sender| sender.sent.failed.load(Ordering::Relaxed)).sum()
    }

    /// Bytes that have arrived, all streams together.
    pub(super) fn received_bytes(&self) -> u64 {
        let receiving = self.sources.iter().filter(|source| matches!(source, Source::Received(_)));
        receiving.map(|source| self.count(source).bytes).sum()
    }

    /// Whether anything is received here.
    pub(super) fn receives(&self) -> bool {
        !self.receivers.is_empty()
    }

    /// Whether anything is sent from here.
    pub(super) fn sends(&self) -> bool {
        !self.senders.is_empty()
    }

    /// The omitted beginning is over.
    pub(super) fn forget_jitter(&self) {
        self.receivers.iter().for_each(|receiver| receiver.forget_jitter.store(true, Ordering::Relaxed));
    }

    /// Asks the senders to end.
    pub(super) fn stop_sending(&self) {
        self.stop_sending.request();
    }

    /// Asks all to end.
    pub(super) fn stop(&self) {
        self.stop_sending.request();
        self.stop_receiving.request();
    }

    /// Whether all senders have ended.
    pub(super) fn has_sent(&self) -> bool {
        !self.sending || self.senders.iter().all(|sender| is_finished(sender.worker.as_ref()))
    }

    /// Whether all workers have.
    pub(super) fn has_ended(&self) -> bool {
        self.has_sent() && self.receivers.iter().all(|receiver| is_finished(receiver.worker.as_ref()))
    }

    /// Waits for the workers, which have been asked to end; counts are whole after that.
    ///
    /// # Errors
    /// StreamWrite or StreamRead, when a queue broke.
    pub(super) fn join(&mut self) -> Result<(), Failure> {
        let mut result = Ok(());
        let mut wait = |code, worker: Worker<()>| match worker.join() {
            Ok((_, None)) => {}
            Ok((_, Some(error))) => {
                result = Err(Failure::new(code).because(&error.source).detail(error.call));
            }
            Err(error) => result = Err(Failure::new(code).detail(error.what)),
        };
        // Those that never began have nothing to say, and end when they are dropped.
        let sending = self.sending;
        for worker in self.senders.iter_mut().filter_map(|s| s.worker.take()).filter(|_| sending) {
            wait(Code::StreamWrite, worker);
        }
        for worker in self.receivers.iter_mut().filter_map(|r| r.worker.take()) {
            wait(Code::StreamRead, worker);
        }
        result
    }
}

fn is_finished(worker: Option<&Worker<()>>) -> bool {
    worker.is_none_or(Worker::is_finished)
}

impl Drop for Data {
    fn drop(&mut self) {
        self.stop();
    }
}

fn ended(result: Result<(), QueueError>) -> (Box<()>, Option<QueueError>) {
    (Box::new(()), result.err())
}

fn init_failed(error: Error) -> Failure {
    let failure = Failure::new(Code::InitStream);
    let failure = match &error.source {
        Some(source) => failure.because(source),
        None => failure,
    };
    failure.detail(error.what)
}

/// What a worker with so many streams sends, and when.
fn schedule(parameters: &Parameters, streams: u16, limit: Option<u64>) -> Schedule {
    let sizes = Sizes::only(parameters.length, Framing::default());
    let pps = (parameters.bandwidth > 0).then(|| {
        let stream = parameters.bandwidth as f64 / 8.0 / f64::from(parameters.length);
        (stream * f64::from(streams)).clamp(MIN_PPS, MAX_PPS)
    });
    let burst = pps.and((parameters.burst > 0).then(|| u32::from(parameters.burst)));
    Schedule::new(sizes, (0..streams).collect(), pps, limit).in_bursts(burst)
}

/// Workers for so many sending streams.
fn workers(bandwidth: u64, streams: usize, cpus: usize) -> usize {
    let total = bandwidth.saturating_mul(streams as u64);
    let wanted = if bandwidth == 0 { streams } else { total.div_ceil(EASY) as usize };
    wanted.clamp(1, cpus.max(1)).min(streams)
}

/// Workers for so many receiving streams, of a sender that may be another program.
fn workers_receiving(bandwidth: u64, streams: usize, cpus: usize) -> usize {
    workers(bandwidth, streams, cpus)
}

/// `items` in `count` parts of nearly one length, in their order; none where there are no items.
fn shares<T>(items: Vec<T>, count: usize) -> Vec<Vec<T>> {
    let total = items.len();
    let mut items = items.into_iter();
    (0..count)
        .map(|n| items.by_ref().take(total * (n + 1) / count - total * n / count).collect::<Vec<T>>())
        .filter(|part| !part.is_empty())
        .collect()
}

/// The part of `whole` that the first `streams` of `total` have.
fn share(whole: u64, streams: u64, total: u64) -> u64 {
    let part = u128::from(whole) * u128::from(streams) / u128::from(total.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_limits_are_shared_out_whole() {
        assert_eq!(shares(vec![1, 2, 3, 4, 5], 2), [vec![1, 2], vec![3, 4, 5]]);
        assert!(shares(Vec::<u8>::new(), 2).is_empty());
        let parts: u64 = (0..3).map(|n| share(100, n + 1, 3) - share(100, n, 3)).sum();
        assert_eq!(parts, 100);
        assert_eq!(workers(0, 4, 2), 2);
        assert_eq!(workers(1_000_000, 128, 8), 1);
        assert_eq!(workers(10_000_000_000, 2, 8), 2);
        assert_eq!(workers(0, 0, 8), 0);
    }
}
