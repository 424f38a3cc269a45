//! The sink's programs: loading, attaching, and what they have counted.
#![forbid(unsafe_code)]

use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::links::LinkOrder;
use aya::programs::tc::{SchedClassifier, TcAttachOptions, TcAttachType};
use aya::programs::xdp::{Xdp, XdpMode};
use aya::programs::{ProgramError, TestRun, TestRunOptions};
use aya::util::KernelVersion;
use wirerate_ebpf_types::sink::{STREAMS, Share, Stream};

use super::SinkChoice;
use crate::drops::maps;
use crate::drops::object::{Borrowed, explain, map};
use crate::error::{Error, Result};
use crate::host::nic::Nic;
use crate::queue::afxdp::steer::{
    Rule, Stamps, SteerCount, counts_of, is_final, load_selecting, map_mut, reason_of, refused,
};
use crate::queue::spec::Interface;

const CAPABILITIES: &str = "CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON";

/// `enum xdp_action` and `TC_ACT_SHOT`, what the programs return for a packet that they took.
const XDP_DROP: u32 = 1;
const TC_ACT_SHOT: u32 = 2;

/// Length of `struct __sk_buff`, and where its `gso_segs` and `gso_size` are.
const SK_BUFF: usize = 192;
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;

/// Where the sink runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the driver, before there is an skb.
    XdpNative,
    /// On skbs, as XDP: works everywhere.
    XdpGeneric,
    /// On skbs at the ingress of traffic control, on super-packets too.
    Tc,
}

impl Place {
    /// The report's `backend.mode` and `backend.xdp`.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::XdpNative => ("xdp", "native"),
            Self::XdpGeneric => ("xdp", "generic"),
            Self::Tc => ("tc", "none"),
        }
    }
}

/// The programs and their maps; dropping it, or the end of the process however it comes, detaches the one that is attached.
#[derive(Debug)]
pub struct Program {
    ebpf: Ebpf,
    place: Place,
    why: String,
}

impl Program {
    /// Attaches the program that `choice` asks for to `interface`, which must be in the calling thread's network namespace.
    ///
    /// # Errors
    /// Environment: without CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON, on a kernel that is too old (5.18 for XDP, 6.6 for tc), when another XDP
    /// program is attached, or when the interface is gone.
    pub fn attach(interface: &Interface, rules: &[Rule], choice: SinkChoice) -> Result<Self> {
        let mut program = Self::load(rules)?;
        match choice {
            SinkChoice::Tc => {
                "asked for by --sink".clone_into(&mut program.why);
                program.attach_tc(interface)?;
            }
            SinkChoice::Xdp => {
                "asked for by --sink".clone_into(&mut program.why);
                program.attach_xdp(interface)?;
            }
            SinkChoice::Auto => match not_native(interface) {
                Some(why) => {
                    program.why = why;
                    program.attach_tc(interface)?;
                }
                None => program.attach_native_or_tc(interface)?,
            },
        }
        Ok(program)
    }

    /// Loads the programs without an interface; only the dry runs run them then.
    ///
    /// # Errors
    /// Environment: without CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON, or on a kernel before 5.18.
    pub fn load(rules: &[Rule]) -> Result<Self> {
        let what = "loading the sink";
        let sizes = [
            ("STEER_SOCKETS", 1),
            ("SINK_INDEX", 2 * STREAMS),
            ("SINK_STREAMS", STREAMS),
            ("SINK_WINDOWS", STREAMS),
        ];
        let ebpf = load_selecting(what, rules, &sizes, Stamps::None)?;
        let mut program = Self { ebpf, place: Place::Tc, why: String::new() };
        program.set_ready(u64::MAX)?;
        program.xdp()?.load().map_err(|error| explain(what, &error, CAPABILITIES))?;
        program.tc()?.load().map_err(|error| explain(what, &error, CAPABILITIES))?;
        Ok(program)
    }

    fn attach_tc(&mut self, interface: &Interface) -> Result<()> {
        let name = &interface.name;
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        self.tc()?.attach_with_options(name, TcAttachType::Ingress, order).map_err(|error| {
            let error = explain(&format!("{name}: attaching the sink at tc ingress"), &error, CAPABILITIES);
            match KernelVersion::current() {
                Ok(version) if version < KernelVersion::new(6, 6, 0) => {
                    error.fix("tc ingress links need Linux 6.6: use --sink xdp")
                }
                _ => error,
            }
        })?;
        self.place = Place::Tc;
        Ok(())
    }

    fn attach_xdp(&mut self, interface: &Interface) -> Result<()> {
        let name = &interface.name;
        let Err(native) = self.attach_as(interface, XdpMode::Driver)? else {
            self.place = Place::XdpNative;
            return Ok(());
        };
        if is_final(&native) {
            return Err(refused(name, &native));
        }
        self.attach_as(interface, XdpMode::Skb)?.map_err(|generic| refused(name, &generic))?;
        self.place = Place::XdpGeneric;
        self.why += &format!("; {name}: the driver refuses native XDP: {}", reason_of(&native));
        Ok(())
    }

    fn attach_native_or_tc(&mut self, interface: &Interface) -> Result<()> {
        let name = &interface.name;
        match self.attach_as(interface, XdpMode::Driver)? {
            Ok(()) => {
                self.place = Place::XdpNative;
                self.why = format!("{name} runs XDP natively");
                Ok(())
            }
            Err(native) if is_final(&native) => Err(refused(name, &native)),
            Err(native) => {
                self.why = format!("{name}: the driver refuses native XDP: {}", reason_of(&native));
                self.attach_tc(interface)
            }
        }
    }

    fn attach_as(
        &mut self,
        interface: &Interface,
        mode: XdpMode,
    ) -> Result<std::result::Result<(), ProgramError>> {
        Ok(self.xdp()?.attach_to_if_index(interface.index, mode).map(|_| ()))
    }

    /// Detaches the programs; what they have counted stays.
    ///
    /// # Errors
    /// Failed, when the object is not what it was.
    pub fn detach(&mut self) -> Result<()> {
        // A program that is unloaded gives up its links.
        let unloaded = self.xdp()?.unload().and(self.tc()?.unload());
        unloaded.map_err(|error| Error::failed(format!("detaching the sink: {error}")))
    }

    /// Where it runs.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Why there.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The engine has been ready since `ready_ns` of CLOCK_TAI.
    ///
    /// # Errors
    /// Failed, when the kernel refuses.
    pub fn set_ready(&mut self, ready_ns: u64) -> Result<()> {
        let mut ready: Array<&mut MapData, u64> = map_mut(&mut self.ebpf, "SINK_READY")?;
        ready
            .set(0, ready_ns, 0)
            .map_err(|error| Error::failed(format!("telling the sink to begin: {error}")))
    }

    /// The streams so far, in the order in which they came.
    ///
    /// # Errors
    /// Failed, when the kernel refuses to show them.
    pub fn streams(&self) -> Result<Vec<Stream>> {
        let count: Array<Borrowed<'_>, u32> = map(&self.ebpf, "SINK_COUNT")?;
        let streams: Array<Borrowed<'_>, maps::SinkStream> = map(&self.ebpf, "SINK_STREAMS")?;
        let count = count.get(&0, 0).map_err(unread)?.min(STREAMS);
        let mut all = Vec::with_capacity(count as usize);
        for index in 0..count {
            all.push(streams.get(&index, 0).map_err(unread)?.0);
        }
        // One that two CPUs made at the same time is there twice, once without a version.
        all.retain(|stream| stream.key.version != 0);
        Ok(all)
    }

    /// Gives `visit` what each possible CPU counted.
    ///
    /// # Errors
    /// Failed, when the kernel refuses to show it.
    pub fn shares(&self, mut visit: impl FnMut(usize, &Share)) -> Result<()> {
        let shares: PerCpuArray<Borrowed<'_>, maps::SinkShare> = map(&self.ebpf, "SINK_SHARES")?;
        let shares = shares.get(&0, 0).map_err(unread)?;
        shares.iter().enumerate().for_each(|(cpu, share)| visit(cpu, &share.0));
        Ok(())
    }

    /// What became of the packets that it did not take.
    ///
    /// # Errors
    /// Failed, when the kernel refuses to show its counters.
    pub fn passed(&self) -> Result<Vec<SteerCount>> {
        counts_of(&self.ebpf)
    }

    /// Runs the XDP program on `frame` `repeat` times; whether it took it, and the time of one run in ns.
    ///
    /// # Errors
    /// Failed, when the kernel does not take the frame: it wants 14 bytes at least, and fewer than a page.
    pub fn dry_run_xdp(&mut self, frame: &[u8], repeat: u32) -> Result<(bool, u64)> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let ran = self.xdp()?.test_run(options).map_err(|error| tried(&error))?;
        Ok((ran.return_value == XDP_DROP, ran.duration.as_nanos() as u64))
    }

    /// As [`dry_run_xdp`](Self::dry_run_xdp), the tc program; `segment` is the length of each payload in a super-packet, 0 for one
    /// datagram.
    ///
    /// # Errors
    /// Failed, when the kernel does not take the frame.
    pub fn dry_run_tc(&mut self, frame: &[u8], segment: u32, repeat: u32) -> Result<(bool, u64)> {
        let mut context = [0; SK_BUFF];
        context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&segment.to_ne_bytes());
        let segments = (frame.len() as u32).checked_div(segment).unwrap_or(0);
        context[GSO_SEGS..GSO_SEGS + 4].copy_from_slice(&segments.to_ne_bytes());
        let options =
            TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), repeat, ..TestRunOptions::new() };
        let ran = self.tc()?.test_run(options).map_err(|error| tried(&error))?;
        Ok((ran.return_value == TC_ACT_SHOT, ran.duration.as_nanos() as u64))
    }

    fn xdp(&mut self) -> Result<&mut Xdp> {
        program(&mut self.ebpf, "sink_xdp")
    }

    fn tc(&mut self) -> Result<&mut SchedClassifier> {
        program(&mut self.ebpf, "sink_tc")
    }
}

/// Why native XDP is not to be tried on `interface`; `None` when it is.
fn not_native(interface: &Interface) -> Option<String> {
    let name = &interface.name;
    let nic = Nic::of(interface);
    match nic.driver.as_deref() {
        Some("veth") => {
            Some(format!("{name} is a veth, whose peer loses its UDP segmentation to a native XDP program"))
        }
        _ if nic.xdp.is_some_and(|xdp| !xdp.native) => Some(format!("{name} has no native XDP")),
        _ => None,
    }
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| Error::failed(format!("no eBPF program {name} in the object")))?;
    program.try_into().map_err(|error| Error::failed(format!("eBPF program {name}: {error}")))
}

fn unread(error: aya::maps::MapError) -> Error {
    Error::failed(format!("reading the sink's counters: {error}"))
}

fn tried(error: &ProgramError) -> Error {
    Error::failed(format!("test run of the sink: {}", reason_of(error)))
}
