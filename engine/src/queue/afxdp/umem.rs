//! The memory that frames lie in, and who may touch which of them.
#![expect(
    unsafe_code,
    reason = "frames are memory shared with the kernel; the tokens here say when it is ours"
)]

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::{NonNull, with_exposed_provenance_mut};
use std::sync::Arc;

use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::umem::Umem;

use crate::error::{Error, Result};
use crate::host::privilege::SETCAP;
use crate::host::tuning;
use crate::queue::ring::{Desc, MORE, Slots};
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
pub struct Memory<N> {
    /// As the library has it.
    pub umem: Umem,
    /// Who has which frame.
    pub frames: Frames<N>,
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
pub fn create<N: Copy + Default>(
    chunk: u32,
    span: u32,
    count: u32,
    fill: u32,
    completion: u32,
    huge: HugePages,
) -> Result<Memory<N>> {
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
    let frames = unsafe { Frames::new(region, span) };
    Ok(Memory { umem, frames, huge_pages, node: xsk::memory_node(base.as_ptr().addr()) })
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

/// A frame that this program may write and read, taken out of those that are free. There is one token for each frame at most: none while
/// [`Frames`] has it among the free ones or the kernel has it.
#[derive(Debug)]
pub struct Frame(u32);

impl Frame {
    #[inline]
    fn index(&self) -> usize {
        self.0 as usize
    }
}

/// In [`Frames::state`]: it is free.
const FREE: u8 = 0;
/// It is a token. What is between the two are chunks that the kernel has.
const TOKEN: u8 = u8::MAX;

/// All frames of a queue: `span` consecutive chunks each, so that a frame longer than a chunk lies in one piece although it takes
/// several descriptors. Of each, what whoever writes it wants to note.
#[derive(Debug)]
pub struct Frames<N> {
    region: Region,
    span: u32,
    /// Bytes of a chunk are a power of two, of which this is the exponent.
    chunk_shift: u32,
    /// Where each frame is: [`FREE`], [`TOKEN`], or how many of its chunks the kernel has.
    state: Box<[u8]>,
    notes: Box<[N]>,
    /// Those in the state [`FREE`], each once: so there is room for all.
    free: Vec<u32>,
}

/// Writes frames, one after the other.
pub trait WriteFrame<N> {
    /// Writes the frame `n` of a run. To be inlined wherever it is called: it stands in two loops, one of which is hot.
    fn write(&mut self, n: u32, noted: &mut N, bytes: &mut [u8]);
}

impl<N: Copy + Default> Frames<N> {
    /// Takes charge of a region. All frames are free.
    ///
    /// # Safety
    /// Nobody else may access the region, other than to play the kernel with chunks that were lent.
    ///
    /// # Panics
    /// When `span` is more than 254 or 0.
    pub unsafe fn new(region: Region, span: u32) -> Self {
        assert!((1..u32::from(TOKEN)).contains(&span), "frames of {span} chunks");
        assert!(region.chunk.is_power_of_two(), "chunks of {} bytes", region.chunk);
        let count = region.chunks / span;
        let chunk_shift = region.chunk.trailing_zeros();
        let state = vec![FREE; count as usize].into();
        let notes = vec![N::default(); count as usize].into();
        Self { region, span, chunk_shift, state, notes, free: (0..count).collect() }
    }

    /// Chunks of a frame.
    pub fn span(&self) -> u32 {
        self.span
    }

    /// Bytes of a frame.
    pub fn size(&self) -> u32 {
        self.region.chunk * self.span
    }

    /// Frames that are free.
    #[inline]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// What was noted of the frames that became free last, of `many` of them.
    #[inline]
    pub fn last_notes(&self, many: usize) -> impl Iterator<Item = N> {
        let first = self.free.len().saturating_sub(many);
        self.free[first..].iter().map(|&frame| self.notes[frame as usize])
    }

    /// Takes the free frame at this place, counted from the one that has been free for longest; `None` when there are not as many.
    pub fn take(&mut self, place: usize) -> Option<Frame> {
        if place >= self.free.len() {
            return None;
        }
        let frame = Frame(self.free.remove(place));
        self.state[frame.index()] = TOKEN;
        Some(frame)
    }

    /// Where a frame begins.
    ///
    /// # Panics
    /// When it is free or the kernel has it: a token of other frames must not open one.
    #[inline]
    fn start(&self, frame: &Frame) -> u64 {
        let ours = self.state.get(frame.index()).is_some_and(|state| *state == TOKEN);
        assert!(ours, "frame {} is free or with the kernel", frame.0);
        u64::from(frame.0) * u64::from(self.size())
    }

    /// The content of a frame, and what was noted of it.
    #[inline]
    pub fn open(&mut self, frame: &mut Frame) -> (&mut N, &mut [u8]) {
        let start = self.start(frame);
        // SAFETY: `start` found the number to be one of ours, and all frames are within the region, which is alive. The frame is not lent,
        // and both the token and this are borrowed exclusively.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(
                self.region.base.as_ptr().add(start as usize),
                self.size() as usize,
            )
        };
        (&mut self.notes[frame.index()], bytes)
    }

    /// Gives the first `len` bytes of a frame to the kernel, as descriptors for `each`.
    ///
    /// # Panics
    /// When the frame is shorter.
    #[inline]
    pub fn lend(&mut self, frame: Frame, len: u32, each: impl FnMut(Desc)) {
        assert!(len <= self.size(), "{len} bytes in a frame of {}", self.size());
        self.state[frame.index()] = pieces(self.start(&frame), len, self.region.chunk, each);
    }

    /// The last `count` of the free frames, to be written and lent in the order in which they became free, their descriptors to be written into `slots`.
    ///
    /// # Panics
    /// When there are not as many.
    #[inline]
    pub fn lend_last<'a>(&'a mut self, count: usize, slots: Slots<'a, Desc>) -> Lending<'a, N> {
        let first = self.free.len().checked_sub(count).expect("as many free frames");
        Lending { frames: self, slots, first, next: first }
    }

    /// Takes the chunk at `address` back from the kernel; the frame is free once it was the last of them. An address that was not lent
    /// is ignored.
    #[inline]
    pub fn take_back(&mut self, address: u64) {
        let index = address >> self.chunk_shift;
        let index = if self.span == 1 { index } else { index / u64::from(self.span) };
        let Some(state) = self.state.get_mut(index as usize) else { return };
        if *state == FREE || *state == TOKEN {
            return;
        }
        *state -= 1;
        if *state == FREE {
            // There are fewer frames than 2³².
            self.free.push(index as u32);
        }
    }

    /// Takes back all of `addresses` as [`take_back`](Self::take_back) does.
    #[inline]
    pub fn take_back_all(&mut self, addresses: impl Iterator<Item = u64>) {
        if self.span > 1 {
            addresses.for_each(|address| self.take_back(address));
            return;
        }
        let (state, shift) = (&mut self.state[..], self.chunk_shift);
        let (room, free) = (self.free.capacity(), self.free.as_mut_ptr());
        let mut count = self.free.len();
        for address in addresses {
            let index = (address >> shift) as usize;
            let Some(state) = state.get_mut(index).filter(|state| **state == 1) else { continue };
            *state = FREE;
            debug_assert!(count < room, "a frame is free twice");
            // SAFETY: each frame is in the list once at most, which was made for all of them: this one was not in it, as it was lent.
            unsafe { free.add(count).write(index as u32) };
            count += 1;
        }
        // SAFETY: so many have been written.
        unsafe { self.free.set_len(count) };
    }
}

/// Free frames that are written and lent in a loop.
#[derive(Debug)]
pub struct Lending<'a, N> {
    frames: &'a mut Frames<N>,
    slots: Slots<'a, Desc>,
    /// Places in the list of free frames: that of the first that was lent, and that of the next.
    first: usize,
    next: usize,
}

impl<N> Lending<'_, N> {
    /// Bytes of a frame.
    #[inline]
    pub fn size(&self) -> usize {
        self.frames.region.chunk as usize * self.frames.span as usize
    }

    /// Has the next `count` frames written, and lends the first `len` bytes of each.
    ///
    /// # Panics
    /// When a frame is shorter, or fewer are left.
    #[inline(always)]
    pub fn run(&mut self, count: u32, len: u32, mut writer: impl WriteFrame<N>) {
        let size = self.size();
        let Frames { region, state, notes, free, .. } = &mut *self.frames;
        let (base, chunk) = (region.base, region.chunk);
        assert!(len as usize <= size, "{len} bytes in a frame of {size}");
        let these = &free[self.next..][..count as usize];
        // Whatever happens in between, they are not free any more.
        self.next += these.len();
        let mut all = All { base, size, state, notes };
        if len <= chunk {
            self.slots.fill(count, |n| {
                // SAFETY: it stood in the list of free frames.
                let address = unsafe { all.write(these[n as usize], n, 1, &mut writer) };
                Desc { address, len, options: 0 }
            });
            return;
        }
        let chunks = len.div_ceil(chunk) as u8;
        for (&frame, n) in these.iter().zip(0..) {
            // SAFETY: as above.
            let address = unsafe { all.write(frame, n, chunks, &mut writer) };
            pieces(address, len, chunk, |desc| self.slots.write(desc));
        }
    }
}

/// What writing frames needs; it stays in registers in a loop.
struct All<'a, N> {
    base: NonNull<u8>,
    size: usize,
    state: &'a mut [u8],
    notes: &'a mut [N],
}

impl<N> All<'_, N> {
    /// Has a frame written as number `n` of a run, of which the kernel has `given` chunks from now on. Returns its address.
    ///
    /// # Safety
    /// It has to come from the list of free frames, and must not come from there again before it is taken back.
    #[inline(always)]
    unsafe fn write(&mut self, frame: u32, n: u32, given: u8, writer: &mut impl WriteFrame<N>) -> u64 {
        let frame = frame as usize;
        debug_assert!(self.state[frame] == FREE, "frame {frame} is not free");
        let address = frame * self.size;
        // SAFETY: what is in the list of free frames is the number of one, which lies in the region and has a state and a note. It is in there once, so that
        // nobody else has it, and it is not lent; the kernel learns of it by the descriptors only.
        unsafe {
            let bytes = std::slice::from_raw_parts_mut(self.base.as_ptr().add(address), self.size);
            writer.write(n, self.notes.get_unchecked_mut(frame), bytes);
            *self.state.get_unchecked_mut(frame) = given;
        }
        address as u64
    }
}

impl<N> Drop for Lending<'_, N> {
    #[inline]
    fn drop(&mut self) {
        self.frames.free.drain(self.first..self.next);
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
    pub fn lend(frames: Frames<()>, each: impl FnMut(u64)) -> Self {
        assert_eq!(frames.span, 1, "what arrives lies in one chunk each");
        assert_eq!(frames.state.len(), frames.free(), "a frame is missing");
        let chunk = frames.size();
        frames.free.iter().map(|&frame| u64::from(frame) * u64::from(chunk)).for_each(each);
        Self { chunk, region: frames.region }
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
    use crate::queue::ring::in_memory;

    fn frames<N: Copy + Default>(chunk: u32, chunks: u32, span: u32) -> Frames<N> {
        // SAFETY: the region is new.
        unsafe { Frames::new(Region::in_memory(chunk, chunks), span) }
    }

    fn d(address: u64, len: u32, options: u32) -> Desc {
        Desc { address, len, options }
    }

    #[test]
    fn a_frame_is_free_with_the_last_chunk() {
        let mut frames = frames::<()>(2048, 7, 3);
        assert_eq!(frames.free(), 2);
        let mut frame = frames.take(1).unwrap();
        assert_eq!(frames.open(&mut frame).1.len(), 6144);
        frames.take_back(6144);
        assert_eq!(frames.free(), 1, "it is not lent yet");
        let mut descs = Vec::new();
        frames.lend(frame, 5000, |d| descs.push(d));
        assert_eq!(descs, [d(6144, 2048, MORE), d(8192, 2048, MORE), d(10240, 904, 0)]);
        frames.take_back_all([6144, 0, 8192, u64::MAX].into_iter());
        assert_eq!(frames.free(), 1);
        frames.take_back(10240);
        assert_eq!(frames.free(), 2);
        frames.take_back_all([10240, 0, 18432].into_iter());
        assert_eq!(frames.free(), 2, "they are not lent any more");
        assert_eq!(frames.take(1).unwrap().index(), 1);
    }

    /// Fills each frame with what was noted before, and notes which it is.
    struct Number(u8);

    impl WriteFrame<u8> for Number {
        fn write(&mut self, n: u32, noted: &mut u8, bytes: &mut [u8]) {
            bytes.fill(*noted);
            *noted = self.0 + n as u8;
        }
    }

    #[test]
    fn the_last_frames_are_written_and_lent() {
        for span in [1, 2] {
            let size = 2048 * u64::from(span);
            let mut frames = frames::<u8>(2048, 5 * span, span);
            let (mut producer, mut consumer) = in_memory(16, u32::MAX - 2);
            producer.reserve(16);
            let mut lending = frames.lend_last(4, producer.slots());
            lending.run(2, 60, Number(10));
            lending.run(1, 70, Number(20));
            drop(lending);
            assert_eq!(frames.free(), 2, "what was not lent is free");
            producer.commit();
            assert_eq!(consumer.available(1), 3);
            assert!(consumer.filled(3).eq([d(size, 60, 0), d(2 * size, 60, 0), d(3 * size, 70, 0)]));
            frames.take_back_all([2 * size, 2 * size, size, 0, 5 * size, u64::MAX].into_iter());
            assert!(frames.last_notes(2).eq([11, 10]));
            let mut lending = frames.lend_last(4, producer.slots());
            lending.run(4, 2048 * span, Number(0));
            drop(lending);
            assert_eq!(frames.free(), 0);
            for (address, byte) in [(0, 0), (size, 10), (2 * size, 11), (4 * size, 0)] {
                // SAFETY: the kernel has the frame, which is played here.
                let bytes = unsafe { frames.region.bytes(address, size as u32) };
                assert!(bytes.iter().all(|b| *b == byte), "{address}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "as many free frames")]
    fn a_lent_frame_is_not_lent_again() {
        let mut frames = frames::<()>(2048, 1, 1);
        let (mut producer, _consumer) = in_memory(2, 0);
        let frame = frames.take(0).unwrap();
        frames.lend(frame, 60, |_| ());
        frames.lend_last(1, producer.slots());
    }

    #[test]
    fn received_bytes_lie_within_a_frame() {
        let frames = frames(LARGE_CHUNK, 2, 1);
        let region = frames.region.clone();
        let mut addresses = Vec::new();
        let mut received = Received::lend(frames, |address| addresses.push(address));
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
        let mut frames = frames(LARGE_CHUNK, 2, 1);
        frames.take(0);
        Received::lend(frames, |_| ());
    }

    #[test]
    #[should_panic(expected = "with the kernel")]
    fn a_token_of_other_frames_does_not_open_a_lent_one() {
        let (mut ours, mut others) = (frames::<()>(2048, 1, 1), frames::<()>(2048, 1, 1));
        let frame = ours.take(0).unwrap();
        ours.lend(frame, 60, |_| ());
        ours.open(&mut others.take(0).unwrap());
    }

    #[test]
    #[should_panic(expected = "with the kernel")]
    fn a_token_of_other_frames_does_not_lend_a_free_one() {
        let (mut ours, mut others) = (frames::<()>(2048, 1, 1), frames::<()>(2048, 1, 1));
        ours.lend(others.take(0).unwrap(), 60, |_| ());
    }
}
