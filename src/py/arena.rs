//! Cheap greenlets: the memory of a greenlet's Python frames is kept for the next one.
//!
//! **Why.** Since CPython 3.11 a greenlet's (or thread's) first Python frame takes a 16 KiB "data stack" chunk from
//! the arena allocator, and its end gives it back: one `mmap`, a page fault per touched page and one `munmap`, ten
//! times what the greenlet itself costs. A call at the edge of a full chunk pays the same, at every call. The
//! allocator installed here sits on top of the one it finds. It keeps freed blocks of exactly that size, up to a
//! number, in a list, and passes everything else on: other sizes (pymalloc's arenas are 256 KiB or 1 MiB, chunks of
//! deep recursion and of huge frames 32 KiB and more), an empty list, a full one.
//!
//! **Why it is safe.**
//! - *Whose memory.* Whatever comes in by `free` was made by the allocator below, through us or before us, with the
//!   size that CPython passes along. So a kept block may be handed out, or given back below, at any time: chunks
//!   older than the installation (a preloaded application's) need no care, and neither does an allocator that is
//!   put on top of us.
//! - *Contents.* No caller may expect zeros: the data stack uses a chunk's memory again by itself, call after call,
//!   and pymalloc never asks for this size.
//! - *Installation* stores three words (context, `alloc`, `free`). We keep the context that is there, so every
//!   mixture of old and new words that another thread could read is right, by the first point. [`CACHE`] is set
//!   before. It is done once in a process: a second layer would keep the first one's blocks from being used, and is
//!   refused.
//! - *Threads.* Most calls hold the interpreter lock; `PyThreadState_Delete` need not, and free-threaded builds and
//!   interpreters with locks of their own have several callers. The list is behind a mutex that is only ever *tried*: a
//!   caller that does not get it goes to the allocator below, which is always right. No caller waits, so nothing can
//!   deadlock: not a signal handler, and not a child that was forked while another thread held the mutex. In such a
//!   child it stays locked, the list behind it, perhaps half changed, is never looked at, and chunks come from below as
//!   without us. The kept ones are lost to the child, at most `chunks_max`, none of whose pages it has touched.
//! - *Forks.* Other children have a copy of the list and of the blocks in it, both private to them.
//! - *The end.* [`CACHE`] is never dropped, and CPython never unloads the library. A thread state that is deleted
//!   during finalization, or after it, finds everything in place. The process's end returns the memory.
//! - *Python does not run* in here, nothing panics, nothing allocates: the stack rule is not touched.
//!
//! **What it costs.** Up to `chunks_max` × 16 KiB of addresses, and of memory the pages that were touched while the
//! chunks were in use (of four, a small greenlet touches one). They are not offered to the kernel meanwhile:
//! `MADV_FREE` takes 1.3 us and more, which is what the whole greenlet takes. A request for another size pays a
//! comparison. When memory is refused below, a kept chunk may still be there; other sizes do not get the kept
//! memory, the bound being small.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Mutex, OnceLock};

use pyo3::ffi;
use pyo3::prelude::*;

/// CPython's `DATA_STACK_CHUNK_SIZE`, the same in 3.11 to 3.14. With another size nothing would be kept.
const CHUNK_BYTES: usize = 16 * 1024;

type Alloc = extern "C" fn(*mut c_void, usize) -> *mut c_void;
type Free = extern "C" fn(*mut c_void, *mut c_void, usize);

static CACHE: OnceLock<Cache> = OnceLock::new();

/// Installs the cache: from now on up to `chunks_max` freed frame chunks of this process are kept for the next
/// greenlets and threads; 0 changes nothing. Returns whether it was installed: it is once in a process, the first time.
pub fn install_chunk_cache(_py: Python<'_>, chunks_max: u32) -> bool {
    let mut found = ffi::PyObjectArenaAllocator { ctx: std::ptr::null_mut(), alloc: None, free: None };
    // SAFETY: it fills in the three words; the token proves an initialized interpreter.
    unsafe { ffi::PyObject_GetArenaAllocator(&raw mut found) };
    let (Some(alloc), Some(free)) = (found.alloc, found.free) else { return false };
    if chunks_max == 0 || CACHE.set(Cache::new(alloc, free, chunks_max)).is_err() {
        return false;
    }
    found.alloc = Some(alloc_block);
    found.free = Some(free_block);
    // SAFETY: it copies the three words. Both functions do what an arena allocator has to, for as long as the process
    // lives, with any thread and any block of the allocator that they replace (see the module's header).
    unsafe { ffi::PyObject_SetArenaAllocator(&raw mut found) };
    true
}

extern "C" fn alloc_block(ctx: *mut c_void, size: usize) -> *mut c_void {
    // Without a cache we would not have been installed; "no memory" is an answer that every caller understands.
    CACHE.get().map_or(std::ptr::null_mut(), |cache| cache.alloc(ctx, size))
}

extern "C" fn free_block(ctx: *mut c_void, block: *mut c_void, size: usize) {
    if let Some(cache) = CACHE.get() {
        cache.free(ctx, block, size);
    }
}

/// The allocator below, and what is kept of its blocks.
struct Cache {
    below_alloc: Alloc,
    below_free: Free,
    chunks_max: u32,
    /// Only ever tried, never waited for.
    kept: Mutex<FreeList>,
}

impl Cache {
    fn new(below_alloc: Alloc, below_free: Free, chunks_max: u32) -> Self {
        Self { below_alloc, below_free, chunks_max, kept: Mutex::new(FreeList { top: None, count: 0 }) }
    }

    fn alloc(&self, ctx: *mut c_void, size: usize) -> *mut c_void {
        if size == CHUNK_BYTES
            && let Ok(mut kept) = self.kept.try_lock()
            && let Some(chunk) = kept.pop()
        {
            return chunk.as_ptr().cast();
        }
        (self.below_alloc)(ctx, size)
    }

    fn free(&self, ctx: *mut c_void, block: *mut c_void, size: usize) {
        if size == CHUNK_BYTES
            && let Some(chunk) = NonNull::new(block)
            && let Ok(mut kept) = self.kept.try_lock()
            && kept.count < self.chunks_max
        {
            kept.push(chunk.cast());
            return;
        }
        (self.below_free)(ctx, block, size);
    }
}

/// The kept chunks, the last freed one on top: its pages are the likeliest to be in a processor's cache.
struct FreeList {
    /// Each is a block of [`CHUNK_BYTES`] that its user has freed and no other code knows: ours alone until `pop`.
    top: Option<NonNull<Chunk>>,
    count: u32,
}

/// The beginning of a kept chunk. The list is threaded through the chunks, so that keeping one allocates nothing.
struct Chunk {
    below: Option<NonNull<Self>>,
}

// SAFETY: the chunks belong to the list (see `top`), and memory has no thread.
unsafe impl Send for FreeList {}

impl FreeList {
    fn push(&mut self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller was given the whole block by its last user. It is aligned at least as `malloc` aligns.
        unsafe { chunk.write(Chunk { below: self.top }) };
        self.top = Some(chunk);
        self.count += 1;
    }

    fn pop(&mut self) -> Option<NonNull<Chunk>> {
        let chunk = self.top?;
        // SAFETY: `push` wrote it, and the block has been ours alone since.
        self.top = unsafe { chunk.read() }.below;
        self.count -= 1;
        Some(chunk)
    }
}

#[cfg(test)]
#[path = "tests/arena.rs"]
mod tests;
