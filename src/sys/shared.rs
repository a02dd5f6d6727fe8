//! The score-board: one anonymous shared mapping, made by the master before the first fork, with a header and one slot per
//! worker. The master reads heartbeats from it and the workers read each other's load; a write is one relaxed store to a
//! cache line that nobody else writes, so a beat costs no system call.
//!
//! Every field is an atomic of its own and nothing relies on the order between two fields; a reader sees each value
//! somewhere between old and new, which is all that statistics and a coarse watch-dog need.

use super::clock::Instant;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Slots per board, and so the most workers at one time, old ones that are leaving included. The pages are touched only
/// when used: 256 KiB of addresses, 4 KiB of memory for up to 63 workers.
pub const SLOTS_MAX: u32 = 4096;

/// What all processes share about the whole.
#[repr(C, align(64))]
#[derive(Default)]
struct Header {
    /// How many workers the master wants, 0 once the server stops. A worker that is alone can skip the rules about
    /// sharing.
    workers: AtomicU32,
    /// One more than the highest slot ever used: where readers stop.
    slots_used: AtomicU32,
}

/// What one worker tells. One cache line (64 bytes), so that two workers never write to the same one.
#[repr(C, align(64))]
#[derive(Default)]
struct Cells {
    /// The worker's age (1, 2, 3 ... never reused); 0 while nobody has the slot.
    age: AtomicU64,
    /// Nanoseconds of the monotonic clock at the last beat; 0 before the first.
    beat: AtomicU64,
    /// 1 once the application is loaded and the loop is about to run.
    booted: AtomicU32,
    /// Open connections now.
    connections: AtomicU32,
    /// Requests begun since the worker started.
    requests: AtomicU64,
    /// 1 once the worker leaves while others go on with its listeners.
    retired: AtomicU32,
}

const BOARD_BYTES: usize = size_of::<Header>() + SLOTS_MAX as usize * size_of::<Cells>();
const _: () = assert!(size_of::<Header>() == 64 && size_of::<Cells>() == 64);

struct Mapping(NonNull<std::ffi::c_void>);

// SAFETY: the mapping lives until the last handle is dropped and holds only atomics, which any thread may touch.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the address and length are those of the mapping made in `Scoreboard::new`; the last handle is going, and
        // references into the mapping borrow from a handle. Failure would only leave the memory mapped.
        let _ = unsafe { munmap(self.0, BOARD_BYTES) };
    }
}

impl Mapping {
    fn header(&self) -> &Header {
        // SAFETY: the mapping starts with a Header: page-aligned, zeroed by the kernel (a valid Header), never unmapped
        // while `self` lives, and only touched through atomics.
        unsafe { self.0.cast::<Header>().as_ref() }
    }

    fn cells(&self, index: u32) -> &Cells {
        let index = index.min(SLOTS_MAX - 1) as usize;
        // SAFETY: `index` is below SLOTS_MAX, so the place is inside the mapping, after the header, aligned to 64 as both
        // sizes are multiples of it; zeroes are valid Cells; only touched through atomics.
        unsafe { self.0.cast::<Header>().add(1).cast::<Cells>().add(index).as_ref() }
    }
}

/// The whole board: the master's handle, and a worker's view of its siblings.
#[derive(Clone)]
pub struct Scoreboard(Arc<Mapping>);

impl std::fmt::Debug for Scoreboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scoreboard").field("workers", &self.workers()).finish_non_exhaustive()
    }
}

impl Scoreboard {
    /// Maps a fresh board, all zero. Made before the fork, it is the same memory in every child.
    ///
    /// # Errors
    /// What mmap(2) answers, ENOMEM in practice.
    pub fn new() -> io::Result<Self> {
        const LENGTH: NonZeroUsize = NonZeroUsize::new(BOARD_BYTES).expect("a board has a header");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let address = unsafe { mmap_anonymous(None, LENGTH, protection, MapFlags::MAP_SHARED)? };
        Ok(Self(Arc::new(Mapping(address))))
    }

    /// How many workers the master wants now; 0 when the server stops.
    pub fn workers(&self) -> u32 {
        self.0.header().workers.load(Relaxed)
    }

    /// Tells everyone how many workers are wanted. The master's.
    pub fn set_workers(&self, workers: u32) {
        self.0.header().workers.store(workers, Relaxed);
    }

    /// Gives a free slot to the worker of this age (above 0), everything else in it zero. The master's, before the fork.
    /// `None` if all [`SLOTS_MAX`] are taken.
    pub fn claim(&self, age: u64) -> Option<Slot> {
        let index = (0..SLOTS_MAX).find(|index| self.0.cells(*index).age.load(Relaxed) == 0)?;
        let slot = Slot { board: self.clone(), index };
        slot.clear();
        slot.cells().age.store(age, Relaxed);
        self.0.header().slots_used.fetch_max(index + 1, Relaxed);
        Some(slot)
    }

    /// What every present worker tells, in slot order. For a worker that compares itself with its siblings, and for
    /// statistics.
    pub fn readings(&self) -> impl Iterator<Item = Reading> + '_ {
        let used = self.0.header().slots_used.load(Relaxed).min(SLOTS_MAX);
        (0..used).map(|index| reading(self.0.cells(index))).filter(|reading| reading.age != 0)
    }
}

/// One worker's values at about one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The worker's age; never 0 here.
    pub age: u64,
    /// The last heartbeat; `None` before the first.
    pub beat: Option<Instant>,
    /// The application is loaded and the worker serves.
    pub booted: bool,
    /// Open connections.
    pub connections: u32,
    /// Requests begun since the worker started.
    pub requests: u64,
}

fn reading(cells: &Cells) -> Reading {
    let beat = cells.beat.load(Relaxed);
    Reading {
        age: cells.age.load(Relaxed),
        beat: (beat != 0).then_some(Instant(beat)),
        booted: cells.booted.load(Relaxed) != 0,
        connections: cells.connections.load(Relaxed),
        requests: cells.requests.load(Relaxed),
    }
}

/// One worker's slot. The worker writes, everyone reads. Cheap to clone; usable from any thread.
#[derive(Clone, Debug)]
pub struct Slot {
    board: Scoreboard,
    index: u32,
}

impl Slot {
    fn cells(&self) -> &Cells {
        self.board.0.cells(self.index)
    }

    /// The board that the slot is part of.
    pub fn board(&self) -> &Scoreboard {
        &self.board
    }

    /// What the slot says now.
    pub fn read(&self) -> Reading {
        reading(self.cells())
    }

    /// "I am alive." The watch over a worker begins with its first beat. No system call.
    pub fn beat(&self, now: Instant) {
        self.cells().beat.store(now.0.max(1), Relaxed);
    }

    /// "The application is loaded, I serve." During a reload the master tells old workers to stop only after this.
    pub fn set_booted(&self) {
        self.cells().booted.store(1, Relaxed);
    }

    /// Counts one more request begun.
    pub fn add_request(&self) {
        self.cells().requests.fetch_add(1, Relaxed);
    }

    /// Says how many connections are open.
    pub fn set_connections(&self, connections: u32) {
        self.cells().connections.store(connections, Relaxed);
    }

    /// "This worker leaves, and others go on with its listeners." The master's, with the signal, or the worker's own.
    pub fn retire(&self) {
        self.cells().retired.store(1, Relaxed);
    }

    /// Others will accept what waits at the worker's listeners, as far as was known when it was told to leave.
    pub fn is_retired(&self) -> bool {
        self.cells().retired.load(Relaxed) != 0
    }

    /// Gives the slot back. The master's, when the worker has been reaped.
    pub fn release(&self) {
        self.clear();
        self.cells().age.store(0, Relaxed);
    }

    fn clear(&self) {
        let cells = self.cells();
        cells.beat.store(0, Relaxed);
        for cell in [&cells.booted, &cells.connections, &cells.retired] {
            cell.store(0, Relaxed);
        }
        cells.requests.store(0, Relaxed);
    }
}

#[cfg(test)]
#[path = "tests/shared.rs"]
mod tests;
