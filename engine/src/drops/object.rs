//! The eBPF programs, built by `scripts/ebpf` from `ebpf/programs` and embedded here, and what loading them has in common.
#![forbid(unsafe_code)]

use std::io;

use aya::maps::MapData;
use aya::programs::ProgramError;
use aya::util::KernelVersion;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::error::{Error, Result};
use crate::host::privilege::SETCAP;

/// The object, aligned as its parser wants it.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/object/wirerate.bpf.o");

/// Lifts the limit on locked memory where maps count against it: before Linux 5.11.
pub(crate) fn allow_locked_memory() {
    if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(5, 11, 0)) {
        // When it is refused, making the maps is too, and says so.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    }
}

/// The system's own reason within an error of aya.
pub(crate) fn system_reason(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(
                found.raw_os_error().map_or_else(|| found.kind().into(), io::Error::from_raw_os_error),
            );
        }
        next = error.source();
    }
    None
}

/// What the kernel's verifier objects to, where it is the one that refused: the end of its log.
fn objection(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(ProgramError::LoadError { verifier_log, .. }) = error.downcast_ref() {
            let log = verifier_log.to_string();
            // The last line but those of its statistics; nothing at all when a capability is missing.
            let statistics = ["processed ", "stack depth ", "verification time "];
            let objects =
                |line: &&str| !line.trim().is_empty() && !statistics.iter().any(|s| line.starts_with(s));
            return log.lines().rev().find(objects).map(str::to_owned);
        }
        next = error.source();
    }
    None
}

/// An error of aya while doing `what`, in the engine's terms. `capabilities` are those that it takes.
pub(crate) fn explain(what: &str, error: &(dyn std::error::Error + 'static), capabilities: &str) -> Error {
    let Some(reason) = system_reason(error) else {
        return Error::environment(format!("{what}: {error}"));
    };
    let refused = matches!(reason.raw_os_error(), Some(libc::EPERM | libc::EACCES));
    if let Some(objection) = objection(error) {
        return Error::environment(format!("{what}: this kernel's verifier objects: {objection}"))
            .because(reason);
    }
    let said = Error::environment(what).because(reason);
    if refused {
        said.fix(format!("run it as root, or give the program {capabilities}: {SETCAP}"))
    } else {
        said
    }
}

/// The map `name` of the loaded object, as the type that aya has for its kind.
pub(crate) fn map<'a, M>(ebpf: &'a aya::Ebpf, name: &str) -> Result<M>
where
    M: TryFrom<&'a aya::maps::Map, Error = aya::maps::MapError>,
{
    let map = ebpf.map(name).ok_or_else(|| Error::failed(format!("eBPF map {name} is not in the object")))?;
    M::try_from(map).map_err(|error| Error::failed(format!("eBPF map {name}: {error}")))
}

/// What aya borrows a map by.
pub(crate) type Borrowed<'a> = &'a MapData;
