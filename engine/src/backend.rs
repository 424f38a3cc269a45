//! Which datapath: what the user asked for, or the best that this machine and user allow, with the reason.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::host::irq::Direction;
use crate::host::nic::Nic;
use crate::host::privilege::{Privileges, Purpose, SETCAP};
use crate::host::{interface, route};
use crate::queue::socket;
use crate::queue::spec::Interface;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The best that works.
    Auto,
    /// AF_XDP.
    Afxdp,
    /// io_uring over UDP sockets.
    Uring,
    /// `sendmmsg` and `recvmmsg` over UDP sockets.
    Mmsg,
    /// Made and counted in the kernel.
    Xdp,
}

/// A datapath.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// AF_XDP.
    Afxdp,
    /// io_uring over UDP sockets.
    Uring,
    /// `sendmmsg` and `recvmmsg` over UDP sockets.
    Mmsg,
    /// Made and counted in the kernel.
    Xdp,
}

impl Backend {
    /// Its name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Afxdp => "afxdp",
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
            Self::Xdp => "xdp",
        }
    }

    /// Whether it works on frames and queues of a NIC, below the network stack, and not on sockets.
    pub fn is_below_sockets(self) -> bool {
        matches!(self, Self::Afxdp | Self::Xdp)
    }
}

/// A datapath, and the interface that it uses.
#[derive(Debug)]
pub(crate) struct Settled {
    pub backend: Backend,
    /// Why this one, for the report.
    pub why: String,
    /// With sockets only the one that was named: otherwise they follow the route.
    pub interface: Option<Interface>,
}

/// Settles datapath and interface for packets of `direction`: the one `named`, which must be up, or else the `obvious` one.
pub(crate) fn settle(
    choice: Choice,
    direction: Direction,
    named: Option<&str>,
    obvious: impl FnOnce() -> Option<Interface>,
) -> Result<Settled> {
    let named = named.map(|name| interface::require_up(name).map(|link| link.interface())).transpose()?;
    let candidate = named.clone().or_else(obvious);
    let (backend, why) = choose(choice, direction, candidate.as_ref())?;
    let interface = if backend.is_below_sockets() { candidate } else { named };
    Ok(Settled { backend, why, interface })
}

/// The interface that packets to `destination` leave by.
pub(crate) fn way_out(destination: IpAddr) -> Option<Interface> {
    let route = route::route_to(destination, None, None).ok()?;
    interface::by_index(route.interface).ok()?.map(|link| link.interface())
}

/// The interface that packets to `destination` arrive at: the one with that address, or for a group the one that
/// this host would send to it by.
pub(crate) fn way_in(destination: IpAddr) -> Option<Interface> {
    let addresses = interface::all_addresses().ok()?;
    match addresses.iter().find(|a| a.ip == destination) {
        Some(own) => interface::by_index(own.index).ok()?.map(|link| link.interface()),
        None => way_out(destination),
    }
}

/// Settles the datapath for traffic on `interface`, and says why.
///
/// # Errors
/// When the one asked for cannot work here.
fn choose(choice: Choice, direction: Direction, interface: Option<&Interface>) -> Result<(Backend, String)> {
    let asked = "asked for by --backend".to_owned();
    match choice {
        Choice::Mmsg => Ok((Backend::Mmsg, asked)),
        Choice::Uring => match socket::available() {
            Ok(()) => Ok((Backend::Uring, asked)),
            Err(why) => {
                Err(Error::environment(format!("--backend uring: {why}")).fix("use --backend mmsg, or auto"))
            }
        },
        Choice::Afxdp => below_sockets(Backend::Afxdp, interface).map(|backend| (backend, asked)),
        Choice::Xdp => below_sockets(Backend::Xdp, interface).map(|backend| (backend, asked)),
        Choice::Auto => Ok(automatic(direction, interface)),
    }
}

/// `backend`, when there is an interface for it and this user may.
fn below_sockets(backend: Backend, interface: Option<&Interface>) -> Result<Backend> {
    let name = backend.name();
    if interface.is_none() {
        return Err(Error::usage(format!("--backend {name} needs an interface, and no route names one"))
            .fix("add --iface IF"));
    }
    match lacks_for_xdp() {
        None => Ok(backend),
        Some(lacks) => Err(Error::environment(format!("--backend {name} needs {lacks}"))
            .fix(format!("run as root, or: {SETCAP}"))),
    }
}

/// Of the two socket datapaths the one that was faster where all pairs of them were measured (docs/versus.md): io_uring to send, recvmmsg to receive.
fn automatic(direction: Direction, interface: Option<&Interface>) -> (Backend, String) {
    let not_afxdp = match interface {
        None => "no interface given for afxdp".to_owned(),
        Some(interface) => {
            if let Some(lacks) = lacks_for_xdp() {
                format!("afxdp needs {lacks}")
            } else if Nic::of(interface).xdp.is_some_and(|xdp| xdp.zero_copy) {
                return (Backend::Afxdp, format!("{} offers zero-copy AF_XDP", interface.name));
            } else {
                format!("{} has no zero-copy AF_XDP", interface.name)
            }
        }
    };
    match (socket::available(), direction) {
        (Ok(()), Direction::Transmit) => (Backend::Uring, format!("{not_afxdp}; io_uring works")),
        (Ok(()), Direction::Receive) => {
            (Backend::Mmsg, format!("{not_afxdp}; recvmmsg receives faster than io_uring"))
        }
        (Err(why), _) => (Backend::Mmsg, format!("{not_afxdp}; {why}")),
    }
}

/// What this process lacks for AF_XDP and XDP programs, if anything.
fn lacks_for_xdp() -> Option<String> {
    let privileges = Privileges::read();
    let missing = privileges.missing(Purpose::Xdp);
    if !missing.is_empty() {
        return Some(missing.iter().map(|c| c.name()).collect::<Vec<_>>().join(", "));
    }
    (!privileges.allows(Purpose::Xdp)).then(|| "to run outside of a user namespace".to_owned())
}
