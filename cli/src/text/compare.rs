//! A comparison as text that a person reads.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use wirerate_engine::method::compare::noise::Spread;
use wirerate_engine::method::compare::report::{Proven, Report, ToolReport, Trial};

use super::{bits, count, outcome, pps, time};

/// One line for a trial that has ended.
pub fn trial_line(trial: &Trial) -> String {
    if let Some(failure) = &trial.failure {
        return format!("  failed: {failure}");
    }
    let rate = |bps: Option<f64>| bps.map_or("?".to_owned(), rate);
    let lost = match trial.proven.as_ref().and_then(|proven| proven.lost_percent) {
        Some(percent) => format!(", {} lost", share(percent)),
        None => String::new(),
    };
    format!(
        "  {} offered, {} delivered{lost}",
        rate(trial.offered.map(|flow| flow.payload_bps)),
        rate(trial.delivered.map(|flow| flow.payload_bps))
    )
}

/// The whole report.
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    let end = |end: &wirerate_engine::method::compare::report::End| {
        let speed = end.link_bps.map_or(String::new(), |bps| format!(", {}", bits(bps)));
        format!("{} {} on {} ({}){speed}", end.interface, end.address, end.host, end.kernel)
    };
    let config = &report.config;
    let asked = config.payload_bps.map_or("as fast as each can".to_owned(), |bps| {
        format!("{} of payload, {}", rate(bps), pps(config.pps.unwrap_or_default().round() as u64))
    });
    let _ = writeln!(
        text,
        "from       {}\nto         {}\nload       {asked}; {} bytes of UDP payload; {} a trial, {} rounds",
        end(&report.from),
        end(&report.to),
        config.length_bytes,
        time(config.duration_ns),
        config.rounds
    );
    let _ = writeln!(text, "\n{}", figures(report));
    let rounds = report.tools.iter().map(|tool| tool.trials.len()).max().unwrap_or(0);
    let _ = writeln!(text, "{}", legend(rounds, coverage(report)));
    for tool in &report.tools {
        let _ = writeln!(text, "\n{}", tool.what);
        let evidence = if tool.limit.evidence.is_empty() {
            String::new()
        } else {
            format!(" ({})", tool.limit.evidence.join("; "))
        };
        let _ = writeln!(text, "  limit    {}{evidence}", tool.limit.text);
        for line in proofs(tool) {
            let _ = writeln!(text, "  {line}");
        }
        if let Some(jitter) = tool.jitter_is {
            let _ = writeln!(text, "  jitter   {jitter}");
        }
    }
    if !report.missing.is_empty() {
        let _ = writeln!(text, "\nnot run");
        for missing in &report.missing {
            let fix = missing.fix.as_ref().map_or(String::new(), |fix| format!("; {fix}"));
            let _ = writeln!(text, "  {:<11}{}{fix}", missing.name, missing.why);
        }
    }
    if let Some(baseline) = &report.baseline {
        let _ = writeln!(text, "\nbeside {} ({})", baseline.file, baseline.by);
        for c in &baseline.comparisons {
            let _ = writeln!(text, "  {:<11}{}", c.tool, c.text);
        }
        for why in &baseline.not_compared {
            let _ = writeln!(text, "  not compared: {why}");
        }
    }
    if let Some(failure) = &report.failure {
        let _ = writeln!(text, "\nended before its time: {failure}");
    } else if report.interrupted {
        let _ = writeln!(text, "\nended before its time: it was asked to; these are the trials by then");
    }
    if let Some(verdict) = &report.verdict {
        let _ = writeln!(text, "\nverdict    {}", outcome(verdict.outcome));
        for check in &verdict.checks {
            let _ = writeln!(text, "  {}: want {}; got {}", check.name, check.want, check.got);
        }
    }
    text
}

fn figures(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "tool",
        "offered",
        "delivered",
        "loss stated",
        "loss proven",
        "jitter",
        "CPU s/GB sender",
        "CPU s/GB receiver",
        "limited by",
    ]);
    for tool in &report.tools {
        let s = &tool.summary;
        let again = tool.trials.iter().filter_map(|t| t.stated?.retransmits).max();
        let tcp = tool.transport == "tcp";
        table.add_row([
            tool.name.to_owned(),
            spread(s.offered_bps, rate),
            spread(s.delivered_bps, rate),
            match again {
                Some(most) if tcp => format!("{} sent again", count(most)),
                _ => spread(s.loss_stated_percent, share),
            },
            if tcp { proven_tcp(tool) } else { spread(s.loss_proven_percent, share) },
            spread(s.jitter_ns, |ns| time(ns.round() as u64)),
            spread(s.sender_cpu_s_per_gb, |s| format!("{s:.2}")),
            spread(s.receiver_cpu_s_per_gb, |s| format!("{s:.2}")),
            limit(tool),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(7) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn proven_tcp(tool: &ToolReport) -> String {
    let again = tool.trials.iter().filter_map(|t| t.proven.as_ref()?.retransmitted).max();
    again.map_or("not known".to_owned(), |most| format!("{} sent again", count(most)))
}

fn limit(tool: &ToolReport) -> String {
    let name = serde_json::to_value(tool.limit.by).ok();
    name.as_ref().and_then(|name| name.as_str()).unwrap_or_default().replace('-', " ")
}

/// A median, and under it the interval, where that is one.
fn spread(spread: Option<Spread>, shown: impl Fn(f64) -> String) -> String {
    let Some(spread) = spread else { return "not known".to_owned() };
    let [median, low, high] = [spread.median, spread.low, spread.high].map(shown);
    if low == high { median } else { format!("{median}\n{low} to {high}") }
}

fn coverage(report: &Report) -> Option<f64> {
    report
        .tools
        .iter()
        .filter_map(|tool| tool.summary.delivered_bps)
        .map(|s| s.coverage_percent)
        .reduce(f64::min)
}

fn legend(rounds: usize, coverage: Option<f64>) -> String {
    let interval = match (rounds, coverage) {
        (0 | 1, _) | (_, None) => "one round: how far figures vary is not known".to_owned(),
        (_, Some(coverage)) => format!(
            "medians, and under them the interval that holds the true one with at least {coverage:.0} %"
        ),
    };
    format!(
        "{interval}. CPU is what the kernel charged to the processes, from their start to their end; soft interrupts are in none of it."
    )
}

/// What is proven of a tool's loss, over its rounds.
fn proofs(tool: &ToolReport) -> Vec<String> {
    let proven: Vec<&Proven> = tool.trials.iter().filter_map(|trial| trial.proven.as_ref()).collect();
    let sum = |figure: fn(&Proven) -> Option<u64>| {
        proven.iter().filter_map(|p| figure(p)).reduce(|a, b| a.saturating_add(b))
    };
    let mut lines = Vec::new();
    let by = match proven.first().and_then(|p| p.by) {
        Some("ledger") => "by the numbers in its packets",
        Some("kernel") => "by the kernels' counters",
        Some("tcp") => "by the sender's kernel",
        _ => "by nobody",
    };
    if let (Some(sent), Some(received), Some(lost)) = (sum(|p| p.sent), sum(|p| p.received), sum(|p| p.lost))
    {
        let copies =
            sum(|p| p.copies).map_or("copies not known".to_owned(), |n| format!("{} copies", count(n)));
        let rest = sum(|p| p.unaccounted)
            .map_or("places not known".to_owned(), |n| format!("{} unaccounted", count(n)));
        lines.push(format!(
            "proven   {by}: {} sent, {} received, {} lost, {copies}, {rest}",
            count(sent),
            count(received),
            count(lost)
        ));
    }
    let stated: Option<i64> = tool.trials.iter().filter_map(|t| t.stated?.lost).reduce(i64::saturating_add);
    if let Some(lost) = stated {
        lines.push(format!("stated   {lost} lost"));
    }
    let mut places: Vec<(String, u64)> = Vec::new();
    for drop in proven.iter().filter_map(|p| p.drops.as_ref()).flatten() {
        let of = drop.interface.as_ref().map_or(String::new(), |name| format!(" of {name}"));
        let place = format!("{}{of}, {}: {}", drop.place, drop.at, drop.reason);
        match places.iter_mut().find(|(known, _)| *known == place) {
            Some((_, packets)) => *packets += drop.packets,
            None => places.push((place, drop.packets)),
        }
    }
    lines.extend(places.iter().map(|(place, packets)| format!("dropped  {} at {place}", count(*packets))));
    let mut unknown: Vec<&String> = proven.iter().flat_map(|p| &p.not_known).collect();
    unknown.dedup();
    unknown.truncate(3);
    lines.extend(unknown.iter().map(|why| format!("unknown  {why}")));
    let failed: Vec<String> = tool
        .trials
        .iter()
        .filter_map(|t| t.failure.as_ref().map(|why| format!("failed   round {}: {why}", t.round)))
        .collect();
    lines.extend(failed);
    lines
}

fn rate(bps: f64) -> String {
    bits(bps.max(0.0).round() as u64)
}

fn share(percent: f64) -> String {
    if percent == 0.0 { "0 %".to_owned() } else { format!("{percent:.3} %") }
}
