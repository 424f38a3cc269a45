//! Where the kernel drops packets, and why.
//!
//! [`watch`] counts them with eBPF programs on the kernel's own tracepoints, by network namespace, interface and reason;
//! datagrams to destinations that it was started for are told apart.

pub mod btf;
pub(crate) mod maps;
pub(crate) mod object;
pub(crate) mod place;
mod symbols;
pub mod watch;
pub(crate) mod witness;

pub use watch::{Content, DropCount, Origin, Watch, Way, current_netns_inode, difference};
