//! Where the kernel drops packets, and why.
//!
//! [`watch`] counts them with eBPF programs on the kernel's own tracepoints, by network namespace, interface and reason.

pub mod btf;
pub(crate) mod maps;
pub(crate) mod object;
mod place;
pub mod watch;

pub use watch::{DropCount, Watch, current_netns_inode, difference};
