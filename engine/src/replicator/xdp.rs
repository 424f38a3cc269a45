//! The XDP program `replicate` on the interfaces that groups arrive on, and its maps.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use aya::maps::{ArrayOfMaps, DevMap, HashMap, Map, MapData, PerCpuArray, PerCpuHashMap, XskMap};
use aya::programs::xdp::{Xdp, XdpMode};
use aya::programs::{ProgramError, RawTracePoint, TestRun, TestRunOptions};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use wirerate_ebpf_types::replicate::{FATES, Fate, GroupKey, Way};
use wirerate_ebpf_types::steer::ANY_SOURCE;

use super::counters::{Count, Counts, PortCount, lock, reason};
use super::plane::Plane;
use super::ways::{Change, Ways};
use crate::drops::btf::Btf;
use crate::drops::maps;
use crate::drops::object::{OBJECT, allow_locked_memory, explain};
use crate::drops::watch::{Side, layout_of};
use crate::error::{Error, Result};
use crate::multicast::snoop::Entry;
use crate::queue::afxdp::steer::{is_final, map_mut, reason_of, refused, words};
use crate::queue::spec::Interface;
use crate::report::Warning;
use crate::sys::netns::Netns;

const CAPABILITIES: &str = "CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON";
const WHAT: &str = "loading the replicator";

/// `BPF_MAP_TYPE_DEVMAP`, and the bytes of its key and value.
const DEVMAP: (u32, u32, u32) = (14, 4, 8);

/// Sets of members that are kept. One that no group uses any more makes room.
const SETS: u32 = 1024;

/// `enum xdp_action`: what the program returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To the members of the group.
    Redirect,
    /// On to the kernel's stack.
    Pass,
    /// Nowhere.
    Drop,
    /// Nowhere, as a defect.
    Aborted,
}

/// The program with its maps.
pub struct Program {
    ebpf: Ebpf,
    groups: HashMap<MapData, maps::GroupKey, maps::Way>,
    sets: ArrayOfMaps<MapData, DevMap<MapData>>,
    counts: PerCpuArray<MapData, maps::SteerValue>,
    fates: PerCpuArray<MapData, maps::SteerValue>,
    transmitted: PerCpuHashMap<MapData, u32, maps::Transmitted>,
    to: Vec<Interface>,
    ways: Ways,
    /// Makes the sets, too, instead of leaving the copies to sockets.
    copies: bool,
    /// Of each interface that refused native XDP: why.
    generic: Vec<String>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("to", &self.to).field("ways", &self.ways).finish_non_exhaustive()
    }
}

impl Program {
    /// Loads the program for members behind `to`, without attaching it. With `copies` it makes them itself; otherwise it hands frames to the AF_XDP socket of their queue.
    ///
    /// # Errors
    /// Environment: without CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON, or on a kernel before 5.18.
    pub fn load(to: &[Interface], most_groups: usize, copies: bool) -> Result<Self> {
        if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(5, 18, 0)) {
            return Err(Error::environment(format!("{WHAT}: this kernel is too old"))
                .fix("use Linux 5.18 or newer, or --by socket"));
        }
        let layout = maps::Layout(layout_of(&Btf::of_kernel()?, Side::Any)?);
        let netns = Netns::current().and_then(|netns| netns.inode()).map_err(|e| {
            Error::environment(format!("{WHAT}: this network namespace has no number")).because(e)
        })?;
        // Namespaces have numbers of 32 bits.
        let netns = u32::try_from(netns).unwrap_or(0);
        // A group may have entries for sources beside its own, and leaves a counter behind with each change.
        let groups = u32::try_from(most_groups.max(1)).unwrap_or(u32::MAX / 8).min(1 << 20);
        let counters = groups * 2 + 64;
        allow_locked_memory();
        let mut ebpf = EbpfLoader::new()
            .override_global("DROP_LAYOUT", &layout, true)
            .override_global("REPLICATE_NETNS", &netns, true)
            .override_global("REPLICATE_TO_SOCKETS", &u32::from(!copies), true)
            .map_max_entries("REPLICATE_GROUPS", groups * 2)
            .map_max_entries("REPLICATE_COUNTS", counters)
            .map_max_entries("REPLICATE_SETS", SETS)
            .map_max_entries("DROP_COUNTS", 1)
            .load(OBJECT)
            .map_err(|error| explain(WHAT, &error, CAPABILITIES))?;
        let mut program = Self {
            groups: take(&mut ebpf, "REPLICATE_GROUPS")?,
            sets: take(&mut ebpf, "REPLICATE_SETS")?,
            counts: take(&mut ebpf, "REPLICATE_COUNTS")?,
            fates: take(&mut ebpf, "REPLICATE_FATES")?,
            transmitted: take(&mut ebpf, "REPLICATE_TRANSMITTED")?,
            ebpf,
            to: to.to_vec(),
            ways: Ways::new(SETS, counters),
            copies,
            generic: Vec::new(),
        };
        program.xdp()?.load().map_err(|error| explain(WHAT, &error, CAPABILITIES))?;
        Ok(program)
    }

    /// Attaches it to each interface of `from`: native where the driver takes it, else generic; and counts what interfaces take.
    ///
    /// # Errors
    /// Environment: when another XDP program is attached, an interface is gone, or the kernel refuses both modes.
    pub fn attach(&mut self, from: &[Interface]) -> Result<()> {
        if self.copies {
            let what = "counting copies at tracepoint xdp_devmap_xmit";
            let tracepoint: &mut RawTracePoint = self
                .ebpf
                .program_mut("replicate_transmitted")
                .ok_or_else(|| Error::failed("eBPF program replicate_transmitted is not in the object"))?
                .try_into()
                .map_err(|error: ProgramError| Error::failed(error.to_string()))?;
            tracepoint.load().map_err(|error| explain(what, &error, CAPABILITIES))?;
            tracepoint.attach("xdp_devmap_xmit").map_err(|error| explain(what, &error, CAPABILITIES))?;
        }
        for interface in from {
            let mut sources: HashMap<&mut MapData, u32, u32> = map_mut(&mut self.ebpf, "REPLICATE_FROM")?;
            sources.insert(interface.index, 0, 0).map_err(|error| explain(WHAT, &error, CAPABILITIES))?;
            let name = &interface.name;
            let xdp = self.xdp()?;
            let Err(native) = xdp.attach_to_if_index(interface.index, XdpMode::Driver) else { continue };
            if is_final(&native) {
                return Err(refused(name, &native));
            }
            xdp.attach_to_if_index(interface.index, XdpMode::Skb)
                .map_err(|generic| refused(name, &generic))?;
            self.generic.push(format!("{name}: the driver refuses native XDP: {}", reason_of(&native)));
        }
        Ok(())
    }

    /// Interfaces on which the program is not native, and why.
    pub fn generic(&self) -> &[String] {
        &self.generic
    }

    /// Hands the frames of groups that arrive on `queue` to the AF_XDP socket behind `socket`.
    ///
    /// # Errors
    /// Environment, when the descriptor is no AF_XDP socket or there is no such queue.
    pub(super) fn set_socket(&mut self, queue: u32, socket: &impl std::os::fd::AsRawFd) -> Result<()> {
        let mut sockets: XskMap<&mut MapData> = map_mut(&mut self.ebpf, "STEER_SOCKETS")?;
        sockets
            .set(queue, socket.as_raw_fd(), 0)
            .map_err(|error| explain("handing frames to an AF_XDP socket", &error, CAPABILITIES))
    }

    /// Runs the program once on `frame`, sends nothing, and counts it.
    ///
    /// # Errors
    /// Failed, when the kernel does not take the frame: it wants 14 bytes at least, and fewer than a page.
    pub fn dry_run(&mut self, frame: &[u8]) -> Result<Action> {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        let ran = self
            .xdp()?
            .test_run(options)
            .map_err(|error| Error::failed(format!("test run of the replicator: {}", reason_of(&error))))?;
        Ok(match ran.return_value {
            4 => Action::Redirect,
            2 => Action::Pass,
            1 => Action::Drop,
            _ => Action::Aborted,
        })
    }

    /// Frames by what became of them.
    ///
    /// # Errors
    /// Failed, when the kernel refuses to show its counters.
    pub fn fates(&self) -> Result<Vec<(&'static str, u64)>> {
        (0..FATES)
            .zip(Fate::ALL)
            .map(|(index, fate)| Ok((name_of(fate), sum(&self.fates, index)?.frames)))
            .collect()
    }

    fn xdp(&mut self) -> Result<&mut Xdp> {
        let program = self
            .ebpf
            .program_mut("replicate")
            .ok_or_else(|| Error::failed("eBPF program replicate is not in the object"))?;
        program.try_into().map_err(|error| Error::failed(format!("eBPF program replicate: {error}")))
    }

    /// The device map of a set of members.
    fn device_map(&self, ports: &BTreeSet<usize>) -> Result<DevMap<MapData>> {
        let what = "making a set of members";
        let (kind, key, value) = DEVMAP;
        let size = u32::try_from(ports.len().max(1)).unwrap_or(u32::MAX);
        let definition = aya_obj::Map::new_from_params(kind, key, value, size, 0);
        let data = MapData::create(definition, "replicate_set", None)
            .map_err(|error| explain(what, &error, CAPABILITIES))?;
        let mut map =
            DevMap::try_from(Map::DevMap(data)).map_err(|error| explain(what, &error, CAPABILITIES))?;
        for (place, port) in (0..).zip(ports) {
            let Some(interface) = self.to.get(*port) else { continue };
            map.set(place, interface.index, None, 0)
                .map_err(|error| explain(&format!("{}: {what}", interface.name), &error, CAPABILITIES))?;
        }
        Ok(map)
    }

    fn counts(&self) -> Result<Counts> {
        let mut groups = self.ways.settled();
        for (counter, key) in self.ways.counting() {
            let count = sum(&self.counts, counter)?;
            let total = groups.entry(key).or_default();
            total.frames += count.frames;
            total.bytes += count.bytes;
        }
        let broken =
            |error: aya::maps::MapError| Error::failed(format!("reading the replicator's counters: {error}"));
        let ports = self
            .to
            .iter()
            .map(|interface| match self.transmitted.get(&interface.index, 0) {
                Ok(values) => {
                    let refused: u64 = values.iter().map(|v| v.0.refused).sum();
                    let errno = values.iter().map(|v| v.0.errno).max().unwrap_or(0);
                    Ok(PortCount {
                        frames: values.iter().map(|v| v.0.frames).sum(),
                        refused,
                        reason: reason(errno).filter(|_| refused > 0),
                    })
                }
                Err(aya::maps::MapError::KeyNotFound) => Ok(PortCount::default()),
                Err(error) => Err(broken(error)),
            })
            .collect::<Result<_>>()?;
        Ok(Counts { groups, fates: self.fates()?, ports })
    }

    fn set_way(&mut self, change: &Change, group: IpAddr) -> Result<()> {
        let what = || format!("forwarding {group}");
        let key = maps::GroupKey(GroupKey {
            group: words(group),
            source: change.source.map_or(ANY_SOURCE, words),
            version: if group.is_ipv4() { 4 } else { 6 },
        });
        match &change.to {
            None => match self.groups.remove(&key) {
                Ok(()) | Err(aya::maps::MapError::KeyNotFound) => Ok(()),
                Err(error) => Err(explain(&what(), &error, CAPABILITIES)),
            },
            Some(way) => {
                if way.new_set && self.copies {
                    let set = self.device_map(&way.ports)?;
                    self.sets
                        .set(way.set, &set, 0)
                        .map_err(|error| explain(&what(), &error, CAPABILITIES))?;
                }
                let value =
                    maps::Way(Way { set: way.set, counter: way.counter, sources: u32::from(way.sources) });
                self.groups.insert(key, value, 0).map_err(|error| explain(&what(), &error, CAPABILITIES))
            }
        }
    }
}

impl Plane for Program {
    fn forward(&mut self, group: IpAddr, entries: &[Entry]) -> Result<()> {
        let counts = &self.counts;
        let changes = self.ways.change(group, entries, |counter| sum(counts, counter))?;
        for cleared in &changes.cleared {
            clear(&mut self.counts, *cleared)?;
        }
        changes.changes.iter().try_for_each(|change| self.set_way(change, group))
    }
}

/// The program, shared by the control loop and by who reads its counters.
#[derive(Debug, Clone)]
pub(super) struct Handle(Arc<Mutex<Program>>);

impl Handle {
    pub(super) fn new(program: Program) -> Self {
        Self(Arc::new(Mutex::new(program)))
    }

    pub(super) fn counts(&self) -> Result<Counts> {
        lock(&self.0).counts()
    }

    pub(super) fn fates(&self) -> Result<Vec<(&'static str, u64)>> {
        lock(&self.0).fates()
    }

    pub(super) fn warnings(&self) -> Vec<Warning> {
        let warn = |text: &String| Warning { code: "generic-xdp", text: text.clone(), fix: None };
        lock(&self.0).generic().iter().map(warn).collect()
    }
}

impl Plane for Handle {
    fn forward(&mut self, group: IpAddr, entries: &[Entry]) -> Result<()> {
        lock(&self.0).forward(group, entries)
    }
}

/// The program, at work on `from`.
pub(super) fn start(from: &[Interface], to: &[Interface], most_groups: usize) -> Result<(Handle, Handle)> {
    let mut program = Program::load(to, most_groups, true)?;
    program.attach(from)?;
    let handle = Handle::new(program);
    Ok((handle.clone(), handle))
}

fn take<M: TryFrom<Map, Error = aya::maps::MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M> {
    let map =
        ebpf.take_map(name).ok_or_else(|| Error::failed(format!("eBPF map {name} is not in the object")))?;
    M::try_from(map).map_err(|error| Error::failed(format!("eBPF map {name}: {error}")))
}

fn sum(map: &PerCpuArray<MapData, maps::SteerValue>, index: u32) -> Result<Count> {
    let values = map
        .get(&index, 0)
        .map_err(|error| Error::failed(format!("reading the replicator's counters: {error}")))?;
    Ok(values.iter().fold(Count::default(), |sum, value| Count {
        frames: sum.frames + value.0.packets,
        bytes: sum.bytes + value.0.bytes,
    }))
}

fn clear(map: &mut PerCpuArray<MapData, maps::SteerValue>, index: u32) -> Result<()> {
    let broken = |error: String| Error::failed(format!("clearing one of the replicator's counters: {error}"));
    let cpus = map.get(&index, 0).map_err(|error| broken(error.to_string()))?.len();
    let zeros = vec![maps::SteerValue(wirerate_ebpf_types::steer::Count::default()); cpus];
    let zeros = aya::maps::PerCpuValues::try_from(zeros).map_err(|error| broken(error.to_string()))?;
    map.set(index, zeros, 0).map_err(|error| broken(error.to_string()))
}

fn name_of(fate: Fate) -> &'static str {
    match fate {
        Fate::Passed => "passed",
        Fate::Replicated => "replicated",
        Fate::NoMember => "no-member",
        Fate::Control => "control",
        Fate::Tagged => "tagged",
        Fate::Malformed => "malformed",
        Fate::NoSocket => "no-socket",
    }
}
