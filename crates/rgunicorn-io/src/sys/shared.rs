//! The score-board: one anonymous shared mapping, made by the master before the first fork, with a header and one slot
//! per worker. The master reads heartbeats from it and the workers read each other's load; a write is one relaxed
//! store to a cache line that no other process writes, so a beat costs no system call.
//!
//! With the board come the handoff queue ([`HandoffQueue`]) and two eventfds. One wakes the master for what it should
//! look at before its next check (a worker leaves, a worker has booted). A signal would not do: the worker may be
//! another user by then. The other wakes siblings: a worker whose work does not let it take a connection that it was
//! woken for passes the wake-up on.
//!
//! Every field is an atomic of its own and nothing relies on the order between two fields; a reader sees each value
//! somewhere between old and new, which is all that statistics and a coarse watch-dog need.

use super::atfork;
use super::clock::Instant;
use super::handoff::{HandoffEnds, HandoffEvent, HandoffQueue};
use super::waker;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Slots per board, and so the most workers at one time, old ones that are leaving included. The pages are touched only
/// when used: 256 KiB of addresses, 4 KiB of memory for up to 62 workers.
pub const SLOTS_MAX: u32 = 4096;

/// The values of the server as a whole, which all processes share.
#[repr(C, align(64))]
#[derive(Default)]
struct BoardHeader {
    /// How many workers the master wants, 0 once the server stops.
    workers: AtomicU32,
    /// How many slots are taken: workers that there are, those that leave included. A worker that is alone can skip the
    /// rules about sharing.
    present: AtomicU32,
    /// 1 while another master's workers accept at the same listeners.
    other_master: AtomicU32,
    /// One more than the highest slot ever used: where readers stop.
    slots_used: AtomicU32,
    /// The age of the worker that recycles itself; 0 while none does.
    recycling: AtomicU64,
    /// Counts of the fates of connections at the handoff queue, in the order of [`HandoffEvent::ALL`].
    handoff: [AtomicU64; HandoffEvent::ALL.len()],
}

/// The values of one worker. One cache line (64 bytes), so that two workers never write to the same one.
#[repr(C, align(64))]
#[derive(Default)]
struct Cells {
    /// The worker's age (1, 2, 3 ... never reused); 0 while the slot is free.
    age: AtomicU64,
    /// Nanoseconds of the monotonic clock at the last beat; 0 before the first.
    beat: AtomicU64,
    /// 1 once the application is loaded and the loop is about to run.
    booted: AtomicU32,
    /// Open connections now.
    connections: AtomicU32,
    /// Requests begun since the worker started.
    requests: AtomicU64,
    /// An [`Accepting`].
    accepting: AtomicU32,
    /// 1 once it has begun to leave.
    leaving: AtomicU32,
    /// 1 once the worker leaves while others go on with its listeners.
    replaced: AtomicU32,
    /// Nanoseconds of the monotonic clock since when its application cannot be known to run; 0 while that is known.
    stuck: AtomicU64,
}

const BOARD_BYTES: usize = size_of::<BoardHeader>() + SLOTS_MAX as usize * size_of::<Cells>();
const _: () = assert!(size_of::<BoardHeader>() == 128 && size_of::<Cells>() == 64);

struct Mapping(NonNull<std::ffi::c_void>);

struct BoardMemory {
    mapping: Mapping,
    master_wakeup: EventFd,
    sibling_wakeup: EventFd,
    handoff: io::Result<HandoffQueue>,
}

// SAFETY: the mapping lives until the last handle is dropped and holds only atomics, which any thread may touch.
unsafe impl Send for Mapping {}
// SAFETY: the mapping holds only atomics, so a shared reference lets no thread do more than atomic loads and stores.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the address and length are those of the mapping made in `Scoreboard::new`; the last handle is going,
        // and references into the mapping borrow from a handle. Failure would only leave the memory mapped.
        let _ = unsafe { munmap(self.0, BOARD_BYTES) };
    }
}

impl Mapping {
    fn header(&self) -> &BoardHeader {
        // SAFETY: the mapping starts with a BoardHeader: page-aligned, zeroed by the kernel (a valid BoardHeader),
        // never unmapped while `self` lives, and only touched through atomics.
        unsafe { self.0.cast::<BoardHeader>().as_ref() }
    }

    fn cells(&self, index: u32) -> &Cells {
        let index = index.min(SLOTS_MAX - 1) as usize;
        // SAFETY: `index` is below SLOTS_MAX, so the place is inside the mapping, after the header, aligned to 64 as
        // both sizes are multiples of it; zeroes are valid Cells; only touched through atomics.
        unsafe { self.0.cast::<BoardHeader>().add(1).cast::<Cells>().add(index).as_ref() }
    }
}

/// The whole board: the master's handle, and a worker's view of its siblings.
#[derive(Clone)]
pub struct Scoreboard(Arc<BoardMemory>);

impl std::fmt::Debug for Scoreboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scoreboard").field("workers", &self.workers()).finish_non_exhaustive()
    }
}

impl Scoreboard {
    /// Maps a fresh board, all zero. Made before the fork, it is the same memory in every child.
    ///
    /// # Errors
    /// What mmap(2) and eventfd(2) answer, ENOMEM and EMFILE in practice.
    pub fn new() -> io::Result<Self> {
        const LENGTH: NonZeroUsize = NonZeroUsize::new(BOARD_BYTES).expect("a board has a header");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let address = unsafe { mmap_anonymous(None, LENGTH, protection, MapFlags::MAP_SHARED)? };
        let mapping = Mapping(address);
        let eventfd = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let (master_wakeup, sibling_wakeup, handoff) = (eventfd()?, eventfd()?, HandoffQueue::new());
        Ok(Self(Arc::new(BoardMemory { mapping, master_wakeup, sibling_wakeup, handoff })))
    }

    fn header(&self) -> &BoardHeader {
        self.0.mapping.header()
    }

    fn cells(&self, index: u32) -> &Cells {
        self.0.mapping.cells(index)
    }

    /// Returns the descriptor that the master polls for reading besides its signals.
    pub fn master_wakeup(&self) -> BorrowedFd<'_> {
        self.0.master_wakeup.as_fd()
    }

    /// Empties the master's eventfd, so that the next event wakes it again. The master's, after its wait and before it
    /// reads the slots.
    ///
    /// # Errors
    /// It cannot be read, and stays readable.
    pub fn drain_master_wakeup(&self) -> io::Result<()> {
        waker::take(&self.0.master_wakeup)
    }

    /// Returns the descriptor that workers poll for reading: a sibling has been woken for a connection that it leaves
    /// to others.
    pub fn sibling_wakeup(&self) -> BorrowedFd<'_> {
        self.0.sibling_wakeup.as_fd()
    }

    /// Wakes all workers that wait: there is a connection to accept.
    pub fn wake_siblings(&self) {
        // A full counter is readable, too.
        let _ = self.0.sibling_wakeup.write(1);
    }

    /// Returns the handoff queue of the server.
    ///
    /// # Errors
    /// The one for which there is none; everything else works without it.
    pub fn handoff(&self) -> Result<HandoffEnds, &io::Error> {
        self.0.handoff.as_ref().map(HandoffQueue::ends)
    }

    /// Counts what becomes of a connection at the handoff queue.
    pub fn count_handoff(&self, event: HandoffEvent) {
        self.header().handoff[event as usize].fetch_add(1, Relaxed);
    }

    /// Returns how often that has been since the server started.
    pub fn handoffs(&self, event: HandoffEvent) -> u64 {
        self.header().handoff[event as usize].load(Relaxed)
    }

    /// Returns how many connections have been put into the handoff queue so far.
    pub fn given(&self) -> u64 {
        HandoffEvent::GIVEN.iter().map(|event| self.handoffs(*event)).sum()
    }

    /// Returns how many have been taken out of it so far.
    pub fn taken(&self) -> u64 {
        self.handoffs(HandoffEvent::Taken)
    }

    /// Returns how many are in it: about, for a worker that is killed between an act and its count leaves one too many
    /// or too few behind.
    pub fn under_way(&self) -> u64 {
        self.given().saturating_sub(self.taken())
    }

    /// Empties the siblings' eventfd. To be done by each worker that was woken: the first one ends the wake-up.
    ///
    /// # Errors
    /// It cannot be read, and stays readable.
    pub fn drain_sibling_wakeup(&self) -> io::Result<()> {
        waker::take(&self.0.sibling_wakeup)
    }

    fn wake_master(&self) {
        // A full counter is readable, too.
        let _ = self.0.master_wakeup.write(1);
    }

    /// Returns the age of the worker that has the permit to recycle itself ([`Slot::begin_recycling`]).
    pub fn recycling(&self) -> Option<u64> {
        Some(self.header().recycling.load(Relaxed)).filter(|age| *age != 0)
    }

    /// Takes the permit back from the worker of this age, if it has it. The master's.
    pub fn end_recycling(&self, age: u64) {
        // Otherwise another worker has it, or none.
        let _ = self.header().recycling.compare_exchange(age, 0, Relaxed, Relaxed);
    }

    /// Tells whether no other process accepts at the listeners, or is about to: one worker is there, no more are
    /// wanted (between the end of a sibling and the fork of its successor this worker must not take what is queued for
    /// both), and there is no other master.
    pub fn is_only_worker(&self) -> bool {
        self.workers() <= 1 && self.header().present.load(Relaxed) <= 1 && !self.has_other_master()
    }

    /// Tells whether another master's workers accept at the same listeners (an upgrade in place is on trial).
    pub fn has_other_master(&self) -> bool {
        self.header().other_master.load(Relaxed) != 0
    }

    /// Tells all processes whether another master serves on the same sockets. The master's.
    pub fn set_other_master(&self, company: bool) {
        self.header().other_master.store(company.into(), Relaxed);
    }

    /// Returns how many workers the master wants now; 0 when the server stops.
    pub fn workers(&self) -> u32 {
        self.header().workers.load(Relaxed)
    }

    /// Tells all processes how many workers are wanted. The master's.
    pub fn set_workers(&self, workers: u32) {
        self.header().workers.store(workers, Relaxed);
    }

    /// Gives a free slot to the worker of this age (above 0), everything else in it zero. The master's, before the
    /// fork. `None` if all [`SLOTS_MAX`] are taken.
    pub fn claim(&self, age: u64) -> Option<Slot> {
        let index = (0..SLOTS_MAX).find(|index| self.cells(*index).age.load(Relaxed) == 0)?;
        let slot = Slot { board: self.clone(), index, owner: atfork::generation() };
        slot.clear();
        slot.cells().age.store(age, Relaxed);
        self.header().present.fetch_add(1, Relaxed);
        self.header().slots_used.fetch_max(index + 1, Relaxed);
        Some(slot)
    }

    /// Reads the slots of the present workers, in slot order. For a worker that compares itself with its siblings, and
    /// for statistics.
    pub fn readings(&self) -> impl Iterator<Item = SlotReading> + '_ {
        let used = self.header().slots_used.load(Relaxed).min(SLOTS_MAX);
        (0..used).map(|index| reading(self.cells(index))).filter(|reading| reading.age != 0)
    }
}

/// A worker's readiness for new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Accepting {
    /// None is taken at present.
    No = 0,
    /// One is taken when the present work is done.
    BusyDisarmed = 1,
    /// The worker waits for one, its listeners armed.
    Waiting = 2,
    /// The worker does something else, and its listeners are armed, because it was alone: the kernel may wake it, to
    /// no purpose.
    BusyArmed = 3,
}

/// One worker's values at about one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotReading {
    /// The worker's age; never 0 here.
    pub age: u64,
    /// The last heartbeat that counts ([`Slot::set_stuck`]); `None` before the first.
    pub beat: Option<Instant>,
    /// The application is loaded and the worker serves.
    pub booted: bool,
    /// Open connections.
    pub connections: u32,
    /// Requests begun since the worker started.
    pub requests: u64,
    /// The worker's readiness for a new connection.
    pub accepting: Accepting,
    /// The worker has begun to leave.
    pub leaving: bool,
}

impl SlotReading {
    /// Tells whether the kernel may use wake-ups up for this worker that it does not act upon soon, or ever.
    pub fn may_lose_wakeup(&self) -> bool {
        match self.accepting {
            Accepting::No | Accepting::BusyDisarmed => false,
            Accepting::Waiting => self.leaving,
            Accepting::BusyArmed => true,
        }
    }
}

fn reading(cells: &Cells) -> SlotReading {
    let instant = |cell: &AtomicU64| Some(Instant(cell.load(Relaxed))).filter(|at| at.0 != 0);
    let (beat, stuck) = (instant(&cells.beat), instant(&cells.stuck));
    SlotReading {
        age: cells.age.load(Relaxed),
        beat: beat.map(|beat| stuck.map_or(beat, |stuck| stuck.min(beat))),
        booted: cells.booted.load(Relaxed) != 0,
        connections: cells.connections.load(Relaxed),
        requests: cells.requests.load(Relaxed),
        accepting: match cells.accepting.load(Relaxed) {
            0 => Accepting::No,
            1 => Accepting::BusyDisarmed,
            2 => Accepting::Waiting,
            _ => Accepting::BusyArmed,
        },
        leaving: cells.leaving.load(Relaxed) != 0,
    }
}

/// One worker's slot. The worker writes, every process reads. Cheap to clone; usable from any thread. In a child that
/// the application forks it is still the parent's: what that child says about itself (a signal handler that it has
/// inherited, say) is not written.
#[derive(Clone, Debug)]
pub struct Slot {
    board: Scoreboard,
    index: u32,
    /// The generation of the process that may write.
    owner: u32,
}

impl Slot {
    fn cells(&self) -> &Cells {
        self.board.cells(self.index)
    }

    fn own_cells(&self) -> Option<&Cells> {
        (atfork::generation() == self.owner).then(|| self.cells())
    }

    /// Writes a value, if this process may.
    fn put(&self, cell: impl FnOnce(&Cells) -> &AtomicU32, value: u32) {
        if let Some(cells) = self.own_cells() {
            cell(cells).store(value, Relaxed);
        }
    }

    /// Makes the slot this process's own: the worker's, right after its fork.
    #[must_use]
    pub fn claim_for_child(self) -> Self {
        Self { owner: atfork::generation(), ..self }
    }

    /// Returns the board that the slot is part of.
    pub fn board(&self) -> &Scoreboard {
        &self.board
    }

    /// Returns the handoff queue, if there is one, for the worker itself: children that it forks do not get it.
    pub fn handoff(&self) -> Option<HandoffEnds> {
        let ends = self.board.handoff().ok()?;
        ends.withhold();
        Some(ends)
    }

    /// Reads the slot.
    pub fn read(&self) -> SlotReading {
        reading(self.cells())
    }

    /// Says "I am alive". The watch over a worker begins with its first beat. No system call.
    pub fn beat(&self, now: Instant) {
        if let Some(cells) = self.own_cells() {
            cells.beat.store(now.0.max(1), Relaxed);
        }
    }

    /// Says that what beats, from `since` on, proves nothing: its application may be stuck. A beat after that counts as
    /// one at that time. `None`: beats count again.
    pub fn set_stuck(&self, since: Option<Instant>) {
        if let Some(cells) = self.own_cells() {
            cells.stuck.store(since.map_or(0, |since| since.0.max(1)), Relaxed);
        }
    }

    /// Says "the application is loaded, I serve". During a reload the master tells old workers to stop only after
    /// this. Wakes the master.
    pub fn set_booted(&self) {
        if let Some(cells) = self.own_cells() {
            cells.booted.store(1, Relaxed);
            self.board.wake_master();
        }
    }

    /// Says "I take no more connections and leave when my requests are answered". The master replaces such a worker at
    /// once. Wakes the master, the first time.
    pub fn set_leaving(&self) {
        if self.own_cells().is_some_and(|cells| cells.leaving.swap(1, Relaxed) == 0) {
            self.board.wake_master();
        }
    }

    /// Asks for the permit to recycle itself (`max_requests`), of which there is one: with it no other worker leaves
    /// for that reason until the master has seen a replacement. `false`: another worker has it, or not as many workers
    /// as are wanted serve at present. A worker that is alone needs none.
    pub fn begin_recycling(&self) -> bool {
        let wanted = self.board.workers();
        if wanted <= 1 {
            return true;
        }
        let permit = &self.board.header().recycling;
        if permit.load(Relaxed) != 0 || self.own_cells().is_none() {
            return false;
        }
        let serve = |reading: &SlotReading| reading.booted && !reading.leaving;
        if self.board.readings().filter(serve).count() < wanted as usize {
            return false;
        }
        permit.compare_exchange(0, self.read().age, Relaxed, Relaxed).is_ok()
    }

    /// Counts one more request begun, and returns how many they are now.
    pub fn add_request(&self) -> u64 {
        let Some(cells) = self.own_cells() else { return self.read().requests };
        cells.requests.fetch_add(1, Relaxed) + 1
    }

    /// Counts requests on from another number.
    pub fn set_requests(&self, requests: u64) {
        if let Some(cells) = self.own_cells() {
            cells.requests.store(requests, Relaxed);
        }
    }

    /// Says how many connections are open.
    pub fn set_connections(&self, connections: u32) {
        self.put(|cells| &cells.connections, connections);
    }

    /// Says what becomes of new connections here.
    pub fn set_accepting(&self, accepting: Accepting) {
        self.put(|cells| &cells.accepting, accepting as u32);
    }

    /// Says that this worker leaves while others go on with its listeners. The master's, with the signal, or the
    /// worker's own.
    pub fn mark_replaced(&self) {
        self.put(|cells| &cells.replaced, 1);
    }

    /// Tells whether others will accept what waits at the worker's listeners, as far as was known when it was told to
    /// leave.
    pub fn is_replaced(&self) -> bool {
        self.cells().replaced.load(Relaxed) != 0
    }

    /// Tells whether another worker serves and will go on to, or boots.
    pub fn has_sibling(&self) -> bool {
        let own = self.read().age;
        self.board.readings().any(|reading| reading.age != own && !reading.leaving)
    }

    /// Gives the slot back. The master's, when the worker has been reaped.
    pub fn release(&self) {
        self.clear();
        if self.cells().age.swap(0, Relaxed) != 0 {
            self.board.header().present.fetch_sub(1, Relaxed);
        }
    }

    fn clear(&self) {
        let cells = self.cells();
        for cell in [&cells.booted, &cells.connections, &cells.accepting, &cells.leaving, &cells.replaced] {
            cell.store(0, Relaxed);
        }
        for cell in [&cells.beat, &cells.requests, &cells.stuck] {
            cell.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
#[path = "tests/shared.rs"]
mod tests;
