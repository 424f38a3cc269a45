//! XDP programs that are bound to a device: they may ask its driver what the NIC says of a packet, and aya does not load them (bpf(2), linux/bpf.h).

use std::ffi::CStr;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::{
    BPF_F_XDP_DEV_BOUND_ONLY, BPF_F_XDP_HAS_FRAGS, bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn,
    bpf_prog_type,
};

/// XDP_FLAGS_DRV_MODE of linux/if_link.h.
const NATIVE: u32 = 1 << 2;

/// Bytes of the verifier's log.
const LOG: usize = 1 << 18;

/// Why a program was not loaded.
#[derive(Debug)]
pub struct Refused {
    /// The kernel's answer.
    pub source: io::Error,
    /// The verifier's log; empty where it is not the one that refused.
    pub log: String,
}

/// Loads `instructions` as a program called `name` that runs only on the interface with the index `interface`, of the calling thread's network namespace. It
/// takes packets of several buffers where the kernel allows that to such a program.
///
/// # Errors
/// The kernel's own: EPERM; EINVAL where it knows no such programs or functions; EOPNOTSUPP where the driver does not take them.
pub fn load_bound(
    name: &CStr,
    instructions: &[bpf_insn],
    license: &CStr,
    interface: u32,
) -> Result<OwnedFd, Refused> {
    let try_with = |flags, log: &mut [u8]| {
        // SAFETY: integers and arrays of integers, for which all zeros is a value.
        let mut attr: bpf_attr = unsafe { zeroed() };
        // SAFETY: this view of the attributes is all integers, and was zeroed.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
        load.expected_attach_type = bpf_attach_type::BPF_XDP as u32;
        load.insns = instructions.as_ptr() as u64;
        load.insn_cnt = instructions.len() as u32;
        load.license = license.as_ptr() as u64;
        load.prog_flags = flags;
        load.prog_ifindex = interface;
        for (to, from) in load.prog_name.iter_mut().zip(name.to_bytes().iter().take(15)) {
            *to = from.cast_signed();
        }
        if !log.is_empty() {
            (load.log_level, load.log_size, load.log_buf) = (1, log.len() as u32, log.as_mut_ptr() as u64);
        }
        // SAFETY: the pointers of the attributes are to borrowed slices and strings, with their true lengths.
        unsafe { call(bpf_cmd::BPF_PROG_LOAD, &mut attr) }
    };
    let flags = BPF_F_XDP_DEV_BOUND_ONLY;
    if let Ok(program) = try_with(flags | BPF_F_XDP_HAS_FRAGS, &mut []) {
        return Ok(program);
    }
    let mut log = vec![0; LOG];
    try_with(flags, &mut log).map_err(|source| {
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(LOG);
        Refused { source, log: String::from_utf8_lossy(&log[..end]).into_owned() }
    })
}

/// Attaches `program` to the interface with the index `interface`, in the driver, for as long as the descriptor returned is open.
///
/// # Errors
/// The kernel's own: EBUSY where there is another program; EOPNOTSUPP.
pub fn link_native(program: BorrowedFd<'_>, interface: u32) -> io::Result<OwnedFd> {
    // SAFETY: as above.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    attr.link_create.__bindgen_anon_2.target_ifindex = interface;
    attr.link_create.attach_type = bpf_attach_type::BPF_XDP as u32;
    attr.link_create.flags = NATIVE;
    // SAFETY: no pointers.
    unsafe { call(bpf_cmd::BPF_LINK_CREATE, &mut attr) }
}

/// The system call, for a command that gives a descriptor.
///
/// # Safety
/// What the attributes point to is live and as long as they say.
unsafe fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise; the attributes are borrowed through the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, std::ptr::from_mut(attr), size_of::<bpf_attr>())
    };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made it, and nobody else knows of it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
