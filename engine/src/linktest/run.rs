//! One link test, from the choice of an interface to the verdict.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::far::{ANSWER, Far};
use super::ptp::Check as PtpCheck;
use super::report::{self, Interface, Report, SCHEMA, Traffic};
use super::select::{self, Chosen};
use super::tcp;
use super::transfer::{End, Load, transfer};
use super::{Config, Event, Outcome};
use crate::agent::{Agent, Launch};
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::host::health::{self, Finding, Part, Severity, Snapshot};
use crate::profile::rate::{Layer, Rate};
use crate::report::{Check, Outcome as Verdicts, Verdict, Warning};

/// How often a request to stop is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// How long drivers get to bring counters up to date that they read once a second or two.
const SETTLE: Duration = Duration::from_secs(2);

/// As [`SETTLE`], where there is no device.
const SETTLE_VIRTUAL: Duration = Duration::from_millis(200);

/// UDP port of a calibration where no target names one.
const CALIBRATION_PORT: u16 = 5001;

/// Part of what a calibration found, or of the link's speed, that is offered.
const SHARE: f64 = 0.9;

/// Runs a link test; `stop` ends it early, with what was found by then.
///
/// # Errors
/// What keeps it from beginning: no interface, no agent, counters that cannot be read. What fails later is in the outcome.
pub fn run(config: &Config, stop: &Stop, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    check(config)?;
    let started_at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let towards = config.tcp.as_ref().map(|t| t.server.ip()).or(config.udp.map(|u| u.ip()));
    let chosen = select::choose(config.interface.as_deref(), towards)?;
    let mut test = Test {
        config,
        chosen,
        far: None,
        near: None,
        rate: None,
        steps: Vec::new(),
        warnings: Vec::new(),
        stop,
        on_event,
    };
    test.introduce()?;
    if let Some(command) = &config.far {
        test.reach(command, towards)?;
    }
    let calibration = config.calibrate.map(|time| test.calibrate(time)).transpose()?.unwrap_or_default();
    let mut ptp = config.ptp.then(|| PtpCheck::open(&test.chosen.link)).transpose()?;
    let begin = Instant::now();
    let before = Snapshot::take(&test.chosen.link.name)?;
    if let Some(far) = &mut test.far {
        far.watch()?;
    }
    test.step(format!(
        "counters read: {} of the driver, {} of the kernel",
        before.counters.ethtool.len(),
        before.counters.rtnl.len()
    ));
    (test.on_event)(Event::Ready);

    let mut traffic = Vec::new();
    let mut heard_there = None;
    let mut failure = test.traffic(&mut traffic).err();
    if let (None, Some(check)) = (&failure, &mut ptp) {
        match test.ptp(check) {
            Ok(heard) => heard_there = heard,
            Err(error) => failure = Some(error),
        }
    }
    if !test.has_traffic() && failure.is_none() {
        test.step(format!("waiting for {}, without traffic of its own", seconds(config.duration)));
        test.wait(config.duration, "waiting");
    }
    let device = before.bus.is_some() || before.pcie.is_some();
    let settle = config.settle.unwrap_or(if device { SETTLE } else { SETTLE_VIRTUAL });
    // Counts even when the test is stopped: drivers are late all the same.
    thread::sleep(settle);
    let after = Snapshot::take(&test.chosen.link.name)?;
    test.step("counters read again".to_owned());
    let findings = health::compare(&before, &after, &config.limits);
    let mut far = test.far.as_mut().map(|far| far.judge(&config.limits)).transpose()?;
    if let Some(far) = &mut far {
        far.ptp_heard = heard_there;
    }
    let far_addresses = test.far.as_ref().map(|far| far.addresses.clone()).unwrap_or_default();
    let ptp = ptp.map(|check| check.report(&far_addresses)).transpose()?;
    test.warn_of_loss(&traffic, &findings, far.as_ref());
    if stop.is_requested() && begin.elapsed() < config.duration {
        test.warn(Warning {
            code: "stopped-early",
            text: "the test was stopped before its time: what it says is of the time before".to_owned(),
            fix: None,
        });
    }
    let verdict = judge(&test.chosen, &findings, far.as_ref(), &traffic, failure.as_ref());
    let everywhere = findings.iter().chain(far.iter().flat_map(|far| &far.findings));
    let report = Report {
        schema: SCHEMA,
        started_at,
        duration_ns: u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX),
        config: effective(config, test.rate.as_deref()),
        interface: Interface {
            name: test.chosen.link.name.clone(),
            why: test.chosen.why.clone(),
            addresses: test.chosen.addresses.iter().map(|(ip, prefix)| format!("{ip}/{prefix}")).collect(),
        },
        replace: replace(everywhere),
        calibration,
        traffic,
        ptp,
        before,
        after,
        findings,
        far,
        steps: test.steps,
        warnings: test.warnings,
        verdict,
    };
    Ok(Outcome { report, failure })
}

/// # Errors
/// Usage, where options contradict each other.
fn check(config: &Config) -> Result<()> {
    config.limits.check()?;
    let needs_far = |what: &str| {
        Err(Error::usage(format!("{what} needs an agent at the other end"))
            .fix("add --far with the command that starts one: --far 'ssh host2 wirerate agent'"))
    };
    if config.far.is_none() {
        if config.reverse && (config.udp.is_some() || config.multicast.is_some()) {
            return needs_far("--reverse with --udp or --multicast");
        }
        if config.calibrate.is_some() && config.tcp.is_none() {
            return needs_far("--calibrate without --tcp");
        }
    }
    if let Some(group) = config.multicast.filter(|group| !group.ip().is_multicast()) {
        return Err(Error::usage(format!("--multicast {group}: no multicast group"))
            .fix("name one from 224.0.0.0/4 or ff00::/8, as 239.1.2.3:5001; for a host there is --udp"));
    }
    if let Some(host) = config.udp.filter(|host| host.ip().is_multicast()) {
        return Err(Error::usage(format!("--udp {host}: a multicast group")).fix("use --multicast for it"));
    }
    Ok(())
}

struct Test<'a> {
    config: &'a Config,
    chosen: Chosen,
    far: Option<Far>,
    near: Option<Agent>,
    /// What is offered, where it was worked out.
    rate: Option<String>,
    steps: Vec<String>,
    warnings: Vec<Warning>,
    stop: &'a Stop,
    on_event: &'a mut dyn FnMut(Event<'_>),
}

impl Test<'_> {
    fn step(&mut self, text: String) {
        (self.on_event)(Event::Step(&text));
        self.steps.push(text);
    }

    fn warn(&mut self, warning: Warning) {
        (self.on_event)(Event::Warning(&warning));
        self.warnings.push(warning);
    }

    fn has_traffic(&self) -> bool {
        let c = self.config;
        c.tcp.is_some() || c.udp.is_some() || c.multicast.is_some() || c.ptp
    }

    /// Says what is tested, as somebody who looks for a fault wants to know it.
    fn introduce(&mut self) -> Result<()> {
        let (name, why) = (self.chosen.link.name.clone(), self.chosen.why.clone());
        let addresses: Vec<_> = self.chosen.addresses.iter().map(|(ip, p)| format!("{ip}/{p}")).collect();
        let addresses = if addresses.is_empty() { "no address".to_owned() } else { addresses.join(" ") };
        self.step(format!("interface {name}: {why}; {addresses}"));
        let taken = Snapshot::take(&name)?;
        let link = taken.link;
        let speed = link.speed_bps.map_or("speed not told".to_owned(), |bps| health::Speed(bps).to_string());
        let duplex = link.duplex.map_or(String::new(), |duplex| format!(", {} duplex", duplex.name()));
        let negotiation = link
            .autonegotiation
            .map_or(String::new(), |a| format!(", autonegotiation {}", format!("{a:?}").to_lowercase()));
        let driver = taken.driver.map_or(String::new(), |driver| format!(", driver {driver}"));
        self.step(format!(
            "link {}: {speed}{duplex}{negotiation}{driver}",
            if link.carrier { "up" } else { "down" }
        ));
        Ok(())
    }

    fn reach(&mut self, command: &str, target: Option<IpAddr>) -> Result<()> {
        let far = Far::reach(command, self.config.far_interface.as_deref(), &self.chosen, target)?;
        let text = format!("far end {}: interface {}", far.agent.hello().host, far.interface);
        self.far = Some(far);
        self.step(text);
        Ok(())
    }

    /// What the link does each way, before counters are read: a load without limit may well lose packets.
    fn calibrate(&mut self, time: Duration) -> Result<Vec<Traffic>> {
        let mut found = Vec::new();
        for back in [false, true] {
            if self.stop.is_requested() {
                break;
            }
            let traffic = match (&self.config.tcp, &self.far) {
                (Some(_), _) => self.tcp(back, time)?,
                (None, _) => self.udp_calibration(back, time)?,
            };
            let bps = traffic.received_bps.or(traffic.sent_bps).unwrap_or(0);
            let way = if back { "far to here" } else { "here to far" };
            self.step(format!("calibration, {way}: {} by {}", rate(bps), traffic.kind));
            found.push(traffic);
        }
        let wanted = found.iter().find(|t| (t.direction == "back") == self.config.reverse);
        if let Some(bps) = wanted.and_then(|t| t.received_bps).filter(|bps| *bps > 0) {
            self.rate = Some(format!("{}", (bps as f64 * SHARE) as u64));
        }
        Ok(found)
    }

    fn udp_calibration(&mut self, back: bool, time: Duration) -> Result<Traffic> {
        let port = self.config.udp.map_or(CALIBRATION_PORT, |target| target.port());
        let like = self.config.udp.map_or(IpAddr::from([0, 0, 0, 0]), |target| target.ip());
        let target = match self.config.udp.filter(|_| !back) {
            Some(target) => target,
            None => SocketAddr::new(self.end_address(!back, like)?, port),
        };
        self.send("udp", target, back, "max", time)
    }

    /// An address of the far end or of this one.
    fn end_address(&self, far: bool, like: IpAddr) -> Result<IpAddr> {
        let found =
            if far { self.far.as_ref().and_then(|far| far.address(like)) } else { self.chosen.address(like) };
        found.ok_or_else(|| {
            let which = if far { "the far end's interface" } else { self.chosen.link.name.as_str() };
            let family = if like.is_ipv4() { "IPv4" } else { "IPv6" };
            Error::environment(format!("{which} has no {family} address"))
                .fix("give it one, or name the target by --udp")
        })
    }

    fn traffic(&mut self, done: &mut Vec<Traffic>) -> Result<()> {
        let config = self.config;
        if let Some(tcp) = &config.tcp {
            self.step(format!(
                "TCP {} {} for {}, by iperf3",
                arrow(config.reverse),
                tcp.server,
                seconds(config.duration)
            ));
            let traffic = self.tcp(config.reverse, config.duration)?;
            self.tell(&traffic);
            done.push(traffic);
        }
        let loads = [("udp", config.udp), ("multicast", config.multicast)];
        for (kind, target) in loads.into_iter().filter_map(|(kind, target)| Some((kind, target?))) {
            if self.stop.is_requested() {
                break;
            }
            let offered = self.offered();
            let target = match kind {
                // From the far end it is for us.
                "udp" if config.reverse => {
                    SocketAddr::new(self.end_address(false, target.ip())?, target.port())
                }
                _ => target,
            };
            self.step(format!(
                "{kind} {} {target} at {} for {}",
                arrow(config.reverse),
                load_bps(&offered).map_or_else(|| offered.clone(), rate),
                seconds(config.duration)
            ));
            let traffic = self.send(kind, target, config.reverse, &offered, config.duration)?;
            self.tell(&traffic);
            self.warn_of_low_load(&offered, &traffic);
            done.push(traffic);
        }
        Ok(())
    }

    /// A link that was not loaded as asked is tested less than asked.
    fn warn_of_low_load(&mut self, offered: &str, traffic: &Traffic) {
        let (Some(wanted), Some(sent)) = (load_bps(offered), traffic.sent_bps) else { return };
        if (sent as f64) < SHARE * wanted as f64 && !self.stop.is_requested() {
            self.warn(Warning {
                code: "below-load",
                text: format!("{}: {} were sent of the {} asked for", traffic.kind, rate(sent), rate(wanted)),
                fix: Some("ask for less by --rate, or see what keeps the sender: wirerate doctor".to_owned()),
            });
        }
    }

    /// The load of UDP and multicast.
    fn offered(&mut self) -> String {
        let told = self.config.rate.clone().or_else(|| self.rate.clone());
        let rate = told.unwrap_or_else(|| {
            let speed = Snapshot::take(&self.chosen.link.name).ok().and_then(|s| s.link.speed_bps);
            if speed.is_some() { format!("{}%", SHARE * 100.0) } else { "1G".to_owned() }
        });
        self.rate = Some(rate.clone());
        rate
    }

    fn tell(&mut self, traffic: &Traffic) {
        let mut text =
            format!("{} {}: sent {}", traffic.kind, traffic.direction, rate(traffic.sent_bps.unwrap_or(0)));
        if let Some(bps) = traffic.received_bps {
            text += &format!(", received {}", rate(bps));
        }
        if let (Some(lost), Some(percent)) = (traffic.lost_packets, traffic.lost_percent) {
            text += &format!(", {lost} packets lost ({percent:.4} %)");
        }
        if let Some(again) = traffic.retransmits {
            text += &format!(", {again} segments sent again");
        }
        self.step(text);
    }

    fn tcp(&mut self, back: bool, duration: Duration) -> Result<Traffic> {
        let Some(tcp) = &self.config.tcp else { return Err(Error::usage("no --tcp")) };
        let bind = self.chosen.address(tcp.server.ip());
        let mut warnings = Vec::new();
        let ran = tcp::run(tcp, bind, back, duration, self.far.as_mut(), self.stop, &mut warnings);
        warnings.into_iter().for_each(|warning| self.warn(warning));
        ran
    }

    fn send(
        &mut self,
        kind: &'static str,
        target: SocketAddr,
        back: bool,
        rate: &str,
        duration: Duration,
    ) -> Result<Traffic> {
        if self.near.is_none() {
            self.near = Some(Launch::new("here").here()?);
        }
        let load = Load {
            kind,
            target,
            direction: if back { "back" } else { "out" },
            rate,
            length: self.config.length,
            backend: self.config.backend.as_deref(),
            duration,
        };
        let name = self.chosen.link.name.clone();
        let near = self.near.as_mut().map(|agent| End { agent, interface: &name });
        let far = self.far.as_mut().map(|far| End { agent: &mut far.agent, interface: &far.interface });
        let (sender, receiver) = if back { (far, near) } else { (near, far) };
        let Some(sender) = sender else {
            return Err(Error::usage("--reverse needs an agent at the other end").fix("add --far"));
        };
        let on_event = &mut self.on_event;
        transfer(&load, sender, receiver, self.stop, &mut |text| on_event(Event::Progress(&text)))
    }

    /// Both ends listen and send; gives how much of ours was heard there.
    fn ptp(&mut self, check: &mut PtpCheck) -> Result<Option<u64>> {
        let duration = self.config.duration;
        self.step(format!("PTP: 224.0.1.129, ports 319 and 320, for {}", seconds(duration)));
        let mut there = None;
        if let Some(far) = &mut self.far {
            let time = format!("{}ms", (duration + ANSWER).as_millis());
            let words = ["linktest", "--ptp", "--iface", &far.interface, "--duration", &time];
            let task = far.agent.start(&words)?;
            far.agent.ready(task, ANSWER)?;
            there = Some(task);
        }
        let ran = check.run(duration, self.stop);
        let mut heard = None;
        if let (Some(task), Some(far)) = (there, &mut self.far) {
            far.agent.stop(task)?;
            let said = far.agent.report(task, ANSWER)?;
            heard = Some(Far::ptp_heard(&said, &check.clock()));
        }
        ran.map(|()| heard)
    }

    /// Waits, and tells how it goes.
    fn wait(&mut self, duration: Duration, what: &str) {
        let begin = Instant::now();
        let mut told = 0;
        while begin.elapsed() < duration && !self.stop.is_requested() {
            thread::sleep(LOOK.min(duration));
            let passed = begin.elapsed().as_secs();
            if passed >= told + 10 {
                told = passed;
                (self.on_event)(Event::Progress(&format!("{what}: {passed} s of {}", seconds(duration))));
            }
        }
    }

    /// Packets that were lost while no counter of either end moved were lost elsewhere.
    fn warn_of_loss(&mut self, traffic: &[Traffic], findings: &[Finding], far: Option<&report::Far>) {
        let mut all = findings.iter().chain(far.iter().flat_map(|far| &far.findings));
        if all.any(|finding| finding.severity == Severity::Fail) {
            return;
        }
        let lost: u64 = traffic.iter().filter_map(|t| t.lost_packets).sum();
        if lost > 0 {
            self.warn(Warning {
                code: "loss-without-counter",
                text: format!("{lost} packets were lost, and no counter of these interfaces tells where: between them, or in a host behind its interface"),
                fix: Some("offer less by --rate; wirerate recv and wirerate drops say what the receiving host dropped".to_owned()),
            });
        }
    }
}

fn arrow(back: bool) -> &'static str {
    if back { "from" } else { "to" }
}

/// A load in payload bit/s, where it is told so.
fn load_bps(load: &str) -> Option<u64> {
    match load.parse() {
        Ok(Rate::Bits(bps, Layer::Payload)) => Some(bps as u64),
        _ => None,
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

fn rate(bps: u64) -> String {
    let (unit, name) = match bps {
        1_000_000_000.. => (1e9, "Gbit/s"),
        1_000_000.. => (1e6, "Mbit/s"),
        _ => (1e3, "kbit/s"),
    };
    format!("{:.2} {name}", bps as f64 / unit)
}

/// What to replace or change, in the order in which to try it.
fn replace<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<Part> {
    let failed = findings.filter(|finding| finding.severity == Severity::Fail);
    let mut parts: Vec<Part> = failed.flat_map(|finding| finding.suspects.iter().copied()).collect();
    parts.sort_unstable();
    parts.dedup();
    parts
}

fn judge(
    chosen: &Chosen,
    findings: &[Finding],
    far: Option<&report::Far>,
    traffic: &[Traffic],
    failure: Option<&Error>,
) -> Verdict {
    let mut checks = vec![ends("counters", &chosen.link.name, findings)];
    if let Some(far) = far {
        checks.push(ends("far-counters", &format!("{} of {}", far.interface, far.host), &far.findings));
    }
    if let Some(failure) = failure {
        checks.push(Check {
            name: "traffic",
            want: "traffic for as long as asked".to_owned(),
            got: failure.what.clone(),
            outcome: Verdicts::Inconclusive,
        });
    }
    let nothing = traffic.iter().find(|t| t.received_packets == Some(0) && t.sent_packets.unwrap_or(0) > 0);
    if let Some(nothing) = nothing {
        checks.push(Check {
            name: "arrival",
            want: "packets arrive".to_owned(),
            got: format!("none of {} {}", nothing.kind, nothing.direction),
            outcome: Verdicts::Inconclusive,
        });
    }
    let has = |wanted| checks.iter().any(|check| check.outcome == wanted);
    let outcome = if has(Verdicts::Fail) {
        Verdicts::Fail
    } else if has(Verdicts::Inconclusive) {
        Verdicts::Inconclusive
    } else {
        Verdicts::Pass
    };
    Verdict { outcome, checks }
}

fn ends(name: &'static str, interface: &str, findings: &[Finding]) -> Check {
    let failed: Vec<&str> =
        findings.iter().filter(|f| f.severity == Severity::Fail).map(|f| f.code.as_str()).collect();
    Check {
        name,
        want: format!("no counter of errors of {interface} moves, and its link stays as it is"),
        got: if failed.is_empty() { "so it is".to_owned() } else { failed.join(", ") },
        outcome: if failed.is_empty() { Verdicts::Pass } else { Verdicts::Fail },
    }
}

fn effective(config: &Config, rate: Option<&str>) -> serde_json::Value {
    let text = |value: &dyn ToString| value.to_string();
    let mut effective = json!({
        "duration_ns": u64::try_from(config.duration.as_nanos()).unwrap_or(u64::MAX),
        "ptp": config.ptp,
        "reverse": config.reverse,
        "limits": config.limits,
    });
    let optional = [
        ("tcp", config.tcp.as_ref().map(|tcp| text(&tcp.server))),
        ("udp", config.udp.as_ref().map(|udp| text(udp))),
        ("multicast", config.multicast.as_ref().map(|group| text(group))),
        ("rate", config.udp.or(config.multicast).and(rate).map(str::to_owned)),
        ("backend", config.backend.clone()),
        ("far", config.far.clone()),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            effective[key] = value.into();
        }
    }
    if let Some(length) = config.length {
        effective["length_bytes"] = length.into();
    }
    if let Some(time) = config.calibrate {
        effective["calibrate_ns"] = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).into();
    }
    effective
}
