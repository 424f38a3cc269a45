//! What the running kernel is and offers.
#![forbid(unsafe_code)]

use std::path::Path;

use serde::Serialize;
use socket2::{Domain, Socket, Type};

use super::{read_line, read_number};

/// The running kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// `uname -m`.
    pub machine: String,
    /// Describes its own types (BTF), by which eBPF programs and drop reasons are read.
    pub btf: bool,
    /// AF_XDP sockets; absent where this process may not find out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp_sockets: Option<bool>,
    /// kernel.io_uring_disabled: 0 allowed, 1 for members of a group, 2 for nobody; absent before kernel 6.6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_uring_disabled: Option<u32>,
    /// kernel.unprivileged_bpf_disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unprivileged_bpf_disabled: Option<u32>,
    /// net.core.rmem_max in bytes: the largest receive buffer that a socket without CAP_NET_ADMIN gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rmem_max_bytes: Option<u64>,
    /// net.core.wmem_max in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wmem_max_bytes: Option<u64>,
    /// net.ipv4.igmp_max_memberships: groups that one socket may join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub igmp_max_memberships: Option<u32>,
}

impl Kernel {
    /// Reads it; the sysctls of the calling thread's network namespace.
    pub fn read() -> Self {
        let name = nix::sys::utsname::uname().ok();
        let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
        Self {
            release: name.as_ref().map(|n| text(n.release())).unwrap_or_default(),
            machine: name.as_ref().map(|n| text(n.machine())).unwrap_or_default(),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            xdp_sockets: xdp_sockets(),
            io_uring_disabled: read_number("/proc/sys/kernel/io_uring_disabled"),
            unprivileged_bpf_disabled: read_number("/proc/sys/kernel/unprivileged_bpf_disabled"),
            rmem_max_bytes: memory_max("rmem"),
            wmem_max_bytes: memory_max("wmem"),
            igmp_max_memberships: read_number("/proc/sys/net/ipv4/igmp_max_memberships"),
        }
    }

    /// Major and minor number of the release; none where it has an odd form.
    pub fn version(&self) -> Option<(u32, u32)> {
        parse_version(&self.release)
    }
}

/// One limit for the whole machine; older kernels show it in the first network namespace only.
fn memory_max(kind: &str) -> Option<u64> {
    read_number(format!("/proc/sys/net/core/{kind}_max"))
}

fn xdp_sockets() -> Option<bool> {
    match Socket::new(Domain::from(libc::AF_XDP), Type::RAW, None) {
        Ok(_) => Some(true),
        // The kernel knows the family, and then asks for CAP_NET_RAW.
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => Some(true),
        Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => Some(false),
        Err(_) => None,
    }
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The reverse-path filter in effect for an interface of this namespace (ip-sysctl: the stricter of `all` and its own):
/// 0 off, 1 strict, 2 loose.
pub fn rp_filter(interface: &str) -> Option<u32> {
    let read = |name: &str| read_number::<u32>(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
    Some(read(interface)?.max(read("all").unwrap_or(0)))
}

/// The CPUs that the interrupt may be delivered to, as the kernel's list.
pub(super) fn irq_cpus(irq: u32) -> Option<String> {
    read_line(format!("/proc/irq/{irq}/effective_affinity_list"))
        .or_else(|| read_line(format!("/proc/irq/{irq}/smp_affinity_list")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse_version("6.1.0-28-amd64"), Some((6, 1)));
        assert_eq!(parse_version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(parse_version("7.0-rc1"), Some((7, 0)));
        assert_eq!(parse_version("linux"), None);
    }

    #[test]
    fn this_kernel_has_a_release() {
        let kernel = Kernel::read();
        assert!(kernel.version().is_some(), "{kernel:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_release_is_read_or_not(text in ".{0,20}") {
            let _ = parse_version(&text);
        }
    }
}
