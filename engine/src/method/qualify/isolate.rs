//! A port of this host in a network namespace of its own, for the time of a run: so that frames between two ports of one host go by the link, and not by the kernel's
//! loopback interface.
#![forbid(unsafe_code)]

use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::host::interface;
use crate::lab::Netns;

/// An interface that is away. It comes back, with its addresses, when this is dropped. When the process is killed the kernel brings a physical one back by itself, without
/// addresses, and removes a virtual one.
#[derive(Debug)]
pub struct Isolated {
    home: Netns,
    away: Netns,
    interface: String,
    addresses: Vec<String>,
}

impl Isolated {
    /// Moves `name` into a new namespace, and sets it up there with the addresses that it had.
    ///
    /// # Errors
    /// When there is no such interface, or the user may not.
    pub fn begin(name: &str) -> Result<Self> {
        let link = interface::link(name)?;
        let made = |e| {
            Error::environment("cannot make a network namespace")
                .because(e)
                .fix("run as root (CAP_SYS_ADMIN)")
        };
        let (home, away) = (Netns::current().map_err(made)?, Netns::new().map_err(made)?);
        let addresses = interface::all_addresses()?
            .into_iter()
            .filter(|address| address.index == link.index)
            // The kernel gives link-local ones by itself.
            .filter(|address| !matches!(address.ip, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local()))
            .map(|address| format!("{}/{}", address.ip, address.prefix))
            .collect();
        let isolated = Self { home, away, interface: name.to_owned(), addresses };
        isolated.send(&isolated.home, &isolated.away)?;
        let _ = ip(&isolated.away, &["link", "set", "lo", "up"]);
        Ok(isolated)
    }

    /// A command that runs this program's agent where the interface is.
    pub fn agent(&self) -> Command {
        let mut command = self.away.command("/proc/self/exe");
        command.arg("agent");
        command
    }

    /// Sends the interface from one namespace to the other.
    fn send(&self, from: &Netns, to: &Netns) -> Result<()> {
        // `ip` takes a namespace by a path; it goes through this process's descriptor.
        let path = format!("/proc/{}/fd/{}", std::process::id(), to.fd());
        ip(from, &["link", "set", "dev", &self.interface, "netns", &path])?;
        for address in &self.addresses {
            let mut words = vec!["address", "add", address, "dev", &self.interface];
            if address.contains(':') {
                // Duplicate address detection would keep it unusable for a second or two.
                words.push("nodad");
            }
            ip(to, &words)?;
        }
        ip(to, &["link", "set", "dev", &self.interface, "up"])
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        let _ = self.send(&self.away, &self.home);
    }
}

fn ip(netns: &Netns, words: &[&str]) -> Result<()> {
    let output = netns
        .command("ip")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::environment("cannot run ip").because(e).fix("install iproute2"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::environment(format!("ip {}: {}", words.join(" "), said.trim()))
        .fix("run as root (CAP_NET_ADMIN)"))
}
