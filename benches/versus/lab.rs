//! The lab: one veth pair between two namespaces, `va` for senders and `vb` for receivers, and what its counters tell.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use serde::Serialize;
use wirerate_engine::error::{Error, Result};
use wirerate_engine::lab::Netns;

use crate::process;

/// The sender's address and its interface.
pub const SENDER: (Ipv4Addr, &str) = (Ipv4Addr::new(10, 78, 0, 1), "va");
/// The receiver's address and its interface.
pub const RECEIVER: (Ipv4Addr, &str) = (Ipv4Addr::new(10, 78, 0, 2), "vb");

/// Where the kernel's receive side of `vb` runs: NAPI poll, XDP or tc program, UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Napi {
    /// On the sender's CPU: softirqs run where the packet was sent, no threaded NAPI, no RPS.
    Sender,
    /// On the receiver's CPU: an RPS mask on `vb`, and threaded NAPI pinned there where the device has NAPI.
    Receiver,
}

/// The CPUs: one for the sender, one for the receiver.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cpus {
    /// Where the sending program is pinned.
    pub sender: usize,
    /// Where the receiving program is pinned.
    pub receiver: usize,
}

/// The pair, its namespaces and its drop program. The namespaces end with the process, and the pair with them.
#[derive(Debug)]
pub struct Lab {
    /// Holds `va`.
    pub sender: Netns,
    /// Holds `vb`.
    pub receiver: Netns,
    /// Hardware addresses of `va` and `vb`.
    pub macs: [String; 2],
    /// Who runs where.
    pub cpus: Cpus,
    /// What trials need on disk.
    pub scratch: tempfile::TempDir,
}

/// What the kernel counted, as far as it is told apart here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Datagrams that sockets read in the receiver's namespace; with GRO, super-datagrams.
    pub udp_in: u64,
    /// skbs or frames that arrived at `vb`.
    pub skbs: u64,
    /// Frames that an XDP program on `vb` dropped.
    pub xdp_drops: u64,
    /// Frames lost between `va` and `vb`: a full ring, a refused redirect.
    pub lost: u64,
}

impl Counters {
    /// What happened since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            udp_in: self.udp_in - earlier.udp_in,
            skbs: self.skbs - earlier.skbs,
            xdp_drops: self.xdp_drops - earlier.xdp_drops,
            lost: self.lost - earlier.lost,
        }
    }
}

impl Lab {
    /// Makes the pair.
    ///
    /// # Errors
    /// Without root, `ip`, `ethtool` or clang.
    pub fn new(cpus: Cpus) -> Result<Self> {
        let netns = || {
            let netns = Netns::new().map_err(|e| {
                Error::environment("cannot make a network namespace").because(e).fix("run as root")
            })?;
            // Neighbour discovery would be in the counters.
            netns.run(|| {
                for scope in ["all", "default"] {
                    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
                }
            });
            Ok::<_, Error>(netns)
        };
        let (sender, receiver) = (netns()?, netns()?);
        let far = receiver
            .run(|| File::open("/proc/thread-self/ns/net"))
            .map_err(|e| Error::environment("cannot open the receiver's namespace").because(e))?;
        let far = format!("/proc/{}/fd/{}", std::process::id(), far.as_raw_fd());
        let ip = |netns: &Netns, args: &str| {
            let mut command = netns.command("ip");
            command.args(args.split_whitespace());
            process::output(command)
        };
        ip(&sender, &format!("link add va type veth peer name vb netns {far}"))?;
        let mut macs = [String::new(), String::new()];
        for ((netns, (address, name)), mac) in
            [(&sender, SENDER), (&receiver, RECEIVER)].into_iter().zip(&mut macs)
        {
            ip(netns, &format!("address add {address}/24 dev {name}"))?;
            ip(netns, "link set lo up")?;
            ip(netns, &format!("link set {name} up"))?;
            let mut command = netns.command("cat");
            command.arg(format!("/sys/class/net/{name}/address"));
            *mac = process::output(command)?.trim().to_owned();
        }
        ip(&sender, &format!("neigh replace {} lladdr {} dev va nud permanent", RECEIVER.0, macs[1]))?;
        ip(&receiver, &format!("neigh replace {} lladdr {} dev vb nud permanent", SENDER.0, macs[0]))?;
        let scratch = tempfile::tempdir()
            .map_err(|e| Error::environment("cannot make a temporary folder").because(e))?;
        let lab = Self { sender, receiver, macs, cpus, scratch };
        lab.compile_drop()?;
        Ok(lab)
    }

    /// Takes away what a contestant may have left, and sets the placement of `vb`'s receive side.
    pub fn prepare(&self, napi: Napi, drop: bool) -> Result<()> {
        let receive_cpu = match napi {
            Napi::Sender => 0,
            Napi::Receiver => 1_u64 << self.cpus.receiver.min(63),
        };
        let program = if drop {
            format!("xdpdrv obj '{}' sec xdp", self.drop_object().display())
        } else {
            "xdp off".to_owned()
        };
        // /sys needs the namespace's own mount, which a command gets.
        let script = format!(
            "ip link set dev vb xdp off; tc qdisc del dev vb clsact 2>/dev/null; \
             echo {receive_cpu:x} >/sys/class/net/vb/queues/rx-0/rps_cpus && ip link set dev vb {program}"
        );
        self.in_receiver(&script)?;
        let mut command = self.sender.command("ip");
        command.args(["link", "set", "dev", "va", "xdp", "off"]);
        process::output(command)?;
        self.place_napi(napi)
    }

    /// Makes `vb`'s NAPI threaded and pins its threads, or neither. A veth has NAPI only while an XDP program is attached,
    /// so this is done again once a contestant has attached its own; without NAPI there is only RPS.
    pub fn place_napi(&self, napi: Napi) -> Result<()> {
        let threaded = u8::from(napi == Napi::Receiver);
        self.in_receiver(&format!("echo {threaded} 2>/dev/null >/sys/class/net/vb/threaded || true"))?;
        if napi == Napi::Sender {
            return Ok(());
        }
        let Ok(processes) = fs::read_dir("/proc") else { return Ok(()) };
        for entry in processes.flatten() {
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if comm.starts_with("napi/vb-") {
                let mut command = Command::new("taskset");
                command.args(["-c", "-p", &self.cpus.receiver.to_string()]).arg(entry.file_name());
                process::output(command)?;
            }
        }
        Ok(())
    }

    /// Runs a line of shell in the receiver's namespace.
    pub fn in_receiver(&self, script: &str) -> Result<String> {
        let mut command = self.receiver.command("sh");
        command.args(["-c", script]);
        process::output(command)
    }

    /// The kernel's counters now.
    pub fn counters(&self) -> Result<Counters> {
        let snmp = self.receiver.run(|| fs::read_to_string("/proc/thread-self/net/snmp")).unwrap_or_default();
        let text = self.in_receiver("ethtool -S vb; echo; ip -json -stats link show dev vb")?;
        let (driver, link) = text.split_once("\n\n").unwrap_or((&text, ""));
        let link: serde_json::Value = serde_json::from_str(link.trim())
            .map_err(|_| Error::environment("ip told no statistics of vb"))?;
        let stats = &link[0]["stats64"]["rx"];
        Ok(Counters {
            udp_in: udp_in(&snmp).ok_or_else(|| Error::environment("/proc/net/snmp told no InDatagrams"))?,
            skbs: stats["packets"].as_u64().unwrap_or(0),
            xdp_drops: sum_of(driver, "_xdp_drops"),
            lost: stats["dropped"].as_u64().unwrap_or(0)
                + sum_of(driver, "_xdp_xmit_errors")
                + self.sender_dropped()?,
        })
    }

    /// What `va` dropped while sending: a ring of its peer that is full.
    fn sender_dropped(&self) -> Result<u64> {
        let mut command = self.sender.command("ip");
        command.args(["-json", "-stats", "link", "show", "dev", "va"]);
        let link: serde_json::Value = serde_json::from_str(&process::output(command)?)
            .map_err(|_| Error::environment("ip told no statistics of va"))?;
        Ok(link[0]["stats64"]["tx"]["dropped"].as_u64().unwrap_or(0))
    }

    fn drop_object(&self) -> std::path::PathBuf {
        self.scratch.path().join("drop.o")
    }

    fn compile_drop(&self) -> Result<()> {
        let source = self.scratch.path().join("drop.c");
        fs::write(&source, include_str!("drop.c"))
            .map_err(|e| Error::environment("cannot write drop.c").because(e))?;
        let mut command = Command::new("clang");
        command.args(["-O2", "-g", "-target", "bpf", "-c", "-o"]).arg(self.drop_object()).arg(&source);
        // Debian keeps asm/types.h in a folder of the architecture that clang does not look at for this target.
        if Path::new("/usr/include/x86_64-linux-gnu").exists() {
            command.arg("-I/usr/include/x86_64-linux-gnu");
        }
        process::output(command).map(drop)
    }
}

/// InDatagrams of /proc/net/snmp.
fn udp_in(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let column = lines.next()?.split_whitespace().position(|name| name == "InDatagrams")?;
    lines.next()?.split_whitespace().nth(column)?.parse().ok()
}

/// The sum of the counters of `ethtool -S` whose names end so.
fn sum_of(ethtool: &str, ending: &str) -> u64 {
    ethtool
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(name, _)| name.ends_with(ending))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_column_by_its_name() {
        let snmp =
            "Udp: InDatagrams NoPorts InErrors\nUdp: 231274 7 385918\nUdpLite: InDatagrams\nUdpLite: 0\n";
        assert_eq!(udp_in(snmp), Some(231_274));
        assert_eq!(udp_in("Tcp: A\nTcp: 1\n"), None);
    }

    #[test]
    fn adds_the_queues_and_nothing_else() {
        let text = "NIC statistics:\n     rx_queue_0_drops: 9\n     rx_queue_0_xdp_drops: 40\n     rx_queue_1_xdp_drops: 2\n";
        assert_eq!(sum_of(text, "_xdp_drops"), 42);
        assert_eq!(sum_of(text, "_xdp_xmit_errors"), 0);
    }
}
