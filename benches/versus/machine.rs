//! The machine that figures are worth something on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::lab::Lab;
use crate::process;

/// What makes a difference.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Kernel command line.
    pub command_line: String,
    /// CPU model.
    pub cpu: String,
    /// CPUs online.
    pub cpus: usize,
    /// Whether a hypervisor is below.
    pub virtual_machine: bool,
    /// Frequency governor, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// CPU vulnerabilities and what the kernel does about them.
    pub mitigations: BTreeMap<String, String>,
    /// Socket buffers and backlog.
    pub sysctl: BTreeMap<String, String>,
    /// `ethtool -k vb`: features that are on.
    pub veth_features: Vec<String>,
    /// MTU and queues of `vb`.
    pub veth_link: serde_json::Value,
    /// Load average at the start.
    pub load_at_start: String,
    /// Load average at the end.
    pub load_at_end: String,
}

impl Machine {
    /// Looks around.
    pub fn read(lab: &Lab) -> Self {
        let info = read("/proc/cpuinfo");
        let field = |name: &str| {
            info.lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let vulnerabilities = Path::new("/sys/devices/system/cpu/vulnerabilities");
        let mitigations = fs::read_dir(vulnerabilities)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), read(entry.path())))
            .filter(|(_, state)| state != "Not affected")
            .collect();
        let sysctl = ["rmem_default", "rmem_max", "wmem_default", "wmem_max", "netdev_max_backlog"]
            .map(|name| (format!("net.core.{name}"), read(format!("/proc/sys/net/core/{name}"))))
            .into();
        let features = lab.in_receiver("ethtool -k vb").unwrap_or_default();
        let link = lab.in_receiver("ip -json -details link show dev vb").unwrap_or_default();
        let link: serde_json::Value = serde_json::from_str(&link).unwrap_or_default();
        let keep = [
            "mtu",
            "num_tx_queues",
            "num_rx_queues",
            "gso_max_size",
            "gso_max_segs",
            "gro_max_size",
            "qdisc",
        ];
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            command_line: read("/proc/cmdline"),
            cpu: field("model name").unwrap_or_else(|| "unknown".to_owned()),
            cpus: info.lines().filter(|line| line.starts_with("processor")).count(),
            virtual_machine: field("flags").is_some_and(|flags| flags.split(' ').any(|f| f == "hypervisor")),
            governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .ok()
                .map(|text| text.trim().to_owned()),
            mitigations,
            sysctl,
            veth_features: on(&features),
            veth_link: keep.iter().map(|&key| (key.to_owned(), link[0][key].clone())).collect(),
            load_at_start: read("/proc/loadavg"),
            load_at_end: String::new(),
        }
    }

    /// Looks once more, when all is measured.
    pub fn finish(&mut self) {
        self.load_at_end = read("/proc/loadavg");
    }

    /// Two lines for the head of the table.
    pub fn head(&self) -> String {
        format!(
            "{}{}, {} CPUs, Linux {}\nload {} at the start, {} at the end",
            self.cpu,
            if self.virtual_machine { " (virtual)" } else { "" },
            self.cpus,
            self.kernel,
            self.load_at_start.split(' ').next().unwrap_or_default(),
            self.load_at_end.split(' ').next().unwrap_or_default(),
        )
    }
}

/// The version that wirerate tells, or the commit it was built from.
pub fn wirerate_version(program: &Path) -> String {
    let mut command = Command::new(program);
    command.arg("--version");
    process::output(command).map_or_else(|e| e.to_string(), |text| text.trim().to_owned())
}

/// Names of the features of `ethtool -k` that are on.
fn on(ethtool: &str) -> Vec<String> {
    ethtool
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(_, state)| state.starts_with("on"))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::on;

    #[test]
    fn features_that_are_on() {
        let text = "Features for vb:\nrx-checksumming: on\ntx-gso: off\n\ttx-udp-segmentation: on\nhighdma: on [fixed]\n";
        assert_eq!(on(text), ["rx-checksumming", "tx-udp-segmentation", "highdma"]);
    }
}
