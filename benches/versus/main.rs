//! wirerate and other tools side by side: alternating rounds over one veth pair, receiver-side counts, medians, ratios.
//! What the columns mean, and what a figure over veth does not mean: docs/versus.md.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a program for a terminal")]

mod contest;
mod lab;
mod machine;
mod ours;
mod peers;
mod process;
mod rounds;
mod rows;
mod search;
mod stats;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;
use wirerate_engine::error::{Error, Kind, Result};

use lab::{Cpus, Lab, Napi};
use machine::Machine;
use rounds::{Outcome, Plan};
use rows::Peers;
use table::Judged;

/// Measures wirerate and each peer that is installed alternately over one veth pair; needs root
#[derive(Debug, Parser)]
#[command(name = "versus")]
struct Args {
    /// Rounds; in each every contestant has its turn. Medians need at least five
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,

    /// Time of a trial in a round, in seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,

    /// Rows to measure, of 1 to 8
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,5,6,7,8", value_parser = clap::value_parser!(u8).range(1..=8))]
    rows: Vec<u8>,

    /// Contestants to measure, by their names in the JSON: uring-64,gsro-64. Default: all of the rows
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// CPU of the sender and CPU of the receiver
    #[arg(long, value_delimiter = ',', default_value = "0,1")]
    cpus: Vec<usize>,

    /// CPU on which the kernel's receive side runs. best: each contestant where it is fastest, found before the rounds
    #[arg(long, value_enum, default_value_t = Placement::Best)]
    napi: Placement,

    /// Search the lossless rate of peers too, where they can pace
    #[arg(long)]
    search_peers: bool,

    /// Two rounds of a second, to see that it works
    #[arg(long)]
    quick: bool,

    /// Folder that scripts/peers filled [default: target/peers, when it is there]
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,

    /// An iperf3 of 3.21 or later, for --gsro
    #[arg(long, value_name = "FILE")]
    iperf3: Option<PathBuf>,

    /// An xdp-trafficgen
    #[arg(long, value_name = "FILE")]
    xdp_trafficgen: Option<PathBuf>,

    /// wirerate's release binary [default: beside this program]
    #[arg(long, value_name = "FILE")]
    wirerate: Option<PathBuf>,

    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Placement {
    Best,
    Sender,
    Receiver,
}

/// What `--json` writes.
#[derive(Serialize)]
struct Results<'a> {
    schema: &'static str,
    machine: &'a Machine,
    wirerate: String,
    peers: &'a Peers,
    cpus: Cpus,
    plan: &'a Plan,
    seconds_taken: f64,
    contestants: &'a [Outcome],
    gates: &'a [Judged],
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error}");
            ExitCode::from(match error.kind {
                Kind::Failed => 1,
                Kind::Usage => 2,
                Kind::Environment => 4,
            })
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let &[sender, receiver] = args.cpus.as_slice() else {
        return Err(Error::usage("--cpus wants two CPUs: 0,1"));
    };
    process::catch_signals()?;
    let wirerate = wirerate(args)?;
    let folder =
        args.peers.clone().or_else(|| Some(PathBuf::from("target/peers")).filter(|folder| folder.exists()));
    let peers = Peers::find(folder.as_deref(), args.iperf3.as_deref(), args.xdp_trafficgen.as_deref());
    let lab = Lab::new(Cpus { sender, receiver })?;
    let mut entries = rows::entries(&wirerate, &peers);
    entries.retain(|entry| entry.rows.iter().any(|row| args.rows.contains(row)));
    if !args.only.is_empty() {
        if let Some(unknown) = args.only.iter().find(|id| !entries.iter().any(|entry| entry.id == **id)) {
            let known: Vec<_> = entries.iter().map(|entry| entry.id.as_str()).collect();
            return Err(Error::usage(format!("--only {unknown}: none of {}", known.join(", "))));
        }
        entries.retain(|entry| args.only.contains(&entry.id));
    }
    let plan = plan(args);
    let mut machine = Machine::read(&lab);
    let begin = Instant::now();
    eprintln!(
        "{} contestants, about {:.0} minutes",
        entries.len(),
        (rounds::estimate(&entries, &plan) / 60.0).ceil()
    );
    let outcomes = rounds::measure(&entries, &lab, &plan, |word| {
        eprintln!("[{:>4.0} s] {word}", begin.elapsed().as_secs_f64());
    });
    machine.finish();
    let judged = table::judge(&outcomes, &args.rows);
    println!("{}", head(&machine, &plan, &lab));
    println!("{}", table::contestants(&outcomes, &args.rows));
    println!("{}", table::gates(&judged));
    if let Some(path) = &args.json {
        let results = Results {
            schema: "wirerate.versus/1",
            machine: &machine,
            wirerate: machine::wirerate_version(&wirerate),
            peers: &peers,
            cpus: lab.cpus,
            plan: &plan,
            seconds_taken: begin.elapsed().as_secs_f64(),
            contestants: &outcomes,
            gates: &judged,
        };
        let failed =
            |e: std::io::Error| Error::environment(format!("cannot write {}", path.display())).because(e);
        let text = serde_json::to_string_pretty(&results).map_err(|e| failed(e.into()))?;
        std::fs::write(path, text + "\n").map_err(failed)?;
    }
    Ok(())
}

fn wirerate(args: &Args) -> Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("wirerate"));
    args.wirerate
        .clone()
        .or_else(beside)
        .filter(|path| path.is_file())
        .and_then(|path| path.canonicalize().ok())
        .ok_or_else(|| {
            Error::environment("wirerate's binary is not there").fix("cargo build --release -p wirerate")
        })
}

fn plan(args: &Args) -> Plan {
    Plan {
        rounds: if args.quick { 2 } else { usize::from(args.rounds) },
        trial: Duration::from_secs(if args.quick { 1 } else { args.seconds }),
        // iperf3 and sockperf know whole seconds.
        short: Duration::from_secs(1),
        placements: match args.napi {
            Placement::Best => vec![Napi::Sender, Napi::Receiver],
            Placement::Sender => vec![Napi::Sender],
            Placement::Receiver => vec![Napi::Receiver],
        },
        search_peers: args.search_peers,
    }
}

fn head(machine: &Machine, plan: &Plan, lab: &Lab) -> String {
    let placement = match plan.placements.as_slice() {
        [_] => "fixed, as in the column",
        _ => "for each where it is fastest",
    };
    format!(
        "{}\nsender on CPU {}, receiver on CPU {}; the kernel's receive side {placement}\n\
         medians of {} alternating rounds of {} s over one veth pair (least–most), counted at the receiver\n",
        machine.head(),
        lab.cpus.sender,
        lab.cpus.receiver,
        plan.rounds,
        plan.trial.as_secs(),
    )
}
