//! Attaches the XDP program `steer` to an interface: packets that a rule selects go to the AF_XDP socket of their queue,
//! all others pass to the kernel untouched.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use aya::maps::{HashMap, MapData, PerCpuArray, XskMap};
use aya::programs::xdp::{Xdp, XdpMode};
use aya::programs::{ProgramError, TestRun, TestRunOptions};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use wirerate_ebpf_types::steer::{ANY_SOURCE, Address, DATAGRAMS, FRAGMENTS, RuleKey};
pub use wirerate_ebpf_types::steer::{QUEUES, Verdict};

use super::bound::Bound;
use crate::drops::maps;
use crate::drops::object::{Borrowed, OBJECT, allow_locked_memory, explain, map, system_reason};
use crate::error::{Error, Result};
use crate::queue::spec::Interface;
use crate::target::Target;

const CAPABILITIES: &str = "CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON";

/// `enum xdp_action`, what the program returns for a packet that goes to a socket.
const XDP_REDIRECT: u32 = 4;

/// What goes to the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Destination address, unicast or group, and UDP port.
    pub destination: SocketAddr,
    /// The one source wanted; None takes all.
    pub source: Option<IpAddr>,
}

impl From<&Target> for Rule {
    fn from(target: &Target) -> Self {
        Self { destination: target.destination, source: target.source }
    }
}

/// Which times stand before the packets that go to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamps {
    /// None.
    None,
    /// That at which the program saw them.
    Program,
    /// And that of the NIC: only for a program that is loaded bound to its device.
    Nic,
}

/// Where the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before there is an skb.
    Native,
    /// In the kernel's receive path, on skbs: works everywhere, and is slower.
    Generic,
}

/// Packets of one queue that came to one verdict, since the program was attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SteerCount {
    /// RX queue; 256 stands for all from 256 on, whose packets always pass.
    pub queue: u32,
    /// What became of them.
    pub verdict: Verdict,
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames, with Ethernet header, without FCS.
    pub bytes: u64,
}

/// The program on an interface; dropping it, or the end of the process however it comes, detaches it.
#[derive(Debug)]
pub struct Steer {
    /// The program, where it is bound to its device; that of `ebpf` is not loaded then.
    bound: Option<Bound>,
    ebpf: Ebpf,
    mode: Mode,
    why: Option<String>,
}

impl SteerCount {
    /// The verdict's name in reports.
    pub fn name(&self) -> &'static str {
        match self.verdict {
            Verdict::Passed => "passed",
            Verdict::Redirected => "redirected",
            Verdict::NoSocket => "no-socket",
            Verdict::Fragment => "fragment",
            Verdict::Malformed => "malformed",
            Verdict::Unwalked => "unwalked",
        }
    }
}

impl Steer {
    /// Attaches the program to `interface`, which must be in the calling thread's network namespace: native where the
    /// driver takes it, else generic.
    ///
    /// # Errors
    /// Environment: without CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON, on a kernel before 5.18, when another XDP program is attached, when the
    /// interface is gone, or when the kernel refuses both modes.
    pub fn attach(interface: &Interface, rules: &[Rule]) -> Result<Self> {
        Self::load(rules)?.on(interface)
    }

    /// As [`attach`](Self::attach); the time at which the program saw it stands before each packet that goes to a socket.
    ///
    /// # Errors
    /// As [`attach`](Self::attach), and Environment on a kernel before 6.1.
    pub fn attach_stamping(interface: &Interface, rules: &[Rule]) -> Result<Self> {
        // bpf_ktime_get_tai_ns.
        if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(6, 1, 0)) {
            return Err(Error::environment("--timestamps kernel: this kernel is too old for afxdp")
                .fix("use Linux 6.1 or newer, or --backend uring"));
        }
        Self::load_with(rules, Stamps::Program)?.on(interface)
    }

    /// As [`attach_stamping`](Self::attach_stamping); the NIC's own time stands there, too, where its driver knows it. In the driver only, and no
    /// [`dry_run`](Self::dry_run).
    ///
    /// # Errors
    /// As [`attach_stamping`](Self::attach_stamping), and Environment where the kernel or the driver has no such programs (Linux 6.3).
    pub fn attach_asking_nic(interface: &Interface, rules: &[Rule]) -> Result<Self> {
        let ebpf = load_selecting("loading the XDP program", rules, &[], Stamps::Nic)?;
        let bound = Some(Bound::attach(&ebpf, interface)?);
        Ok(Self { bound, ebpf, mode: Mode::Native, why: None })
    }

    fn on(self, interface: &Interface) -> Result<Self> {
        let mut steer = self;
        let name = &interface.name;
        let Err(native) = steer.attach_as(interface, XdpMode::Driver) else { return Ok(steer) };
        if is_final(&native) {
            return Err(refused(name, &native));
        }
        steer.attach_as(interface, XdpMode::Skb).map_err(|generic| refused(name, &generic))?;
        steer.mode = Mode::Generic;
        steer.why = Some(format!("{name}: the driver refuses native XDP: {}", reason_of(&native)));
        Ok(steer)
    }

    /// Loads the program without an interface; only [`Steer::dry_run`] runs it then.
    ///
    /// # Errors
    /// Environment: without CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON, or on a kernel before 5.18.
    pub fn load(rules: &[Rule]) -> Result<Self> {
        Self::load_with(rules, Stamps::None)
    }

    fn load_with(rules: &[Rule], stamps: Stamps) -> Result<Self> {
        let what = "loading the XDP program";
        let mut ebpf = load_selecting(what, rules, &[], stamps)?;
        let program = program_of(&mut ebpf)?;
        program.load().map_err(|error| explain(what, &error, CAPABILITIES))?;
        Ok(Self { bound: None, ebpf, mode: Mode::Native, why: None })
    }

    fn attach_as(&mut self, interface: &Interface, mode: XdpMode) -> std::result::Result<(), ProgramError> {
        let program = self.ebpf.program_mut("steer").ok_or(ProgramError::NotLoaded)?;
        let program: &mut Xdp = program.try_into()?;
        program.attach_to_if_index(interface.index, mode).map(|_| ())
    }

    /// Whether it runs bound to its device, and asks the driver for the NIC's time.
    pub fn asks_nic(&self) -> bool {
        self.bound.is_some()
    }

    /// Where the program runs.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Why it is not native: the interface and the kernel's refusal.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Hands the selected packets of `queue` to the AF_XDP socket behind `socket` from now on. The kernel forgets it when the
    /// socket is closed.
    ///
    /// # Errors
    /// Usage, when there is no such queue; Environment, when the descriptor is no AF_XDP socket.
    pub fn set_socket(&mut self, queue: u32, socket: &impl AsRawFd) -> Result<()> {
        if queue >= QUEUES {
            return Err(Error::usage(format!("queue {queue}: XDP steers to the queues 0 to {}", QUEUES - 1))
                .fix("use fewer queues: ethtool -L IFACE combined 256"));
        }
        let mut sockets: XskMap<&mut MapData> = map_mut(&mut self.ebpf, "STEER_SOCKETS")?;
        sockets.set(queue, socket.as_raw_fd(), 0).map_err(|error| {
            explain(&format!("queue {queue}: handing packets to the socket"), &error, CAPABILITIES)
        })
    }

    /// What became of the packets so far; verdicts without a packet are left out. Makes some system calls for each queue:
    /// not for the hot path.
    ///
    /// # Errors
    /// Failed, when the kernel refuses to show its counters.
    pub fn counts(&self) -> Result<Vec<SteerCount>> {
        counts_of(&self.ebpf)
    }

    /// Runs the program on `frame` as if it had come in by queue 0, and counts it; whether it would go to a socket.
    ///
    /// # Errors
    /// Failed, when the kernel does not take the frame: it wants 14 bytes at least, and fewer than a page.
    pub fn dry_run(&mut self, frame: &[u8]) -> Result<bool> {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        let ran = program_of(&mut self.ebpf)?
            .test_run(options)
            .map_err(|error| Error::failed(format!("test run of XDP: {}", reason_of(&error))))?;
        Ok(ran.return_value == XDP_REDIRECT)
    }
}

/// As [`Steer::counts`], of any program that counts so.
pub(crate) fn counts_of(ebpf: &Ebpf) -> Result<Vec<SteerCount>> {
    let table: PerCpuArray<Borrowed<'_>, maps::SteerValue> = map(ebpf, "STEER_COUNTS")?;
    let mut counts = Vec::new();
    for queue in 0..=QUEUES {
        for verdict in Verdict::ALL {
            let values = table
                .get(&verdict.index(queue), 0)
                .map_err(|error| Error::failed(format!("reading the XDP program's counters: {error}")))?;
            let packets = values.iter().map(|value| value.0.packets).sum();
            let bytes = values.iter().map(|value| value.0.bytes).sum();
            if packets > 0 {
                counts.push(SteerCount { queue, verdict, packets, bytes });
            }
        }
    }
    Ok(counts)
}

fn program_of(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program =
        ebpf.program_mut("steer").ok_or_else(|| Error::failed("eBPF program steer is not in the object"))?;
    program.try_into().map_err(|error| Error::failed(format!("eBPF program steer: {error}")))
}

pub(crate) fn map_mut<'a, M>(ebpf: &'a mut Ebpf, name: &str) -> Result<M>
where
    M: TryFrom<&'a mut aya::maps::Map, Error = aya::maps::MapError>,
{
    let map =
        ebpf.map_mut(name).ok_or_else(|| Error::failed(format!("eBPF map {name} is not in the object")))?;
    M::try_from(map).map_err(|error| Error::failed(format!("eBPF map {name}: {error}")))
}

/// The object, loaded while doing `what`, with `rules` in its maps, and as many entries in others of its maps as `sizes` says.
///
/// # Errors
/// Environment: without the capabilities, or on a kernel before 5.18.
pub(crate) fn load_selecting(
    what: &str,
    rules: &[Rule],
    sizes: &[(&'static str, u32)],
    stamps: Stamps,
) -> Result<Ebpf> {
    // Earlier kernels know no multi-buffer programs, and the first of them would leave the program behind.
    if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(5, 18, 0)) {
        return Err(Error::environment(format!("{what}: this kernel is too old"))
            .fix("use Linux 5.18 or newer, or --backend uring"));
    }
    let keys = keys_of(rules);
    let by_source = u32::from(rules.iter().any(|rule| rule.source.is_some()));
    let (stamp, nic) = (u32::from(stamps != Stamps::None), u32::from(stamps == Stamps::Nic));
    allow_locked_memory();
    let mut loader = EbpfLoader::new();
    loader
        .override_global("STEER_BY_SOURCE", &by_source, true)
        .override_global("STEER_STAMP", &stamp, true)
        .override_global("STEER_NIC", &nic, true)
        .map_max_entries("STEER_RULES", u32::try_from(keys.len().max(1)).unwrap_or(u32::MAX))
        .map_max_entries("DROP_COUNTS", 1);
    for &(map, entries) in sizes {
        loader.map_max_entries(map, entries);
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| explain(what, &error, CAPABILITIES))?;
    write_rules(&mut ebpf, keys)?;
    Ok(ebpf)
}

/// Writes `keys` into the rule map.
fn write_rules(ebpf: &mut Ebpf, keys: Vec<RuleKey>) -> Result<()> {
    let mut table: HashMap<&mut MapData, maps::RuleKey, u32> = map_mut(ebpf, "STEER_RULES")?;
    for key in keys {
        table
            .insert(maps::RuleKey(key), 0, 0)
            .map_err(|error| explain("writing the steering rules", &error, CAPABILITIES))?;
    }
    Ok(())
}

/// For each rule its datagrams, and the fragments to its address.
fn keys_of(rules: &[Rule]) -> Vec<RuleKey> {
    let mut keys = Vec::with_capacity(rules.len() * 2);
    for rule in rules {
        let key = RuleKey {
            destination: words(rule.destination.ip()),
            source: rule.source.map_or(ANY_SOURCE, words),
            port: rule.destination.port(),
            version: if rule.destination.is_ipv4() { 4 } else { 6 },
            class: DATAGRAMS,
        };
        keys.push(key);
        keys.push(RuleKey { port: 0, class: FRAGMENTS, ..key });
    }
    keys
}

/// An address as it is on the wire.
pub(crate) fn words(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => [u32::from_ne_bytes(v4.octets()), 0, 0, 0],
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            std::array::from_fn(|word| {
                let at = word * 4;
                u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
            })
        }
    }
}

fn errno_of(error: &ProgramError) -> Option<i32> {
    system_reason(error).and_then(|reason| reason.raw_os_error())
}

/// Whether generic mode would be refused as well.
pub(crate) fn is_final(error: &ProgramError) -> bool {
    matches!(errno_of(error), Some(libc::EBUSY | libc::EEXIST | libc::EPERM | libc::EACCES | libc::ENODEV))
}

pub(crate) fn reason_of(error: &ProgramError) -> String {
    system_reason(error).map_or_else(|| error.to_string(), |reason: io::Error| reason.to_string())
}

pub(crate) fn refused(name: &str, error: &ProgramError) -> Error {
    match errno_of(error) {
        Some(libc::EBUSY | libc::EEXIST) => Error::environment(format!(
            "{name}: another XDP program is attached ({})",
            reason_of(error)
        ))
        .fix(format!(
            "look at it with `ip link show dev {name}`; stop the program that holds it, or, if none does, \
                 `ip link set dev {name} xdp off`"
        )),
        Some(libc::ENODEV) => Error::environment(format!("{name}: the interface is gone")),
        _ => explain(&format!("{name}: attaching the XDP program"), error, CAPABILITIES),
    }
}
