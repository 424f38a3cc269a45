//! A worker whose packets the kernel makes: a thread that sits in the kernel's test run, and the collector's view of it.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::program::{Counters, Counts, Generator, Pace};
use crate::clock::{self, Claim};
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::generate::announce::written;
use crate::generate::source::Generate;
use crate::generate::worker::END_PAUSES_MS;
use crate::host::sched::Policy;
use crate::measure::tally::TxTally;
use crate::packet::checksum::sum;
use crate::packet::ethernet;
use crate::packet::frame::{Headers, Marks};
use crate::packet::probe::{End, Kind, MESSAGE_LEN, Message};
use crate::queue::{QueueError, TxSpec};
use crate::sys::interrupt::Interruptible;
use crate::sys::packet::PacketSocket;
use crate::worker::{Worker, start};

/// The collector's side of a worker.
pub(crate) struct KernelWorker {
    worker: Worker<TxTally>,
    inside: Inside,
    stop: Stop,
    bytes: Bytes,
    /// Filled again at each look.
    tally: TxTally,
    /// What the tally's predecessors had of [`hand_overs`](wirerate_ebpf_types::generate::Taken::hand_overs).
    hand_overs: Vec<u64>,
}

/// What the thread tells of itself before it begins.
struct Inside {
    counters: Arc<Counters>,
    thread: Interruptible,
    /// Whether it is in the kernel, or about to be.
    sending: Arc<AtomicBool>,
}

/// Bytes of each packet.
#[derive(Debug, Clone, Copy)]
struct Bytes {
    payload: u64,
    frame: u64,
}

impl KernelWorker {
    /// Starts worker number `number` on `cpu`, which sends packets of `run` as `spec` and `pace` say.
    ///
    /// # Errors
    /// As [`Generator::load`], and when the thread cannot be started.
    pub(crate) fn start(
        number: usize,
        place: (usize, Policy),
        spec: TxSpec,
        run: u32,
        pace: Pace,
        stop: &Stop,
    ) -> Result<Self> {
        let overhead = u64::from(spec.overhead());
        let payload = u64::from(spec.max_payload);
        let frame = (payload + overhead).max((ethernet::MIN_LEN + ethernet::FCS_LEN) as u64);
        let bytes = Bytes { payload, frame };
        let stopped = stop.clone();
        let (worker, inside) = start(
            format!("send {number}"),
            place,
            move || Sender::open(&spec, run, pace, TxTally::new(number), bytes),
            move |sender: Sender, _| sender.run(&stopped),
        )?;
        let hand_overs = Vec::new();
        Ok(Self { worker, inside, stop: stop.clone(), bytes, tally: TxTally::new(number), hand_overs })
    }

    /// Records the hand-overs since the last look as bursts.
    fn bursts(&mut self, counts: &Counts) {
        self.hand_overs.resize(counts.taken.hand_overs.len(), 0);
        for (packets, (now, before)) in (0..).zip(counts.taken.hand_overs.iter().zip(&mut self.hand_overs)) {
            if packets > 0 && *now > *before {
                self.tally.burst.saturating_record_n(packets, now - *before);
            }
            *before = *now;
        }
    }
}

impl Generate for KernelWorker {
    fn go(&mut self, start_ns: u64) {
        self.worker.go(start_ns);
    }

    fn sample(&mut self, absorb: &mut dyn FnMut(&TxTally)) {
        // When the counters cannot be read, the worker cannot either, and says so.
        let Ok(counts) = self.inside.counters.read() else { return };
        if counts.progress.first_ns != 0 {
            let settled = false;
            self.bytes.fill(&mut self.tally, &counts, settled);
            self.bursts(&counts);
            absorb(&self.tally);
            self.tally.burst.reset();
        }
        let over = counts.progress.ended != 0 || self.stop.is_requested() || broken(&counts).is_some();
        if over && self.inside.sending.load(Ordering::Acquire) {
            self.inside.thread.interrupt();
        }
    }

    fn is_finished(&self) -> bool {
        self.worker.is_finished()
    }

    fn join(mut self: Box<Self>, absorb: &mut dyn FnMut(&TxTally)) -> Result<(u64, Option<QueueError>)> {
        if let Ok(counts) = self.inside.counters.read() {
            self.bursts(&counts);
        }
        let (mut last, failure) = self.worker.join()?;
        last.burst.add(&self.tally.burst).expect("all burst histograms have the same bounds");
        absorb(&last);
        Ok((last.packets, failure))
    }
}

impl Bytes {
    /// The totals. What is neither taken nor refused is under way, and nothing is when all is `settled`.
    fn fill(self, tally: &mut TxTally, counts: &Counts, settled: bool) {
        let Counts { progress, taken } = counts;
        tally.at_ns = clock::tai_ns();
        tally.packets = taken.packets;
        tally.errors = if settled { progress.issued.saturating_sub(taken.packets) } else { taken.refused };
        tally.payload_bytes = (tally.packets + tally.errors) * self.payload;
        tally.frame_bytes = (tally.packets + tally.errors) * self.frame;
        tally.first_ns = progress.first_ns;
        tally.last_ns = progress.last_ns;
    }
}

/// The thread's side.
struct Sender {
    generator: Generator,
    messages: Messages,
    sending: Arc<AtomicBool>,
    tally: TxTally,
    bytes: Bytes,
}

impl Sender {
    fn open(spec: &TxSpec, run: u32, pace: Pace, tally: TxTally, bytes: Bytes) -> Result<(Self, Inside)> {
        let mut generator = Generator::load(spec, run, pace)?;
        generator.attach()?;
        let messages = Messages::open(spec, run)?;
        let thread =
            Interruptible::current().map_err(|e| Error::failed("cannot handle a signal").because(e))?;
        let sending = Arc::new(AtomicBool::new(true));
        let inside = Inside { counters: generator.counters(), thread, sending: Arc::clone(&sending) };
        Ok((Self { generator, messages, sending, tally, bytes }, inside))
    }

    fn run(mut self, stop: &Stop) -> (Box<TxTally>, Option<QueueError>) {
        let made = self.messages.announce(&mut self.tally.messages).and_then(|()| self.make(stop));
        self.sending.store(false, Ordering::Release);
        let counts = self.generator.counters().read();
        let mut failure = made.err();
        match counts {
            Err(error) => failure = failure.or(Some(error)),
            Ok(counts) => {
                let settled = true;
                self.bytes.fill(&mut self.tally, &counts, settled);
                if failure.is_none() {
                    failure = self.messages.end(&counts, &mut self.tally.messages).err();
                }
            }
        }
        (Box::new(self.tally), failure)
    }

    fn make(&self, stop: &Stop) -> std::result::Result<(), QueueError> {
        let counters = self.generator.counters();
        loop {
            // A signal that comes between the check and the call is sent again.
            if stop.is_requested() {
                return Ok(());
            }
            self.generator.run()?;
            let counts = counters.read()?;
            if let Some(broken) = broken(&counts) {
                return Err(broken);
            }
            if counts.progress.ended != 0 {
                return Ok(());
            }
        }
    }
}

/// Why an interface that refused a packet will refuse the others, too. One without room takes the next.
fn broken(counts: &Counts) -> Option<QueueError> {
    let errno = i32::try_from(counts.taken.errno).ok()?;
    let (call, code) = match errno {
        // There is no interface with this index any more.
        libc::EINVAL => ("handing packets to the interface", libc::ENODEV),
        libc::ENETDOWN | libc::ENODEV => ("handing packets to the interface", errno),
        libc::EMSGSIZE => ("handing packets to the interface, whose MTU they now exceed", errno),
        libc::ENXIO | libc::EOPNOTSUPP => (
            "the interface takes no packets from XDP (a veth does when its other end is up and has GRO on or an XDP program; \
             a NIC when it has a transmit queue for each CPU)",
            libc::EOPNOTSUPP,
        ),
        _ => return None,
    };
    Some(QueueError { call, source: io::Error::from_raw_os_error(code) })
}

/// Announcements and end-of-stream messages. They go by a packet socket: with the same headers and out of the same interface as the packets, without
/// setting up the kernel's generator for each of them.
struct Messages {
    socket: PacketSocket,
    flows: Vec<(Headers, u16)>,
    run: u32,
    /// Announcements sent on each flow.
    announced: u64,
}

impl Messages {
    fn open(spec: &TxSpec, run: u32) -> Result<Self> {
        let interface = spec.interface.as_ref().expect("the plan gives it one");
        let marks = Marks::from(spec);
        let flows = spec
            .flows
            .iter()
            .map(|flow| Ok((Headers::new(flow, interface.mac, marks)?, flow.stream)))
            .collect::<Result<_>>()?;
        let socket = PacketSocket::open(interface.index).map_err(|e| {
            Error::environment("opening a packet socket for end-of-stream messages").because(e)
        })?;
        Ok(Self { socket, flows, run, announced: 0 })
    }

    /// Sends those that say that packets will come, adding to `sent`.
    fn announce(&mut self, sent: &mut u64) -> std::result::Result<(), QueueError> {
        let clock = Claim::read();
        for (headers, stream) in &self.flows {
            let message = Message { clock, ..Message::default() };
            self.send(headers, *stream, Kind::Announce, &message)?;
            self.announced = 1;
            *sent += 1;
        }
        Ok(())
    }

    /// Sends those that end what `counts` tells of, adding to `sent`.
    fn end(&self, counts: &Counts, sent: &mut u64) -> std::result::Result<(), QueueError> {
        let Counts { progress, taken } = counts;
        if progress.issued == 0 {
            return Ok(());
        }
        let flows = self.flows.len() as u64;
        let refused = progress.issued.saturating_sub(taken.packets);
        // Nobody tells of which flow a refused packet was; they were sent in turn, and so are these, which add up to the truth.
        let part = |total: u64, flow: u64| (total + flows - 1 - flow) / flows;
        for pause in END_PAUSES_MS {
            std::thread::sleep(Duration::from_millis(pause));
            let clock = Claim::read();
            for (flow, (headers, stream)) in (0..).zip(&self.flows) {
                let issued = part(progress.issued, flow);
                let (first_ns, last_ns) = (progress.first_ns, progress.last_ns);
                let end = End { issued, failed: part(refused, flow), first_ns, last_ns };
                let message = Message { end, clock, announced: self.announced };
                self.send(headers, *stream, Kind::End, &message)?;
                *sent += 1;
            }
        }
        Ok(())
    }

    fn send(
        &self,
        headers: &Headers,
        stream: u16,
        kind: Kind,
        message: &Message,
    ) -> std::result::Result<(), QueueError> {
        let start = headers.len();
        let mut frame = vec![0; (start + MESSAGE_LEN).max(ethernet::MIN_LEN)];
        let payload = written(kind, self.run, stream, message);
        frame[start..start + MESSAGE_LEN].copy_from_slice(&payload);
        headers.write(&mut frame, MESSAGE_LEN as u16, sum(&payload));
        self.socket
            .send(&frame)
            .map(|_| ())
            .map_err(|source| QueueError { call: "sending a message", source })
    }
}
