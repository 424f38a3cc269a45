//! Before the first trial: which tools can be run, what each is asked, what a reader should know.
#![forbid(unsafe_code)]

use std::time::SystemTime;

use super::Params;
use super::ends::{Ends, Programs};
use super::limits::{By, Limit};
use super::report::{self, Config, Missing, Report, SCHEMA, Summary, ToolReport};
use super::tools::{Load, ToolName};
use crate::error::{Error, Result};
use crate::interop::peer::{Kind, Place, Tool};
use crate::report::Warning;

/// A report without any tool.
pub(super) fn begin(
    params: &Params,
    load: &Load,
    frame_bytes: u32,
    ends: &mut Ends,
    speeds: [Option<u64>; 2],
) -> Report {
    let mut speeds = speeds.into_iter();
    let [from, to] = ends.both().each_ref().map(|end| report::End {
        interface: end.interface.clone(),
        address: end.address.to_string(),
        command: end.command.clone(),
        host: end.agent.hello().host.clone(),
        kernel: end.agent.hello().kernel.clone(),
        link_bps: speeds.next().flatten(),
    });
    Report {
        schema: SCHEMA,
        started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        config: Config {
            rate: params.rate.to_string(),
            pps: load.pps,
            payload_bps: load.bps(),
            length_bytes: params.length,
            frame_bytes,
            duration_ns: u64::try_from(params.duration.as_nanos()).unwrap_or(u64::MAX),
            rounds: params.rounds,
            port: params.port,
            segments: params.segments.clone(),
        },
        from,
        to,
        tools: Vec::new(),
        missing: Vec::new(),
        baseline: None,
        warnings: Vec::new(),
        interrupted: false,
        failure: None,
        verdict: None,
    }
}

/// The tools that can be run, each with what it is; the others are named in the report.
pub(super) fn installed(
    params: &Params,
    ends: &mut Ends,
    programs: &mut Programs,
    report: &mut Report,
) -> Result<Vec<(ToolName, String)>> {
    let wanted = if params.tools.is_empty() { ToolName::ALL.to_vec() } else { params.tools.clone() };
    let mut tools: Vec<(ToolName, String)> = Vec::new();
    for tool in wanted {
        if tools.iter().any(|(known, _)| *known == tool) {
            continue;
        }
        match available(tool, params, ends, programs) {
            Ok(what) => tools.push((tool, what)),
            Err(error) => {
                report.missing.push(Missing { name: tool.name().to_owned(), why: error.what, fix: error.fix })
            }
        }
    }
    if tools.is_empty() {
        let why: Vec<String> = report.missing.iter().map(|m| format!("{}: {}", m.name, m.why)).collect();
        return Err(Error::environment(format!("no tool can be run: {}", why.join("; ")))
            .fix("install one, or name others by --tools"));
    }
    Ok(tools)
}

/// What a tool is, when it can be run at both ends.
fn available(tool: ToolName, params: &Params, ends: &mut Ends, programs: &mut Programs) -> Result<String> {
    let Some(kind) = tool.foreign() else {
        for end in ends.both() {
            if tool.attaches_xdp() && end.interface == "lo" {
                return Err(Error::usage("it does not run over the loopback interface"));
            }
            // What may attach XDP programs may do both.
            let needs = if tool.attaches_xdp() { "afxdp" } else { tool.name() };
            if !end.agent.hello().backends.iter().any(|name| name == needs) {
                return Err(Error::environment(format!("not permitted at {}", end.agent.name()))
                    .fix("run as root there, or see wirerate doctor"));
            }
        }
        return Ok(format!("wirerate {tool}"));
    };
    let given = match kind {
        Kind::Iperf3 => params.iperf3.as_deref(),
        Kind::Iperf2 => params.iperf2.as_deref(),
    };
    let mut found: Vec<Tool> = Vec::new();
    for end in ends.both() {
        found.push(Place::Agent(&mut end.agent).find(kind, given)?);
    }
    let paths = [found[0].program.clone(), found[1].program.clone()];
    match kind {
        Kind::Iperf3 => programs.iperf3 = paths,
        Kind::Iperf2 => programs.iperf2 = paths,
    }
    let name = if kind == Kind::Iperf3 { "iperf3" } else { "iperf" };
    let versions = if found[0].version == found[1].version {
        found[0].version.clone()
    } else {
        format!("{} to {}", found[0].version, found[1].version)
    };
    Ok(format!("{name} {versions}, {}", tool.transport().to_uppercase()))
}

/// A tool before its first trial.
pub(super) fn row(
    tool: ToolName,
    what: String,
    load: &Load,
    programs: &Programs,
    report: &Report,
) -> ToolReport {
    let typed = |program: &str, words: &[String]| {
        let words: Vec<&str> = std::iter::once(program).chain(words.iter().map(String::as_str)).collect();
        shlex::try_join(words.iter().copied()).unwrap_or_else(|_| words.join(" "))
    };
    let port = load.to.port();
    let (sender, receiver) = match tool {
        ToolName::Iperf3Tcp | ToolName::Iperf3Udp => (
            typed("iperf3", &load.iperf3(!tool.is_tcp(), "").arguments()),
            format!("iperf3 -s -1 -J -p {port} -B {}", load.to.ip()),
        ),
        ToolName::Iperf2 => (
            typed("iperf", &load.iperf2("").arguments()),
            format!("iperf -s -u -P 1 -y C -p {port} -l {}", load.length),
        ),
        own => (
            typed("wirerate", &load.send(own, &report.from.interface, &programs.segments)),
            typed("wirerate", &load.recv(own, &report.to.interface, &programs.segments)),
        ),
    };
    ToolReport {
        name: tool.name(),
        what,
        transport: tool.transport(),
        own: tool.foreign().is_none(),
        sender,
        receiver,
        jitter_is: tool.jitter_is(),
        summary: Summary::default(),
        limit: Limit {
            by: By::Failed,
            text: "not known: no round has figures".to_owned(),
            evidence: Vec::new(),
        },
        trials: Vec::new(),
    }
}

pub(super) fn warnings(
    params: &Params,
    load: &Load,
    tools: &[(ToolName, String)],
    ends: &Ends,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (attached, end) in ends.attached().into_iter().zip(["the sender's", "the receiver's"]) {
        if attached {
            warnings.push(Warning {
                code: "xdp-attached",
                text: format!("an XDP program of somebody else is attached to {end} interface: sockets may be slower than without"),
                fix: Some("look with ip link show".to_owned()),
            });
        }
    }
    if let Some(earlier) = &params.earlier {
        for old in earlier.tools.iter().filter(|old| tools.iter().any(|(tool, _)| *tool == old.tool)) {
            let rate = old.rate_bps.zip(load.bps()).is_some_and(|(old, new)| (old - new).abs() > 0.01 * old);
            let size = old.length.is_some_and(|length| length != load.length);
            if rate || size || old.rate_bps.is_some() != load.bps().is_some() && !old.tool.is_tcp() {
                warnings.push(Warning {
                    code: "other-load",
                    text: format!(
                        "{} had another load in the baseline: {}, {}",
                        old.tool,
                        old.rate_bps.map_or("no rate".to_owned(), |bps| format!("{bps:.0} bit/s")),
                        old.length.map_or("no size".to_owned(), |length| format!("{length} bytes")),
                    ),
                    fix: Some(
                        "give the same --rate and --length, or leave both out: they are then the baseline's"
                            .to_owned(),
                    ),
                });
                break;
            }
        }
    }
    warnings
}
