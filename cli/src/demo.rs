//! `wirerate demo`.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;
use wirerate_engine::backend::Choice;
use wirerate_engine::host::privilege::{Privileges, Purpose};
use wirerate_engine::lab::become_root_in_user_namespace;
use wirerate_engine::lab::demo::{self, Demo, DemoConfig, Member, Scene};
use wirerate_engine::queue::socket;
use wirerate_engine::{Error, report::Path};

use crate::args;
use crate::output::{self, say};
use crate::signals::stop_on_signals;
use crate::text::{count, pps, time};
use crate::{Result, Status};

/// Runs the demonstration and prints its table.
pub fn run(args: &args::Demo) -> Result<Status> {
    let notes = prepare()?;
    let sockets = match socket::available() {
        Ok(()) => Choice::Uring,
        Err(why) => {
            say(&format!("io_uring cannot be used ({why}); showing mmsg in its place"));
            Choice::Mmsg
        }
    };
    let mut backends = vec![sockets];
    if notes.is_none() {
        backends.push(Choice::Afxdp);
    }
    // After the user namespace was entered: that needs a single thread, and a handler may start none.
    let stop = stop_on_signals()?;
    let config = DemoConfig { backends, duration: args.duration, pps: args.pps };
    let quiet = args.quiet;
    let demo = demo::run(&config, &stop, &mut |line| {
        if !quiet {
            say(line);
        }
    })?;
    if args.json {
        output::print(&output::pretty(&json!({"schema": "wirerate.demo/1", "scenes": demo.scenes})))?;
        if let (Some(notes), false) = (notes, quiet) {
            say(&notes);
        }
    } else {
        output::print(&render(&demo))?;
        if let Some(notes) = notes {
            output::print(&format!("\n{notes}\n"))?;
        }
    }
    Ok(Status::Finished)
}

/// Sees to it that network namespaces can be made; says what is missing without root.
fn prepare() -> Result<Option<String>> {
    let privileges = Privileges::read();
    if privileges.allows(Purpose::Xdp) && privileges.allows(Purpose::Namespaces) {
        return Ok(None);
    }
    become_root_in_user_namespace().map_err(|e| {
        Error::environment(
            "this user may not make network namespaces, neither directly nor in a user namespace",
        )
        .because(e)
        .fix("run as root: sudo wirerate demo")
    })?;
    Ok(Some(
        "Without root this was the socket half, in an unprivileged user namespace. As root (sudo wirerate demo) the \
         AF_XDP half runs as well, and sockets get receive buffers beyond net.core.rmem_max."
            .to_owned(),
    ))
}

fn render(demo: &Demo) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "datapath",
        "offered",
        "sent",
        "receiver",
        "port saw",
        "received",
        "lost",
        "where",
        "unaccounted",
        "latency p50, p99",
    ]);
    for column in [2, 4, 5, 6, 8, 9] {
        table.column_mut(column).expect("a column of the header").set_cell_alignment(CellAlignment::Right);
    }
    for scene in &demo.scenes {
        for (n, member) in scene.members.iter().enumerate() {
            table.add_row(row(scene, member, n));
        }
    }
    format!(
        "{table}\n\
         sent = received + lost at a known place + unaccounted. Latency is one way, CLOCK_TAI, one host.\n\
         \"port saw\" is the bridge's own count of packets towards the receiver: the data, five end-of-stream\n\
         messages, and the bridge's queries. A veth pair is not a NIC: these figures show that it works, not how fast a NIC is.\n"
    )
}

/// A member's row; what belongs to the whole scene stands in the first two.
fn row(scene: &Scene, member: &Member, n: usize) -> Vec<String> {
    let tx = scene.sender.tx.as_ref();
    let mode = member.report.backend.as_ref().map_or(String::new(), |b| match b.xdp {
        "none" => b.mode.to_owned(),
        xdp => format!("{}, {xdp}", b.mode),
    });
    let latency = member.report.rx.as_ref().and_then(|rx| rx.latency_ns);
    let [name, offered, sent] = match n {
        0 => [scene.backend.to_owned(), scene.rate.clone(), tx.map_or(String::new(), |tx| count(tx.packets))],
        1 => [mode, String::new(), tx.map_or(String::new(), |tx| pps(tx.pps))],
        _ => Default::default(),
    };
    vec![
        name,
        offered,
        sent,
        member.path.receiver.clone(),
        count(member.port_packets),
        count(member.path.received),
        count(member.path.sent.saturating_sub(member.path.received)),
        places(&member.path),
        member.path.unaccounted.to_string(),
        latency.map_or(String::new(), |l| {
            l.p99.map_or_else(|| time(l.p50), |p99| format!("{}, {}", time(l.p50), time(p99)))
        }),
    ]
}

fn places(path: &Path) -> String {
    let places: Vec<String> = path
        .drops
        .iter()
        .map(|d| {
            let at = d.interface.as_ref().map_or(String::new(), |i| format!(" {i}"));
            format!("{} {}{at} {}", count(d.packets), d.place, d.reason)
        })
        .collect();
    if places.is_empty() { "-".to_owned() } else { places.join("\n") }
}
