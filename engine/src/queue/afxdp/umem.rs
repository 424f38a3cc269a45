//! The memory that frames lie in, and who may touch which of them.
#![expect(
    unsafe_code,
    reason = "frames are memory shared with the kernel; the tokens here say when it is ours"
)]

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::path::Path;
use std::ptr::{NonNull, with_exposed_provenance_mut};
use std::sync::Arc;

use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::umem::Umem;

use crate::error::{Error, Result};
use crate::host::privilege::SETCAP;
use crate::host::tuning;
use crate::queue::ring::{Desc, MORE};
use crate::queue::spec::HugePages;
use crate::sys::xsk;

/// Smallest chunk that the kernel accepts, bytes.
pub const SMALL_CHUNK: u32 = 2048;
/// Largest chunk without huge pages, bytes: one page.
pub const LARGE_CHUNK: u32 = 4096;
/// Huge pages above this size are not worth one for each queue, bytes.
const LARGEST_HUGE_PAGE: u64 = 32 << 20;
/// What the kernel keeps free before a received frame, bytes (`XDP_PACKET_HEADROOM`).
pub const RX_HEADROOM: u32 = 256;

/// Memory divided into chunks of one size; kept in place while a copy of this lives.
#[derive(Clone)]
pub struct Region {
    base: NonNull<u8>,
    chunk: u32,
    chunks: u32,
    _memory: Arc<dyn Send + Sync>,
}

// SAFETY: the memory is bound to no thread, and is only accessed by those who show that a part is theirs.
unsafe impl Send for Region {}

impl Region {
    /// `chunks` chunks of `chunk` bytes in plain memory, zeroed.
    pub fn in_memory(chunk: u32, chunks: u32) -> Self {
        let mut memory = vec![0u8; chunk as usize * chunks as usize].into_boxed_slice();
        let base = NonNull::from(&mut *memory).cast::<u8>();
        // A raw pointer does not assert that it is the only one when it is moved, as a box would.
        let memory = Plain(Box::into_raw(memory));
        Self { base, chunk, chunks, _memory: Arc::new(memory) }
    }

    /// The bytes at `address`.
    ///
    /// # Safety
    /// Nobody may access them otherwise for as long as the slice is used.
    ///
    /// # Panics
    /// When they are not within the region.
    #[expect(clippy::mut_from_ref, reason = "the contract is about the bytes, not about this handle to them")]
    pub unsafe fn bytes(&self, address: u64, len: u32) -> &mut [u8] {
        let size = u64::from(self.chunk) * u64::from(self.chunks);
        let end = address.checked_add(u64::from(len));
        assert!(end.is_some_and(|end| end <= size), "{len} bytes at {address} are not in the UMEM");
        // SAFETY: within the region, which is alive; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(address as usize), len as usize) }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("chunk", &self.chunk)
            .field("chunks", &self.chunks)
            .finish_non_exhaustive()
    }
}

struct Plain(*mut [u8]);

// SAFETY: see `Region`.
unsafe impl Send for Plain {}
// SAFETY: see `Region`.
unsafe impl Sync for Plain {}

impl Drop for Plain {
    fn drop(&mut self) {
        // SAFETY: it came from Box::into_raw and is freed here only.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// A UMEM, and all of its frames.
#[derive(Debug)]
pub struct Memory {
    /// As the library has it.
    pub umem: Umem,
    /// Who has which frame.
    pub frames: Frames,
    /// A token for each frame.
    pub free: Vec<Frame>,
    /// It lies in huge pages.
    pub huge_pages: bool,
    /// The NUMA node of its first page, where the kernel has nodes.
    pub node: Option<u32>,
}

/// Makes a UMEM of `count` frames of `span` chunks each. Its pages are touched here for the first time (MAP_POPULATE), so they lie on
/// the NUMA node of the calling thread. `fill` and `completion` are the slots of its rings.
///
/// # Errors
/// `Environment`: without CAP_NET_RAW, without AF_XDP in the kernel, over the limit of locked memory, or without the huge pages that
/// were asked for.
pub fn create(
    chunk: u32,
    span: u32,
    count: u32,
    fill: u32,
    completion: u32,
    huge: HugePages,
) -> Result<Memory> {
    let size = |slots: u32| QueueSize::new(slots).expect("ring sizes are powers of two");
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(chunk).expect("chunks are 2048 or 4096 bytes"))
        .fill_queue_size(size(fill))
        .comp_queue_size(size(completion))
        .build()
        .expect("chunks are larger than the headroom");
    let chunks = count * span;
    let make = |chunks: u32, huge: bool| {
        let chunks = chunks.try_into().expect("a UMEM has at least one chunk");
        Umem::new(config, chunks, huge)
    };
    let plain = || make(chunks, false).map_err(|e| cannot_create(&e));
    // A mapping of huge pages is a whole number of them long.
    let in_huge = |page: u64| (chunks * chunk).next_multiple_of(page as u32) / chunk;
    let bytes = u64::from(chunks * chunk);
    let (made, huge_pages) = match (huge, tuning::huge_pages(Path::new("/proc/meminfo"))) {
        (HugePages::On, Some(pool)) if pool.size_bytes <= LARGEST_HUGE_PAGE => {
            let made = make(in_huge(pool.size_bytes), true)
                .map_err(|e| no_huge_pages(bytes, pool.size_bytes, pool.total, &e))?;
            (made, true)
        }
        (HugePages::On, _) => {
            return Err(
                Error::environment("this machine has no huge pages of 2 MiB").fix("use --huge-pages off")
            );
        }
        (HugePages::Auto, Some(pool))
            if pool.size_bytes <= LARGEST_HUGE_PAGE && pool.free * pool.size_bytes >= bytes =>
        {
            match make(in_huge(pool.size_bytes), true) {
                Ok(made) => (made, true),
                Err(_) => (plain()?, false),
            }
        }
        _ => (plain()?, false),
    };
    let (umem, descs) = made;
    // SAFETY: nothing has been handed to the kernel yet; only the address is taken.
    let first = unsafe { umem.data(&descs[0]) }.contents().as_ptr().addr();
    // The library names single frames only. The region is a mapping, made by the kernel, and may be accessed through any pointer.
    let base = with_exposed_provenance_mut::<u8>(first - descs[0].addr());
    let base = NonNull::new(base).expect("a mapping is not at address 0");
    let region = Region { base, chunk, chunks, _memory: Arc::new(umem.clone()) };
    // SAFETY: the region was just made; the library does not touch it by itself.
    let (frames, free) = unsafe { Frames::new(region, span) };
    Ok(Memory { umem, frames, free, huge_pages, node: xsk::memory_node(base.as_ptr().addr()) })
}

fn no_huge_pages(bytes: u64, size: u64, total: u64, error: &dyn std::error::Error) -> Error {
    let cause = error.source().and_then(|s| s.downcast_ref::<std::io::Error>());
    if cause.and_then(std::io::Error::raw_os_error) != Some(libc::ENOMEM) {
        return cannot_create(error);
    }
    let more = bytes.div_ceil(size);
    Error::environment(format!(
        "no huge pages: a queue needs {more} of {} KiB, free and in one pool",
        size >> 10
    ))
    .fix(format!("sysctl -w vm.nr_hugepages={}, {more} for each queue, or --huge-pages auto", total + more))
}

fn cannot_create(error: &dyn std::error::Error) -> Error {
    let cause = error.source().and_then(|s| s.downcast_ref::<std::io::Error>());
    let code = cause.and_then(std::io::Error::raw_os_error);
    let failed = Error::environment(match cause {
        Some(cause) => format!("cannot make the memory of an AF_XDP socket (UMEM): {cause}"),
        None => format!("cannot make the memory of an AF_XDP socket (UMEM): {error}"),
    });
    match code {
        Some(libc::EPERM) => failed.fix("run as root, or with CAP_NET_RAW, or use --backend uring"),
        Some(libc::EAFNOSUPPORT) => {
            failed.fix("use --backend uring: this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)")
        }
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            failed.fix(format!("raise the limit of locked memory: ulimit -l unlimited, or: {SETCAP}"))
        }
        _ => failed,
    }
}

/// A frame that this program may write and read. There is one token for each frame: while the kernel has the frame,
/// [`Frames`] has the token, and nobody can name the frame.
#[derive(Debug)]
pub struct Frame(u32);

impl Frame {
    /// Its number, from 0.
    #[inline]
    pub fn index(&self) -> usize {
        self.0 as usize
    }
}

/// All frames of a queue: `span` consecutive chunks each, so that a frame longer than a chunk lies in one piece although it takes
/// several descriptors.
#[derive(Debug)]
pub struct Frames {
    region: Region,
    span: u32,
    /// Bytes of a chunk are a power of two, of which this is the exponent.
    chunk_shift: u32,
    /// Chunks of each frame that the kernel has.
    lent: Box<[u8]>,
}

impl Frames {
    /// Takes charge of a region; also returns a token for each frame.
    ///
    /// # Safety
    /// Nobody else may access the region, other than to play the kernel with chunks that were lent.
    ///
    /// # Panics
    /// When `span` is more than 255 or 0.
    pub unsafe fn new(region: Region, span: u32) -> (Self, Vec<Frame>) {
        assert!((1..=255).contains(&span), "frames of {span} chunks");
        assert!(region.chunk.is_power_of_two(), "chunks of {} bytes", region.chunk);
        let count = region.chunks / span;
        let frames = (0..count).map(Frame).collect();
        let chunk_shift = region.chunk.trailing_zeros();
        (Self { region, span, chunk_shift, lent: vec![0; count as usize].into() }, frames)
    }

    /// Chunks of a frame.
    pub fn span(&self) -> u32 {
        self.span
    }

    /// Bytes of a frame.
    pub fn size(&self) -> u32 {
        self.region.chunk * self.span
    }

    /// Where a frame begins.
    ///
    /// # Panics
    /// When the kernel has it: a token of other frames must not open one.
    #[inline]
    fn start(&self, frame: &Frame) -> u64 {
        let ours = self.lent.get(frame.index()).is_some_and(|lent| *lent == 0);
        assert!(ours, "frame {} is with the kernel", frame.0);
        u64::from(frame.0) * u64::from(self.size())
    }

    /// The content of a frame.
    #[inline]
    pub fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        let start = self.start(frame);
        // SAFETY: `start` found the number to be one of ours, and all frames are within the region, which is alive. The frame is not lent,
        // and both the token and this are borrowed exclusively.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.region.base.as_ptr().add(start as usize),
                self.size() as usize,
            )
        }
    }

    /// Gives the first `len` bytes of a frame to the kernel, as descriptors for `each`.
    ///
    /// # Panics
    /// When the frame is shorter.
    #[inline]
    pub fn lend(&mut self, frame: Frame, len: u32, each: impl FnMut(Desc)) {
        assert!(len <= self.size(), "{len} bytes in a frame of {}", self.size());
        self.lent[frame.index()] = pieces(self.start(&frame), len, self.region.chunk, each);
    }

    /// Takes the last `count` frames out of `free` and lends the first `len` bytes of each. Each is first given to `write` with its number,
    /// and its descriptors to `hand_over` only then.
    ///
    /// # Panics
    /// When a frame is shorter, or there are not as many.
    #[inline]
    pub fn lend_last(
        &mut self,
        free: &mut Vec<Frame>,
        count: usize,
        len: u32,
        mut write: impl FnMut(usize, &mut [u8]),
        mut hand_over: impl FnMut(Desc),
    ) {
        assert!(len <= self.size(), "{len} bytes in a frame of {}", self.size());
        let (base, size, chunk) = (self.region.base, self.size() as usize, self.region.chunk);
        let lent = &mut self.lent[..];
        let rest = free.len() - count;
        // One loop for all: `write` stands in it, and is called where there are two.
        for frame in &free[rest..] {
            let lent = lent.get_mut(frame.index()).filter(|lent| **lent == 0).expect("a frame that is ours");
            let address = frame.index() * size;
            // SAFETY: as in `bytes_mut`; the kernel learns of it by the descriptors.
            write(frame.index(), unsafe { std::slice::from_raw_parts_mut(base.as_ptr().add(address), size) });
            *lent = if len <= chunk {
                hand_over(Desc { address: address as u64, len, options: 0 });
                1
            } else {
                pieces(address as u64, len, chunk, &mut hand_over)
            };
        }
        // Their tokens are used up.
        free.truncate(rest);
    }

    /// Takes the chunk at `address` back from the kernel; the frame's token once it was the last of them. An address that was not lent
    /// is ignored.
    #[inline]
    pub fn take_back(&mut self, address: u64) -> Option<Frame> {
        let index = self.frame_of(address);
        let lent = self.lent.get_mut(index)?;
        *lent = lent.checked_sub(1)?;
        // There are fewer frames than 2³².
        (*lent == 0).then_some(Frame(index as u32))
    }

    /// Takes back all of `addresses` as [`take_back`](Self::take_back) does, into `free`, as far as it has room.
    #[inline]
    pub fn take_back_all(&mut self, addresses: impl Iterator<Item = u64>, free: &mut Vec<Frame>) {
        if self.span > 1 {
            let room = free.capacity() - free.len();
            free.extend(addresses.filter_map(|address| self.take_back(address)).take(room));
            return;
        }
        let (lent, shift) = (&mut self.lent[..], self.chunk_shift);
        for address in addresses {
            let index = (address >> shift) as usize;
            let was_lent = lent.get_mut(index).is_some_and(|lent| mem::take(lent) > 0);
            if was_lent && free.len() < free.capacity() {
                free.push(Frame(index as u32));
            }
        }
    }

    #[inline]
    fn frame_of(&self, address: u64) -> usize {
        let chunk = address >> self.chunk_shift;
        (if self.span == 1 { chunk } else { chunk / u64::from(self.span) }) as usize
    }
}

/// Gives `len` bytes at `address` to `each`, as descriptors of a chunk at most; returns how many.
#[inline]
fn pieces(mut address: u64, len: u32, chunk: u32, mut each: impl FnMut(Desc)) -> u8 {
    if len <= chunk {
        each(Desc { address, len, options: 0 });
        return 1;
    }
    let mut left = len;
    let mut chunks = 0;
    loop {
        let piece = left.min(chunk);
        left -= piece;
        chunks += 1;
        each(Desc { address, len: piece, options: if left > 0 { MORE } else { 0 } });
        if left == 0 {
            return chunks;
        }
        address += u64::from(piece);
    }
}

/// All frames of a receive queue. They are with the kernel all the time, but for the one that is being looked at; so there are no
/// tokens.
#[derive(Debug)]
pub struct Received {
    region: Region,
    /// Bytes of a chunk, a power of two.
    chunk: u32,
}

impl Received {
    /// Gives all frames, of one chunk each, to the kernel, as addresses for `each`.
    ///
    /// # Panics
    /// When they are not all there, or of several chunks.
    pub fn lend(frames: Frames, free: Vec<Frame>, each: impl FnMut(u64)) -> Self {
        assert_eq!(frames.span, 1, "what arrives lies in one chunk each");
        assert_eq!(frames.lent.len(), free.len(), "a frame is missing");
        free.iter().map(|frame| frames.start(frame)).for_each(each);
        Self { chunk: frames.size(), region: frames.region }
    }

    /// The frames, to be looked at in a loop.
    #[inline]
    pub fn look(&mut self) -> Look<'_> {
        let chunk = u64::from(self.chunk);
        Look {
            base: self.region.base,
            size: u64::from(self.region.chunks) * chunk,
            chunk,
            _frames: PhantomData,
        }
    }
}

/// [`Received`] frames; what looking at them needs stays in registers in a loop.
#[derive(Debug)]
pub struct Look<'a> {
    base: NonNull<u8>,
    size: u64,
    chunk: u64,
    _frames: PhantomData<&'a mut Received>,
}

impl<'a> Look<'a> {
    /// The bytes that the kernel wrote where `desc` says. When they have been looked at, `desc.address` goes into the fill ring: what is added to the
    /// beginning of the frame does not matter there ("UMEM Fill Ring" in Documentation/networking/af_xdp.rst). `None` for an address
    /// outside of the frames.
    #[inline]
    pub fn bytes(&self, desc: Desc) -> Option<&'a [u8]> {
        self.at(desc.address, desc.len)
    }

    /// As [`bytes`](Self::bytes), of a packet that is `len` bytes long and lies in this frame alone; `None` for any other, too. In a loop over packets of one length
    /// it is one that does not change.
    #[inline(always)]
    pub fn alone(&self, desc: Desc, len: u32) -> Option<&'a [u8]> {
        // Both in one comparison.
        let (found, wanted) = (u64::from(desc.options) << 32 | u64::from(desc.len), u64::from(len));
        if found == wanted { self.at(desc.address, len) } else { None }
    }

    #[inline(always)]
    fn at(&self, address: u64, len: u32) -> Option<&'a [u8]> {
        // The chunk is a power of two.
        let room = self.chunk.checked_sub(u64::from(len))?;
        if address >= self.size || (address & (self.chunk - 1)) > room {
            return None;
        }
        // SAFETY: within a chunk of the region, which lives as long as the borrow. The kernel has given it back, or else its address would not
        // stand in the RX ring, and nobody else can name it: it does not change before the fill ring is handed over, after the loop.
        Some(unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(address as usize), len as usize) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(chunk: u32, chunks: u32, span: u32) -> (Frames, Vec<Frame>) {
        // SAFETY: the region is new.
        unsafe { Frames::new(Region::in_memory(chunk, chunks), span) }
    }

    #[test]
    fn a_token_comes_back_with_the_last_chunk() {
        let (mut frames, mut tokens) = frames(2048, 7, 3);
        assert_eq!(tokens.len(), 2);
        let mut frame = tokens.pop().unwrap();
        assert_eq!(frames.bytes_mut(&mut frame).len(), 6144);
        let mut descs = Vec::new();
        frames.lend(frame, 5000, |d| descs.push(d));
        let d = |address, len, options| Desc { address, len, options };
        assert_eq!(descs, [d(6144, 2048, MORE), d(8192, 2048, MORE), d(10240, 904, 0)]);
        assert!(frames.take_back(6144).is_none());
        assert!(frames.take_back(8192).is_none());
        assert_eq!(frames.take_back(10240).unwrap().index(), 1);
        assert!(frames.take_back(10240).is_none(), "it is not lent any more");
        assert!(frames.take_back(0).is_none(), "it was never lent");
        assert!(frames.take_back(u64::MAX).is_none());
    }

    #[test]
    fn the_last_frames_are_written_and_lent() {
        let (mut frames, mut free) = frames(2048, 4, 1);
        let (mut written, mut descs) = (vec![], vec![]);
        let write = |index: usize, bytes: &mut [u8]| {
            written.push(index);
            bytes.fill(index as u8);
        };
        frames.lend_last(&mut free, 3, 60, write, |desc| descs.push(desc));
        assert_eq!((free.len(), written), (1, vec![1, 2, 3]));
        let d = |address| Desc { address, len: 60, options: 0 };
        assert_eq!(descs, [d(2048), d(4096), d(6144)]);
        let mut frame = frames.take_back(4096).unwrap();
        assert!(frames.bytes_mut(&mut frame).iter().all(|b| *b == 2));
        assert!(frames.bytes_mut(&mut free[0]).iter().all(|b| *b == 0));
    }

    #[test]
    #[should_panic(expected = "ours")]
    fn a_lent_frame_is_not_lent_again() {
        let (mut ours, mut free) = frames(2048, 1, 1);
        let (_, mut others) = frames(2048, 1, 1);
        ours.lend_last(&mut free, 1, 60, |_, _| (), |_| ());
        ours.lend_last(&mut others, 1, 60, |_, _| (), |_| ());
    }

    #[test]
    fn received_bytes_lie_within_a_frame() {
        let (frames, tokens) = frames(LARGE_CHUNK, 2, 1);
        let region = frames.region.clone();
        let mut addresses = Vec::new();
        let mut received = Received::lend(frames, tokens, |address| addresses.push(address));
        assert_eq!(addresses, [0, 4096]);
        let desc = |address, len| Desc { address, len, options: 0 };
        // SAFETY: nobody looks at the frames.
        unsafe { region.bytes(4096 + 256, 60) }.fill(7);
        assert_eq!(
            received.look().bytes(desc(4096 + 255, 62)).unwrap().iter().map(|b| u32::from(*b)).sum::<u32>(),
            420
        );
        assert_eq!(received.look().alone(desc(4096 + 256, 60), 60), Some(&[7; 60][..]));
        assert_eq!(received.look().alone(desc(4096 + 256, 60), 61), None);
        assert_eq!(received.look().alone(Desc { options: MORE, ..desc(4096 + 256, 60) }, 60), None);
        assert!(received.look().bytes(desc(4096 + 256, 3840)).is_some());
        for (address, len) in
            [(4352, 3841), (4096, u32::MAX), (8191, 2), (8192, 1), (1 << 32, 1), (u64::MAX, u32::MAX)]
        {
            assert!(received.look().bytes(desc(address, len)).is_none(), "{len} bytes at {address}");
        }
    }

    #[test]
    #[should_panic(expected = "missing")]
    fn frames_are_received_into_when_all_are_there() {
        let (frames, mut tokens) = frames(LARGE_CHUNK, 2, 1);
        tokens.pop();
        Received::lend(frames, tokens, |_| ());
    }

    #[test]
    #[should_panic(expected = "with the kernel")]
    fn a_token_of_other_frames_does_not_open_a_lent_one() {
        let (mut ours, mut tokens) = frames(2048, 1, 1);
        let (_, mut others) = frames(2048, 1, 1);
        ours.lend(tokens.remove(0), 60, |_| ());
        ours.bytes_mut(&mut others[0]);
    }
}
