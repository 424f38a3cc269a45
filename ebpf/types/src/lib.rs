//! Plain data shared by the eBPF programs and the engine: map keys and values, all `repr(C)`
//! without padding, so that both sides read the same bytes.
#![no_std]
