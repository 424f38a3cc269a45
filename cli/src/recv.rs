//! `wirerate recv`.

use std::fmt::Write as _;
use std::sync::Arc;

use wirerate_engine::Error;
use wirerate_engine::control::Event;
use wirerate_engine::measure::media::MediaSpec;
use wirerate_engine::measure::media::clock_rates::ClockRates;
use wirerate_engine::observe::sink::SinkChoice;
use wirerate_engine::observe::{self, FormatChoice, RecvConfig};
use wirerate_engine::queue::{RxMeta, Tuning};
use wirerate_engine::target::Scheme;

use crate::args::{Arrivals, Backend, Format, KernelDrops, Media, Recv, SinkProgram, Steer};
use crate::iperf2::Printer;
use crate::output::{self, ReadyFd, Sink};
use crate::send::{choice, payload, tuning};
use crate::signals::stop_on_signals;
use crate::task::{Ended, Plan};
use crate::{Result, Status};

/// Receives until it is done, and reports.
pub fn run(args: &Recv) -> Result<Status> {
    let run = plan(args)?;
    let mut sink = Sink::open(&args.output)?;
    let mut ready = ReadyFd::open(args.ready_fd)?;
    let stop = stop_on_signals()?;
    let mut printer = args.as_iperf2.map(Printer::new);
    let mut buffer = None;
    let ended = run(&stop, &mut |event| {
        if let Some(printer) = &mut printer {
            match &event {
                Event::Buffer(bytes) => buffer = Some(*bytes),
                Event::Ready if args.pcap.is_none() => {
                    let iface = args.datapath.iface.as_deref();
                    sink.part(&printer.listening(&args.target, iface, buffer, args.receive_buffer));
                }
                Event::Iperf2(row) => sink.part(&printer.row(row)),
                Event::Interval(_) => return,
                Event::Ready | Event::Warning(_) => {}
            }
        }
        if matches!(event, Event::Ready) {
            ready.tell();
        }
        sink.event(&event);
    })?;
    if args.as_iperf2.is_none() {
        sink.report(&ended.report)?;
    }
    ended.status()
}

/// What `args` ask for, ready to be run; all that can be wrong with them is told before.
pub fn plan(args: &Recv) -> Result<Plan> {
    let config = configuration(args)?;
    let expectations = output::expectations(&args.output)?;
    let capture = args.pcap.clone();
    Ok(Box::new(move |stop, on_event| {
        let outcome = match &capture {
            Some(file) => observe::analyse(&config, file, on_event)?,
            None => observe::run(&config, stop, on_event)?,
        };
        Ok(Ended::judge(outcome, &expectations))
    }))
}

fn configuration(args: &Recv) -> Result<RecvConfig> {
    let d = &args.datapath;
    args.rtcp.only_for(args.target.scheme)?;
    if args.sink != SinkProgram::Auto && d.backend != Backend::Xdp {
        return Err(Error::usage("--sink: only --backend xdp counts in the kernel").fix("add --backend xdp"));
    }
    if args.packets.is_some() && (args.timestamps == Arrivals::User || d.backend == Backend::Xdp) {
        return Err(Error::usage("--packets: takes the kernel's stamp of each packet")
            .fix("add --timestamps kernel, and use --backend uring, mmsg or afxdp"));
    }
    if (args.ring_size.is_some() || args.frames.is_some())
        && !matches!(d.backend, Backend::Afxdp | Backend::Auto)
    {
        return Err(Error::usage("--ring-size and --frames: only afxdp has a ring and frames")
            .fix("add --backend afxdp"));
    }
    if args.workers.is_some() && matches!(d.backend, Backend::Afxdp | Backend::Xdp) {
        return Err(Error::usage("--workers: afxdp has one for each NIC queue, xdp none")
            .fix("use --queues, or --backend uring or mmsg"));
    }
    if args.receive_buffer.is_some() && matches!(d.backend, Backend::Afxdp | Backend::Xdp) {
        return Err(
            Error::usage("--receive-buffer: only sockets have one").fix("use --backend uring or mmsg")
        );
    }
    if args.as_iperf2.is_some() {
        let other = matches!(args.format, Format::Rtp | Format::Ts | Format::Raw);
        if other || args.target.scheme == Scheme::Rtp || d.backend == Backend::Xdp {
            return Err(Error::usage(
                "--as: iperf 2 has lines for its own streams and for wirerate's, received in user space",
            )
            .fix("leave --as out, or use --format auto, udp:// and another --backend"));
        }
    }
    let verify = args.verify_payload.then(|| payload(&args.payload)).transpose()?;
    Ok(RecvConfig {
        interface: d.iface.clone(),
        backend: choice(d.backend),
        kernel_drops: d.kernel_drops == KernelDrops::On,
        sink: match args.sink {
            SinkProgram::Auto => SinkChoice::Auto,
            SinkProgram::Xdp => SinkChoice::Xdp,
            SinkProgram::Tc => SinkChoice::Tc,
        },
        workers: args.workers.map(usize::from),
        queues: d.queues.clone().map_or_else(Vec::new, |l| l.0),
        tuning: Tuning {
            kernel_stamps: args.timestamps != Arrivals::User,
            rx_ring: args.ring_size,
            rx_frames: args.frames,
            receive_buffer: args.receive_buffer,
            ..tuning(d)
        },
        nic_stamps: args.timestamps == Arrivals::Nic,
        steer: args.steer == Steer::Auto,
        cpus: d.cpus.clone().map_or_else(Vec::new, |l| l.0),
        on_irq_cpu: d.on_irq_cpu,
        policy: d.sched,
        destination_ports: d.dst_port.map(|p| p.0..=p.1),
        groups: d.groups,
        format: match args.format {
            Format::Auto => FormatChoice::Auto,
            Format::Wirerate => FormatChoice::Wirerate,
            Format::Iperf2 => FormatChoice::Iperf2,
            Format::Rtp => FormatChoice::Rtp,
            Format::Ts => FormatChoice::Ts,
            Format::Raw => FormatChoice::Raw,
        },
        media: media(&args.media),
        verify: verify.map(Arc::new),
        inspect: args.hexdump.then_some(hexdump as fn(&RxMeta, &[u8])),
        duration: args.until.duration,
        count: args.until.count,
        idle: args.idle,
        keep: args.keep,
        sender_port: args.sender_iface.clone(),
        segments: d.segments,
        packets: args.packets.clone(),
        hlog: args.hlog.clone(),
        as_iperf2: args.as_iperf2.is_some(),
        interval: args.output.interval,
        rtcp: args.rtcp.config(),
        ..RecvConfig::new(args.target)
    })
}

fn media(args: &Media) -> MediaSpec {
    let mut clocks = ClockRates::default();
    args.payload_type.iter().for_each(|&(number, hz)| clocks.set(number, hz));
    args.clock_rate.into_iter().for_each(|hz| clocks.set_default(hz));
    MediaSpec { clocks, media_rate_bps: args.media_rate }
}

/// Prints a datagram: who to whom, then 16 bytes a line with their offsets and characters.
fn hexdump(meta: &RxMeta, payload: &[u8]) {
    let mut text = format!("{} > {}: {} bytes\n", meta.source, meta.destination, payload.len());
    for (n, line) in payload.chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|b| format!("{b:02x}")).collect();
        let characters: String =
            line.iter().map(|&b| if b.is_ascii_graphic() || b == b' ' { b as char } else { '.' }).collect();
        let _ = writeln!(text, "  {:04x}  {:<47}  {characters}", n * 16, hex.join(" "));
    }
    let _ = output::print(&text);
}
