//! The devices side by side: frames from the kernel's generator, counted and dropped by an XDP program at each member.

use std::time::Duration;

use comfy_table::Table;
use serde::Serialize;
use serde_json::{Value, json};
use wirerate_engine::backend::Choice;
use wirerate_engine::control::Stop;
use wirerate_engine::error::Result;
use wirerate_engine::generate::{self, SendConfig, SizeSpec};
use wirerate_engine::host::cpu::Cpus;
use wirerate_engine::host::interface;
use wirerate_engine::lab::device::{Device, Kind, Options};
use wirerate_engine::lab::{Host, INTERFACE};
use wirerate_engine::multicast::membership::Membership;
use wirerate_engine::profile::rate::Rate;
use wirerate_engine::replicator::xdp::Program;

use crate::gates::Gate;
use crate::stats::Spread;
use crate::{Arguments, GROUP, target};

/// A device at work.
struct Lane {
    device: Device,
    /// Joined for as long as they live.
    _joined: Vec<Membership>,
    counters: Vec<Program>,
    results: Vec<Round>,
}

/// What came of one round.
#[derive(Debug, Clone, Serialize)]
struct Round {
    /// Packets that the sender's interface took, a second.
    offered_pps: f64,
    /// Packets delivered to each member, a second.
    delivered_pps: Vec<f64>,
    /// Packets that arrived at the stranger.
    leaked: u64,
}

impl Round {
    fn total(&self) -> f64 {
        self.delivered_pps.iter().sum()
    }
}

/// Measures all devices.
///
/// # Errors
/// When one cannot be built or fed.
pub fn run(arguments: &Arguments) -> Result<Devices> {
    let mut lanes = Vec::new();
    for name in &arguments.devices {
        eprintln!("building {name}");
        lanes.push(Lane::build(name.parse()?, usize::from(arguments.members))?);
    }
    for round in 1..=arguments.rounds {
        for lane in &mut lanes {
            let result = lane.round(arguments)?;
            eprintln!(
                "round {round}/{}  {:<8} offered {:>7.3} Mpps, delivered {:>7.3} Mpps to {} members",
                arguments.rounds,
                lane.device.kind,
                result.offered_pps / 1e6,
                result.total() / 1e6,
                arguments.members
            );
            lane.results.push(result);
        }
    }
    Ok(Devices { lanes })
}

/// Measured.
pub struct Devices {
    lanes: Vec<Lane>,
}

impl Devices {
    fn median(&self, kind: Kind) -> Option<f64> {
        let lane = self.lanes.iter().find(|lane| lane.device.kind == kind)?;
        Spread::of(lane.results.iter().map(Round::total)).map(|spread| spread.median)
    }

    /// Our replicator against the bridge.
    pub fn gates(&self) -> Vec<Gate> {
        let ratio = self.median(Kind::Xdp).zip(self.median(Kind::Bridge)).map(|(xdp, bridge)| xdp / bridge);
        ratio
            .map(|ratio| Gate::new("xdp replicator, times the bridge", ratio, 1.5, 3.0))
            .into_iter()
            .collect()
    }

    /// For `--json`.
    pub fn json(&self, arguments: &Arguments) -> Value {
        let devices: Vec<_> = self
            .lanes
            .iter()
            .map(|lane| {
                let median = Spread::of(lane.results.iter().map(Round::total));
                json!({"device": lane.device.kind.name(), "delivered_pps": median, "rounds": lane.results})
            })
            .collect();
        json!({"members": arguments.members, "frame_size": arguments.frame_size, "devices": devices})
    }

    /// For people.
    pub fn table(&self) -> Table {
        table(&self.lanes, self.median(Kind::Bridge))
    }
}

fn table(lanes: &[Lane], yardstick: Option<f64>) -> Table {
    let mut table = Table::new();
    table.set_header([
        "device",
        "delivered Mpps",
        "least to most",
        "worst member",
        "offered Mpps",
        "x bridge",
        "leaked",
    ]);
    for lane in lanes {
        let Some(total) = Spread::of(lane.results.iter().map(Round::total)) else { continue };
        let of = |figure: &dyn Fn(&Round) -> f64| {
            Spread::of(lane.results.iter().map(figure)).map_or(0.0, |s| s.median / 1e6)
        };
        let worst = of(&|r| r.delivered_pps.iter().copied().fold(f64::INFINITY, f64::min));
        table.add_row([
            lane.device.kind.name().to_owned(),
            format!("{:.3}", total.median / 1e6),
            format!("{:.3} - {:.3}", total.min / 1e6, total.max / 1e6),
            format!("{worst:.3}"),
            format!("{:.3}", of(&|r| r.offered_pps)),
            yardstick.map_or_else(String::new, |bridge| format!("{:.2}", total.median / bridge)),
            lane.results.iter().map(|r| r.leaked).sum::<u64>().to_string(),
        ]);
    }
    table
}

impl Lane {
    fn build(kind: Kind, members: usize) -> Result<Self> {
        let device = Device::build(kind, members, &Options::default())?;
        let join =
            |host: &Host| host.netns.run(|| Membership::join(&interface::lookup(INTERFACE)?, &target()));
        let joined = device.members.iter().map(join).collect::<Result<Vec<_>>>()?;
        let wanted: Vec<usize> = (0..members).collect();
        device.wait_for(GROUP.ip(), &wanted)?;
        // A replicator that knows of no member drops every group's packet and counts it.
        let drop_and_count = |host: &Host| {
            host.netns.run(|| {
                let mut program = Program::load(&[], 16, true)?;
                program.attach(&[interface::lookup(INTERFACE)?])?;
                Ok(program)
            })
        };
        let counters = device.receivers().map(drop_and_count).collect::<Result<Vec<_>>>()?;
        Ok(Self { device, _joined: joined, counters, results: Vec::new() })
    }

    fn round(&self, arguments: &Arguments) -> Result<Round> {
        let cpus = Cpus::read()?.allowed;
        let before = self.counts()?;
        let send = SendConfig {
            interface: Some(INTERFACE.to_owned()),
            backend: Choice::Xdp,
            cpus: cpus.last().copied().into_iter().collect(),
            sizes: SizeSpec::Frame(arguments.frame_size.parse()?),
            duration: Some(Duration::from_secs(arguments.seconds)),
            rate: Rate::Max,
            ttl: Some(self.device.ttl()),
            kernel_drops: false,
            ..SendConfig::new(target())
        };
        let outcome =
            self.device.sender().netns.run(|| generate::run(&send, &Stop::default(), &mut |_| {}))?;
        if let Some(failure) = outcome.failure {
            return Err(failure);
        }
        // What waits in rings and queues.
        let mut after = self.counts()?;
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.counts()?;
            if now == after {
                break;
            }
            after = now;
        }
        let seconds = arguments.seconds as f64;
        let sent = outcome.report.tx.as_ref().map_or(0, |tx| tx.packets);
        let got: Vec<u64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
        let (stranger, members) = got.split_last().map_or((0, &[][..]), |(last, rest)| (*last, rest));
        Ok(Round {
            offered_pps: sent as f64 / seconds,
            delivered_pps: members.iter().map(|packets| *packets as f64 / seconds).collect(),
            leaked: stranger,
        })
    }

    fn counts(&self) -> Result<Vec<u64>> {
        let dropped = |program: &Program| {
            let fates = program.fates()?;
            Ok(fates.iter().filter(|(fate, _)| *fate == "no-member").map(|(_, frames)| frames).sum())
        };
        self.counters.iter().map(dropped).collect()
    }
}
