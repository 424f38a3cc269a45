//! `wirerate doctor` as text: the machine, a table of interfaces, and what was found with the command that mends it.
#![forbid(unsafe_code)]

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets};
use serde_json::json;
use wirerate_engine::doctor::{self, Diagnosis, Finding, InterfaceFacts, Machine, Severity};
use wirerate_engine::host::nic::XdpFeatures;

use crate::{Result, Status, args, output};

/// Examines, and prints the diagnosis; exit status 0 also when there are problems, because they are the result.
pub fn run(args: &args::Doctor) -> Result<Status> {
    let diagnosis = doctor::examine(&args.interfaces)?;
    if args.json {
        let Diagnosis { machine, interfaces, findings } = &diagnosis;
        output::print(&output::pretty(&json!({
            "schema": "wirerate.doctor/1",
            "machine": machine,
            "interfaces": interfaces,
            "findings": findings,
        })))?;
    } else {
        // anstream takes the colours off where standard output is no terminal.
        output::print(&render(&diagnosis, true))?;
    }
    Ok(Status::Finished)
}

/// The diagnosis as a person reads it; with `colour`, as a terminal shows it.
pub fn render(diagnosis: &Diagnosis, colour: bool) -> String {
    let mut out = String::new();
    for (name, value) in machine(&diagnosis.machine) {
        let _ = writeln!(out, "{name:<12}{value}");
    }
    if !diagnosis.interfaces.is_empty() {
        let _ = writeln!(out, "\n{}", trimmed(&interfaces(&diagnosis.interfaces)));
    }
    out.push('\n');
    for finding in &diagnosis.findings {
        out.push_str(&line(finding, colour));
    }
    out.push_str(&verdict(&diagnosis.findings));
    out
}

fn machine(m: &Machine) -> Vec<(&'static str, String)> {
    let kernel = &m.kernel;
    let io_uring = match kernel.io_uring_disabled {
        Some(2) => "disabled",
        Some(1) => "restricted",
        _ => "not disabled",
    };
    let own = &m.privileges;
    let capabilities = own.capabilities.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ");
    let isolated = if m.isolated_cpus.is_empty() { "none" } else { &m.isolated_cpus };
    vec![
        ("kernel", format!("{} {}", kernel.release, kernel.machine)),
        (
            "features",
            format!(
                "AF_XDP {}, BTF {}, io_uring {io_uring}",
                kernel.xdp_sockets.map_or("unknown", yes),
                yes(kernel.btf)
            ),
        ),
        ("privileges", if capabilities.is_empty() { "none".to_owned() } else { capabilities }),
        ("backends", format!("{} (by privilege)", m.backends.join(", "))),
        ("memory", format!("locked {}", own.memlock_bytes.map_or("unlimited".to_owned(), bytes))),
        (
            "sockets",
            format!(
                "receive buffer up to {}, send buffer up to {}, {} groups a socket",
                kernel.rmem_max_bytes.map_or("?".to_owned(), bytes),
                kernel.wmem_max_bytes.map_or("?".to_owned(), bytes),
                kernel.igmp_max_memberships.map_or("?".to_owned(), |n| n.to_string()),
            ),
        ),
        ("CPUs", format!("{}, isolated: {isolated}, NUMA nodes: {}", m.cpus, m.numa_nodes)),
    ]
}

fn interfaces(all: &[InterfaceFacts]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "interface",
        "state",
        "driver",
        "speed",
        "MTU",
        "queues",
        "rings",
        "NUMA",
        "XDP",
        "zero-copy",
        "multicast",
        "offloads",
    ]);
    for facts in all {
        table.add_row(row(facts));
    }
    table.to_string()
}

fn row(facts: &InterfaceFacts) -> [String; 12] {
    let (link, nic) = (&facts.link, &facts.nic);
    let none = || "-".to_owned();
    let state = match (link.up, link.carrier) {
        (false, _) => "down",
        (true, false) => "no carrier",
        (true, true) => "up",
    };
    let numa = match (nic.numa_node, &facts.local_cpus) {
        (Some(node), Some(cpus)) => format!("{node} (CPUs {cpus})"),
        (Some(node), None) => node.to_string(),
        (None, _) => none(),
    };
    [
        link.name.clone(),
        state.to_owned(),
        nic.driver.clone().unwrap_or_else(none),
        nic.speed_bps.map_or_else(none, speed),
        link.mtu.to_string(),
        format!("{} rx, {} tx", nic.queues.rx, nic.queues.tx),
        nic.rings.map_or_else(none, |r| format!("{} rx, {} tx", r.rx, r.tx)),
        numa,
        xdp(nic.xdp).to_owned(),
        nic.xdp.map_or("unknown", |x| yes(x.zero_copy)).to_owned(),
        yes(link.multicast).to_owned(),
        offloads(facts),
    ]
}

fn xdp(features: Option<XdpFeatures>) -> &'static str {
    match features {
        None => "unknown",
        Some(x) if x.native && x.redirect => "native",
        Some(_) => "generic",
    }
}

fn offloads(facts: &InterfaceFacts) -> String {
    let o = &facts.nic.offloads;
    let on = [
        ("gso", o.gso),
        ("udp-gso", o.tx_udp_segmentation),
        ("gro", o.gro),
        ("gro-hw", o.gro_hw),
        ("tx-csum", o.tx_checksum),
        ("rx-csum", o.rx_checksum),
    ];
    let on = on.iter().filter(|(_, state)| *state == Some(true)).map(|(name, _)| *name).collect::<Vec<_>>();
    if on.is_empty() { "-".to_owned() } else { on.join(" ") }
}

fn line(finding: &Finding, colour: bool) -> String {
    let (word, hue) = match finding.severity {
        Severity::Problem => ("problem", AnsiColor::Red),
        Severity::Note => ("note", AnsiColor::Yellow),
        Severity::Ok => ("ok", AnsiColor::Green),
    };
    let style = if colour { Style::new().bold().fg_color(Some(hue.into())) } else { Style::new() };
    let subject = finding.interface.as_ref().map_or(String::new(), |name| format!("{name}: "));
    let mut text = format!("{style}{word:<8}{style:#} {subject}{} [{}]\n", finding.text, finding.code);
    if let Some(fix) = &finding.fix {
        let _ = writeln!(text, "{:9}fix: {fix}", "");
    }
    text
}

fn verdict(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let some = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (problems, notes) = (count(Severity::Problem), count(Severity::Note));
    format!("\n{}, {}\n", some(problems, "problem"), some(notes, "note"))
}

fn yes(state: bool) -> &'static str {
    if state { "yes" } else { "no" }
}

fn bytes(n: u64) -> String {
    match n {
        n if n >= 1 << 20 => format!("{} MiB", n >> 20),
        n => format!("{} KiB", n >> 10),
    }
}

fn speed(bps: u64) -> String {
    match bps {
        bps if bps.is_multiple_of(1_000_000_000) => format!("{} Gbit/s", bps / 1_000_000_000),
        bps => format!("{} Mbit/s", bps / 1_000_000),
    }
}

/// A table without the spaces that pad its last column.
fn trimmed(table: &str) -> String {
    table.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, interface: Option<&str>, fix: Option<&str>) -> Finding {
        Finding {
            severity,
            code: "interface-down",
            interface: interface.map(str::to_owned),
            text: "the interface is down".into(),
            fix: fix.map(str::to_owned),
        }
    }

    #[test]
    fn a_finding_names_subject_code_and_fix() {
        let text = line(&finding(Severity::Problem, Some("wr0"), Some("sudo ip link set dev wr0 up")), false);
        assert_eq!(
            text,
            "problem  wr0: the interface is down [interface-down]\n         fix: sudo ip link set dev wr0 up\n"
        );
        assert!(!line(&finding(Severity::Note, None, None), false).contains('\u{1b}'));
        assert!(line(&finding(Severity::Note, None, None), true).contains("\u{1b}["));
    }

    #[test]
    fn this_machine_is_rendered() {
        let diagnosis = wirerate_engine::doctor::examine(&["lo".to_owned()]).unwrap();
        let text = render(&diagnosis, false);
        assert!(text.contains(&diagnosis.machine.kernel.release), "{text}");
        assert!(text.lines().any(|l| l.trim_start().starts_with("lo ")), "{text}");
        for finding in &diagnosis.findings {
            assert!(text.contains(&finding.text) && text.contains(finding.code), "{text}");
        }
        assert!(text.lines().all(|l| l == l.trim_end()), "{text}");
        eprintln!("{text}");
    }

    #[test]
    fn units() {
        assert_eq!(speed(2_500_000_000), "2500 Mbit/s");
        assert_eq!(speed(100_000_000_000), "100 Gbit/s");
        assert_eq!(bytes(212_992), "208 KiB");
        assert_eq!(verdict(&[finding(Severity::Note, None, None)]), "\n0 problems, 1 note\n");
    }
}
