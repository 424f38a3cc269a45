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
