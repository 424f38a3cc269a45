//! What this process may do: capabilities(7), locked memory, user namespaces.
#![forbid(unsafe_code)]

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use serde::Serialize;

use super::{read_line, read_number};

/// What gives the program every capability that it can use, for an ordinary user who may run it.
pub const SETCAP: &str =
    "sudo setcap cap_net_raw,cap_net_admin,cap_bpf,cap_perfmon,cap_ipc_lock+ep \"$(command -v wirerate)\"";

/// A capability that one of the datapaths needs; the value is its bit in linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Capability {
    /// Attach XDP programs, set up interfaces.
    CapNetAdmin = 12,
    /// AF_XDP and AF_PACKET sockets.
    CapNetRaw = 13,
    /// Lock memory beyond the limit.
    CapIpcLock = 14,
    /// All that has no capability of its own, network namespaces among it.
    CapSysAdmin = 21,
    /// Tracepoint programs.
    CapPerfmon = 38,
    /// Load programs, make maps.
    CapBpf = 39,
}

impl Capability {
    /// All that are looked at.
    pub const ALL: [Self; 6] = [
        Self::CapNetAdmin,
        Self::CapNetRaw,
        Self::CapIpcLock,
        Self::CapSysAdmin,
        Self::CapPerfmon,
        Self::CapBpf,
    ];

    /// The name as setcap(8) writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CapNetAdmin => "cap_net_admin",
            Self::CapNetRaw => "cap_net_raw",
            Self::CapIpcLock => "cap_ipc_lock",
            Self::CapSysAdmin => "cap_sys_admin",
            Self::CapPerfmon => "cap_perfmon",
            Self::CapBpf => "cap_bpf",
        }
    }
}

/// What needs privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The `afxdp` backend: AF_XDP sockets, XDP programs.
    Xdp,
    /// Counting drops at the kernel's tracepoints.
    Drops,
    /// Network namespaces: the lab and the demo.
    Namespaces,
}

/// What this process may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Privileges {
    /// Capabilities in effect, of those that matter here.
    pub capabilities: Vec<Capability>,
    /// Soft limit of locked memory in bytes (RLIMIT_MEMLOCK); absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memlock_bytes: Option<u64>,
    /// It runs in a user namespace of its own, where eBPF is refused whatever its capabilities say.
    pub in_user_namespace: bool,
    /// An ordinary user may make user namespaces, and in them a private lab.
    pub user_namespaces: bool,
}

impl Privileges {
    /// Those of the calling thread.
    pub fn read() -> Self {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let effective = effective_capabilities(&status).unwrap_or(0);
        let has = |capability: &Capability| effective & (1 << *capability as u32) != 0;
        let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft);
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Self {
            capabilities: Capability::ALL.into_iter().filter(has).collect(),
            memlock_bytes: (limit != RLIM_INFINITY).then_some(limit),
            in_user_namespace: is_inner_uid_map(&map),
            user_namespaces: user_namespaces(),
        }
    }

    /// Whether the capability is in effect.
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// The capabilities that `purpose` needs and that are not in effect. CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
    pub fn missing(&self, purpose: Purpose) -> Vec<Capability> {
        use Capability::{CapBpf, CapNetAdmin, CapNetRaw, CapPerfmon, CapSysAdmin};
        let needed: &[Capability] = match purpose {
            // The verifier takes what steer does with packet pointers only from who may read kernel memory.
            Purpose::Xdp => &[CapNetRaw, CapNetAdmin, CapBpf, CapPerfmon],
            // One object holds all programs and maps, and an XSKMAP is for network administrators.
            Purpose::Drops => &[CapNetAdmin, CapBpf, CapPerfmon],
            Purpose::Namespaces => &[CapSysAdmin, CapNetAdmin],
        };
        let admin = self.has(CapSysAdmin);
        let granted = |c: &Capability| self.has(*c) || (admin && matches!(c, CapBpf | CapPerfmon));
        needed.iter().filter(|c| !granted(c)).copied().collect()
    }

    /// Whether `purpose` is permitted.
    pub fn allows(&self, purpose: Purpose) -> bool {
        let ebpf = matches!(purpose, Purpose::Xdp | Purpose::Drops);
        self.missing(purpose).is_empty() && !(ebpf && self.in_user_namespace)
    }

    /// The command-line names of the backends that these privileges allow.
    pub fn backends(&self) -> Vec<&'static str> {
        let mut backends = vec!["mmsg", "uring"];
        if self.allows(Purpose::Xdp) {
            backends.push("afxdp");
        }
        backends
    }
}

/// The bits of CapEff in a /proc/PID/status.
fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether a uid_map is that of a user namespace other than the first, which maps all identifiers to themselves.
fn is_inner_uid_map(map: &str) -> bool {
    let fields = map.split_whitespace().collect::<Vec<_>>();
    !fields.is_empty() && fields != ["0", "0", "4294967295"]
}

fn user_namespaces() -> bool {
    let number = |path| read_number::<u64>(path);
    number("/proc/sys/user/max_user_namespaces").is_some_and(|n| n > 0)
        // Debian's and Ubuntu's own switches.
        && number("/proc/sys/kernel/unprivileged_userns_clone") != Some(0)
        && read_line("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() != Some("1")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tcat\nCapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\n\
                          CapEff:\t000000c000003000\nCapBnd:\t000001ffffffffff\n";

    fn with(capabilities: &[Capability]) -> Privileges {
        Privileges {
            capabilities: capabilities.to_vec(),
            memlock_bytes: None,
            in_user_namespace: false,
            user_namespaces: true,
        }
    }

    #[test]
    fn status_is_read() {
        let bits = effective_capabilities(STATUS).unwrap();
        let held = Capability::ALL.into_iter().filter(|c| bits & (1 << *c as u32) != 0).collect::<Vec<_>>();
        use Capability::{CapBpf, CapNetAdmin, CapNetRaw, CapPerfmon};
        assert_eq!(held, [CapNetAdmin, CapNetRaw, CapPerfmon, CapBpf]);
        assert_eq!(effective_capabilities("CapEff:\tzz\n"), None);
        assert_eq!(effective_capabilities(""), None);
    }

    #[test]
    fn what_is_missing() {
        use Capability::{CapBpf, CapNetAdmin, CapNetRaw, CapPerfmon, CapSysAdmin};
        assert_eq!(with(&[]).missing(Purpose::Xdp), [CapNetRaw, CapNetAdmin, CapBpf, CapPerfmon]);
        assert_eq!(with(&[]).backends(), ["mmsg", "uring"]);
        assert_eq!(with(&[CapNetRaw, CapNetAdmin, CapBpf]).missing(Purpose::Drops), [CapPerfmon]);
        let root = with(&[CapNetAdmin, CapNetRaw, CapSysAdmin]);
        assert!(root.allows(Purpose::Xdp) && root.allows(Purpose::Drops) && root.allows(Purpose::Namespaces));
        let inner = Privileges { in_user_namespace: true, ..root };
        assert!(!inner.allows(Purpose::Xdp) && inner.allows(Purpose::Namespaces));
    }

    #[test]
    fn the_first_user_namespace_is_told_from_others() {
        assert!(!is_inner_uid_map("         0          0 4294967295\n"));
        assert!(is_inner_uid_map("         0       1000          1\n"));
        assert!(!is_inner_uid_map(""));
    }

    proptest::proptest! {
        #[test]
        fn any_status_is_read_or_not(text in "(CapEff:|\n|[0-9a-gx\t ]){0,20}") {
            let _ = effective_capabilities(&text);
        }
    }
}
