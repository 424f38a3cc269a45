//! Who answers.
#![forbid(unsafe_code)]

use std::fs;

use super::protocol::{Hello, Interface, PROTOCOL};
use crate::clock::Claim;
use crate::drops::current_netns_inode;
use crate::error::Result;
use crate::host::interface;
use crate::host::privilege::Privileges;

impl Hello {
    /// That of this process, in its network namespace.
    ///
    /// # Errors
    /// When the kernel cannot be asked for interfaces.
    pub fn read() -> Result<Self> {
        let name = nix::sys::utsname::uname().ok();
        let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
        let privileges = Privileges::read();
        Ok(Self {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: name.as_ref().map(|n| text(n.nodename())).unwrap_or_default(),
            kernel: name.as_ref().map(|n| text(n.release())).unwrap_or_default(),
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            netns: current_netns_inode().unwrap_or_default(),
            pid: std::process::id(),
            clock: Claim::read(),
            interfaces: interfaces()?,
            capabilities: privileges.capabilities.iter().map(|c| c.name().to_owned()).collect(),
            backends: privileges.backends().into_iter().map(str::to_owned).collect(),
        })
    }

    /// The interface called `name`.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }
}

fn interfaces() -> Result<Vec<Interface>> {
    let addresses = interface::all_addresses()?;
    Ok(interface::list()?
        .into_iter()
        .map(|link| Interface {
            addresses: addresses
                .iter()
                .filter(|address| address.index == link.index)
                .map(|address| format!("{}/{}", address.ip, address.prefix))
                .collect(),
            index: link.index,
            mac: link.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")),
            mtu: link.mtu,
            up: link.up && link.carrier,
            kind: link.kind,
            name: link.name,
        })
        .collect())
}
