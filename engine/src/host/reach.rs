//! Which network namespaces of this host are connected with this one, and which way each of their interfaces leads.
//!
//! Interfaces whose other end is in another namespace (veth, macvlan) are the edges. What leaves by an interface that leads nearer comes our way, and so does what
//! came in by one that leads further away; anything else is a copy for somebody else. That holds as long as the namespaces form a tree.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use super::netlink::{self, Rtnl};
use crate::sys::netns::Netns;

/// Which way an interface leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// To a namespace that is nearer to ours, or to ours.
    Nearer,
    /// To one that is further away.
    Further,
}

/// The namespaces that are connected with ours, by their inodes.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Cables between ours and each.
    distance: HashMap<u64, u32>,
    /// By namespace and index of an interface, the namespace of its other end.
    beyond: HashMap<(u64, u32), u64>,
}

impl Reach {
    /// Looks from the calling thread's namespace. Namespaces that this process may not enter (CAP_SYS_ADMIN), and those behind them, are left out.
    pub fn from_here() -> Self {
        let Ok((inode, here)) = Netns::current().and_then(|netns| Ok((netns.inode()?, netns))) else {
            return Self::default();
        };
        let mut others: HashMap<u64, Netns> = files()
            .into_iter()
            .filter(|(found, _)| *found != inode)
            .filter_map(|(found, path)| Some((found, Netns::open(&path).ok()?)))
            .collect();
        others.insert(inode, here);
        Self::explore(inode, &others)
    }

    fn explore(start: u64, all: &HashMap<u64, Netns>) -> Self {
        let mut reach = Self::default();
        reach.distance.insert(start, 0);
        let mut queue = VecDeque::from([start]);
        while let Some(inode) = queue.pop_front() {
            let distance = reach.distance[&inode];
            for (ifindex, beyond) in inside(&all[&inode], || cables(all)).unwrap_or_default() {
                reach.beyond.insert((inode, ifindex), beyond);
                reach.distance.entry(beyond).or_insert_with(|| {
                    queue.push_back(beyond);
                    distance + 1
                });
            }
        }
        reach
    }

    /// Whether the namespace is connected with ours.
    pub fn is_connected(&self, netns: u64) -> bool {
        self.distance.contains_key(&netns)
    }

    /// Which way the interface leads; `None` when it ends in no other namespace, or in none that is known.
    pub fn leads(&self, netns: u64, ifindex: u32) -> Option<Leads> {
        let from = self.distance.get(&netns)?;
        let to = self.distance.get(self.beyond.get(&(netns, ifindex))?)?;
        match to.cmp(from) {
            std::cmp::Ordering::Less => Some(Leads::Nearer),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(Leads::Further),
        }
    }
}

/// Files that stand for namespaces, one for each: names, processes, and descriptors of processes.
fn files() -> HashMap<u64, PathBuf> {
    let mut found = HashMap::new();
    let children = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|file| file.path());
    let mut note = |path: PathBuf| {
        if let Ok(data) = fs::metadata(&path) {
            found.entry(data.ino()).or_insert(path);
        }
    };
    children(Path::new("/run/netns")).for_each(&mut note);
    let is_number = |path: &Path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u32>().is_ok())
    };
    for process in children(Path::new("/proc")).filter(|path| is_number(path)) {
        note(process.join("ns/net"));
        let stands =
            |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("net:["));
        children(&process.join("fd")).filter(stands).for_each(&mut note);
    }
    found
}

/// Runs `work` on a thread inside the namespace, if it may be entered.
fn inside<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| scope.spawn(|| netns.enter().ok().map(|()| work())).join().ok().flatten())
}

/// The interfaces of the calling thread's namespace that end in one of the others, which are told by their inodes.
fn cables(all: &HashMap<u64, Netns>) -> Vec<(u32, u64)> {
    let ids: HashMap<i32, u64> =
        all.iter().filter_map(|(&inode, netns)| Some((id_here(netns)?, inode))).collect();
    let links = netlink::route(&Rtnl::GetLink(LinkMessage::default()), NLM_F_DUMP).unwrap_or_default();
    let cable = |answer: &Rtnl| {
        let Rtnl::NewLink(link) = answer else { return None };
        let id = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkNetNsId(id) => Some(*id),
            _ => None,
        })?;
        Some((link.header.index, *ids.get(&id)?))
    };
    links.iter().filter_map(cable).collect()
}

/// The number by which the calling thread's namespace knows another, if it has to do with it.
fn id_here(netns: &Netns) -> Option<i32> {
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(netns.fd().cast_unsigned()));
    let answers = netlink::route(&Rtnl::GetNsId(message), 0).ok()?;
    answers.iter().find_map(|answer| match answer {
        Rtnl::NewNsId(found) => found.attributes.iter().find_map(|attribute| match attribute {
            NsidAttribute::Id(id) => Some(*id).filter(|id| *id >= 0),
            _ => None,
        }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{INTERFACE, Lab};

    #[test]
    fn a_tree_of_namespaces() {
        // 1 – 2 – 3, and 2 – 4.
        let reach = Reach {
            distance: HashMap::from([(1, 0), (2, 1), (3, 2), (4, 2)]),
            beyond: HashMap::from([
                ((1, 9), 2),
                ((2, 5), 1),
                ((2, 6), 3),
                ((2, 7), 4),
                ((3, 9), 2),
                ((4, 9), 2),
            ]),
        };
        assert_eq!(reach.leads(2, 5), Some(Leads::Nearer));
        assert_eq!(reach.leads(2, 6), Some(Leads::Further));
        assert_eq!(reach.leads(4, 9), Some(Leads::Nearer));
        assert_eq!(reach.leads(2, 8), None, "a bridge, or a NIC");
        assert_eq!(reach.leads(5, 9), None);
        assert!(reach.is_connected(4) && !reach.is_connected(5));
    }

    #[test]
    fn the_lab_as_a_receiver_sees_it() {
        let (Ok(lab), Ok(other)) = (Lab::bridge(2), Lab::bridge(1)) else {
            eprintln!("SKIPPED: the_lab_as_a_receiver_sees_it needs root");
            return;
        };
        let index = |netns: &Netns, name: &str| netns.run(|| nix::net::if_::if_nametoindex(name).unwrap());
        let [first, second] = [0, 1].map(|n| &lab.receivers[n].netns);
        let middle = lab.middle.inode().unwrap();
        let reach = first.run(Reach::from_here);
        assert_eq!(reach.leads(middle, index(&lab.middle, "r1")), Some(Leads::Nearer));
        assert_eq!(reach.leads(middle, index(&lab.middle, "r2")), Some(Leads::Further));
        assert_eq!(reach.leads(middle, index(&lab.middle, "s0")), Some(Leads::Further));
        assert_eq!(reach.leads(middle, index(&lab.middle, "br0")), None);
        for host in [second, &lab.sender.netns] {
            assert_eq!(reach.leads(host.inode().unwrap(), index(host, INTERFACE)), Some(Leads::Nearer));
        }
        assert!(!reach.is_connected(other.middle.inode().unwrap()), "another lab with the same numbers");
    }
}
