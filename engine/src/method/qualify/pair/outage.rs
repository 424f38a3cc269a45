//! A link that goes down in the middle of a trial: made by this program, or waited for; and when it is over.
#![forbid(unsafe_code)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::control::Stop;
use crate::error::{Error, Result};
use crate::host::interface;
use crate::method::ports::crew::{Crew, Job};

/// How long frames flow before the link goes down, and again after they came back.
const AROUND: Duration = Duration::from_millis(1000);

/// Without frames for so long there is an outage: several intervals of a receiver.
const SILENCE: Duration = Duration::from_millis(300);

/// An interface of this host that is set down for a while. It is set up again however the trial ends.
#[derive(Debug)]
pub(super) struct Down {
    interface: String,
    time: Duration,
    is_down: bool,
}

impl Down {
    /// Nothing is done yet.
    ///
    /// # Errors
    /// When there is no such interface, or it is down already.
    pub fn plan(name: &str, time: Duration) -> Result<Self> {
        let link = interface::link(name)?;
        if !link.up {
            return Err(Error::environment(format!("--reset-link {name}: the interface is down already"))
                .fix(format!("ip link set {name} up")));
        }
        Ok(Self { interface: name.to_owned(), time, is_down: false })
    }

    fn set(&mut self, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        let output = Command::new("ip")
            .args(["link", "set", "dev", &self.interface, state])
            .stdin(Stdio::null())
            .output()
            .map_err(|e| Error::environment("cannot run ip").because(e).fix("install iproute2"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::environment(format!(
                "ip link set {} {state}: {}",
                self.interface,
                said.trim()
            ))
            .fix("run as root (CAP_NET_ADMIN)"));
        }
        self.is_down = !up;
        Ok(())
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        if self.is_down {
            let _ = self.set(true);
        }
    }
}

/// Follows senders and receivers through an outage: until frames have come again for a while, and at most for `longest` behind our own part of it. Then senders are asked to end.
pub(super) fn follow(
    crew: &mut Crew,
    senders: &[Job],
    receivers: &[Job],
    mut down: Option<Down>,
    longest: Duration,
    stop: &Stop,
) -> Result<()> {
    crew.until_begun(receivers, AROUND * 2, stop)?;
    if let Some(down) = &mut down {
        crew.listen_for(AROUND, stop)?;
        down.set(false)?;
        crew.listen_for(down.time, stop)?;
        down.set(true)?;
    }
    let begun = Instant::now();
    let mut watched: Vec<Watched> = receivers.iter().map(|job| Watched::begin(crew.packets(*job))).collect();
    while begun.elapsed() < longest && !stop.is_requested() {
        crew.listen()?;
        for (watched, job) in watched.iter_mut().zip(receivers) {
            watched.look(crew.packets(*job));
        }
        let over = if down.is_some() {
            watched.iter().all(|watched| watched.flows_for(AROUND))
        } else {
            watched.iter().any(|watched| watched.was_silent)
                && watched.iter().all(|watched| watched.flows_for(AROUND))
        };
        if over {
            break;
        }
    }
    let ended = Stop::default();
    ended.request();
    crew.until_ended(senders, Duration::from_secs(30), &ended)
}

/// What is seen of one receiver.
#[derive(Debug)]
struct Watched {
    packets: u64,
    /// When frames last came.
    last: Instant,
    /// Since when they have come without a silence.
    since: Instant,
    was_silent: bool,
}

impl Watched {
    fn begin(packets: u64) -> Self {
        let now = Instant::now();
        Self { packets, last: now, since: now, was_silent: false }
    }

    fn look(&mut self, packets: u64) {
        let now = Instant::now();
        let silent = now - self.last > SILENCE;
        if packets > self.packets {
            if silent {
                (self.was_silent, self.since) = (true, now);
            }
            (self.packets, self.last) = (packets, now);
        }
    }

    fn flows_for(&self, time: Duration) -> bool {
        self.last.elapsed() < SILENCE && self.since.elapsed() > time
    }
}
