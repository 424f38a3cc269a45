//! The memberships of a watch: kernel sockets that receive nothing, as many as the kernel's limits of one socket take.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::os::fd::AsFd;

use rustc_hash::FxHashMap;
use socket2::{Domain, Protocol, Socket, Type};

use crate::clock;
use crate::error::{Error, Result};
use crate::multicast::membership::join_on;
use crate::queue::spec::Interface;
use crate::sys;
use crate::target::Target;

/// Group, and the source of a channel.
type Key = (IpAddr, Option<IpAddr>);

/// Memberships on one interface; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Joins {
    interface: Interface,
    sockets: Vec<Socket>,
    /// Which socket holds what.
    held: FxHashMap<Key, usize>,
    /// The socket that joins next, by family.
    open: [Option<usize>; 2],
}

impl Joins {
    pub(super) fn new(interface: &Interface) -> Self {
        Self {
            interface: interface.clone(),
            sockets: Vec::new(),
            held: FxHashMap::default(),
            open: [None; 2],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Joins; gives the time just before, CLOCK_TAI in ns.
    pub(super) fn join(&mut self, target: &Target) -> Result<u64> {
        let key = key(target);
        if self.held.contains_key(&key) {
            return Err(Error::usage(format!("join {target}: it is joined already")).fix("leave it first"));
        }
        let family = usize::from(target.is_ipv6());
        let mut socket = match self.open[family] {
            Some(socket) => socket,
            None => self.another(target)?,
        };
        let mut asked_ns = clock::tai_ns();
        let mut joined = join_on(&self.sockets[socket], Some(&self.interface), target);
        // The limits are of one socket, and a group is joined by one socket as a whole or by sources.
        if joined.as_ref().is_err_and(is_full) {
            socket = self.another(target)?;
            asked_ns = clock::tai_ns();
            joined = join_on(&self.sockets[socket], Some(&self.interface), target);
        }
        joined?;
        self.open[family] = Some(socket);
        self.held.insert(key, socket);
        Ok(asked_ns)
    }

    /// Leaves; gives the time just before, CLOCK_TAI in ns.
    pub(super) fn leave(&mut self, target: &Target) -> Result<u64> {
        let (group, source) = key(target);
        let socket = self
            .held
            .remove(&(group, source))
            .ok_or_else(|| Error::usage(format!("leave {target}: it was not joined")))?;
        let asked_ns = clock::tai_ns();
        sys::socket::leave(self.sockets[socket].as_fd(), self.interface.index, group, source).map_err(
            |e| Error::environment(format!("leave {target} on {}", self.interface.name)).because(e),
        )?;
        // It has room again.
        self.open[usize::from(target.is_ipv6())] = Some(socket);
        Ok(asked_ns)
    }

    fn another(&mut self, target: &Target) -> Result<usize> {
        let domain = if target.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP)).map_err(|e| {
            Error::environment(format!("join {target}: no socket beside {}", self.sockets.len()))
                .because(e)
                .fix("raise the number of open files (ulimit -n), or net.ipv4.igmp_max_memberships, which is of one socket")
        })?;
        self.sockets.push(socket);
        Ok(self.sockets.len() - 1)
    }
}

pub(super) fn key(target: &Target) -> Key {
    (target.destination.ip(), target.source)
}

fn is_full(error: &Error) -> bool {
    let code = error.source.as_ref().and_then(std::io::Error::raw_os_error);
    matches!(code, Some(libc::ENOBUFS | libc::ENOMEM | libc::EADDRINUSE | libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_groups_than_a_socket_takes() {
        let interface = Interface { name: "lo".into(), index: 1, mac: [0; 6], mtu: 65536 };
        let mut joins = Joins::new(&interface);
        let targets: Vec<Target> = (1..=50)
            .flat_map(|n| {
                [format!("239.78.0.{n}:5"), format!("[ff15::78:{n}]:5"), format!("10.0.0.{n}@232.7.8.9:5")]
            })
            // The same group as a whole: another socket has to take it.
            .chain(["232.7.8.9:5".to_owned()])
            .map(|text| text.parse().unwrap())
            .collect();
        for target in &targets {
            joins.join(target).unwrap_or_else(|e| panic!("{target}: {e}"));
        }
        assert_eq!(joins.len(), 151);
        assert!(joins.join(&targets[7]).unwrap_err().what.contains("already"));
        for target in &targets {
            joins.leave(target).unwrap_or_else(|e| panic!("{target}: {e}"));
        }
        assert_eq!(joins.len(), 0);
        assert!(joins.leave(&targets[7]).unwrap_err().what.contains("not joined"));
        joins.join(&targets[7]).unwrap();
    }
}
