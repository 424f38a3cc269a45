//! The ports at both ends of a cable: their counters before a run and after it.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::counters::port::{self, Moved, Reading};
use crate::host::{interface, namespace};
use crate::ledger::cable::{Counted, Known, of_cable};
use crate::queue::spec::Interface;
use crate::report::{Ledger, Warning};
use crate::sys::netns::Netns;

/// Time between two readings that have to be equal: drivers fetch the counters of some NICs once a second.
const PAUSE: Duration = Duration::from_millis(1100);

/// Readings at most: other traffic may go on for ever.
const READINGS: usize = 5;

/// The sender's port, when it is on the same host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderPort {
    /// Name of the interface.
    pub interface: String,
    /// Its namespace, by a name of `ip netns` or a process that lives there; `None`: ours.
    pub netns: Option<String>,
}

impl FromStr for SenderPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (interface, netns) = match text.split_once('@') {
            Some((interface, netns)) => (interface, Some(netns)),
            None => (text, None),
        };
        if interface.is_empty() || netns.is_some_and(str::is_empty) {
            return Err(Error::usage("wanted: IF or IF@NETNS, as eth1 or eth1@a"));
        }
        Ok(Self { interface: interface.to_owned(), netns: netns.map(str::to_owned) })
    }
}

impl fmt::Display for SenderPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.interface)?;
        self.netns.iter().try_for_each(|netns| write!(f, "@{netns}"))
    }
}

/// The two ports, and what they had counted when the run began.
#[derive(Debug)]
pub(crate) struct Watched {
    name: String,
    sender: Interface,
    netns: Option<Netns>,
    receiver: Interface,
    before: [Reading; 2],
    was_quiet: bool,
}

impl Watched {
    /// Reads the counters of `port` and of the receiver's interface, which have to be two physical ports.
    ///
    /// # Errors
    /// Usage when they are none; Environment when the namespace cannot be entered.
    pub(crate) fn begin(port: &SenderPort, receiver: Option<&Interface>) -> Result<Self> {
        let receiver = receiver.ok_or_else(|| {
            Error::usage("--sender-iface: the receiver has no interface whose counters could be compared")
                .fix("add --iface, with the port at this end of the cable")
        })?;
        let netns = port.netns.as_deref().map(namespace::open).transpose()?;
        let check = || {
            let link = interface::link(&port.interface)?;
            port::require(&link)?;
            Ok(link.interface())
        };
        let sender = match &netns {
            None => check()?,
            Some(netns) => netns.try_run(check).map_err(|error| may_not_enter(port, error))??,
        };
        if sender.index == receiver.index && is_ours(netns.as_ref()) {
            return Err(Error::usage(format!("--sender-iface: {} is the receiver's own port", sender.name))
                .fix("name the port at the other end of the cable"));
        }
        port::require(&interface::link(&receiver.name)?)?;
        let mut watched = Self {
            name: port.to_string(),
            sender,
            netns,
            receiver: receiver.clone(),
            before: Default::default(),
            was_quiet: false,
        };
        let gone = || Error::environment(format!("--sender-iface: the counters of {port} cannot be read"));
        (watched.before, watched.was_quiet) = watched.settled().ok_or_else(gone)?;
        Ok(watched)
    }

    /// Adds to the ledger what the two ports counted since, and what that explains; a warning when it explains nothing.
    pub(crate) fn tell(&self, ledger: &mut Ledger, known: Known) -> Option<Warning> {
        let Some(([sender, receiver], quiet)) = self.moved() else {
            return Some(untold(format!(
                "the counters of {} or {} were set back",
                self.name, self.receiver.name
            )));
        };
        let counted =
            Counted { from: &self.name, to: &self.receiver.name, sender: &sender, receiver: &receiver };
        of_cable(ledger, &counted, known, quiet && self.was_quiet);
        let cable = ledger.cable.as_ref()?;
        let why = match (cable.quiet, cable.whole) {
            (true, true) => return None,
            (false, _) => format!("the counters of {} and {} do not come to rest", cable.from, cable.to),
            (true, false) => {
                format!("{} of {} leaves out packets that the receiver had", cable.came_by, cable.to)
            }
        };
        Some(untold(why))
    }

    fn moved(&self) -> Option<([Moved; 2], bool)> {
        let (now, quiet) = self.settled()?;
        let [sender, receiver] = [0, 1].map(|n| now[n].since(&self.before[n]));
        Some(([sender?, receiver?], quiet))
    }

    /// The counters of both, and whether two readings of what has gone over the cable were equal.
    fn settled(&self) -> Option<([Reading; 2], bool)> {
        let rest = |new: &[Reading; 2], old: &[Reading; 2]| {
            let [sender, receiver] = [0, 1].map(|n| new[n].since(&old[n]));
            sender.zip(receiver).is_some_and(|(s, r)| (s.left, r.came, r.dropped_at_most) == (0, 0, 0))
        };
        let mut last = self.read()?;
        for _ in 1..READINGS {
            thread::sleep(PAUSE);
            let next = self.read()?;
            let same = rest(&next, &last);
            last = next;
            if same {
                return Some((last, true));
            }
        }
        Some((last, false))
    }

    fn read(&self) -> Option<[Reading; 2]> {
        let of = |interface: &Interface| port::read(&interface.name, interface.index);
        let sender = match &self.netns {
            None => of(&self.sender),
            Some(netns) => netns.try_run(|| of(&self.sender)).ok()?,
        };
        Some([sender?, of(&self.receiver)?])
    }
}

fn is_ours(netns: Option<&Netns>) -> bool {
    let inode = |netns: &Netns| netns.inode().ok();
    netns.is_none_or(|netns| inode(netns) == Netns::current().ok().as_ref().and_then(inode))
}

fn may_not_enter(port: &SenderPort, error: std::io::Error) -> Error {
    Error::environment(format!("--sender-iface {port}: its network namespace cannot be entered"))
        .because(error)
        .fix("run as root: it takes CAP_SYS_ADMIN")
}

fn untold(why: String) -> Warning {
    Warning {
        code: "cable-untold",
        text: format!("{why}: they do not say what was lost on the cable"),
        fix: Some("keep other traffic off both ports during the run".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_by_name() {
        let port: SenderPort = "eth1".parse().unwrap();
        assert_eq!((port.interface.as_str(), port.netns.as_deref()), ("eth1", None));
        let port: SenderPort = "eth1@a".parse().unwrap();
        assert_eq!((port.interface.as_str(), port.netns.as_deref()), ("eth1", Some("a")));
        assert_eq!(port.to_string(), "eth1@a");
        for wrong in ["", "@", "@a", "eth1@"] {
            assert!(wrong.parse::<SenderPort>().is_err(), "{wrong}");
        }
    }
}
