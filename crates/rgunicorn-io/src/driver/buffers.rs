//! The memory of the receive buffers: one anonymous mapping of equal pieces, touched on demand, absent in forked
//! children. The pieces are shared by all connections, so an idle one pins none.

use std::io;
use std::ptr::{self, NonNull};

use super::types::BufId;

/// The mapping. It is leaked, not unmapped, when the kernel may still write to it (`leak`).
#[derive(Debug)]
pub(crate) struct Arena {
    base: NonNull<u8>,
    count: u16,
    /// Bytes per buffer.
    size: u32,
    /// Process that made the mapping; in another one the addresses may be anything.
    owner: u32,
}

// SAFETY: the mapping belongs to this value alone, and no thread has a part in it.
unsafe impl Send for Arena {}

impl Arena {
    /// Maps `count` buffers (rounded up to a power of two) of `size` bytes.
    pub(crate) fn new(count: u16, size: u32) -> io::Result<Self> {
        let count = count.clamp(1, 1 << 15).next_power_of_two();
        let size = size.max(1);
        Ok(Self { base: map(usize::from(count) * size as usize)?, count, size, owner: std::process::id() })
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Returns where buffer `id` begins; valid for `size` bytes.
    pub(crate) fn at(&self, id: u16) -> NonNull<u8> {
        assert!(id < self.count, "receive buffer {id} does not exist");
        // SAFETY: id < count, so the offset stays inside the mapping.
        unsafe { self.base.add(usize::from(id) * self.size as usize) }
    }

    /// Returns the filled part of a buffer that the caller holds.
    pub(crate) fn filled(&self, buf: &BufId) -> &[u8] {
        let len = buf.len.min(self.size) as usize;
        // SAFETY: inside the mapping (`at`), initialised (fresh pages are zero), and not written while the caller holds
        // the only BufId of this buffer: the kernel or `free_mut` gets it again by `release`, which consumes the BufId.
        unsafe { std::slice::from_raw_parts(self.at(buf.id).as_ptr(), len) }
    }

    /// Returns a buffer that has no holder, to be filled here.
    pub(crate) fn free_mut(&mut self, id: u16) -> &mut [u8] {
        // SAFETY: inside the mapping (`at`); `&mut self` excludes every `filled` slice, and no kernel op writes to
        // arenas that are filled through this method (epoll, sim).
        unsafe { std::slice::from_raw_parts_mut(self.at(id).as_ptr(), self.size as usize) }
    }

    /// Gives the memory up for good: the kernel may still write to it.
    pub(crate) fn leak(&mut self) {
        self.count = 0;
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if self.count > 0 && self.owner == std::process::id() {
            unmap(self.base, usize::from(self.count) * self.size as usize);
        }
    }
}

/// Maps anonymous private memory that a forked child does not inherit: it is shared with the kernel, and only the
/// process that made it has any business there.
pub(crate) fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: exactly the mapping made above. Failure only costs a forked child some address space.
    unsafe { libc::madvise(base, bytes, libc::MADV_DONTFORK) };
    NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

/// Ends a mapping made by `map`.
pub(crate) fn unmap(base: NonNull<u8>, bytes: usize) {
    // SAFETY: callers pass what `map` returned, once, when nothing refers to it any more.
    unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
}

/// An arena whose free buffers are handed out here and not by the kernel (epoll, sim).
#[derive(Debug)]
pub(crate) struct BufferPool {
    arena: Arena,
    free: Vec<u16>,
}

impl BufferPool {
    pub(crate) fn new(count: u16, size: u32) -> io::Result<Self> {
        let arena = Arena::new(count, size)?;
        // Last in, first out: the buffer used last is the one in the cache.
        let free = (0..arena.count()).rev().collect();
        Ok(Self { arena, free })
    }

    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Counts the free buffers.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Fills a free buffer with `fill` (which returns the number of bytes). `Ok(None)` = the end of the stream.
    pub(crate) fn fill(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Option<BufId>> {
        let Some(&id) = self.free.last() else {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        };
        match fill(self.arena.free_mut(id))? {
            0 => Ok(None),
            len => {
                self.free.pop();
                Ok(Some(BufId { id, len: len as u32 }))
            }
        }
    }

    pub(crate) fn filled(&self, buf: &BufId) -> &[u8] {
        self.arena.filled(buf)
    }

    pub(crate) fn release(&mut self, buf: BufId) {
        debug_assert!(!self.free.contains(&buf.id), "buffer {} released twice", buf.id);
        self.free.push(buf.id);
    }
}
