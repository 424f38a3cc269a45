//! Copying multicast on one machine, measured in rounds that take turns: `scripts/replicators`, docs/devices.md.
//!
//! Two parts. The devices under test side by side ([`devices`]): each is built in a lab of its own with the same number of members, which all join one group; the kernel's generator
//! sends at full speed, and an XDP program on each member's interface drops the packets and counts them. And datagrams through the bridge to programs that receive them
//! ([`members`]): ours with and without segmentation offload, and iperf 2's, at the highest rate with loss under 0.1 %.
#![forbid(unsafe_code)]

mod devices;
mod gates;
mod members;
#[path = "../versus/stats.rs"]
mod stats;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use wirerate_engine::error::Result;
use wirerate_engine::target::{Scheme, Target};

/// Measures how multicast is copied: packets delivered to all members together, medians of rounds that take turns
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure: devices, members (through the bridge, iperf 2 beside), or both
    #[arg(long, value_enum, value_delimiter = ',', default_value = "devices,members")]
    parts: Vec<Part>,

    /// Devices, in this order
    #[arg(long, value_delimiter = ',', default_value = "bridge,router,macvlan,mirred,xdp,afxdp,socket")]
    devices: Vec<String>,

    /// Members of the group at each device, 1 to 29
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..30))]
    members: u8,

    /// Frame size with FCS at the devices, bytes
    #[arg(long, default_value = "64")]
    frame_size: String,

    /// Members behind the bridge that receive datagrams, 1 to 200
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=200))]
    receivers: u8,

    /// UDP payload of these datagrams, 76 to 1472 bytes
    #[arg(long, default_value_t = 1448, value_parser = clap::value_parser!(u16).range(76..=1472))]
    length: u16,

    /// Rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Seconds of each trial in each round
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Fail (exit 3) unless every gate holds
    #[arg(long)]
    gate: bool,

    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Devices,
    Members,
}

const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(239, 1, 2, 3)), 5001);

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("replicators: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let wants = |part| arguments.parts.contains(&part);
    // One lab after the other: a bridge that is there asks its members.
    let devices = wants(Part::Devices).then(|| devices::run(arguments)).transpose()?;
    let mut all: Vec<_> = devices.iter().flat_map(devices::Devices::gates).collect();
    let mut json = serde_json::Map::new();
    if let Some(devices) = devices {
        if arguments.json {
            json.insert("devices".to_owned(), devices.json(arguments));
        } else {
            println!("{}", devices.table());
        }
    }
    let members = wants(Part::Members).then(|| members::run(arguments)).transpose()?;
    if let Some(members) = members {
        all.extend(members.gates());
        if arguments.json {
            json.insert("members".to_owned(), members.json(arguments));
        } else {
            println!("{}", members.table());
        }
    }
    if arguments.json {
        json.insert("gates".to_owned(), serde_json::json!(all));
        println!("{}", serde_json::Value::Object(json));
    } else if !all.is_empty() {
        println!("{}", gates::table(&all));
    }
    Ok(!arguments.gate || all.iter().all(gates::Gate::holds))
}

fn target() -> Target {
    Target { scheme: Scheme::Udp, source: None, destination: GROUP }
}
