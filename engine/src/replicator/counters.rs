//! What the datapaths count, and how those in user space are told where groups go.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustc_hash::FxHashMap;

use super::plane::Plane;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::multicast::snoop::Entry;

/// A group, one of its sources (`None`: those without an entry of their own), and the ports that its frames went to.
pub(super) type Key = (IpAddr, Option<IpAddr>, BTreeSet<usize>);

/// What a datapath has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Frames and their bytes without FCS, before they are copied.
    pub groups: BTreeMap<Key, Count>,
    /// Frames by what became of them, in the terms of reports.
    pub fates: Vec<(&'static str, u64)>,
    /// By port.
    pub ports: Vec<PortCount>,
}

/// Frames and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub frames: u64,
    pub bytes: u64,
}

/// Copies for one port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PortCount {
    /// That the interface took.
    pub frames: u64,
    /// That it did not.
    pub refused: u64,
    /// Why, the last time.
    pub reason: Option<String>,
}

/// A counter with one writer or few.
#[derive(Debug, Default)]
pub(super) struct Tally {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    #[inline]
    pub(super) fn add(&self, frames: u64, bytes: u64) {
        self.frames.fetch_add(frames, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Count {
        Count { frames: self.frames.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// Where the frames of a group, or of a source in it, go.
#[derive(Debug)]
pub(super) struct Route {
    pub ports: Vec<usize>,
    pub tally: Tally,
}

/// The routes of a group: of some sources, and of the rest.
#[derive(Debug, Default, Clone)]
struct Routes {
    sources: Vec<(IpAddr, Arc<Route>)>,
    rest: Option<Arc<Route>>,
}

/// Where groups go, as a worker has it.
#[derive(Debug, Default, Clone)]
pub(super) struct Map(FxHashMap<IpAddr, Routes>);

impl Map {
    /// The route of a frame with these addresses; `None`: nobody wants it.
    #[inline]
    pub(super) fn route(&self, source: IpAddr, group: IpAddr) -> Option<&Route> {
        let routes = self.0.get(&group)?;
        let own = routes.sources.iter().find(|(address, _)| *address == source).map(|(_, route)| route);
        own.or(routes.rest.as_ref()).map(Arc::as_ref).filter(|route| !route.ports.is_empty())
    }
}

/// What workers and the control loop share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    version: AtomicU64,
    map: Mutex<Map>,
    /// Every route that ever was, so that nothing counted is forgotten.
    routes: Mutex<BTreeMap<Key, Vec<Arc<Route>>>>,
    failure: Mutex<Option<Error>>,
}

/// A worker's view of the map.
#[derive(Debug)]
pub(super) struct View {
    shared: Arc<Shared>,
    version: u64,
    map: Map,
}

impl View {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), version: u64::MAX, map: Map::default() }
    }

    /// The map as it is now; takes a lock only when it has changed.
    #[inline]
    pub(super) fn now(&mut self) -> &Map {
        let version = self.shared.version.load(Ordering::Acquire);
        if version != self.version {
            self.version = version;
            self.map = lock(&self.shared.map).clone();
        }
        &self.map
    }
}

/// The plane of datapaths in user space.
#[derive(Debug)]
pub(super) struct UserPlane(pub Arc<Shared>);

impl Plane for UserPlane {
    fn forward(&mut self, group: IpAddr, entries: &[Entry]) -> Result<()> {
        let mut routes = Routes::default();
        let mut all = lock(&self.0.routes);
        for entry in entries {
            let route =
                Arc::new(Route { ports: entry.ports.iter().copied().collect(), tally: Tally::default() });
            all.entry((group, entry.source, entry.ports.clone())).or_default().push(Arc::clone(&route));
            match entry.source {
                Some(source) => routes.sources.push((source, route)),
                None => routes.rest = Some(route),
            }
        }
        drop(all);
        let mut map = lock(&self.0.map);
        if entries.is_empty() {
            map.0.remove(&group);
        } else {
            map.0.insert(group, routes);
        }
        drop(map);
        self.0.version.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// Counters of the workers in user space, by port, and of frames that nobody wanted.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub ports: Vec<PortBoard>,
    pub no_member: AtomicU64,
    pub malformed: AtomicU64,
    /// Lost before they were seen here.
    pub lost: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct PortBoard {
    pub taken: AtomicU64,
    pub refused: AtomicU64,
    /// An errno.
    pub errno: AtomicU64,
}

impl Board {
    pub(super) fn new(ports: usize) -> Arc<Self> {
        Arc::new(Self { ports: (0..ports).map(|_| PortBoard::default()).collect(), ..Self::default() })
    }
}

/// The threads of a datapath in user space. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    board: Arc<Board>,
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts a thread for each piece of work, which goes on until the stop is requested.
    pub(super) fn start<W>(work: Vec<W>, shared: Arc<Shared>, board: Arc<Board>) -> Result<Self>
    where
        W: FnOnce(&Stop) -> Result<()> + Send + 'static,
    {
        let mut workers =
            Self { shared: Arc::clone(&shared), board, stop: Stop::default(), threads: Vec::new() };
        for work in work {
            let (stop, shared) = (workers.stop.clone(), Arc::clone(&shared));
            let thread = std::thread::Builder::new()
                .name("replicator".into())
                .spawn(move || {
                    if let Err(error) = work(&stop) {
                        lock(&shared.failure).get_or_insert(error);
                    }
                })
                .map_err(|e| Error::environment("cannot start a thread").because(e))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// What they have counted.
    pub(super) fn counts(&self) -> Result<Counts> {
        if let Some(failure) = lock(&self.shared.failure).as_ref() {
            return Err(Error::failed(format!("replicator: a worker has failed: {failure}")));
        }
        let mut groups: BTreeMap<Key, Count> = BTreeMap::new();
        for (key, routes) in lock(&self.shared.routes).iter() {
            let total = routes.iter().fold(Count::default(), |sum, route| {
                let one = route.tally.read();
                Count { frames: sum.frames + one.frames, bytes: sum.bytes + one.bytes }
            });
            groups.insert(key.clone(), total);
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let replicated = groups.values().map(|count| count.frames).sum();
        let ports = self
            .board
            .ports
            .iter()
            .map(|port| PortCount {
                frames: read(&port.taken),
                refused: read(&port.refused),
                reason: reason(read(&port.errno)).filter(|_| read(&port.refused) > 0),
            })
            .collect();
        let fates = vec![
            ("replicated", replicated),
            ("no-member", read(&self.board.no_member)),
            ("malformed", read(&self.board.malformed)),
            ("lost", read(&self.board.lost)),
        ];
        Ok(Counts { groups, fates, ports })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.request();
        for thread in self.threads.drain(..) {
            // A panic is a defect that the thread has already told of.
            let _ = thread.join();
        }
    }
}

/// An errno in words; 0: the interface had no room.
pub(super) fn reason(errno: u64) -> Option<String> {
    match i32::try_from(errno) {
        Ok(0) => Some("no room in its ring".to_owned()),
        Ok(errno) => Some(std::io::Error::from_raw_os_error(errno).to_string()),
        Err(_) => None,
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Source and group of an untagged Ethernet frame with an IP packet.
#[inline]
pub(super) fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match frame.get(12..14)? {
        [0x08, 0x00] => {
            let at = |offset: usize| frame.get(offset..).and_then(|rest| rest.first_chunk::<4>());
            Some((Ipv4Addr::from(*at(26)?).into(), Ipv4Addr::from(*at(30)?).into()))
        }
        [0x86, 0xdd] => {
            let at = |offset: usize| frame.get(offset..).and_then(|rest| rest.first_chunk::<16>());
            Some((Ipv6Addr::from(*at(22)?).into(), Ipv6Addr::from(*at(38)?).into()))
        }
        _ => None,
    }
}
