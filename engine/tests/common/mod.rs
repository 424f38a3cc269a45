//! What tests share.

/// Returns from the test, loudly, when it is not run by root; panics instead when WIRERATE_REQUIRE_ROOT is set,
/// so that CI cannot skip it.
macro_rules! require_root {
    () => {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("WIRERATE_REQUIRE_ROOT").is_none(),
                "this test needs root, and WIRERATE_REQUIRE_ROOT forbids to skip it"
            );
            eprintln!("SKIPPED: {} needs root", std::thread::current().name().unwrap_or("this test"));
            return;
        }
    };
}
pub(crate) use require_root;

/// Gives up root for the calling thread only.
#[allow(dead_code, reason = "not every test file needs it")]
#[expect(unsafe_code, reason = "nix changes all threads, as POSIX wants it; this changes one")]
pub(crate) fn become_nobody() {
    const NOBODY: libc::uid_t = 65_534;
    // SAFETY: setresuid takes three numbers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
