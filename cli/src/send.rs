//! `wirerate send`.

use std::sync::Arc;

use wirerate_engine::Error;
use wirerate_engine::backend::Choice;
use wirerate_engine::generate::{self, SendConfig, SizeSpec};
use wirerate_engine::profile::payload::Payload;
use wirerate_engine::queue::{HugePages, Tuning};
use wirerate_engine::target::Scheme;

use crate::args::{self, Backend, KernelDrops, PayloadKind, Send, SendFormat, Timestamps, ZeroCopy};
use crate::output::{self, Sink};
use crate::signals::stop_on_signals;
use crate::task::{Ended, Plan};
use crate::{Result, Status, rtp};

/// Sends until it is done, and reports.
pub fn run(args: &Send) -> Result<Status> {
    let run = plan(args)?;
    let mut sink = Sink::open(&args.output)?;
    let stop = stop_on_signals()?;
    let ended = run(&stop, &mut |event| sink.event(&event))?;
    sink.report(&ended.report)?;
    ended.status()
}

/// What `args` ask for, ready to be run; all that can be wrong with them is told before.
pub fn plan(args: &Send) -> Result<Plan> {
    let config = configuration(args)?;
    let expectations = output::expectations(&args.output)?;
    Ok(Box::new(move |stop, on_event| {
        Ok(Ended::judge(generate::run(&config, stop, on_event)?, &expectations))
    }))
}

pub fn configuration(args: &Send) -> Result<SendConfig> {
    let d = &args.datapath;
    let sizes = match (&args.frame_size, &args.length) {
        (Some(frame), _) => Some(SizeSpec::Frame(frame.parse()?)),
        (None, length) => length.as_ref().map(|l| l.parse().map(SizeSpec::Length)).transpose()?,
    };
    // What is in a file that RTP plays, its own module looks at.
    let plays = args.target.scheme == Scheme::Rtp && args.payload.payload_file.is_some();
    let mut config = SendConfig {
        interface: d.iface.clone(),
        backend: choice(d.backend),
        kernel_drops: d.kernel_drops == KernelDrops::On,
        queues: d.queues.clone().map_or_else(Vec::new, |l| l.0),
        tuning: Tuning {
            zero_copy: args.zero_copy == ZeroCopy::Auto,
            kernel_stamps: args.timestamps == Timestamps::Kernel,
            ..tuning(d)
        },
        workers: usize::from(args.workers.unwrap_or(1)),
        cpus: d.cpus.clone().map_or_else(Vec::new, |l| l.0),
        on_irq_cpu: d.on_irq_cpu,
        policy: d.sched,
        rate: args.rate.as_deref().unwrap_or("1000pps").parse()?,
        burst: args.burst.0,
        txtime: args.txtime,
        duration: args.until.duration,
        count: args.until.count,
        bytes: args.bytes,
        streams: args.streams,
        source_ports: args.src_port.map(|p| p.0..=p.1),
        destination_ports: d.dst_port.map(|p| p.0..=p.1),
        groups: d.groups,
        between: args.between.clone(),
        between_percent: args.between_share,
        ttl: args.ttl,
        dscp: args.dscp,
        dont_fragment: args.dont_fragment,
        vlan: args.vlan,
        iperf2: args.format == SendFormat::Iperf2,
        payload: Arc::new(if plays { Payload::pattern() } else { payload(&args.payload)? }),
        segments: d.segments,
        interval: args.output.interval,
        ..SendConfig::new(args.target)
    };
    if let Some(sizes) = sizes {
        config.sizes = sizes;
    }
    rtp::apply(args, &mut config)?;
    if config.duration.is_none() && config.count.is_none() && config.bytes.is_none() {
        // Somebody who names no end gets one: a generator must not be left running by mistake.
        config.duration = Some(std::time::Duration::from_secs(10));
    }
    Ok(config)
}

/// How AF_XDP sockets are to work.
pub fn tuning(datapath: &args::Datapath) -> Tuning {
    Tuning {
        busy_poll: datapath.busy_poll,
        huge_pages: match datapath.huge_pages {
            args::HugePages::Auto => HugePages::Auto,
            args::HugePages::On => HugePages::On,
            args::HugePages::Off => HugePages::Off,
        },
        ..Tuning::default()
    }
}

/// The engine's word for a datapath.
pub fn choice(backend: Backend) -> Choice {
    match backend {
        Backend::Auto => Choice::Auto,
        Backend::Afxdp => Choice::Afxdp,
        Backend::Xdp => Choice::Xdp,
        Backend::Uring => Choice::Uring,
        Backend::Mmsg => Choice::Mmsg,
    }
}

/// The payload asked for.
pub fn payload(args: &args::Payload) -> std::result::Result<Payload, Error> {
    match (&args.payload_file, args.payload) {
        (Some(path), _) => Payload::from_file(path),
        (None, PayloadKind::Pattern) => Ok(Payload::pattern()),
        (None, PayloadKind::Random) => Ok(Payload::random()),
        (None, PayloadKind::Zero) => Ok(Payload::zero()),
    }
}
