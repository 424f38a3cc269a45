//! A transmit and a receive queue connected in memory: the datapath of [`afxdp`](super::afxdp) without kernel and NIC, for tests and
//! for counting instructions.
//!
//! What [`Wire`] does when it is woken is what the kernel does in copy mode: it empties the TX ring, copies each packet into a
//! frame from the receiver's fill ring, and gives the sender's frames back. It can be told to lose, duplicate and delay.
#![expect(unsafe_code, reason = "it plays the kernel's side of the frames")]

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::afxdp::rx::{self, FrameRx};
use super::afxdp::sizes;
use super::afxdp::tx::{self, FrameTx, Layout};
use super::afxdp::umem::{Frames, LARGE_CHUNK, RX_HEADROOM, Region};
use super::afxdp::{Kernel, Woken};
use super::ring::{self, Consumer, Desc, MORE, Producer};
use super::{QueueLoss, TxSpec};
use crate::error::Result;

/// Transmit queue of a pair.
pub type MemoryTx = FrameTx<Wire>;
/// Receive queue of a pair.
pub type MemoryRx = FrameRx<FarEnd>;

/// What becomes of a frame between the two queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Pass,
    /// It does not.
    Drop,
    /// It arrives twice.
    Twice,
    /// It arrives after the next one that passes.
    Late,
}

/// Decides on each frame.
type Judge = Box<dyn FnMut(&[u8]) -> Fate + Send>;

/// Source address of the frames when the spec names no interface: locally administered.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// How often a receiver that waits looks again.
const PAUSE: Duration = Duration::from_micros(50);

/// Connects a new pair of queues.
///
/// # Errors
/// `Usage` when a flow cannot be written into frames.
pub fn pair(spec: &TxSpec) -> Result<(MemoryTx, MemoryRx)> {
    pair_with(spec, |_| Fate::Pass)
}

/// As [`pair`], with `fate` to decide on each frame; it is given the frame without FCS.
///
/// # Errors
/// As [`pair`].
pub fn pair_with(
    spec: &TxSpec,
    fate: impl FnMut(&[u8]) -> Fate + Send + 'static,
) -> Result<(MemoryTx, MemoryRx)> {
    let flows = tx::flows(spec, spec.interface.as_ref().map_or(MAC, |i| i.mac))?;
    let layout = Layout::new(&flows, spec, sizes::TX);
    let sent = Region::in_memory(layout.chunk, layout.frames * layout.span);
    let received = Region::in_memory(LARGE_CHUNK, sizes::RX);
    // SAFETY: both regions are new; the wire only touches what was lent to it.
    let tx_frames = unsafe { Frames::new(sent.clone(), layout.span) };
    // SAFETY: as above.
    let rx_frames = unsafe { Frames::new(received.clone(), 1) };
    // The indices start before they wrap around, so that every use crosses it.
    let start = u32::MAX - 100;
    let (tx_ring, mut tx_end) = ring::in_memory::<Desc>(sizes::TX, start);
    let (completion_end, completion) = ring::in_memory::<u64>(sizes::TX, start);
    let (rx_end, rx_ring) = ring::in_memory::<Desc>(sizes::RX, start);
    let (fill, fill_end) = ring::in_memory::<u64>(rx::FILL_PER_FRAME * sizes::RX, start);
    tx_end.ask_for_wakeup(true);
    let state = Arc::new(State::default());
    let wire = Wire {
        tx: tx_end,
        completion: completion_end,
        sent,
        rx: rx_end,
        fill: fill_end,
        received,
        packet: Vec::with_capacity(1 << 16),
        late: Vec::new(),
        fate: Box::new(fate),
        state: Arc::clone(&state),
    };
    let tx = FrameTx::new(wire, tx_ring, completion, tx_frames, flows, spec);
    let rx = FrameRx::new(FarEnd { state }, rx_ring, fill, rx_frames);
    Ok((tx, rx))
}

/// What both ends know of the wire.
#[derive(Debug, Default)]
struct State {
    /// Packets put into the RX ring, ever.
    arrived: AtomicU64,
    /// Packets for which the receiver had no frame.
    dropped: AtomicU64,
    gone: AtomicBool,
}

impl State {
    fn check(&self) -> io::Result<()> {
        if self.gone.load(Ordering::Relaxed) {
            Err(io::Error::from_raw_os_error(libc::ENXIO))
        } else {
            Ok(())
        }
    }
}

/// The kernel of a pair; lives with the transmit queue.
pub struct Wire {
    tx: Consumer<Desc>,
    completion: Producer<u64>,
    sent: Region,
    rx: Producer<Desc>,
    fill: Consumer<u64>,
    received: Region,
    /// The packet being put together.
    packet: Vec<u8>,
    /// A packet that arrives after the next, or empty.
    late: Vec<u8>,
    fate: Judge,
    state: Arc<State>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Wire {
    fn carry(&mut self) {
        match (self.fate)(&self.packet) {
            Fate::Drop => {}
            Fate::Late if self.late.is_empty() => self.late.extend_from_slice(&self.packet),
            fate => {
                self.deliver();
                if fate == Fate::Twice {
                    self.deliver();
                }
                if !self.late.is_empty() {
                    std::mem::swap(&mut self.packet, &mut self.late);
                    self.deliver();
                    self.late.clear();
                }
            }
        }
    }

    /// Copies the packet into frames of the receiver, or counts it where there are none.
    fn deliver(&mut self) {
        // Not before: the kernel, too, shows a packet before it says that it has read the fill ring for it.
        self.fill.release();
        let room = LARGE_CHUNK - RX_HEADROOM;
        // At most 17: a packet is shorter than 2¹⁶ bytes.
        let pieces = self.packet.len().div_ceil(room as usize) as u32;
        if self.fill.available(pieces) < pieces || self.rx.reserve(pieces) < pieces {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut rest = &self.packet[..];
        while !rest.is_empty() {
            let Some(address) = self.fill.read() else { break };
            let (piece, later) = rest.split_at(rest.len().min(room as usize));
            rest = later;
            // The kernel, too, looks only at which chunk it is.
            let address = address - address % u64::from(LARGE_CHUNK) + u64::from(RX_HEADROOM);
            let len = piece.len() as u32;
            // SAFETY: the receiver lent this chunk by putting it into the fill ring, and does not touch it until it is in the RX ring.
            unsafe { self.received.bytes(address, len) }.copy_from_slice(piece);
            self.rx.write(Desc { address, len, options: if rest.is_empty() { 0 } else { MORE } });
        }
        self.rx.commit();
        self.state.arrived.fetch_add(1, Ordering::Release);
    }
}

impl Kernel for Wire {
    /// Not inlined, so that its instructions can be told from the queue's.
    #[inline(never)]
    fn wake_tx(&mut self) -> io::Result<Woken> {
        self.state.check()?;
        let mut ready = self.tx.available(u32::MAX);
        while ready > 0 && self.completion.reserve(1) > 0 {
            let Some(desc) = self.tx.read() else { break };
            ready -= 1;
            // SAFETY: the sender lent this chunk by putting it into the TX ring, and does not touch it until it is in the completion ring.
            self.packet.extend_from_slice(unsafe { self.sent.bytes(desc.address, desc.len) });
            self.completion.write(desc.address);
            if desc.options & MORE == 0 {
                self.carry();
                self.packet.clear();
            }
        }
        self.tx.release();
        self.completion.commit();
        Ok(Woken::Done)
    }

    fn wake_rx(&mut self) -> io::Result<()> {
        self.state.check()
    }

    fn wait_rx(&mut self, _at_most: Duration) -> io::Result<()> {
        Ok(())
    }

    fn losses(&mut self, _losses: &mut Vec<QueueLoss>) {}
}

/// The receiving end of a [`Wire`].
#[derive(Debug)]
pub struct FarEnd {
    state: Arc<State>,
}

impl FarEnd {
    /// Takes the wire away, as when an interface is deleted: both queues answer ENXIO from now on.
    pub fn cut(&self) {
        self.state.gone.store(true, Ordering::Relaxed);
    }
}

impl Kernel for FarEnd {
    fn wake_tx(&mut self) -> io::Result<Woken> {
        Ok(Woken::Done)
    }

    fn wake_rx(&mut self) -> io::Result<()> {
        self.state.check()
    }

    fn wait_rx(&mut self, at_most: Duration) -> io::Result<()> {
        // Asked only when the ring is empty: anything that arrives from here on ends the wait.
        let before = self.state.arrived.load(Ordering::Acquire);
        let deadline = Instant::now() + at_most;
        while self.state.arrived.load(Ordering::Acquire) == before {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(PAUSE.min(left));
        }
        Ok(())
    }

    fn losses(&mut self, losses: &mut Vec<QueueLoss>) {
        let packets = self.state.dropped.load(Ordering::Relaxed);
        losses.push(QueueLoss { place: "xsk", reason: "rx_dropped", packets });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::probe::{Kind, Probe};
    use crate::packet::udp::{self, Checksum};
    use crate::profile::payload::Payload;
    use crate::queue::{Flow, Receive, Run, RxMeta, Sink, Stamper, Transmit, Tuning, Wait};

    fn spec(payload: Payload, max_payload: u16) -> TxSpec {
        let flow = |stream, source: &str, destination: &str| Flow {
            stream,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            destination_mac: [1, 0, 0x5e, 1, 2, 3],
        };
        TxSpec {
            interface: None,
            queue: 0,
            flows: vec![
                flow(7, "192.0.2.1:1000", "239.1.2.3:5001"),
                flow(8, "192.0.2.1:1001", "239.1.2.4:5001"),
                flow(9, "[2001:db8::1]:1000", "[ff15::1]:5001"),
            ],
            ttl: 3,
            dscp: 46,
            fragment: false,
            vlan: None,
            rtp: None,
            iperf2: false,
            payload: Arc::new(payload),
            max_payload,
            segments: crate::profile::segments::Segments::Auto,
            txtime: None,
            tuning: Tuning::default(),
        }
    }

    /// Everything that arrives, each datagram checked as a whole.
    #[derive(Default)]
    struct Seen {
        packets: Vec<(u16, u64, usize)>,
        messages: Vec<Vec<u8>>,
    }

    struct Check<'a> {
        seen: &'a mut Seen,
        payload: &'a Payload,
    }

    impl Sink for Check<'_> {
        fn run(&mut self, meta: &RxMeta, buf: &[u8], stride: usize, count: usize) {
            assert_eq!((stride, count), (buf.len().max(1), 1));
            assert_eq!(meta.overhead, if meta.source.is_ipv4() { 46 } else { 66 });
            match Probe::parse(buf) {
                Ok(Probe { kind: Kind::Data, stream, sequence, .. }) => {
                    assert!(self.payload.matches(sequence, &buf[18..]), "body of {sequence}");
                    self.seen.packets.push((stream, sequence, buf.len()));
                }
                _ => self.seen.messages.push(buf.to_vec()),
            }
        }
    }

    fn drain(rx: &mut MemoryRx, payload: &Payload) -> Seen {
        let mut seen = Seen::default();
        while rx.poll(&mut Check { seen: &mut seen, payload }, Wait::No).unwrap() > 0 {}
        seen
    }

    fn run(flow: u16, len: u16, count: u16, first_seq: u64) -> Run {
        Run { flow, len, count, first_seq }
    }

    /// Frames go through with checksums that any receiver accepts.
    fn good_checksums(frame: &[u8]) -> Fate {
        let found = crate::packet::frame::parse_udp(frame).expect("a UDP frame");
        let datagram = &frame[found.payload.start - 8..found.payload.end];
        assert_eq!(udp::verify(found.source.ip(), found.destination.ip(), datagram), Checksum::Good);
        Fate::Pass
    }

    #[test]
    fn every_packet_arrives_as_it_was_sent() {
        for payload in [Payload::pattern(), Payload::random(), Payload::File((0..=250).collect())] {
            for max in [18, 1472, 8972, 65_507] {
                let spec = spec(payload.clone(), max);
                let (mut tx, mut rx) = pair_with(&spec, good_checksums).unwrap();
                let mut stamper = Stamper::new(1);
                let mut expected = Vec::new();
                let mut reaped = 0;
                for round in 0..200u64 {
                    let small = 18.max(max / 2);
                    let lens = [max, small, max];
                    let runs: Vec<_> = (0..3).map(|f| run(f, lens[usize::from(f)], 5, round * 5)).collect();
                    assert_eq!(tx.submit(&runs, &mut stamper).unwrap(), 15);
                    for r in runs {
                        expected.extend((0..5).map(|n| (r.flow + 7, round * 5 + n, usize::from(r.len))));
                    }
                    if round % 3 == 0 {
                        tx.send_message(2, &[round as u8; 50]).unwrap();
                    }
                    let done = tx.reap(Wait::No).unwrap();
                    assert_eq!(done.failed, 0);
                    reaped += done.packets;
                    let seen = drain(&mut rx, &payload);
                    assert_eq!(seen.packets, expected);
                    assert_eq!(seen.messages.len(), usize::from(round % 3 == 0));
                    expected.clear();
                }
                assert_eq!((reaped, tx.in_flight()), (3000, 0));
                assert_eq!(rx.ignored(), 0);
            }
        }
    }

    #[test]
    fn frames_are_lost_doubled_and_late_as_told() {
        let spec = spec(Payload::zero(), 100);
        let mut nth = 0;
        let fate = move |_: &[u8]| {
            nth += 1;
            match nth {
                2 => Fate::Drop,
                4 => Fate::Twice,
                6 => Fate::Late,
                _ => Fate::Pass,
            }
        };
        let (mut tx, mut rx) = pair_with(&spec, fate).unwrap();
        assert_eq!(tx.submit(&[run(0, 100, 8, 0)], &mut Stamper::new(1)).unwrap(), 8);
        let sequences: Vec<_> = drain(&mut rx, &spec.payload).packets.iter().map(|p| p.1).collect();
        assert_eq!(sequences, [0, 2, 3, 3, 4, 6, 5, 7]);
    }

    #[test]
    fn what_the_receiver_has_no_frame_for_is_counted_once() {
        let spec = spec(Payload::zero(), 18);
        let (mut tx, mut rx) = pair(&spec).unwrap();
        let mut sent = 0;
        while sent < u64::from(sizes::RX) + 500 {
            sent += tx.submit(&[run(0, 18, 64, sent)], &mut Stamper::new(1)).unwrap() as u64;
        }
        let received = drain(&mut rx, &spec.payload).packets.len() as u64;
        let mut losses = Vec::new();
        rx.losses(&mut losses);
        assert_eq!(received, u64::from(sizes::RX));
        assert_eq!(received + losses.iter().map(|l| l.packets).sum::<u64>(), sent);
    }

    #[test]
    fn two_threads() {
        const COUNT: u64 = 100_000;
        let spec = spec(Payload::pattern(), 64);
        let (mut tx, mut rx) = pair(&spec).unwrap();
        let payload = Arc::clone(&spec.payload);
        let receiver = thread::spawn(move || {
            let mut seen = Seen::default();
            let mut losses = Vec::new();
            loop {
                let mut sink = Check { seen: &mut seen, payload: &payload };
                rx.poll(&mut sink, Wait::For(Duration::from_millis(20))).unwrap();
                if seen.messages.len() == 1 {
                    rx.losses(&mut losses);
                    return (seen.packets.len() as u64, losses[0].packets);
                }
            }
        });
        let mut stamper = Stamper::new(1);
        let mut sent = 0;
        while sent < COUNT {
            let count = (COUNT - sent).min(64) as u16;
            sent += tx.submit(&[run(1, 64, count, sent)], &mut stamper).unwrap() as u64;
            if sent.is_multiple_of(1024) {
                thread::yield_now();
            }
        }
        // The end must get through: the receiver empties its ring meanwhile.
        thread::sleep(Duration::from_millis(100));
        tx.send_message(0, b"end").unwrap();
        let (received, lost) = receiver.join().unwrap();
        assert_eq!(received + lost, COUNT);
    }

    #[test]
    fn an_interface_that_goes_away_is_told_by_both_ends() {
        let spec = spec(Payload::zero(), 18);
        let (mut tx, mut rx) = pair(&spec).unwrap();
        rx.kernel().cut();
        let mut seen = Seen::default();
        let mut sink = Check { seen: &mut seen, payload: &spec.payload };
        let error = rx.poll(&mut sink, Wait::For(Duration::from_millis(1))).unwrap_err();
        assert!(error.is_interface_gone());
        assert_eq!(tx.submit(&[run(0, 18, 1, 0)], &mut Stamper::new(1)).unwrap(), 1, "its number is used");
        assert!(tx.reap(Wait::No).unwrap_err().is_interface_gone());
        assert!(tx.submit(&[], &mut Stamper::new(1)).unwrap_err().is_interface_gone());
        assert_eq!(tx.in_flight(), 1);
    }

    #[test]
    fn messages_that_fit_no_frame_are_refused() {
        let (mut tx, _rx) = pair(&spec(Payload::zero(), 18)).unwrap();
        assert!(tx.send_message(0, &[0; 4000]).is_err());
        assert!(tx.send_message(0, &[]).is_ok());
    }
}
