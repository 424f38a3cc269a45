//! `wirerate linktest`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use wirerate_engine::Error;
use wirerate_engine::agent::protocol;
use wirerate_engine::host::health::{Finding, Limits, Part, Severity, Snapshot};
use wirerate_engine::linktest::report::{Ptp, Report};
use wirerate_engine::linktest::{self, Config, Event, Outcome, Tcp};
use wirerate_engine::report::Outcome as Verdicts;

use crate::args::linktest::{Linktest, resolve};
use crate::output::{Sink, say, told_warning};
use crate::signals::stop_on_signals;
use crate::text::{outcome, warning};
use crate::{Result, Status, stamp};

/// Tests the link, and reports.
pub fn run(args: &Linktest) -> Result<Status> {
    let config = configuration(args)?;
    let mut sink = stamp::open(&args.output, linktest::report::SCHEMA)?;
    let stop = stop_on_signals()?;
    let ended = linktest::run(&config, &stop, &mut |event| tell(&mut sink, &event))?;
    sink.result(&ended.report, |report| render(report, args.verbose))?;
    status(ended)
}

/// How the command ends: a difference is worth more than what failed on the way.
pub fn status(ended: Outcome) -> Result<Status> {
    match (ended.failure, ended.report.verdict.outcome) {
        (_, Verdicts::Fail) => Ok(Status::Difference),
        (Some(failure), _) => Err(failure),
        (None, Verdicts::Inconclusive) => Ok(Status::Inconclusive),
        (None, Verdicts::Pass) => Ok(Status::Finished),
    }
}

/// What to test, and by what.
pub fn configuration(args: &Linktest) -> Result<Config> {
    let address = |option: &str, text: &String, port| {
        resolve(text, port).map_err(|why| {
            Error::usage(format!("{option} {text}: {why}"))
                .fix("name an address and a port, as 192.0.2.1:5001 or [2001:db8::1]:5001")
        })
    };
    let tcp = args.tcp.as_ref().map(|text| address("--tcp", text, Some(args.port))).transpose()?;
    Ok(Config {
        interface: args.iface.clone(),
        duration: args.duration,
        tcp: tcp.map(|server| Tcp { server, program: args.iperf3.clone(), streams: args.parallel }),
        udp: args.udp.as_ref().map(|text| address("--udp", text, None)).transpose()?,
        multicast: args.multicast,
        ptp: args.ptp,
        reverse: args.reverse,
        rate: args.rate.clone(),
        length: args.length,
        backend: args.backend.map(|backend| format!("{backend:?}").to_lowercase()),
        far: args.far.clone(),
        far_interface: args.far_iface.clone(),
        calibrate: args.calibrate,
        settle: args.settle,
        limits: limits(args)?,
    })
}

fn limits(args: &Linktest) -> Result<Limits> {
    let mut limits: Limits = match &args.limits {
        None => Limits::default(),
        Some(path) => {
            let shown = path.display();
            let text = fs::read_to_string(path).map_err(|e| {
                Error::usage(format!("--limits {shown}: cannot be read"))
                    .because(e)
                    .fix("name a file that this user may read")
            })?;
            serde_json::from_str(&text).map_err(|e| {
                Error::usage(format!("--limits {shown}: {e}")).fix("docs/linktest.md says what may be in it")
            })?
        }
    };
    limits.allow.extend(args.allow.iter().cloned());
    limits.speed = args.expect_speed.or(limits.speed);
    Ok(limits)
}

/// What happens during a test, as a line tells it.
pub fn told(event: &Event<'_>) -> Option<protocol::Event> {
    match event {
        Event::Ready => Some(protocol::Event::Ready),
        Event::Warning(warning) => Some(told_warning(warning)),
        Event::Step(_) | Event::Progress(_) => None,
    }
}

fn tell(sink: &mut Sink, event: &Event<'_>) {
    if let Some(told) = told(event) {
        sink.line(&told);
    }
    match event {
        Event::Ready => {}
        Event::Step(text) | Event::Progress(text) => sink.progress(|| (*text).to_owned()),
        Event::Warning(what) => say(&warning(what)),
    }
}

fn render(report: &Report, verbose: bool) -> String {
    let mut text = String::new();
    for (number, step) in (1..).zip(&report.steps) {
        _ = writeln!(text, "{number:>2}. {step}");
    }
    if let Some(ptp) = &report.ptp {
        text += &render_ptp(ptp, report.far.as_ref().and_then(|far| far.ptp_heard));
    }
    if verbose {
        text += "\ncounters that moved\n";
        for (name, by) in moved(&report.before, &report.after) {
            _ = writeln!(text, "  {name:<40} {by:>+16}");
        }
    }
    findings(&mut text, &report.interface.name, &report.findings);
    if let Some(far) = &report.far {
        findings(&mut text, &format!("{} of {}", far.interface, far.host), &far.findings);
    }
    if !report.replace.is_empty() {
        let parts: Vec<&str> = report.replace.iter().map(|part: &Part| part.name()).collect();
        _ = writeln!(text, "\nreplace or change, one after the other, and test again: {}", parts.join(", "));
    }
    for what in &report.warnings {
        _ = writeln!(text, "\n{}", warning(what));
    }
    text.push('\n');
    for check in &report.verdict.checks {
        _ = writeln!(text, "check      {}: wanted: {}; got: {}", check.name, check.want, check.got);
    }
    _ = writeln!(text, "verdict    {}", outcome(report.verdict.outcome));
    text
}

fn findings(text: &mut String, whose: &str, findings: &[Finding]) {
    if findings.is_empty() {
        _ = writeln!(text, "\n{whose}: no counter of errors moved");
        return;
    }
    _ = writeln!(text, "\n{whose}:");
    for finding in findings {
        let word = match finding.severity {
            Severity::Fail => "FAIL",
            Severity::Warn => "warn",
            Severity::Note => "note",
        };
        _ = writeln!(text, "  {word}  {}", finding.text);
        for moved in finding.counters.iter().take(8) {
            _ = writeln!(
                text,
                "        {} {}: {} → {} ({:+})",
                moved.source, moved.name, moved.before, moved.after, moved.by
            );
        }
        for (number, next) in (1..).zip(&finding.next) {
            _ = writeln!(text, "        {number}. {next}");
        }
    }
}

fn render_ptp(ptp: &Ptp, heard: Option<u64>) -> String {
    let mut text = format!(
        "\nPTP {}: member ({}), {} the interface's filter\n",
        ptp.group,
        ptp.igmp.as_deref().unwrap_or("IGMP"),
        if ptp.in_link_filter { "in" } else { "not in" }
    );
    for port in &ptp.ports {
        let kinds: Vec<String> = port.kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let kinds = if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
        _ = writeln!(
            text,
            "  port {}: sent {}, refused {}; received {kinds}; {} other datagrams",
            port.port, port.sent, port.refused, port.other
        );
    }
    for source in &ptp.sources {
        let far = if source.far_end { " (the far end)" } else { "" };
        _ = writeln!(
            text,
            "  {} clock {} domain {}: {} messages{far}",
            source.address, source.clock, source.domain, source.messages
        );
    }
    if let Some(heard) = heard {
        _ = writeln!(text, "  of ours the far end heard {heard}");
    }
    text
}

/// Every counter that moved, of the driver and the kernel.
fn moved(before: &Snapshot, after: &Snapshot) -> BTreeMap<String, i128> {
    let sources = [
        ("rtnl", &before.counters.rtnl, &after.counters.rtnl),
        ("ethtool", &before.counters.ethtool, &after.counters.ethtool),
        ("qdisc", &before.counters.qdisc, &after.counters.qdisc),
    ];
    let mut all = BTreeMap::new();
    for (source, old, new) in sources {
        for (name, value) in new {
            let by = i128::from(*value) - i128::from(old.get(name).copied().unwrap_or(0));
            if by != 0 {
                all.insert(format!("{source} {name}"), by);
            }
        }
    }
    all
}
