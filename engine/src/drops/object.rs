//! The eBPF programs, built by `scripts/ebpf` from `ebpf/programs` and embedded here.
#![forbid(unsafe_code)]

/// The object, aligned as its parser wants it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/object/wirerate.bpf.o");
