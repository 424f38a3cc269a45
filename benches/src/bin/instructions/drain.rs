//! What receiving a packet costs with the kernel's part, of one group and of many: ns, not instructions.
//!
//! A socket's buffer is filled while nobody reads, and the time is taken that it takes to empty it: neither sender nor waiting are in it. One group and many take turns, round by
//! round, so that both meet the same machine.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wirerate_engine::error::{Error, Result};
use wirerate_engine::host::interface;
use wirerate_engine::observe::{Observer, ObserverSpec};
use wirerate_engine::profile::payload::Payload;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::queue::socket::{MmsgRx, MmsgTx, UringRx, available};
use wirerate_engine::queue::spec::Interface;
use wirerate_engine::queue::{Flow, Receive, Run, RxSpec, Stamper, Transmit, Tuning, TxSpec, Wait};

/// Rounds of each.
const ROUNDS: usize = 15;

/// Buffers that a round fills: of one datagram, or of [`SEGMENTS`].
const FILL: usize = 8192;

/// Datagrams of a super-buffer.
const SEGMENTS: u16 = 32;

/// In what order packets of the groups come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Each of another group than the one before.
    InTurn,
    /// So many of a group in a row.
    Runs(u16),
    /// Buffers of so many, each of another group.
    Buffers,
}

/// One receiver with its sender, and what it took.
struct Lane<R> {
    tx: MmsgTx,
    rx: R,
    observer: Observer,
    stamper: Stamper,
    /// Numbers used of each group.
    next: Vec<u64>,
    ns_per_packet: Vec<f64>,
}

/// Prints a line for each datapath and order: ns of one group, of `groups`, and how many times that is.
///
/// # Errors
/// When loopback cannot be used.
pub fn run(groups: u16, length: u16) -> Result<()> {
    let orders = [
        (Order::InTurn, "in turn"),
        (Order::Runs(16), "in runs of 16"),
        (Order::Buffers, "super-buffers in turn"),
    ];
    for (order, name) in orders {
        let ns = compare(|groups| MmsgRx::open(&rx_spec(groups, order)?), groups, length, order)?;
        print("mmsg", name, ns);
    }
    if available().is_ok() {
        for (order, name) in orders {
            let ns = compare(|groups| UringRx::open(&rx_spec(groups, order)?), groups, length, order)?;
            print("uring", name, ns);
        }
    }
    Ok(())
}

fn print(backend: &str, order: &str, (one, many): (f64, f64)) {
    println!("{backend}|{order}|{one:.1}|{many:.1}|{:.3}", many / one);
}

/// Medians of ns a packet: of one group, and of `groups`.
fn compare<R: Receive>(
    open: impl Fn(u16) -> Result<R>,
    groups: u16,
    length: u16,
    order: Order,
) -> Result<(f64, f64)> {
    let lane = |groups: u16| -> Result<Lane<R>> {
        Ok(Lane {
            rx: open(groups)?,
            tx: MmsgTx::open(&tx_spec(groups, length, order)?)?,
            observer: Observer::new(ObserverSpec::default()),
            stamper: Stamper::new(1),
            next: vec![0; groups.into()],
            ns_per_packet: Vec::new(),
        })
    };
    let mut lanes = [lane(1)?, lane(groups)?];
    // The first round makes the streams, and is left out.
    for round in 0..=ROUNDS {
        for lane in &mut lanes {
            lane.fill(length, order)?;
            let ns = lane.drain()?;
            if round > 0 {
                lane.ns_per_packet.push(ns);
            }
        }
    }
    let [one, many] = lanes.map(|lane| {
        let mut ns = lane.ns_per_packet;
        ns.sort_by(f64::total_cmp);
        ns[ns.len() / 2]
    });
    Ok((one, many))
}

impl<R: Receive> Lane<R> {
    fn fill(&mut self, length: u16, order: Order) -> Result<()> {
        let groups = self.next.len();
        let (each, buffers) = match order {
            Order::InTurn => (1, FILL),
            Order::Runs(many) => (many, FILL / usize::from(many)),
            // As many bytes as the others' buffers take with the kernel's own.
            Order::Buffers => (SEGMENTS, FILL / 4),
        };
        let mut n = 0;
        while n < buffers {
            let batch = (buffers - n).min(64);
            let runs: Vec<Run> = (n..n + batch)
                .map(|n| {
                    let flow = n % groups;
                    let first_seq = self.next[flow];
                    self.next[flow] += u64::from(each);
                    Run { flow: flow as u16, len: length, count: each, first_seq }
                })
                .collect();
            let wanted = batch * usize::from(each);
            let mut taken = 0;
            let mut rest = runs;
            while taken < wanted {
                let now = self.tx.submit(&rest, &mut self.stamper).map_err(broken)?;
                self.tx.reap(Wait::For(Duration::from_millis(10))).map_err(broken)?;
                taken += now;
                rest = left(rest, now);
            }
            n += batch;
        }
        Ok(())
    }

    /// Takes all that waits; ns for each packet.
    fn drain(&mut self) -> Result<f64> {
        let start = Instant::now();
        let mut packets = 0;
        loop {
            let taken = self.rx.poll(black_box(&mut self.observer), Wait::No).map_err(broken)?;
            if taken == 0 {
                break;
            }
            packets += taken;
        }
        let ns = start.elapsed().as_nanos() as f64;
        if packets == 0 {
            return Err(Error::failed("nothing arrived over loopback"));
        }
        Ok(ns / packets as f64)
    }
}

/// What is left of `runs` when `taken` packets were taken off their front.
fn left(runs: Vec<Run>, mut taken: usize) -> Vec<Run> {
    runs.into_iter()
        .filter_map(|run| {
            let gone = taken.min(run.count.into());
            taken -= gone;
            let count = run.count - gone as u16;
            (count > 0).then_some(Run { count, first_seq: run.first_seq + gone as u64, ..run })
        })
        .collect()
}

fn broken(error: wirerate_engine::queue::QueueError) -> Error {
    Error::failed(format!("a socket broke: {}", error.call)).because(error.source)
}

fn loopback() -> Result<Interface> {
    interface::lookup("lo")
}

/// The first group: those of one lane do not come to the other's.
fn first(groups: u16) -> SocketAddr {
    ([239, if groups > 1 { 97 } else { 96 }, 1, 1], if groups > 1 { 5097 } else { 5096 }).into()
}

fn segments(order: Order) -> Segments {
    if order == Order::Buffers { Segments::Exactly(SEGMENTS) } else { Segments::Off }
}

fn rx_spec(groups: u16, order: Order) -> Result<RxSpec> {
    Ok(RxSpec {
        interface: Some(loopback()?),
        queue: 0,
        target: first(groups).to_string().parse()?,
        groups,
        max_payload: 2048,
        segments: segments(order),
        nic_clock: None,
        tuning: Tuning::default(),
    })
}

fn tx_spec(groups: u16, length: u16, order: Order) -> Result<TxSpec> {
    let SocketAddr::V4(first) = first(groups) else { return Err(Error::failed("the groups are of IPv4")) };
    let flow = |n: u16| Flow {
        stream: n,
        source: ([127, 0, 0, 1], 0).into(),
        destination: (Ipv4Addr::from_bits(first.ip().to_bits() + u32::from(n)), first.port()).into(),
        destination_mac: [0; 6],
    };
    Ok(TxSpec {
        interface: Some(loopback()?),
        queue: 0,
        flows: (0..groups).map(flow).collect(),
        ttl: 1,
        dscp: 0,
        fragment: false,
        vlan: None,
        segments: segments(order),
        txtime: None,
        tuning: Tuning::default(),
        rtp: None,
        iperf2: false,
        payload: Arc::new(Payload::pattern()),
        max_payload: length,
    })
}
