//! The programs that run in the kernel. `scripts/ebpf` builds them into the object that the engine embeds.
//!
//! [`steer`] hands selected packets to AF_XDP sockets; [`sink_xdp`] and [`sink_tc`] count them and drop them; [`generate`] makes packets; [`replicate`] copies those of groups to their members; [`drops`] and
//! [`xdp_drops`] count what the kernel threw away;
//! [`datagram`] tells whose it was.
//! Nothing here may panic: a panic leaves an undefined symbol, and the build refuses the object.
#![no_std]

mod datagram;
mod drops;
mod frame;
mod generate;
mod packet;
mod probe;
mod replicate;
mod sink;
mod sink_tc;
mod sink_xdp;
mod steer;
mod xdp_drops;

/// Helpers that read kernel memory are for GPL-compatible programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// `core` wants one; no program reaches it, or the object would not link.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
