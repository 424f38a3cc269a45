//! `generate`: makes packets out of nothing. The kernel runs it over and over on buffers of its own (`BPF_PROG_TEST_RUN` with live
//! frames, Documentation/bpf/bpf_prog_run.rst); each run sends one packet, or drops the buffer because none is due.
//!
//! Buffers come back from the interface as their last user left them, which may be a forwarding host in the same kernel. So every
//! run writes all headers anew; only the payload behind the probe header stays, as it was when the buffer was made.
//!
//! The maps belong to one thread: the one that runs the program. The tracepoints tell its packets from all others by the task,
//! and by the interface that test runs come from.

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP};
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_ktime_get_tai_ns, bpf_redirect};
use aya_ebpf::macros::{map, raw_tracepoint, xdp};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::{RawTracePointContext, XdpContext};
use wirerate_ebpf_types::generate::{LONGEST, Progress, Taken, Template};

use crate::drops::read;
use crate::xdp_drops::errno;

/// One for each flow; the loader sets the size.
#[map]
static GENERATE_TEMPLATES: Array<Template> = Array::with_max_entries(1, 0);

#[map]
static GENERATE_PROGRESS: Array<Progress> = Array::with_max_entries(1, 0);

#[map]
static GENERATE_TAKEN: Array<Taken> = Array::with_max_entries(1, 0);

/// Length of the headers before the probe header; one of those that [`generate`] knows.
#[unsafe(no_mangle)]
static GENERATE_HEADERS: Global<u32> = Global::new(42);

/// Entries of [`GENERATE_TEMPLATES`].
#[unsafe(no_mangle)]
static GENERATE_FLOWS: Global<u32> = Global::new(1);

/// The interface that packets leave by.
#[unsafe(no_mangle)]
static GENERATE_INTERFACE: Global<u32> = Global::new(0);

/// 1 when packets have a pace.
#[unsafe(no_mangle)]
static GENERATE_PACED: Global<u32> = Global::new(0);

/// Where a `net_device` keeps its index, in bytes from its start.
#[unsafe(no_mangle)]
static GENERATE_DEV_IFINDEX: Global<u32> = Global::new(0);

/// The probe header (`packet::probe` of the engine).
const PROBE: usize = 18;

/// Packets without a pace that share a reading of the clock. Batches are whole multiples of it, and so no pause is between two such packets.
const STAMPED_TOGETHER: u64 = 8;

/// Index of the loopback interface, in every namespace: what test runs come from.
const LOOPBACK: u32 = 1;

#[xdp]
pub fn generate(ctx: XdpContext) -> u32 {
    let Some(progress) = GENERATE_PROGRESS.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: the element is there as long as the program is, and one thread runs it; others only read.
    let progress = unsafe { &mut *progress };
    if progress.ended != 0 {
        return XDP_DROP;
    }
    let paced = GENERATE_PACED.load() != 0;
    // The clock takes a quarter of the time that a packet does. Without a pace those that are made one right after the other share a reading: they leave
    // together, too, at the end of the batch.
    let now = if !paced && progress.issued % STAMPED_TOGETHER != 0 {
        progress.last_ns
    } else {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_ktime_get_tai_ns() }
    };
    if progress.first_ns == 0 {
        begin(progress, now);
    }
    if now >= progress.end_ns || progress.issued >= progress.limit {
        progress.ended = 1;
        return XDP_DROP;
    }
    if paced && (now < progress.due_ns || now < progress.earliest_ns) {
        return XDP_DROP;
    }
    let Some(template) = GENERATE_TEMPLATES.get(progress.flow as u32) else { return XDP_ABORTED };
    // The verifier keeps the one that the loader asked for.
    let written = match GENERATE_HEADERS.load() {
        42 => write::<42>(&ctx, template, progress.sequence, now),
        46 => write::<46>(&ctx, template, progress.sequence, now),
        62 => write::<62>(&ctx, template, progress.sequence, now),
        66 => write::<66>(&ctx, template, progress.sequence, now),
        _ => None,
    };
    if written.is_none() {
        return XDP_ABORTED;
    }
    if paced {
        let fraction = progress.due_fraction + progress.interval_fraction;
        progress.due_ns += progress.interval_ns + (fraction >> 32);
        progress.due_fraction = fraction & 0xffff_ffff;
        progress.earliest_ns = now + progress.interval_ns / 2;
    }
    progress.issued += 1;
    progress.last_ns = now;
    progress.flow += 1;
    if progress.flow == u64::from(GENERATE_FLOWS.load()) {
        progress.flow = 0;
        progress.sequence += 1;
    }
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_redirect(GENERATE_INTERFACE.load(), 0) as u32 }
}

/// The first run: time counts from here.
#[inline(always)]
fn begin(progress: &mut Progress, now: u64) {
    progress.first_ns = now;
    progress.due_ns = now;
    progress.end_ns = now.saturating_add(progress.duration_ns);
    // SAFETY: the helper has no preconditions.
    progress.task = unsafe { bpf_get_current_task() };
}

/// Writes a packet with `H` bytes of headers, 2 or 6 more than whole words, on a little-endian machine; None when the buffer is too short.
#[inline(always)]
fn write<const H: usize>(ctx: &XdpContext, template: &Template, sequence: u64, now: u64) -> Option<()> {
    let start = ctx.data();
    if start + H + PROBE > ctx.data_end() {
        return None;
    }
    // The 40 bits of the sequence number, then the 40 bits of the time: eight bytes and two.
    let numbers = (sequence << 24) | ((now >> 16) & 0xff_ffff);
    let rest = now as u16;
    let left = template.left - (numbers >> 32) - (numbers & 0xffff_ffff) - u64::from(rest);
    // As the 18 bytes follow one another on the wire.
    let first = ((u64::from(fold(left)) << 48) | template.identity).to_be();
    let (numbers, rest) = (numbers.to_be(), u64::from(rest.to_be()));
    // The headers do not end with a word: the probe header begins within their last one.
    let words = H / 8;
    let tail = template.headers[words];
    let packet = start as *mut u64;
    // SAFETY: H and 18 bytes from the start end before the data does, says the check above, and the template has as many. The data begins 256 bytes
    // behind a structure of whole words at the start of a page, so that words are aligned.
    unsafe {
        packet.copy_from_nonoverlapping(template.headers.as_ptr(), words);
        if H % 8 == 2 {
            packet.add(words).write(tail | first << 16);
            packet.add(words + 1).write(first >> 48 | numbers << 16);
            packet.add(words + 2).cast::<u32>().write((numbers >> 48 | rest << 16) as u32);
        } else {
            packet.add(words).write(tail | first << 48);
            packet.add(words + 1).write(first >> 16 | numbers << 48);
            packet.add(words + 2).write(numbers >> 16 | rest << 48);
        }
    }
    Some(())
}

/// Folds a sum of less than 2^38 to 16 bits, keeping its value in ones' complement.
#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// `void xdp_devmap_xmit(from_dev, to_dev, int sent, int drops, int err)`: the interface was handed packets.
#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
pub fn generate_taken(ctx: RawTracePointContext) -> i32 {
    let Some(taken) = mine(ctx.arg(0)) else { return 0 };
    let (sent, drops): (i32, i32) = (ctx.arg(2), ctx.arg(3));
    let sent = sent.max(0) as u64;
    taken.packets += sent;
    if drops > 0 {
        taken.refused += drops as u64;
        taken.errno = u64::from(errno(ctx.arg(4)));
    }
    let index = (sent as usize).min(LONGEST);
    if let Some(count) = taken.hand_overs.get_mut(index) {
        *count += 1;
    }
    0
}

/// `void xdp_redirect_err(dev, xdp, const void *tgt, int err, enum bpf_map_type map_type, u32 map_id, u32 index)`: a packet could not be
/// handed to the interface.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
pub fn generate_refused(ctx: RawTracePointContext) -> i32 {
    if let Some(taken) = mine(ctx.arg(0)) {
        taken.refused += 1;
        taken.errno = u64::from(errno(ctx.arg(3)));
    }
    0
}

/// Where to count what came from `dev`, when it is this generator's: other XDP programs may run on the same thread's back, in
/// interrupts, but none of them for packets that the loopback interface received.
#[inline(always)]
fn mine(dev: u64) -> Option<&'static mut Taken> {
    let progress = GENERATE_PROGRESS.get(0)?;
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    if progress.task != task {
        return None;
    }
    let ifindex: u32 = read(dev, GENERATE_DEV_IFINDEX.load());
    if ifindex != LOOPBACK {
        return None;
    }
    // SAFETY: the element is there as long as the program is; only this task writes it.
    GENERATE_TAKEN.get_ptr_mut(0).map(|taken| unsafe { &mut *taken })
}
