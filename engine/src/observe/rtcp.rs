//! RTCP of a receiver: what it reports on the streams, and who said goodbye.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use rustc_hash::FxHashSet;

use super::config::RecvConfig;
use crate::control::Event;
use crate::measure::tally::StreamTally;
use crate::queue::spec::Interface;
use crate::report::{self, Report, RxCollector, Warning};
use crate::rtcp::{Endpoint, EndpointSpec, ReceptionFigures};
use crate::target::Scheme;

/// How often the streams are looked at, ns: reports are seconds apart.
const LOOK_NS: u64 = 100_000_000;

/// RTCP datagrams that came on the port of RTP and wait to be read.
const MUXED: usize = 256;

/// Longest of them that is kept, bytes.
const LONGEST: usize = 1500;

/// RTCP that came among RTP, from the workers to whoever reads it.
#[derive(Debug, Clone)]
pub struct Inbox(Arc<ArrayQueue<(SocketAddr, Box<[u8]>)>>);

impl Default for Inbox {
    fn default() -> Self {
        Self(Arc::new(ArrayQueue::new(MUXED)))
    }
}

impl Inbox {
    /// Keeps a datagram, if there is room: nobody waits for another.
    #[cold]
    pub(super) fn put(&self, from: SocketAddr, datagram: &[u8]) {
        if datagram.len() <= LONGEST {
            let _ = self.0.push((from, datagram.into()));
        }
    }

    pub(super) fn take(&self) -> Option<(SocketAddr, Box<[u8]>)> {
        self.0.pop()
    }
}

/// RTCP of one receiver; nothing where it does not receive RTP, or was told to be silent.
#[derive(Debug)]
pub(crate) struct ReceiverRtcp {
    endpoint: Option<Endpoint>,
    inbox: Inbox,
    looked_ns: u64,
    left: FxHashSet<u32>,
}

impl ReceiverRtcp {
    /// Opens it for a receiver as configured, whose workers put what they find into its inbox. A warning where it cannot be: packets are received without it.
    pub(super) fn open(
        config: &RecvConfig,
        interface: Option<&Interface>,
        report: &mut Report,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Self {
        let wanted = config.target.scheme == Scheme::Rtp && config.rtcp.on;
        let opened = wanted
            .then(|| Endpoint::open(&EndpointSpec::of_receiver(&config.target, &config.rtcp, interface)));
        let endpoint = match opened.transpose() {
            Ok(endpoint) => endpoint,
            Err(error) => {
                let text = format!("no RTCP: {error}");
                let fix = error.fix.unwrap_or_else(|| "use --rtcp off".to_owned());
                report.warn(Warning { code: "rtcp", text, fix: Some(fix) }, on_event);
                None
            }
        };
        Self { endpoint, inbox: config.inbox.clone(), looked_ns: 0, left: FxHashSet::default() }
    }

    /// Takes in what has been received by `now_ns`.
    pub(super) fn look(&mut self, collector: &RxCollector, now_ns: u64) {
        let Some(endpoint) = &self.endpoint else { return };
        while let Some((from, datagram)) = self.inbox.take() {
            endpoint.receive(from, &datagram);
        }
        if now_ns < self.looked_ns + LOOK_NS {
            return;
        }
        self.looked_ns = now_ns;
        endpoint
            .update(|figures| figures.received = collector.streams().iter().filter_map(reception).collect());
        self.left = endpoint.left();
    }

    /// Whether the sender of this stream said goodbye.
    pub(super) fn has_left(&self, stream: &StreamTally) -> bool {
        reception(stream).is_some_and(|figures| self.left.contains(&figures.ssrc))
    }

    /// Says goodbye; what was said and heard.
    pub(super) fn finish(mut self, collector: &RxCollector) -> Option<report::Rtcp> {
        self.looked_ns = 0;
        self.look(collector, u64::MAX);
        self.endpoint.map(Endpoint::finish)
    }
}

/// What is reported of a stream, if it is RTP.
fn reception(stream: &StreamTally) -> Option<ReceptionFigures> {
    let rtp = stream.media.as_ref()?.rtp.as_ref()?;
    Some(ReceptionFigures {
        ssrc: rtp.ssrc,
        source: stream.key.source,
        destination: stream.key.destination,
        // Cycles have 16 bits in a report.
        highest_seq: rtp.highest as u32,
        expected: rtp.expected,
        received: rtp.received,
        octets: rtp.media_bytes,
        jitter: u32::try_from(rtp.jitter).unwrap_or(u32::MAX),
        last_ns: stream.counters.last_ns,
    })
}
