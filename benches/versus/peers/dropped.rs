//! Senders without a receiver of their own, into the drop program: trafgen (AF_PACKET), xdp-trafficgen `udp` (live frames of
//! the kernel) and `xsk-udp` (AF_XDP). What arrived is what the driver of `vb` counted in a window of steady sending.

use std::thread;
use std::time::{Duration, Instant};

use wirerate_engine::error::{Error, Result};

use super::Tool;
use crate::contest::{Class, Contestant, Load, Trial};
use crate::lab::{Lab, Napi, RECEIVER, SENDER};
use crate::process::{Process, Side, interrupted};

/// 64-byte frames: 18 bytes of UDP payload over IPv4.
const LENGTH: u16 = 18;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// netsniff-ng's generator.
    Trafgen,
    /// `xdp-trafficgen udp`.
    Udp,
    /// `xdp-trafficgen xsk-udp`.
    XskUdp,
}

/// A sender into the drop program.
#[derive(Debug)]
pub struct Dropped {
    tool: Tool,
    kind: Kind,
    name: String,
}

impl Dropped {
    /// `tool` must be the program of that kind.
    pub fn new(tool: &Tool, kind: Kind) -> Self {
        let version = tool.version.rsplit(' ').next().unwrap_or_default();
        let name = match kind {
            Kind::Trafgen => tool.version.clone(),
            Kind::Udp => format!("xdp-trafficgen {version} udp"),
            Kind::XskUdp => format!("xdp-trafficgen {version} xsk-udp"),
        };
        Self { tool: tool.clone(), kind, name }
    }

    fn words(&self, lab: &Lab, load: Load) -> Vec<String> {
        let [from, to] = &lab.macs;
        let program = self.tool.word();
        let (source, target) = (SENDER.0, RECEIVER.0);
        let mut words = vec![program];
        match self.kind {
            Kind::Trafgen => {
                let frame = format!(
                    "{{ eth(da={to}, sa={from}) ipv4(saddr={source}, daddr={target}, ttl=64) udp(sp=9, dp=9) fill(0x00, {LENGTH}) }}"
                );
                words.extend(
                    ["--dev", "va", "--cpus", "1", "--notouch-irq", "--no-sock-mem"].map(str::to_owned),
                );
                if let Load::Pps(pps) = load {
                    words.extend(["--rate".to_owned(), format!("{pps}pps")]);
                }
                words.push(frame);
            }
            Kind::Udp => words.extend(["udp", "-m", to, "-M", from, "-n", "0", "va"].map(str::to_owned)),
            Kind::XskUdp => words.extend(["xsk-udp", "-m", to, "-M", from, "va"].map(str::to_owned)),
        }
        words
    }
}

/// A process namespace, so that workers that a tool forks end with it; a file system for BPF objects, which libxdp wants.
fn enclosed(words: Vec<String>) -> Vec<String> {
    let script = r#"mount -t bpf bpf /sys/fs/bpf 2>/dev/null; ulimit -l unlimited; exec "$@""#;
    ["unshare", "--pid", "--fork", "--kill-child", "--", "sh", "-c", script, "sh"]
        .map(str::to_owned)
        .into_iter()
        .chain(words)
        .collect()
}

impl Contestant for Dropped {
    fn name(&self) -> &str {
        &self.name
    }

    fn length(&self) -> u16 {
        LENGTH
    }

    fn class(&self) -> Class {
        if self.kind == Kind::Udp { Class::KernelToDrop } else { Class::UserToDrop }
    }

    fn paces(&self) -> bool {
        false
    }

    fn run(&self, lab: &Lab, load: Load, napi: Napi, time: Duration) -> Result<Trial> {
        let idle = lab.counters()?.xdp_drops;
        let mut sender = Process::start(lab, Side::Sender, &enclosed(self.words(lab, load)))?;
        let begin = Instant::now();
        while lab.counters()?.xdp_drops < idle + 1000 {
            if sender.has_ended() || interrupted() || begin.elapsed() > Duration::from_secs(8) {
                return Err(sender.complaint());
            }
            thread::sleep(Duration::from_millis(20));
        }
        lab.place_napi(napi)?;
        thread::sleep(Duration::from_millis(200));
        let (start, before) = (Instant::now(), lab.counters()?);
        thread::sleep(time);
        let (seconds, counted) = (start.elapsed().as_secs_f64(), lab.counters()?.since(before));
        if sender.has_ended() {
            return Err(sender.complaint());
        }
        if counted.xdp_drops == 0 {
            return Err(Error::failed(format!("{}: nothing arrived", self.name)));
        }
        Ok(Trial {
            received: counted.xdp_drops,
            sent: Some(counted.xdp_drops + counted.lost),
            seconds,
            witness: Some(counted.xdp_drops),
            segments_per_skb: Some(1.0),
            payload_touched: Some(false),
        })
    }

    fn command(&self) -> String {
        match self.kind {
            Kind::Trafgen => {
                "trafgen --dev va --cpus 1 '{ eth(…) ipv4(…) udp(…) fill(0x00, 18) }'".to_owned()
            }
            Kind::Udp => "xdp-trafficgen udp -m MAC -M MAC -n 0 va".to_owned(),
            Kind::XskUdp => "xdp-trafficgen xsk-udp -m MAC -M MAC va".to_owned(),
        }
    }
}
