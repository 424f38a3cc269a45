//! Network namespaces without names: each lives as long as something holds it open, so that nothing is left
//! behind when the process ends, however it ends. See network_namespaces(7) and user_namespaces(7).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, held open.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// Makes a new, empty namespace with its loopback interface down.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN in the current user namespace.
    pub fn new() -> io::Result<Self> {
        // Only the thread that unshares moves; it ends right away, the file keeps the namespace.
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                    Self::current()
                })
                .join()
                .expect("the closure does not panic")
        })
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn current() -> io::Result<Self> {
        Ok(Self { file: File::open("/proc/thread-self/ns/net")? })
    }

    /// The namespace that the file at `path` stands for, as those in /proc/PID/ns and /run/netns do.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }

    /// Another handle to it.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()? })
    }

    /// Its descriptor.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// The namespace's inode number, by which the kernel and `ip netns` tell namespaces apart.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn inode(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    /// Moves the calling thread into the namespace; threads that it starts afterwards begin there.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN over the namespace.
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.file, CloneFlags::CLONE_NEWNET)?)
    }

    /// Runs `work` on a thread inside the namespace and waits for it.
    ///
    /// # Panics
    /// When the namespace cannot be entered, or as `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter().expect("who made the namespace may enter it");
                work()
            });
            match inside.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A command that will run inside the namespace, with a /sys of its own where that is allowed, and be killed when
    /// the calling thread ends.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let fd = self.file.as_raw_fd();
        let mut command = Command::new(program);
        // SAFETY: between fork and exec only async-signal-safe system calls are made: prctl, setns, unshare, mount;
        // paths are short literals, for which nix does not allocate. Should the namespace have been closed before
        // the spawn, setns fails and with it the spawn.
        unsafe {
            command.pre_exec(move || enter_as_child(fd));
        }
        command
    }
}

/// What a child does before exec to live in the namespace behind `fd`.
fn enter_as_child(fd: RawFd) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: setns takes a descriptor and flags; a descriptor that is no namespace gives EINVAL.
    if unsafe { libc::setns(fd, libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // /sys/class/net shows the namespace that the mount was made in. A container may refuse; then tools that
    // look there see the outer one, and nothing else is wrong.
    if unshare(CloneFlags::CLONE_NEWNS).is_ok() {
        let _ = mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>);
        let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>);
    }
    Ok(())
}

/// Moves this process into a user namespace of its own in which it is root, so that it may make network
/// namespaces without any privilege outside. The process must have a single thread.
///
/// # Errors
/// EPERM or ENOSPC where unprivileged user namespaces are switched off; EINVAL with several threads.
pub fn become_root_in_user_namespace() -> io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}
