//! The provided-buffer ring: the kernel takes a buffer from it when bytes have arrived, and gets it back after
//! parsing.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::super::buffers::{Arena, map, unmap};
use super::super::types::BufId;

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

pub(super) struct BufRing {
    /// Shared with the kernel: `arena.count()` entries, page-aligned.
    entries: NonNull<BufRingEntry>,
    entries_bytes: usize,
    arena: Arena,
    /// Next entry to write; runs freely, the kernel masks it as `release` does.
    tail: u16,
    /// Buffers that the kernel has and, as far as completions tell, has not used.
    available: u16,
}

// SAFETY: the mapping belongs to this value and the kernel, and no thread has a part in it.
unsafe impl Send for BufRing {}

impl BufRing {
    pub(super) fn register(ring: &IoUring, count: u16, size: u32) -> io::Result<Self> {
        let arena = Arena::new(count, size)?;
        let entries_bytes = usize::from(arena.count()) * size_of::<BufRingEntry>();
        let entries = map(entries_bytes)?.cast();
        let mut this = Self { entries, entries_bytes, arena, tail: 0, available: 0 };
        // SAFETY: page-aligned zeroed memory for exactly that many entries; it outlives the ring (`Uring` drops the
        // ring first), and the kernel pins its pages.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.as_ptr() as u64,
                this.arena.count(),
                GROUP,
                0,
            )
        }?;
        for id in 0..this.arena.count() {
            this.release(id);
        }
        Ok(this)
    }

    /// Gives a buffer (back) to the kernel.
    pub(super) fn release(&mut self, id: u16) {
        let at = usize::from(self.tail & (self.arena.count() - 1));
        let address = self.arena.at(id).as_ptr() as u64;
        // SAFETY: `at` is below the number of entries. The kernel does not read this entry before the tail passes it.
        // The setters leave the field of entry 0 alone that holds the tail.
        let entry = unsafe { &mut *self.entries.as_ptr().add(at) };
        entry.set_addr(address);
        entry.set_len(self.arena.size());
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.available += 1;
        debug_assert!(self.available <= self.arena.count(), "buffer {id} given twice");
        // SAFETY: the tail lies inside the first entry, is aligned, and only this method writes it (`&mut self`).
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        // Release: the entry is written before the kernel sees the tail.
        tail.store(self.tail, Ordering::Release);
    }

    /// Takes over a buffer that a completion named.
    pub(super) fn acquire(&mut self) {
        debug_assert!(self.available > 0, "the kernel used a buffer that it did not have");
        self.available = self.available.saturating_sub(1);
    }

    pub(super) fn available(&self) -> u16 {
        self.available
    }

    pub(super) fn filled(&self, buf: &BufId) -> &[u8] {
        self.arena.filled(buf)
    }

    pub(super) fn describe(&self) -> String {
        format!("multishot receive into {} buffers of {} bytes", self.arena.count(), self.arena.size())
    }

    /// Keeps the buffers from ever being freed: the kernel may still write to them.
    pub(super) fn leak(&mut self) {
        self.arena.leak();
        self.entries_bytes = 0;
    }
}

impl Drop for BufRing {
    fn drop(&mut self) {
        if self.entries_bytes > 0 {
            unmap(self.entries.cast(), self.entries_bytes);
        }
    }
}
