//! The eBPF program `generate`, loaded for one worker, and its maps.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use aya::maps::{Array, Map, MapData, MapError};
use aya::programs::{ProgramError, RawTracePoint, TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use wirerate_ebpf_types::generate::{HEADERS, Progress, Taken, Template};

use crate::drops::btf::Btf;
use crate::drops::maps;
use crate::drops::object::{OBJECT, allow_locked_memory, explain, system_reason};
use crate::error::{Error, Result};
use crate::packet::checksum::sum;
use crate::packet::ethernet;
use crate::packet::frame::{FrameTemplate, Marks};
use crate::packet::probe::{self, Kind, Probe};
use crate::queue::{QueueError, TxSpec};

const CAPABILITIES: &str = "CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON";

/// `enum xdp_action`, what the program returns for a packet.
const XDP_REDIRECT: u32 = 4;

/// Longest frame without FCS, bytes: buffers are pages of 4 KiB, which also hold the kernel's own 256 bytes of headroom before the frame,
/// some 320 behind it and as many for its book-keeping.
pub(crate) const MAX_FRAME: usize = 3072;

/// Buffers that the kernel makes packets in before it lets receivers on this CPU have their turn: no more than the ring of a veth holds.
const BATCH: u32 = 64;

/// As [`BATCH`], with a pace: packets leave at the end of a batch at the latest, which is then about a microsecond.
const PACED_BATCH: u32 = 16;

/// Runs of the program in one call: whole batches.
const REPEAT: u32 = u32::MAX - u32::MAX % BATCH;

/// When, and how many.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pace {
    /// Packets a second; `None`: as fast as it goes.
    pub pps: Option<f64>,
    /// Packets in all.
    pub limit: Option<u64>,
    /// Time from the first packet to the last.
    pub duration: Option<Duration>,
}

/// What a generator did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// How far the program has come.
    pub progress: Progress,
    /// What the interface did with its packets.
    pub taken: Taken,
}

/// The program, loaded for the flows of one worker. Only the thread that runs it may, and the counters are its.
pub struct Generator {
    ebpf: Ebpf,
    counters: Arc<Counters>,
    frame: Vec<u8>,
    batch: u32,
}

/// The program's counters: one writes, anybody may read.
pub(crate) struct Counters {
    progress: Array<MapData, maps::Progress>,
    taken: Array<MapData, maps::Taken>,
}

impl Counters {
    /// # Errors
    /// When the kernel refuses to show its counters.
    pub(crate) fn read(&self) -> std::result::Result<Counts, QueueError> {
        let broken = |error: MapError| QueueError {
            call: "reading the generator's counters",
            source: system_reason(&error).unwrap_or_else(|| std::io::Error::other(error.to_string())),
        };
        // What was taken first: it then is not more than what was issued.
        let taken = self.taken.get(&0, 0).map_err(broken)?.0;
        let progress = self.progress.get(&0, 0).map_err(broken)?.0;
        Ok(Counts { progress, taken })
    }
}

impl Generator {
    /// Loads the program for the flows of `spec`, every payload being of `spec.max_payload` bytes, in packets of the sender's `run`.
    ///
    /// # Errors
    /// Usage: when the payload varies from packet to packet or the frame is too long. Environment: without CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON, or on a
    /// kernel before 6.1.
    pub fn load(spec: &TxSpec, run: u32, pace: Pace) -> Result<Self> {
        let what = "loading the packet generator";
        let interface = spec.interface.as_ref().expect("the plan gives it one");
        let (templates, headers, frame) = templates(spec, interface.mac, run)?;
        // bpf_ktime_get_tai_ns.
        if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(6, 1, 0)) {
            return Err(Error::environment(format!("{what}: this kernel is too old"))
                .fix("use Linux 6.1 or newer, or --backend afxdp"));
        }
        let kernel = Btf::of_kernel()?;
        let dev_ifindex = kernel.offset("net_device", "ifindex").ok_or_else(|| {
            Error::environment(format!("{what}: this kernel's struct net_device has no member ifindex"))
        })?;
        allow_locked_memory();
        let mut ebpf = EbpfLoader::new()
            .override_global("GENERATE_HEADERS", &(headers as u32), true)
            .override_global("GENERATE_FLOWS", &(templates.len() as u32), true)
            .override_global("GENERATE_INTERFACE", &interface.index, true)
            .override_global("GENERATE_PACED", &u32::from(pace.pps.is_some()), true)
            .override_global("GENERATE_DEV_IFINDEX", &dev_ifindex, true)
            .map_max_entries("GENERATE_TEMPLATES", templates.len() as u32)
            .map_max_entries("DROP_COUNTS", 1)
            .map_max_entries("STEER_SOCKETS", 1)
            .map_max_entries("STEER_COUNTS", 1)
            .load(OBJECT)
            .map_err(|error| explain(what, &error, CAPABILITIES))?;
        let counters = Counters {
            progress: take(&mut ebpf, "GENERATE_PROGRESS")?,
            taken: take(&mut ebpf, "GENERATE_TAKEN")?,
        };
        let mut generator = Self {
            counters: Arc::new(counters),
            frame,
            batch: if pace.pps.is_some() { PACED_BATCH } else { BATCH },
            ebpf,
        };
        generator.fill(&templates, &pace).map_err(|error| explain(what, &error, CAPABILITIES))?;
        generator.program_mut()?.load().map_err(|error| explain(what, &error, CAPABILITIES))?;
        Ok(generator)
    }

    fn fill(&mut self, templates: &[Template], pace: &Pace) -> std::result::Result<(), MapError> {
        let mut map: Array<_, maps::Template> =
            Array::try_from(self.ebpf.map_mut("GENERATE_TEMPLATES").expect("it was loaded with its size"))?;
        for (index, template) in (0..).zip(templates) {
            map.set(index, maps::Template(*template), 0)?;
        }
        // Nobody reads yet.
        let counters = Arc::get_mut(&mut self.counters).expect("not shared yet");
        counters.progress.set(0, maps::Progress(start(pace)), 0)
    }

    /// Attaches the counters of what the interface takes. [`run`](Self::run) wants them.
    ///
    /// # Errors
    /// Environment, when the kernel lacks the tracepoints or this process may not.
    pub(crate) fn attach(&mut self) -> Result<()> {
        for (name, tracepoint) in
            [("generate_taken", "xdp_devmap_xmit"), ("generate_refused", "xdp_redirect_err")]
        {
            let what = format!("counting what the interface takes at tracepoint {tracepoint}");
            let program = self.ebpf.program_mut(name).ok_or_else(|| absent(name))?;
            let program: &mut RawTracePoint =
                program.try_into().map_err(|error| Error::failed(format!("eBPF program {name}: {error}")))?;
            program.load().map_err(|error| explain(&what, &error, CAPABILITIES))?;
            program.attach(tracepoint).map_err(|error| explain(&what, &error, CAPABILITIES))?;
        }
        Ok(())
    }

    /// Makes packets until there is a signal, or a few minutes are over.
    ///
    /// # Errors
    /// Any but EINTR, which is how it ends.
    pub(crate) fn run(&self) -> std::result::Result<(), QueueError> {
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            repeat: REPEAT,
            attrs: TestRunAttrs::new().xdp_live_frames(self.batch),
            ..TestRunOptions::new()
        };
        let Err(error) = self.program().and_then(|program| program.test_run(options)) else { return Ok(()) };
        match system_reason(&error) {
            Some(reason) if reason.raw_os_error() == Some(libc::EINTR) => Ok(()),
            Some(source) => Err(QueueError { call: "making packets in the kernel", source }),
            None => Err(QueueError {
                call: "making packets in the kernel",
                source: std::io::Error::other(error.to_string()),
            }),
        }
    }

    /// Runs the program once on a buffer that holds `frame`, sends nothing, and returns the packet; None when none was due.
    ///
    /// # Errors
    /// Failed, when the kernel does not take the buffer.
    pub fn dry_run(&mut self, frame: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut packet = vec![0; frame.len()];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut packet), ..TestRunOptions::new() };
        let ran = self
            .program()
            .and_then(|program| program.test_run(options))
            .map_err(|error| Error::failed(format!("test run of the packet generator: {error}")))?;
        Ok((ran.return_value == XDP_REDIRECT).then_some(packet))
    }

    /// The frame that its buffers begin with: headers and body of flow 0, without FCS.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// What it did so far.
    ///
    /// # Errors
    /// Failed, when the kernel refuses to show its counters.
    pub fn counts(&self) -> Result<Counts> {
        self.counters.read().map_err(|error| Error::failed(error.to_string()))
    }

    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    fn program(&self) -> std::result::Result<&Xdp, ProgramError> {
        self.ebpf.program("generate").ok_or(ProgramError::NotLoaded)?.try_into()
    }

    fn program_mut(&mut self) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut("generate").ok_or_else(|| absent("generate"))?;
        program.try_into().map_err(|error| Error::failed(format!("eBPF program generate: {error}")))
    }
}

fn absent(name: &str) -> Error {
    Error::failed(format!("eBPF program {name} is not in the object"))
}

/// Takes the map `name` out of the object.
fn take<V>(ebpf: &mut Ebpf, name: &str) -> Result<Array<MapData, V>>
where
    V: aya::Pod,
    Array<MapData, V>: TryFrom<Map, Error = MapError>,
{
    let map =
        ebpf.take_map(name).ok_or_else(|| Error::failed(format!("eBPF map {name} is not in the object")))?;
    Array::try_from(map).map_err(|error| Error::failed(format!("eBPF map {name}: {error}")))
}

/// Where a generator begins.
fn start(pace: &Pace) -> Progress {
    // A rate is 0.001 to 1e9 packets a second, so that this is less than 2^73.
    let interval = pace.pps.map_or(0, |pps| (1e9 / pps * 4_294_967_296.0).round() as u128);
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    Progress {
        limit: pace.limit.unwrap_or(u64::MAX),
        duration_ns: pace.duration.map_or(u64::MAX, nanos),
        interval_ns: (interval >> 32) as u64,
        interval_fraction: interval as u64 & 0xffff_ffff,
        ..Progress::default()
    }
}

/// The templates of all flows, the length of their headers, and the first frame.
fn templates(spec: &TxSpec, source_mac: [u8; 6], run: u32) -> Result<(Vec<Template>, usize, Vec<u8>)> {
    if spec.payload.varies() {
        return Err(Error::usage(
            "--payload-file: the kernel's generator has the same payload in every packet",
        )
        .fix("use --payload pattern, random or zero, or --backend afxdp"));
    }
    let marks = Marks::from(spec);
    let mut frame = Vec::new();
    let mut headers = 0;
    let mut templates = Vec::with_capacity(spec.flows.len());
    for flow in &spec.flows {
        let whole = FrameTemplate::new(flow, source_mac, marks, &spec.payload, spec.max_payload)?;
        headers = whole.payload().start;
        let mut template = Template { headers: [0; HEADERS], identity: 0, left: 0 };
        for (word, bytes) in template.headers.iter_mut().zip(whole.frame()[..headers].chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        let mut header = [0; probe::LEN];
        Probe { kind: Kind::Data, run, stream: flow.stream, sequence: 0, time: 0 }.emit(&mut header);
        let constant: [u8; 6] = *header[2..].first_chunk().expect("18 bytes");
        template.identity = constant.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        // More than sequence and time can add up to, and 0 in ones' complement.
        let enough = 0xffff << 20;
        template.left = u64::from(probe::CHECK_SUM) + enough - sum(&constant);
        if frame.is_empty() {
            frame = whole.frame().to_vec();
        }
        templates.push(template);
    }
    if frame.len() > MAX_FRAME {
        let most = MAX_FRAME - headers;
        return Err(Error::usage(format!(
            "a frame of {} bytes with FCS: the kernel's generator makes frames of up to {}",
            frame.len() + ethernet::FCS_LEN,
            MAX_FRAME + ethernet::FCS_LEN
        ))
        .fix(format!("use --length {most} or less, or --backend afxdp")));
    }
    Ok((templates, headers, frame))
}
