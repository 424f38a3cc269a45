//! What AF_XDP offers through a socket's descriptor and xsk-rs does not: mapping the rings, reading options and statistics, waking the
//! kernel. See Documentation/networking/af_xdp.rst and include/uapi/linux/if_xdp.h.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::queue::ring::Ring;

/// `XDP_MAX_TX_SKB_BUDGET` (Linux 6.17), not in libc yet.
const MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// get_mempolicy(2): the node that an address lies on. Not in libc.
const MPOL_F_NODE: libc::c_ulong = 1 << 0;
const MPOL_F_ADDR: libc::c_ulong = 1 << 1;

/// How long one system call may poll a driver, µs. The calls here do not wait, so that each polls once whatever it says; 0 is off.
const BUSY_POLL_US: libc::c_int = 20;

/// One of the four rings of an AF_XDP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Received packets.
    Rx,
    /// Packets to be sent.
    Tx,
    /// Frames for the kernel to receive into.
    Fill,
    /// Frames whose packets were sent.
    Completion,
}

struct Mapping {
    base: NonNull<libc::c_void>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; what is in it is accessed through `Ring` only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of a mapping that only this value knows.
        unsafe { libc::munmap(self.base.as_ptr(), self.len) };
    }
}

/// Maps a ring of the AF_XDP socket `socket` a second time, beside the mapping that the library made.
///
/// # Safety
/// `T` must be what the kernel puts into that ring (`struct xdp_desc` for RX and TX, `u64` for the others), `size` the number of slots that the ring was made with, and
/// nobody else in this process may move the program's end of it.
///
/// # Errors
/// Those of getsockopt(2) and mmap(2).
pub unsafe fn map_ring<T>(socket: BorrowedFd<'_>, which: Which, size: u32) -> io::Result<Ring<T>> {
    // SAFETY: the structure is plain integers, and this is the one that the option fills.
    let offsets: libc::xdp_mmap_offsets = unsafe { read_option(socket, libc::XDP_MMAP_OFFSETS)? };
    let (at, page) = match which {
        Which::Rx => (offsets.rx, libc::XDP_PGOFF_RX_RING),
        Which::Tx => (offsets.tx, libc::XDP_PGOFF_TX_RING),
        Which::Fill => (offsets.fr, libc::XDP_UMEM_PGOFF_FILL_RING.cast_signed()),
        Which::Completion => (offsets.cr, libc::XDP_UMEM_PGOFF_COMPLETION_RING.cast_signed()),
    };
    // The offsets are less than a page.
    let len = at.desc as usize + size as usize * mem::size_of::<T>();
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            socket.as_raw_fd(),
            page,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let base = NonNull::new(base).ok_or(io::ErrorKind::InvalidData)?;
    let mapping = Arc::new(Mapping { base, len });
    // SAFETY: the kernel's offsets lie within the mapping, aligned for what is there; the words are atomic on both sides; type, size
    // and the single end are promised by the caller.
    unsafe {
        let word = |offset: u64| base.byte_add(offset as usize).cast::<AtomicU32>();
        let slots = base.byte_add(at.desc as usize).cast::<T>();
        Ok(Ring::new(word(at.producer), word(at.consumer), word(at.flags), slots, size, mapping))
    }
}

/// Whether the socket was bound in zero-copy mode (`XDP_OPTIONS`).
///
/// # Errors
/// Those of getsockopt(2).
pub fn is_zero_copy(socket: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: the structure is one integer, and this is the one that the option fills.
    let options: libc::xdp_options = unsafe { read_option(socket, libc::XDP_OPTIONS)? };
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// What the socket dropped (`XDP_STATISTICS`).
///
/// # Errors
/// Those of getsockopt(2).
pub fn statistics(socket: BorrowedFd<'_>) -> io::Result<libc::xdp_statistics> {
    // SAFETY: the structure is plain integers, and this is the one that the option fills.
    unsafe { read_option(socket, libc::XDP_STATISTICS) }
}

/// Reads an option of level `SOL_XDP`; what an older kernel leaves out stays 0.
///
/// # Safety
/// `T` must be valid for every bit pattern, zeros too.
unsafe fn read_option<T>(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<T> {
    // SAFETY: the caller's promise.
    unsafe { read_option_of(socket, libc::SOL_XDP, option) }
}

/// As [`read_option`], of any level.
///
/// # Safety
/// As there.
unsafe fn read_option_of<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    // The kernel's structures are some tens of bytes.
    let mut len = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: value has room for `len` bytes.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &mut len) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed and then filled, and the caller says that any bits will do.
    Ok(unsafe { value.assume_init() })
}

/// Lets one [`wake_tx`] send up to `packets` in copy mode, instead of 32.
///
/// # Errors
/// ENOPROTOOPT before Linux 6.17; EACCES when it is less than 32 or more than the TX ring holds.
pub fn set_tx_budget(socket: BorrowedFd<'_>, packets: u32) -> io::Result<()> {
    set_integer(socket, libc::SOL_XDP, MAX_TX_SKB_BUDGET, packets.cast_signed())
}

/// Has the socket's system calls run the driver's receive and transmit work (NAPI), `budget` packets at a time, instead of its
/// interrupts. See Documentation/networking/napi.rst.
///
/// # Errors
/// ENOPROTOOPT before Linux 5.11 or without CONFIG_NET_RX_BUSY_POLL; EPERM without CAP_NET_ADMIN.
pub fn set_busy_poll(socket: BorrowedFd<'_>, budget: u16) -> io::Result<()> {
    set_integer(socket, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, 1)?;
    set_integer(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, BUSY_POLL_US)?;
    set_integer(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, i32::from(budget))
}

/// Whether the socket polls its driver, as the kernel has it.
///
/// # Errors
/// Those of getsockopt(2).
pub fn is_busy_polling(socket: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: both options are an integer.
    let read = |option| unsafe { read_option_of::<libc::c_int>(socket, libc::SOL_SOCKET, option) };
    Ok(read(libc::SO_PREFER_BUSY_POLL)? != 0 && read(libc::SO_BUSY_POLL)? > 0)
}

fn set_integer(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the options that are set here take an integer of four bytes.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_ref(&value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The NUMA node that the page at `address` lies on; `None` when it was never touched or the kernel has no nodes.
pub fn memory_node(address: usize) -> Option<u32> {
    let mut node: libc::c_int = -1;
    // SAFETY: the address is only looked up in this process's tables; node has room for the answer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut node,
            ptr::null_mut::<libc::c_ulong>(),
            0 as libc::c_ulong,
            address,
            MPOL_F_NODE | MPOL_F_ADDR,
        )
    };
    if result == 0 { u32::try_from(node).ok() } else { None }
}

/// Has the kernel look at the TX ring. In copy mode it sends from it before this returns.
///
/// # Errors
/// EAGAIN when it stopped before the ring was empty, EBUSY when the driver is busy or (copy mode) dropped a packet, ENOBUFS when the completion ring
/// or memory is full, ENETDOWN and ENXIO when the interface is down or gone.
pub fn wake_tx(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: nothing is passed but the descriptor.
    let result =
        unsafe { libc::sendto(socket.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel look at the fill ring, and at whether its interface is still there.
///
/// # Errors
/// ENETDOWN and ENXIO when the interface is down or gone; what the driver says.
pub fn wake_rx(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: nothing is passed but the descriptor.
    let result = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
