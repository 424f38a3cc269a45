//! A sender of RTP: what its packets have to be, and what RTCP says of its streams.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::config::SendConfig;
use super::plan::Plan;
use super::schedule::issued_of;
use crate::backend::Backend;
use crate::clock;
use crate::error::{Error, Result};
use crate::measure::tally::TxTally;
use crate::packet::rtp::HEADER_LEN;
use crate::profile::rate::{MAX_PPS, MIN_PPS};
use crate::profile::rtp::{Rtp, RtpConfig, RtpStream, Timestamps};
use crate::profile::size::Sizes;
use crate::rtcp::{Endpoint, EndpointSpec, SenderFigures, rtcp_address};

/// Whether the packets can be RTP.
///
/// # Errors
/// `Usage`, saying what does not fit.
pub(super) fn check(config: &SendConfig, backend: Backend, sizes: &Sizes) -> Result<()> {
    let Some(rtp) = &config.rtp else { return Ok(()) };
    if backend == Backend::Xdp {
        return Err(Error::usage("--backend xdp: the kernel's generator makes no RTP")
            .fix("use --backend afxdp, uring or mmsg"));
    }
    let head = HEADER_LEN + if rtp.probe { crate::packet::probe::LEN } else { 0 };
    if usize::from(sizes.min()) < head {
        let what = if rtp.probe { "RTP and probe header" } else { "RTP header" };
        let fix = if rtp.probe { " or more, or --no-probe" } else { " or more" };
        return Err(Error::usage(format!("--length {}: too small for {what}", sizes.min()))
            .fix(format!("use --length {head}{fix}")));
    }
    Ok(())
}

/// Packets a second of `streams` streams whose packets last `ptime` each.
///
/// # Errors
/// `Usage` when they are more or fewer than can be paced.
pub(super) fn pps(ptime: Duration, streams: usize) -> Result<f64> {
    let pps = streams as f64 / ptime.as_secs_f64();
    if (MIN_PPS..=MAX_PPS).contains(&pps) {
        return Ok(pps);
    }
    Err(Error::usage(format!("--ptime {ptime:?}: {streams} streams make {pps} packets a second"))
        .fix("from 0.001 to 1000 million are possible"))
}

/// The headers of all streams, `pps` packets a second together.
///
/// # Errors
/// `Failed` when there are no random numbers.
pub(super) fn headers(config: &RtpConfig, pps: Option<f64>, streams: usize) -> Result<Rtp> {
    let seed = getrandom::u64().map_err(|e| Error::failed(format!("no random numbers: {e}")))?;
    let timestamps = match (config.ptime, pps) {
        (Some(ptime), _) => Timestamps::step(units(config.clock_hz, ptime.as_secs_f64())),
        (None, Some(pps)) => Timestamps::step(units(config.clock_hz, streams as f64 / pps)),
        (None, None) => Timestamps::Clock(config.clock_hz, clock::tai_ns()),
    };
    Ok(Rtp::new(config, timestamps, seed))
}

/// Units of the time stamp in so many seconds; those of more than fit a time stamp are of a whole turn.
fn units(clock_hz: u32, seconds: f64) -> f64 {
    (f64::from(clock_hz) * seconds) % 4_294_967_296.0
}

/// RTCP of a sender's streams.
#[derive(Debug)]
pub(super) struct SenderRtcp {
    endpoint: Endpoint,
    rtp: Rtp,
    sizes: Sizes,
    workers: Vec<WorkerStreams>,
    figures: Vec<SenderFigures>,
}

/// The streams of one worker: where they stand in the figures, in the order of its flows.
#[derive(Debug)]
struct WorkerStreams {
    streams: Vec<(usize, RtpStream)>,
    /// Time between two packets of the worker, ns; 0 without a pace.
    interval_ns: f64,
}

impl SenderRtcp {
    /// Opens RTCP for the streams of `plan`; `None` when it is not RTP that is sent, or RTCP is off.
    ///
    /// # Errors
    /// `Environment` when there is no socket for it.
    pub(super) fn open(config: &SendConfig, plan: &Plan) -> Result<Option<Self>> {
        let Some(rtcp) = config.rtp.as_ref().map(|rtp| &rtp.rtcp).filter(|rtcp| rtcp.on) else {
            return Ok(None);
        };
        let Some((rtp, first)) = plan.workers.first().and_then(|w| Some((w.job.rtp?, w))) else {
            return Ok(None);
        };
        let sizes = first.load.sizes.clone();
        let mut workers = Vec::new();
        let mut figures = Vec::new();
        for worker in &plan.workers {
            let mut streams = Vec::new();
            for flow in &worker.spec.flows {
                let stream = rtp.stream(flow.stream);
                streams.push((figures.len(), stream));
                figures.push(SenderFigures {
                    ssrc: stream.ssrc,
                    to: rtcp_address(flow.destination, rtcp.mux),
                    packets: 0,
                    octets: 0,
                    anchor: (stream.first_timestamp, 0),
                    clock_hz: rtp.clock_hz,
                });
            }
            let interval_ns = worker.load.pps.map_or(0.0, |pps| 1e9 / pps);
            workers.push(WorkerStreams { streams, interval_ns });
        }
        let endpoint = Endpoint::open(&EndpointSpec::of_sender(config, rtcp, plan.interface.as_ref()))?;
        Ok(Some(Self { endpoint, rtp, sizes, workers, figures }))
    }

    /// Takes in what a worker has sent.
    pub(super) fn absorb(&mut self, tally: &TxTally) {
        let Some(WorkerStreams { streams, interval_ns }) = self.workers.get(tally.worker) else { return };
        let (count, turn) = (streams.len() as u64, tally.turn);
        for (flow, (at, stream)) in (0u64..).zip(streams) {
            let issued = issued_of(tally.issued, turn, count, flow);
            if issued == 0 {
                continue;
            }
            let figures = &mut self.figures[*at];
            // What was refused is known for the queue, not for each stream: it stands with the first.
            let refused = if flow == 0 { tally.errors } else { 0 };
            figures.packets = issued.saturating_sub(refused);
            figures.octets =
                self.sizes.total(figures.packets).saturating_sub(figures.packets * HEADER_LEN as u64);
            // The stream's last packet, and how many of others' came after it.
            let last = issued - 1;
            let place = last / turn * turn * count + flow * turn + last % turn;
            let behind = tally.issued.saturating_sub(1 + place) as f64 * interval_ns;
            let then_ns = tally.last_ns.saturating_sub(behind as u64);
            figures.anchor = (self.rtp.timestamp(stream, last, then_ns), then_ns);
        }
    }

    /// Has the endpoint know.
    pub(super) fn update(&self) {
        self.endpoint.update(|figures| figures.sent.clone_from(&self.figures));
    }

    /// Says goodbye; what was said and heard.
    pub(super) fn finish(self) -> crate::report::Rtcp {
        self.update();
        self.endpoint.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_the_pace() {
        assert_eq!(units(8000, 0.02), 160.0);
        assert_eq!(pps(Duration::from_millis(20), 3).unwrap(), 150.0);
        assert!(pps(Duration::from_nanos(1), 4096).is_err());
        let config = RtpConfig::new(0);
        assert_eq!(headers(&config, Some(100.0), 2).unwrap().timestamps, Timestamps::step(160.0));
        assert!(matches!(headers(&config, None, 2).unwrap().timestamps, Timestamps::Clock(8000, _)));
        let ptime = RtpConfig { ptime: Some(Duration::from_millis(30)), ..config };
        assert_eq!(headers(&ptime, Some(1e6), 2).unwrap().timestamps, Timestamps::step(240.0));
    }
}
