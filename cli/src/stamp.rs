//! `wirerate stamp`.

use std::fmt::Write as _;

use wirerate_engine::agent::protocol;
use wirerate_engine::packet::stamp;
use wirerate_engine::report::Distribution;
use wirerate_engine::stamp::Timestamps;
use wirerate_engine::stamp::report::{Interval, Report};
use wirerate_engine::stamp::sender::{self, Config, Event, Numbering, Outcome};
use wirerate_engine::{Error, report::Warning};

use crate::args::stamp::{Format, Numbering as Told, Results, Stamp, Timestamps as By, resolve};
use crate::output::{Form, Sink, plain, say, told_warning};
use crate::signals::stop_on_signals;
use crate::text::{count, outcome, time, warning};
use crate::{Result, Status};

/// Runs one session, and reports.
pub fn run(args: &Stamp) -> Result<Status> {
    let config = configuration(args)?;
    let mut sink = open(&args.output, wirerate_engine::stamp::report::SCHEMA)?;
    let stop = stop_on_signals()?;
    let mut ended = sender::run(&config, &stop, &mut |event| tell(&mut sink, &event))?;
    judge(args, &mut ended);
    sink.result(&ended.report, render)?;
    status(ended)
}

/// Adds the verdict, where one is asked for.
pub fn judge(args: &Stamp, ended: &mut Outcome) {
    if let Some(below) = args.expect_loss_below {
        ended.report.expect_loss_below(below);
    }
}

/// How the command ends.
pub fn status(ended: Outcome) -> Result<Status> {
    let report = &ended.report;
    match ended.failure {
        Some(failure) => Err(failure),
        // Who names no limit still wants to know that nothing came back.
        None if report.verdict.is_none() && report.rx.packets == 0 && report.tx.packets > 0 => {
            Ok(Status::Failed)
        }
        None => Ok(Status::of(report.verdict.as_ref())),
    }
}

/// What to send, and to whom.
pub fn configuration(args: &Stamp) -> Result<Config> {
    let target = resolve(&args.target, args.port).map_err(|why| {
        Error::usage(format!("{}: {why}", args.target))
            .fix("name an address, as 192.0.2.1 or [2001:db8::1]:862")
    })?;
    let mut duration = args.duration;
    if duration.is_none() && args.count.is_none() {
        // As with `send`: nothing is left running by mistake.
        duration = Some(std::time::Duration::from_secs(10));
    }
    Ok(Config {
        target,
        pps: args.rate,
        count: args.count,
        duration,
        length: args.length,
        dscp: args.dscp,
        timestamps: by(args.timestamps),
        format: format(args.format),
        timeout: args.timeout,
        reflector: match args.reflector {
            Told::Auto => Numbering::Auto,
            Told::Stateful => Numbering::Stateful,
            Told::Stateless => Numbering::Stateless,
        },
        interval: args.output.interval,
    })
}

/// The engine's word for who takes times.
pub fn by(by: By) -> Timestamps {
    match by {
        By::Kernel => Timestamps::Kernel,
        By::User => Timestamps::User,
    }
}

/// The engine's word for how times are written.
pub fn format(format: Format) -> stamp::Format {
    match format {
        Format::Ntp => stamp::Format::Ntp,
        Format::Ptp => stamp::Format::Ptp,
    }
}

/// Where results go; the report has this schema.
pub fn open(results: &Results, schema: &'static str) -> Result<Sink> {
    Sink::new(results.output.as_deref(), Form::of(results.json, results.json_lines), results.quiet)?
        .on_web(&results.web, schema)
}

fn tell(sink: &mut Sink, event: &Event<'_>) {
    sink.line(&told(event));
    match event {
        Event::Interval(interval) => sink.progress(|| line(interval)),
        Event::Warning(what) => say(&warning(what)),
    }
}

/// What happens during a session, as a line tells it.
pub fn told(event: &Event<'_>) -> protocol::Event {
    match event {
        Event::Interval(interval) => protocol::Event::Interval { interval: plain(interval) },
        Event::Warning(warning) => told_warning(warning),
    }
}

/// Tells a warning.
pub fn warn(sink: &mut Sink, what: &Warning) {
    sink.line(&told_warning(what));
    say(&warning(what));
}

fn line(i: &Interval) -> String {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let rtt = i.rtt_ns.map_or(String::new(), |p| format!("  rtt p50 {} max {}", time(p.p50), time(p.max)));
    format!(
        "{:>5.1}-{:<5.1} s  sent {:>7}  answered {:>7}  lost {}{rtt}",
        seconds(i.start_ns),
        seconds(i.end_ns),
        count(i.sent),
        count(i.answered),
        count(i.lost)
    )
}

fn render(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, what: String| _ = writeln!(text, "{name:<10} {what}");
    let (tx, rx, loss) = (&report.tx, &report.rx, &report.loss);
    line(
        "session",
        format!(
            "{} → {}, identifier {}",
            report.source,
            report.config["target"].as_str().unwrap_or(""),
            report.ssid
        ),
    );
    let mut sent = format!("{} packets in {}", count(tx.packets), time(report.duration_ns));
    for (number, what) in [(tx.errors, "refused by this host"), (tx.refused, "refused on the way (ICMP)")] {
        if number > 0 {
            sent += &format!(", {} {what}", count(number));
        }
    }
    line("sent", sent);
    line(
        "answered",
        format!(
            "{}, {} late, {} duplicate, {} reordered, {} foreign",
            count(rx.answered),
            count(rx.late),
            count(rx.duplicate),
            count(rx.reordered),
            count(rx.foreign)
        ),
    );
    line("lost", format!("{} ({:.4} %)", count(loss.lost), loss.percent.unwrap_or(0.0)));
    if let Some(split) = loss.split.filter(|_| loss.lost + rx.late > 0) {
        let tail = if split.unplaced > 0 {
            format!(", {} at the end: either", count(split.unplaced))
        } else {
            String::new()
        };
        line(
            "  of these",
            format!(
                "{} on the way there, {} on the way back{tail}",
                count(split.forward),
                count(split.backward)
            ),
        );
    }
    if let Some(why) = loss.no_split {
        line("  where", format!("not known: {why}"));
    }
    let times = &report.times;
    for (name, value) in [
        ("rtt", times.rtt_ns),
        ("  schedule", times.rtt_from_schedule_ns),
        ("  varies", times.variation_ns),
        ("  there", times.variation_forward_ns),
        ("  back", times.variation_backward_ns),
        ("one way →", times.one_way_forward_ns),
        ("one way ←", times.one_way_backward_ns),
        ("reflector", times.reflector_ns),
        ("left after", times.departure_lag_ns),
    ] {
        if let Some(times) = value {
            line(name, distribution(&times));
        }
    }
    if let Some(error) = times.one_way_error_ns {
        line("  error", format!("one-way times may be off by {}", time(error)));
    }
    if let (Some(offset), Some(error)) = (times.clock_offset_ns, times.clock_offset_error_ns) {
        let which = if offset < 0 { "behind" } else { "ahead" };
        let text =
            format!("the other end's is {which} by {}, to {}", time(offset.unsigned_abs()), time(error));
        line("clocks", text);
    }
    let (t1, t4) = (report.timestamps.transmit, report.timestamps.receive);
    if rx.answered > 0 {
        line("stamps", format!("T1: {}; T4: {}", taken_by(t1), taken_by(t4)));
    }
    if let Some(r) = &report.reflector {
        let clock = if r.synchronized { "synchronised" } else { "not synchronised" };
        let hops = if r.ttl_min == r.ttl_max {
            r.ttl_min.to_string()
        } else {
            format!("{} to {}", r.ttl_min, r.ttl_max)
        };
        line(
            "other end",
            format!("{}, {} times, clock {clock} (error {}), TTL {hops}", r.mode, r.format, time(r.error_ns)),
        );
    }
    if let Some(verdict) = &report.verdict {
        for check in &verdict.checks {
            line("check", format!("{}: wanted {}, got {}", check.name, check.want, check.got));
        }
        line("verdict", outcome(verdict.outcome).to_owned());
    }
    text
}

/// Packets by who stamped them, in words.
pub fn taken_by(by: wirerate_engine::stamp::report::By) -> String {
    let parts: Vec<String> = [(by.hardware, "NIC"), (by.kernel, "kernel"), (by.user, "program")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, who)| format!("{} by the {who}", count(number)))
        .collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

fn distribution(p: &Distribution) -> String {
    let mut text = format!("min {}, mean {}, p50 {}", time(p.min), time(p.mean), time(p.p50));
    for (name, value) in
        [("p90", p.p90), ("p99", p.p99), ("p99.9", p.p999), ("p99.99", p.p9999), ("p99.999", p.p99999)]
    {
        if let Some(ns) = value {
            text += &format!(", {name} {}", time(ns));
        }
    }
    text + &format!(", max {}", time(p.max))
}
