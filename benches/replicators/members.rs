//! Datagrams through the bridge to members that receive them: ours and iperf 2's, one sender, one group.
//!
//! Each way is first given its best: where its receivers run, and the highest rate at which all members together lose less than 0.1 %. Then all take turns at those rates, round
//! by round, and of the rounds the median is told. Counts are the receivers' own; the time is that for which the sender sent, or from the first arrival to the last where that is
//! longer, so that what waits in buffers when the sender ends is not received in no time.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use comfy_table::Table;
use serde::Serialize;
use serde_json::{Value, json};
use wirerate_benches::{IperfServer, iperf_server};
use wirerate_engine::backend::Choice;
use wirerate_engine::control::{Event, Outcome, Stop};
use wirerate_engine::error::{Error, Result};
use wirerate_engine::generate::{self, SendConfig, SizeSpec};
use wirerate_engine::host::cpu::Cpus;
use wirerate_engine::lab::device::{Device, Kind, Options};
use wirerate_engine::lab::{Host, INTERFACE};
use wirerate_engine::observe::{self, RecvConfig};
use wirerate_engine::profile::rate::Rate;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::profile::size::SizeList;

use crate::gates::Gate;
use crate::stats::Spread;
use crate::{Arguments, GROUP, target};

/// Loss of all members together that a rate may have.
const TOLERANCE: f64 = 0.001;

/// Loss up to which a trial is repeated once.
const HICCUP: f64 = 0.03;

/// How many times the interval of the search is halved, by ratio: to 1/64 of it.
const STEPS: u32 = 6;

/// Time of a trial of the search.
const SEARCH_TRIAL: Duration = Duration::from_millis(700);

/// How long what is under way is waited for.
const RESIDUAL: Duration = Duration::from_millis(300);

/// How long programs may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The iperf pair that the distribution has.
const IPERF: &str = "iperf";

/// A way to send and to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Ours: by these sockets, with super-buffers or frame by frame. Receivers are mmsg, as `--backend auto` has it.
    Ours(Choice, Segments),
    /// iperf 2.
    Iperf,
}

/// Where our receivers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Placement {
    /// On all CPUs but the sender's.
    Apart,
    /// On all CPUs.
    Everywhere,
    /// Wherever the kernel has them run.
    Scheduler,
}

/// What came of one trial.
#[derive(Debug, Clone, Copy, Serialize)]
struct Trial {
    /// Packets sent, a second.
    sent_pps: f64,
    /// Received by all members together, bit/s of payload.
    delivered_bps: f64,
    /// Of what was to be received.
    loss: f64,
    /// Of the member that lost the most.
    worst_loss: f64,
}

/// A way, with what was found to be best for it.
struct Lane {
    name: &'static str,
    way: Way,
    placement: Placement,
    /// Packets a second; `None`: as fast as it goes.
    rate: Option<f64>,
    rounds: Vec<Trial>,
}

/// Measured.
pub struct Members {
    lanes: Vec<Lane>,
}

/// Measures all ways through one bridge.
///
/// # Errors
/// When the lab cannot be built, or nothing arrives.
pub fn run(arguments: &Arguments) -> Result<Members> {
    eprintln!("building a bridge with {} members", arguments.receivers);
    let device = Device::build(Kind::Bridge, usize::from(arguments.receivers), &Options::default())?;
    let bed = Bed { device, length: arguments.length };
    let mut ways = vec![
        ("uring, GSO", Way::Ours(Choice::Uring, Segments::Auto)),
        ("mmsg, GSO", Way::Ours(Choice::Mmsg, Segments::Auto)),
        ("uring, --segments off", Way::Ours(Choice::Uring, Segments::Off)),
        ("mmsg, --segments off", Way::Ours(Choice::Mmsg, Segments::Off)),
    ];
    if Command::new(IPERF).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok() {
        ways.push(("iperf 2", Way::Iperf));
    } else {
        eprintln!("iperf is not installed: measured without it (apt-get install iperf)");
    }
    let mut lanes = Vec::new();
    for (name, way) in ways {
        lanes.push(bed.tune(name, way)?);
    }
    let time = Duration::from_secs(arguments.seconds);
    for round in 1..=arguments.rounds {
        for lane in &mut lanes {
            let trial = bed.trial(lane.way, lane.placement, lane.rate, time)?;
            say(&format!("round {round}/{}", arguments.rounds), lane.name, &trial);
            // What was found in short trials may be too much for long ones.
            if trial.loss >= TOLERANCE {
                lane.rate = Some(lane.rate.unwrap_or(trial.sent_pps).min(trial.sent_pps) * 0.95);
            }
            lane.rounds.push(trial);
        }
    }
    Ok(Members { lanes })
}

fn say(when: &str, name: &str, trial: &Trial) {
    eprintln!(
        "{when}  {name:<22} sent {:>7.1} kpps, delivered {:>7.3} Gbit/s, loss {:.4} %",
        trial.sent_pps / 1e3,
        trial.delivered_bps / 1e9,
        trial.loss * 100.0
    );
}

struct Bed {
    device: Device,
    length: u16,
}

impl Bed {
    /// The best that a way can.
    fn tune(&self, name: &'static str, way: Way) -> Result<Lane> {
        let placements = match way {
            Way::Ours(..) => &[Placement::Apart, Placement::Everywhere][..],
            Way::Iperf => &[Placement::Scheduler],
        };
        let mut best: Option<(f64, Placement, Option<f64>)> = None;
        for &placement in placements {
            let full = self.trial(way, placement, None, SEARCH_TRIAL)?;
            let mut found = (full.loss < TOLERANCE).then_some((full.delivered_bps, None));
            if found.is_none() {
                let (mut low, mut high) = ((full.sent_pps / 50.0).max(500.0), full.sent_pps.max(1000.0));
                for _ in 0..STEPS {
                    let rate = (low * high).sqrt();
                    let mut trial = self.trial(way, placement, Some(rate), SEARCH_TRIAL)?;
                    // One hiccup of the machine is no verdict; far too much is no hiccup.
                    if (TOLERANCE..HICCUP).contains(&trial.loss) {
                        trial = self.trial(way, placement, Some(rate), SEARCH_TRIAL)?;
                    }
                    if trial.loss < TOLERANCE {
                        low = rate;
                        if found.is_none_or(|(bps, _)| trial.delivered_bps > bps) {
                            found = Some((trial.delivered_bps, Some(rate)));
                        }
                    } else {
                        high = rate;
                    }
                }
            }
            if let Some((bps, rate)) = found
                && best.is_none_or(|(best, ..)| bps > best)
            {
                best = Some((bps, placement, rate));
            }
        }
        let (bps, placement, rate) =
            best.ok_or_else(|| Error::failed(format!("{name}: lost packets at every rate")))?;
        eprintln!(
            "tuned     {name:<22} {:.3} Gbit/s at {}, receivers {placement:?}",
            bps / 1e9,
            rate.map_or("full speed".to_owned(), |rate| format!("{:.1} kpps", rate / 1e3))
        );
        Ok(Lane { name, way, placement, rate, rounds: Vec::new() })
    }

    fn trial(&self, way: Way, placement: Placement, rate: Option<f64>, time: Duration) -> Result<Trial> {
        let (sent, seconds, received) = match way {
            Way::Ours(backend, segments) => self.ours(backend, segments, placement, rate, time)?,
            Way::Iperf => self.iperf(rate, time)?,
        };
        let members = received.len() as f64;
        let got: u64 = received.iter().sum();
        let lost = |got: u64, of: f64| ((of - got as f64) / of.max(1.0)).max(0.0);
        if sent == 0 || got == 0 {
            return Err(Error::failed("nothing arrived through the bridge"));
        }
        Ok(Trial {
            sent_pps: sent as f64 / seconds,
            delivered_bps: got as f64 * f64::from(self.length) * 8.0 / seconds,
            loss: lost(got, sent as f64 * members),
            worst_loss: received.iter().map(|got| lost(*got, sent as f64)).fold(0.0, f64::max),
        })
    }

    /// Packets sent, in how many seconds, and received by each member.
    fn ours(
        &self,
        backend: Choice,
        segments: Segments,
        placement: Placement,
        rate: Option<f64>,
        time: Duration,
    ) -> Result<(u64, f64, Vec<u64>)> {
        let cpus = Cpus::read()?.allowed;
        let others = match placement {
            Placement::Apart => &cpus[..cpus.len().saturating_sub(1).max(1)],
            Placement::Everywhere | Placement::Scheduler => &cpus[..],
        };
        let stop = Stop::default();
        let send = SendConfig {
            interface: Some(INTERFACE.to_owned()),
            backend,
            cpus: cpus.last().copied().into_iter().collect(),
            sizes: SizeSpec::Length(SizeList::Cycle(vec![self.length.into()])),
            duration: Some(time),
            rate: rate.map_or(Rate::Max, Rate::Pps),
            segments,
            kernel_drops: false,
            ..SendConfig::new(target())
        };
        thread::scope(|scope| {
            let (ready, readiness) = mpsc::channel();
            let receivers: Vec<_> = self
                .device
                .members
                .iter()
                .enumerate()
                .map(|(n, host)| {
                    let recv = RecvConfig {
                        interface: Some(INTERFACE.to_owned()),
                        backend: Choice::Mmsg,
                        cpus: vec![others[n % others.len()]],
                        segments,
                        kernel_drops: false,
                        keep: true,
                        ..RecvConfig::new(target())
                    };
                    let (ready, stop) = (ready.clone(), stop.clone());
                    scope.spawn(move || {
                        let outcome = host.netns.run(|| {
                            observe::run(&recv, &stop, &mut |event| {
                                if matches!(event, Event::Ready) {
                                    let _ = ready.send(true);
                                }
                            })
                        });
                        let _ = ready.send(false);
                        outcome
                    })
                })
                .collect();
            drop(ready);
            let all_ready = receivers.iter().all(|_| readiness.recv() == Ok(true));
            let sent = if all_ready {
                self.device
                    .wait_for_members(GROUP.ip(), receivers.len())
                    .and_then(|()| self.on_sender(|| generate::run(&send, &Stop::default(), &mut |_| {})))
            } else {
                Err(Error::failed("a receiver could not start"))
            };
            thread::sleep(RESIDUAL);
            stop.request();
            let received = receivers
                .into_iter()
                .map(|receiver| receiver.join().unwrap_or_else(|_| Err(Error::failed("a receiver panicked"))))
                .map(|outcome| {
                    Ok(finished(outcome)?.report.rx.map_or((0, 0), |rx| (rx.unique, rx.duration_ns)))
                })
                .collect::<Result<Vec<(u64, u64)>>>();
            let received = received?;
            let longest = received.iter().map(|(_, ns)| *ns).max().unwrap_or(0);
            let tx = finished(sent)?.report.tx.ok_or_else(|| Error::failed("the sender told nothing"))?;
            let ns = tx.duration_ns.max(longest);
            Ok((tx.packets, ns as f64 / 1e9, received.into_iter().map(|(packets, _)| packets).collect()))
        })
    }

    fn on_sender<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.device.sender().netns.run(work)
    }

    /// As [`ours`](Self::ours), by iperf's client and a server at each member.
    fn iperf(&self, rate: Option<f64>, time: Duration) -> Result<(u64, f64, Vec<u64>)> {
        let group = GROUP.ip().to_string();
        let length = self.length.to_string();
        let mut servers = Vec::new();
        for host in &self.device.members {
            servers.push(Server::start(host, &["-s", "-u", "-B", &group, "-l", &length])?);
        }
        self.device.wait_for_members(GROUP.ip(), servers.len())?;
        // It has no word for "as fast as it goes"; this is more than it can.
        let rate = rate.map_or_else(|| "20000000pps".to_owned(), |rate| format!("{}pps", rate as u64));
        let time = format!("{:.1}", time.as_secs_f64());
        let client = ["-c", &group, "-u", "-b", &rate, "-l", &length, "-t", &time, "-T", "4"];
        let mut command = self.device.sender().command(IPERF);
        let output =
            command.args(client).stdin(Stdio::null()).output().map_err(|e| {
                Error::environment("cannot run iperf").because(e).fix("apt-get install iperf")
            })?;
        let (sent, seconds) = client_sent(&String::from_utf8_lossy(&output.stdout))
            .ok_or_else(|| Error::failed("iperf's client told no datagrams"))?;
        thread::sleep(RESIDUAL);
        // A server that heard nothing, or of which the end was lost, has no line.
        let told: Vec<Option<IperfServer>> = servers.into_iter().map(Server::end).collect();
        let longest = told.iter().flatten().map(|told| told.seconds).fold(seconds, f64::max);
        let received = told.iter().map(|told| told.map_or(0, |told| told.total.saturating_sub(told.lost)));
        Ok((sent, longest, received.collect()))
    }
}

fn finished(outcome: Result<Outcome>) -> Result<Outcome> {
    let mut outcome = outcome?;
    outcome.failure.take().map_or(Ok(outcome), Err)
}

/// Datagrams and seconds in the lines of iperf's client: `[  1] 0.0000-0.7008 sec …` and `[  1] Sent 1234 datagrams`.
fn client_sent(text: &str) -> Option<(u64, f64)> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let sent = text.lines().map(words).find_map(|words| {
        let at = words.iter().position(|word| word == "Sent")?;
        words.get(at + 1)?.parse().ok()
    })?;
    let seconds = text.lines().map(words).find_map(|words| {
        let at = words.iter().position(|word| word == "sec")?;
        let (from, to) = words.get(at.checked_sub(1)?)?.split_once('-')?;
        Some(to.parse::<f64>().ok()? - from.parse::<f64>().ok()?)
    })?;
    Some((sent, seconds))
}

/// An iperf server, killed when dropped.
struct Server {
    child: Child,
    said: File,
}

impl Server {
    fn start(host: &Host, words: &[&str]) -> Result<Self> {
        let failed = |e| Error::environment("cannot run iperf").because(e).fix("apt-get install iperf");
        let said = tempfile::tempfile().map_err(failed)?;
        let out = said.try_clone().map_err(failed)?;
        let child = host
            .command(IPERF)
            .args(words)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        Ok(Self { child, said })
    }

    fn text(&mut self) -> String {
        use std::io::{Read, Seek, SeekFrom};
        let mut text = String::new();
        let _ = self.said.seek(SeekFrom::Start(0));
        let _ = self.said.read_to_string(&mut text);
        text
    }

    /// Asks it to end, and reads what it told of the test.
    fn end(mut self) -> Option<IperfServer> {
        let start = Instant::now();
        let _ = Command::new("kill")
            .args(["-s", "INT", &self.child.id().to_string()])
            .stderr(Stdio::null())
            .status();
        while matches!(self.child.try_wait(), Ok(None))
            && start.elapsed() < PATIENCE.min(Duration::from_secs(2))
        {
            thread::sleep(Duration::from_millis(5));
        }
        iperf_server(&self.text())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lane {
    fn gbps(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(|round| round.delivered_bps / 1e9))
    }

    fn loss(&self) -> f64 {
        Spread::of(self.rounds.iter().map(|round| round.loss)).map_or(1.0, |loss| loss.median)
    }
}

impl Members {
    /// Median of the best of ours with these segments, among those whose loss was small.
    fn best(&self, gso: bool) -> Option<f64> {
        let ours =
            |lane: &&Lane| matches!(lane.way, Way::Ours(_, segments) if (segments != Segments::Off) == gso);
        let small = self.lanes.iter().filter(ours).filter(|lane| lane.loss() < TOLERANCE);
        small.filter_map(|lane| Some(lane.gbps()?.median)).max_by(f64::total_cmp)
    }

    /// Against numbers, and against iperf.
    pub fn gates(&self) -> Vec<Gate> {
        let iperf = self.lanes.iter().find(|lane| lane.way == Way::Iperf).and_then(Lane::gbps);
        // Nothing with little loss is nothing.
        let (gso, off) = (self.best(true).unwrap_or(0.0), self.best(false).unwrap_or(0.0));
        let mut gates = vec![Gate::new("Gbit/s through the bridge, GSO", gso, 10.0, 40.0)];
        if let Some(iperf) = iperf {
            gates.push(Gate::only("GSO, times iperf 2", gso / iperf.median, 5.0));
            gates.push(Gate::only("--segments off, times iperf 2", off / iperf.median, 1.3));
        }
        gates
    }

    /// For `--json`.
    pub fn json(&self, arguments: &Arguments) -> Value {
        let lanes: Vec<_> = self
            .lanes
            .iter()
            .map(|lane| {
                json!({"way": lane.name, "receivers_on": lane.placement, "rate_pps": lane.rate,
                       "delivered_gbps": lane.gbps(), "loss": lane.loss(), "rounds": lane.rounds})
            })
            .collect();
        json!({"members": arguments.receivers, "payload_bytes": arguments.length, "ways": lanes})
    }

    /// For people.
    pub fn table(&self) -> Table {
        let iperf = self.lanes.iter().find(|lane| lane.way == Way::Iperf).and_then(Lane::gbps);
        let mut table = Table::new();
        table.set_header([
            "way",
            "Gbit/s of all members",
            "least to most",
            "loss %",
            "worst member %",
            "sent kpps",
            "x iperf 2",
        ]);
        for lane in &self.lanes {
            let Some(gbps) = lane.gbps() else { continue };
            let median = |figure: fn(&Trial) -> f64| {
                Spread::of(lane.rounds.iter().map(figure)).map_or(0.0, |spread| spread.median)
            };
            table.add_row([
                lane.name.to_owned(),
                format!("{:.3}", gbps.median),
                format!("{:.3} - {:.3}", gbps.min, gbps.max),
                format!("{:.4}", lane.loss() * 100.0),
                format!("{:.4}", median(|round| round.worst_loss) * 100.0),
                format!("{:.1}", median(|round| round.sent_pps) / 1e3),
                iperf.map_or_else(String::new, |iperf| format!("{:.2}", gbps.median / iperf.median)),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::client_sent;

    #[test]
    fn reads_the_clients_lines() {
        let text = "[ ID] Interval       Transfer     Bandwidth\n\
            [  1] 0.0000-0.7008 sec  1.23 MBytes  14.7 Mbits/sec\n[  1] Sent 889 datagrams\n";
        let (sent, seconds) = client_sent(text).unwrap();
        assert_eq!(sent, 889);
        assert!((seconds - 0.7008).abs() < 1e-9);
        assert!(client_sent("connect failed: Network is unreachable\n").is_none());
    }
}
