//! Stock iperf3 against stock, a stock client against our server, and our client against a stock server: as fast as each pair goes, alternately, over loopback.
//! docs/iperf3.md says what must be shown. Run by scripts/iperf3-bench.
#![forbid(unsafe_code)]

use std::error::Error;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use comfy_table::Table;
use serde::Serialize;
use serde_json::Value;

/// How much a ratio may be below 1 before it is taken for more than noise.
const NOISE: f64 = 0.02;

/// How long a server may take to listen.
const LISTENS: Duration = Duration::from_secs(10);

#[derive(Debug, Parser)]
#[command(about = "Measures wirerate iperf3 with stock iperf3 at the other end, beside stock with stock")]
struct Args {
    /// The stock iperf3
    #[arg(long, value_name = "PATH", default_value = "iperf3")]
    iperf3: PathBuf,

    /// Seconds of each run
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u32,

    /// Rounds, each of every pair; an odd number
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,

    /// UDP payloads in bytes
    #[arg(long, value_name = "BYTES,…", value_delimiter = ',', default_values_t = [1448_u32, 64])]
    lengths: Vec<u32>,

    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Who serves, and who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pair {
    Stock,
    OurServer,
    OurClient,
    Ours,
}

const PAIRS: [Pair; 4] = [Pair::Stock, Pair::OurServer, Pair::OurClient, Pair::Ours];

impl Pair {
    fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock → stock",
            Self::OurServer => "stock → wirerate",
            Self::OurClient => "wirerate → stock",
            Self::Ours => "wirerate → wirerate",
        }
    }

    /// Whether it must be as fast as stock with stock.
    fn is_gated(self) -> bool {
        matches!(self, Self::OurServer | Self::OurClient)
    }
}

/// What one pair came to.
#[derive(Debug, Serialize)]
struct Row {
    pair: &'static str,
    length: u32,
    /// Datagrams a second that arrived, each round.
    delivered_pps: Vec<f64>,
    median_pps: f64,
    /// Median of the rounds' lost part, in percent.
    lost_percent: f64,
    /// Against stock with stock.
    ratio: f64,
    /// Whether it must be 1, and is.
    #[serde(skip_serializing_if = "Option::is_none")]
    holds: Option<bool>,
}

fn main() -> ExitCode {
    match measure(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("iperf3-bench: {error}");
            ExitCode::from(4)
        }
    }
}

fn measure(args: &Args) -> Result<bool, Box<dyn Error>> {
    let wirerate = std::env::current_exe()?.with_file_name("wirerate");
    let mut rows = Vec::new();
    for &length in &args.lengths {
        let mut figures = vec![Vec::new(); PAIRS.len()];
        for round in 1..=args.rounds {
            for (figures, pair) in figures.iter_mut().zip(PAIRS) {
                eprintln!("{length} bytes, round {round} of {}: {} …", args.rounds, pair.name());
                figures.push(run(args, &wirerate, pair, length)?);
            }
        }
        let middle = |of: &[(f64, f64)], which: fn(&(f64, f64)) -> f64| {
            let mut sorted: Vec<f64> = of.iter().map(which).collect();
            sorted.sort_by(f64::total_cmp);
            sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
        };
        let stock = middle(&figures[0], |figure| figure.0);
        for (figures, pair) in figures.iter().zip(PAIRS) {
            let median_pps = middle(figures, |figure| figure.0);
            let ratio = median_pps / stock;
            rows.push(Row {
                pair: pair.name(),
                length,
                delivered_pps: figures.iter().map(|figure| figure.0).collect(),
                median_pps,
                lost_percent: middle(figures, |figure| figure.1),
                ratio,
                holds: pair.is_gated().then_some(ratio >= 1.0 - NOISE),
            });
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        let mut table = Table::new();
        table.set_header(["payload", "client → server", "delivered", "lost", "against stock", "gate"]);
        for row in &rows {
            table.add_row([
                format!("{} B", row.length),
                row.pair.to_owned(),
                format!("{:.3} Mpps", row.median_pps / 1e6),
                format!("{:.1} %", row.lost_percent),
                format!("{:.2}", row.ratio),
                row.holds.map_or("", |holds| if holds { "holds" } else { "FAILS" }).to_owned(),
            ]);
        }
        println!("{table}");
    }
    Ok(rows.iter().all(|row| row.holds != Some(false)))
}

/// Datagrams a second that arrived, and what part of those sent did not, by the server's report.
fn run(args: &Args, wirerate: &PathBuf, pair: Pair, length: u32) -> Result<(f64, f64), Box<dyn Error>> {
    let ours = |is_ours: bool| {
        let mut command = Command::new(if is_ours { wirerate } else { &args.iperf3 });
        if is_ours {
            command.arg("iperf3");
        }
        command
    };
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let mut server = ours(matches!(pair, Pair::OurServer | Pair::Ours))
        .args(["-s", "-1", "-J", "-p", &port])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let until = Instant::now() + LISTENS;
    while !listens(&port)? {
        if Instant::now() > until {
            server.kill()?;
            server.wait()?;
            return Err("a server does not listen".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let client = ours(matches!(pair, Pair::OurClient | Pair::Ours))
        .args(["-c", "127.0.0.1", "-u", "-J", "-b", "0", "-p", &port])
        .args(["-t", &args.seconds.to_string(), "-l", &length.to_string()])
        .output()?;
    if !client.status.success() {
        server.kill()?;
        server.wait()?;
        return Err(format!("{}: {}", pair.name(), String::from_utf8_lossy(&client.stdout)).into());
    }
    let report: Value = serde_json::from_slice(&server.wait_with_output()?.stdout)?;
    let sum = &report["end"]["sum_received"];
    let number = |key: &str| sum[key].as_f64().ok_or_else(|| format!("no {key} in {sum}"));
    // Bytes are of what arrived; the number of datagrams is that of the highest.
    let arrived = number("bytes")? / f64::from(length);
    let seconds = number("seconds")?;
    Ok((arrived / seconds, number("lost_percent")?))
}

/// Whether somebody listens on the port; a connection to find out would be the one client.
fn listens(port: &str) -> Result<bool, Box<dyn Error>> {
    let port = format!(":{:04X}", port.parse::<u16>()?);
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = std::fs::read_to_string(table).unwrap_or_default();
        for line in table.lines().skip(1) {
            let mut words = line.split_whitespace().skip(1);
            if words.next().is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some("0A") {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
