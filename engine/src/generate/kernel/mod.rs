//! The kernel as generator: an eBPF program makes every packet and hands it to the interface, without a socket and without a copy.
//!
//! `program` is that program, loaded for one worker: `BPF_PROG_TEST_RUN` with live frames runs it over and over on buffers of the kernel's own
//! (Documentation/bpf/bpf_prog_run.rst), and each run sends one packet or, when none is due, none. Setting a call up takes as long as making a
//! hundred thousand packets, so that a call goes on until it is interrupted: `worker` sits in it, and the collector reads
//! the program's maps meanwhile.
//!
//! The buffers are one page each and go round: the kernel fills them once, with what the worker gives it, and the program writes the headers again
//! for each packet, whatever became of them on the way. Payload behind the probe header is not written again. A host that changes payloads in
//! place (IPsec, NAT helpers) would find its own work in a later packet, so such a thing must not be in the same kernel.

mod program;
pub(crate) mod worker;

pub use program::{Counts, Generator, Pace};

use crate::error::{Error, Result};
use crate::host::interface;
use crate::host::nic::Nic;
use crate::queue::spec::Interface;

/// Whether `interface` takes packets from XDP programs, as far as the kernel tells.
///
/// # Errors
/// Environment, when it does not, saying what it lacks.
pub(crate) fn require_redirect_target(interface: &Interface) -> Result<()> {
    let name = &interface.name;
    if Nic::of(interface).xdp.is_none_or(|xdp| xdp.redirect_target) {
        return Ok(());
    }
    let kind = interface::by_index(interface.index).ok().flatten().and_then(|link| link.kind);
    let refused = Error::environment(format!("--backend xdp: {name} takes no packets from XDP programs"));
    Err(if kind.as_deref() == Some("veth") {
        refused.fix("a veth takes them when its other end, there called PEER, has GRO on or an XDP program: ethtool -K PEER gro on")
    } else {
        refused.fix("use --backend afxdp; some drivers take them as soon as an XDP program is attached to the interface")
    })
}
