//! When groups that this host joins and leaves come and go, on the wire of one interface.
//!
//! A packet socket sees what leaves and what comes, each with the kernel's stamp: the report by which the kernel joins a group, the first packet
//! of data behind it, the message by which it leaves, and what still comes. Stamps are those that tcpdump would see. The memberships are the
//! kernel's own, held by sockets that receive nothing.
#![forbid(unsafe_code)]

mod filter;
mod joins;
mod table;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crossbeam::channel::Receiver;

use super::protocol::{Event, Failure, Groups, Look, Moved, WatchSpec};
use crate::clock;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::host::interface;
use crate::sys::tap::Tap;
use crate::target::Target;
use joins::Joins;
use table::Table;

/// Most groups of one watch: each has some 200 bytes.
pub const MOST_GROUPS: usize = 65_536;

/// How long a request waits while nothing passes.
const PATIENCE: Duration = Duration::from_millis(5);

/// How long it is looked whether the kernel stamps what passes: it begins to in the background, a moment after it was asked to.
const STAMPING: Duration = Duration::from_secs(2);

/// As [`STAMPING`], where that cannot be seen.
const UNSEEN: Duration = Duration::from_millis(50);

/// Kinds of virtual devices that get from their parent what they have joined.
const FILTERS: [&str; 3] = ["macvlan", "macvtap", "ipvlan"];

/// Packets between two looks at requests.
const TURN: usize = 256;

/// The longest IP packet.
const LONGEST: usize = 1 << 16;

/// What may be asked of a watch.
#[derive(Debug)]
pub(super) enum Command {
    /// Join these.
    Join(Groups),
    /// Leave these.
    Leave(Groups),
    /// Tell what was seen.
    Look,
}

/// Groups that are joined or left one after another.
struct Work {
    joining: bool,
    groups: Vec<Target>,
    next: usize,
    start: Instant,
    rate: Option<f64>,
}

/// Watches until `stop` is requested; the memberships end with it.
///
/// # Errors
/// When it cannot begin: no such interface, a packet socket is refused. Later, that the interface went away; what was seen by then is told before.
pub(super) fn run(
    spec: &WatchSpec,
    commands: &Receiver<Command>,
    stop: &Stop,
    tell: &mut dyn FnMut(Event),
) -> Result<()> {
    let mut watch = Watch::open(spec)?;
    tell(Event::Ready);
    let mut failure = None;
    while !stop.is_requested() && failure.is_none() {
        failure = watch.turn(tell).err();
        for command in commands.try_iter() {
            watch.take(command, tell);
        }
    }
    tell(Event::Report { report: serde_json::to_value(watch.look()).expect("keys are texts") });
    failure.map_or(Ok(()), Err)
}

struct Watch {
    interface: String,
    port: u16,
    tap: Tap,
    table: Table,
    joins: Joins,
    work: VecDeque<Work>,
    buffer: Vec<u8>,
    missed: u64,
}

impl Watch {
    fn open(spec: &WatchSpec) -> Result<Self> {
        let link = interface::require_up(&spec.interface)?;
        let interface = link.interface();
        let mut table = Table::default();
        for target in parse(&spec.groups, spec.port)? {
            table.expect(&target)?;
        }
        let tap = Tap::open(interface.index, &filter::program(spec.port)).map_err(|e| {
            Error::environment(format!("{}: no packet socket", interface.name))
                .because(e)
                .fix("run the agent as root, or give it the capability: setcap cap_net_raw+ep")
        })?;
        // Not of devices that are a filter themselves: what passes one of these is what it does for its groups.
        if !link.kind.as_deref().is_some_and(|kind| FILTERS.contains(&kind)) {
            tap.take_all_groups(interface.index).map_err(|e| {
                Error::failed(format!("{}: does not take in groups that are not joined", interface.name))
                    .because(e)
            })?;
        }
        if !tap.wait_for_stamps(STAMPING).unwrap_or(false) {
            std::thread::sleep(UNSEEN);
        }
        Ok(Self {
            port: spec.port,
            tap,
            table,
            joins: Joins::new(&interface),
            work: VecDeque::new(),
            buffer: vec![0; LONGEST],
            missed: 0,
            interface: interface.name,
        })
    }

    /// Joins or leaves what is due, and takes in what has passed.
    fn turn(&mut self, tell: &mut dyn FnMut(Event)) -> Result<()> {
        let due = self.go_on(tell);
        let tai_minus_utc_ns = clock::tai_minus_utc_ns();
        let mut patience = due.map_or(PATIENCE, |due| due.min(PATIENCE));
        for _ in 0..TURN {
            let passed = self.tap.next(&mut self.buffer, patience).map_err(|e| {
                Error::failed(format!(
                    "{}: the interface went down or away; what was seen before is reported",
                    self.interface
                ))
                .because(e)
            })?;
            let Some(passed) = passed else { break };
            let at_ns = passed.at_ns.saturating_add_signed(tai_minus_utc_ns);
            let packet = &self.buffer[..passed.len.min(LONGEST)];
            self.table.saw(packet, passed.outgoing, at_ns);
            patience = Duration::ZERO;
        }
        Ok(())
    }

    fn take(&mut self, command: Command, tell: &mut dyn FnMut(Event)) {
        let joining = matches!(command, Command::Join(_));
        match command {
            Command::Look => tell(Event::Look(self.look())),
            Command::Join(asked) | Command::Leave(asked) => {
                let rate = asked.rate.filter(|rate| rate.is_finite() && *rate > 0.0);
                match parse(&asked.groups, self.port) {
                    Ok(groups) => {
                        self.work.push_back(Work { joining, groups, next: 0, start: Instant::now(), rate })
                    }
                    Err(error) => tell(moved(joining, 0, Some(&error))),
                }
            }
        }
    }

    /// Does the next step of the work if it is due, and says how long there is until the one behind it.
    fn go_on(&mut self, tell: &mut dyn FnMut(Event)) -> Option<Duration> {
        let work = self.work.front_mut()?;
        if work.next == 0 {
            work.start = Instant::now();
        }
        let mut failed = None;
        while let Some(target) = work.groups.get(work.next) {
            let due = work
                .rate
                .map_or(Duration::ZERO, |rate| Duration::from_secs_f64((work.next as f64 / rate).min(1e6)));
            let rest = due.saturating_sub(work.start.elapsed());
            if !rest.is_zero() {
                return Some(rest);
            }
            let moved = if work.joining {
                self.joins.join(target).and_then(|asked_ns| self.table.joined(target, asked_ns))
            } else {
                self.joins.leave(target).map(|asked_ns| self.table.left(target, asked_ns))
            };
            if let Err(error) = moved {
                failed = Some(error);
                break;
            }
            work.next += 1;
            // So many at once, then it is looked at what passes.
            if work.next.is_multiple_of(16) {
                return Some(Duration::ZERO);
            }
        }
        tell(moved(work.joining, work.next as u64, failed.as_ref()));
        self.work.pop_front();
        None
    }

    fn look(&mut self) -> Look {
        self.missed += u64::from(self.tap.dropped().unwrap_or(0));
        let mut look = self.table.look();
        look.interface.clone_from(&self.interface);
        look.port = self.port;
        look.joined = self.joins.len() as u64;
        look.sockets = self.joins.sockets() as u64;
        look.missed = self.missed;
        look
    }
}

fn moved(joining: bool, groups: u64, error: Option<&Error>) -> Event {
    let moved = Moved { groups, failure: error.map(Failure::from) };
    if joining { Event::Joined(moved) } else { Event::Left(moved) }
}

/// Groups as they are typed, all of them on `port`.
fn parse(groups: &[String], port: u16) -> Result<Vec<Target>> {
    groups.iter().map(|text| group(text, port)).collect()
}

fn group(text: &str, port: u16) -> Result<Target> {
    let target: Target = text.parse()?;
    if !target.is_group() {
        return Err(Error::usage(format!("{target}: {} is not a multicast group", target.destination.ip()))
            .fix("use a group, such as 239.1.2.3 or ff15::1"));
    }
    if target.destination.port() != port {
        return Err(Error::usage(format!("{target}: this watch is of port {port}"))
            .fix("name that port, or begin another watch"));
    }
    Ok(target)
}
