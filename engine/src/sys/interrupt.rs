//! Ending a system call that another thread is in.

use std::io;
use std::mem;
use std::ptr;

/// The signal: ignored by default, so that one that comes late harms nobody.
const SIGNAL: libc::c_int = libc::SIGURG;

/// A thread whose system calls can be interrupted.
#[derive(Debug, Clone, Copy)]
pub struct Interruptible {
    thread: libc::pid_t,
}

extern "C" fn nothing(_: libc::c_int) {}

impl Interruptible {
    /// The calling thread. From now on SIGURG does nothing in this process, which is not the same as being ignored: system calls that give up for a
    /// signal do, and all others are restarted.
    ///
    /// # Errors
    /// Those of sigaction(2).
    pub fn current() -> io::Result<Self> {
        // SAFETY: zeros are a valid sigaction and an empty set; the handler touches nothing; pointers are live or null.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            let mut set: libc::sigset_t = mem::zeroed();
            libc::sigaddset(&raw mut set, SIGNAL);
            if libc::sigaction(SIGNAL, &raw const action, ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            match libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) {
                0 => Ok(Self { thread: libc::gettid() }),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    /// Interrupts the call that the thread is in; nothing happens when it is in none or has ended.
    pub fn interrupt(self) {
        // SAFETY: numbers only; a thread that is gone gives ESRCH.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.thread, SIGNAL) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_thread_in_a_system_call_comes_back() {
        let (tell, told) = mpsc::channel();
        let waiter = std::thread::spawn(move || {
            tell.send(Interruptible::current().unwrap()).unwrap();
            // SAFETY: no descriptors; waits for ever. poll(2) is never restarted (signal(7)).
            let answer = unsafe { libc::poll(ptr::null_mut(), 0, -1) };
            (answer, io::Error::last_os_error().raw_os_error())
        });
        let thread = told.recv().unwrap();
        while !waiter.is_finished() {
            thread.interrupt();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(waiter.join().unwrap(), (-1, Some(libc::EINTR)));
        thread.interrupt();
    }
}
