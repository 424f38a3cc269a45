//! Which version of IGMP or MLD an interface speaks: forced for as long as somebody wants it, and given back.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;

use super::message::Version;
use super::own;
use crate::error::{Error, Result};

/// A version that an interface is forced to speak, until this is dropped; then it speaks what it spoke before.
#[derive(Debug)]
pub struct Forced {
    path: PathBuf,
    before: String,
    wanted: String,
}

impl Forced {
    /// Makes `interface` speak `version` to routers, whatever they speak. It is a setting of the whole host: every membership on the interface has it.
    ///
    /// # Errors
    /// Environment: no such interface, no privilege, or a version forced on all interfaces, which goes before that of one.
    pub fn on(interface: &str, version: Version) -> Result<Self> {
        let path = own::setting(interface, version.is_ipv6());
        let failed = |what: &str, error| {
            Error::environment(format!("{interface}: the version of its reports cannot be {what}"))
                .because(error)
                .fix("run as root, and see that /proc/sys is writable")
        };
        let number = match version {
            Version::Igmp1 | Version::Mld1 => "1",
            Version::Igmp2 | Version::Mld2 => "2",
            Version::Igmp3 => "3",
        };
        let before = fs::read_to_string(&path).map_err(|e| failed("read", e))?;
        fs::write(&path, number).map_err(|e| failed("set", e))?;
        let forced = Self { path, before, wanted: number.to_owned() };
        match own::forced(interface, version.is_ipv6()) {
            Some(now) if now != version => {
                Err(Error::environment(format!("{interface}: all interfaces are forced to speak {now}"))
                    .fix("write 0 to the setting of \"all\" (force_igmp_version or force_mld_version)"))
            }
            _ => Ok(forced),
        }
    }
}

impl Drop for Forced {
    fn drop(&mut self) {
        // Somebody who changed it meanwhile wanted that.
        if fs::read_to_string(&self.path).is_ok_and(|now| now.trim() == self.wanted) {
            let _ = fs::write(&self.path, self.before.trim());
        }
    }
}
