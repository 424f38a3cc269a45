//! TCP by a real iperf3, bound to the address of the interface under test.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Tcp;
use super::far::Far;
use super::report::Traffic;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::interop::peer::{Kind, Place, iperf3};
use crate::report::Warning;

/// Runs iperf3's client towards its server, which is started by the agent where there is one.
///
/// # Errors
/// Environment when iperf3 is not installed; failed with what it says when it fails.
pub(super) fn run(
    tcp: &Tcp,
    bind: Option<IpAddr>,
    back: bool,
    duration: Duration,
    far: Option<&mut Far>,
    stop: &Stop,
    warnings: &mut Vec<Warning>,
) -> Result<Traffic> {
    Place::Here.find(Kind::Iperf3, tcp.program.as_deref())?;
    let mut serving = None;
    let mut place = far.map(|far| Place::Agent(&mut far.agent));
    if let Some(place) = &mut place {
        let server = iperf3::Server::new(tcp.server.port());
        match server.start(place) {
            Ok(started) => serving = Some(started),
            // Somebody may run one there already.
            Err(error) => warnings.push(Warning {
                code: "far-iperf3",
                text: format!(
                    "no iperf3 server was started at the far end, one is expected to listen: {}",
                    error.what
                ),
                fix: error.fix,
            }),
        }
    }
    let mut client = iperf3::Client::new(tcp.server.ip());
    client.program.clone_from(&tcp.program);
    (client.port, client.bind, client.duration) = (tcp.server.port(), bind, duration);
    (client.streams, client.reverse) = (tcp.streams, back);
    let begin = Instant::now();
    let ran = client.start(&mut Place::Here).and_then(|running| Place::Here.finish(running, stop));
    let duration = begin.elapsed();
    // The server ends with its client; without one it is ended.
    if let (Some(place), Some(serving)) = (&mut place, serving) {
        let _ = serving.end(place);
    }
    let ended = ran?;
    let result = iperf3::read(&ended, "the client", stop.is_requested())?;
    let raw = serde_json::from_str(&ended.stdout)
        .map_err(|e| Error::failed(format!("iperf3: what it wrote is no JSON: {e}")))?;
    let bps = |figures: Option<iperf3::Figures>| figures.map(|f| f.bits_per_second.max(0.0) as u64);
    Ok(Traffic {
        kind: "tcp",
        direction: if back { "back" } else { "out" },
        target: tcp.server.to_string(),
        duration_ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
        sent_bps: bps(result.sent),
        received_bps: bps(result.received),
        retransmits: result.sent.and_then(|f| f.retransmits),
        report: Some(raw),
        ..Traffic::default()
    })
}
