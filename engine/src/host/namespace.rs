//! What a network namespace is known by.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::sys::netns::Netns;

/// Where `ip netns` keeps namespaces (ip-netns(8)).
const NAMED: &str = "/run/netns";

/// The name that `ip netns` gave the namespace with this inode, or a process that lives in it: `nginx, process 123`. None for a namespace that
/// something only holds open, and where this process may not look.
pub fn name_of(inode: u64) -> Option<String> {
    named(Path::new(NAMED), inode).or_else(|| inhabited(Path::new("/proc"), inode))
}

/// The namespace with this name of `ip netns`, or else that of the process with this number.
///
/// # Errors
/// Usage when there is none; Environment when this process may not look.
pub fn open(name: &str) -> Result<Netns> {
    let is_number = name.bytes().all(|b| b.is_ascii_digit());
    let is_file = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    let by_name = Path::new(NAMED).join(name);
    let path = match (is_file, is_number && !by_name.exists()) {
        (false, _) => return Err(Error::usage(format!("{name:?}: no name of a network namespace"))),
        (true, true) => Path::new("/proc").join(name).join("ns/net"),
        (true, false) => by_name,
    };
    Netns::open(&path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            return Error::environment(format!("{name}: its network namespace cannot be opened"))
                .because(error)
                .fix("run as root");
        }
        Error::usage(format!("{name}: no such network namespace"))
            .because(error)
            .fix("name one that ip netns list shows, or give the number of a process that lives in it")
    })
}

fn named(directory: &Path, inode: u64) -> Option<String> {
    let mut files = fs::read_dir(directory).ok()?.flatten();
    let file = files.find(|file| fs::metadata(file.path()).is_ok_and(|data| data.ino() == inode))?;
    file.file_name().into_string().ok()
}

fn inhabited(proc: &Path, inode: u64) -> Option<String> {
    let process = |name: &str| name.parse::<u32>().ok();
    let numbers = fs::read_dir(proc).ok()?.flatten().filter_map(|file| process(file.file_name().to_str()?));
    let lives_there =
        |&id: &u32| fs::metadata(proc.join(format!("{id}/ns/net"))).is_ok_and(|data| data.ino() == inode);
    let id = numbers.filter(lives_there).min()?;
    let name = fs::read_to_string(proc.join(format!("{id}/comm"))).ok()?;
    Some(format!("{}, process {id}", name.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_names_its_namespace() {
        let inode = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let name = name_of(inode).unwrap();
        assert!(name.contains(", process ") || Path::new(NAMED).join(&name).exists(), "{name}");
        assert_eq!(name_of(u64::MAX), None);
    }

    #[test]
    fn one_is_opened_by_a_process_and_by_nothing_that_is_none() {
        let own = Netns::current().unwrap().inode().unwrap();
        assert_eq!(open(&std::process::id().to_string()).unwrap().inode().unwrap(), own);
        for name in ["", ".", "../net", "wirerate-absent", "4294967295"] {
            assert!(open(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_file_names_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("blue");
        fs::write(&file, "").unwrap();
        let inode = fs::metadata(&file).unwrap().ino();
        assert_eq!(named(directory.path(), inode).as_deref(), Some("blue"));
        assert_eq!(named(directory.path(), inode + 1), None);
        assert_eq!(named(&directory.path().join("none"), inode), None);
    }
}
