//! The ring itself: set-up, submission, waiting, reaping. It knows nothing of operations.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::thread::{self, ThreadId};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, squeue};

use crate::sys::clock::{self, Instant};
use crate::sys::inherited;

/// Below this there is no use in halving further: overflow would be the normal case.
const CQ_ENTRIES_MIN: u32 = 512;
/// The submission queue of the smallest ring.
const SQ_ENTRIES_MIN: u32 = 64;
/// Longer time-outs (about 30 years) are as good as this one, and could overflow the kernel's time.
const WAIT_MAX: Duration = Duration::from_secs(1_000_000_000);

/// How long enters in a row may be refused for the moment before that counts as for good.
const REFUSED_MAX: Duration = Duration::from_secs(5);
/// Refusals that are farther apart have nothing to do with each other.
const REFUSALS_APART: Duration = Duration::from_secs(2);
/// The first of them, which are followed by the next at once.
const REFUSALS_FREE: u32 = 10;
/// Between two of the others, so that the worker does not spin.
const REFUSED_PAUSE: Duration = Duration::from_millis(1);

pub(super) struct Ring {
    /// Dropped by hand: in a forked child its mappings are not there, and other mappings may be at their addresses.
    ring: ManuallyDrop<IoUring>,
    /// `IORING_ENTER_NO_IOWAIT` (6.15): without it an idle server is accounted as 100% I/O wait.
    no_iowait: bool,
    /// Completions reaped while looking for a certain one.
    pub(super) stash: VecDeque<cqueue::Entry>,
    /// Entries that found the submission queue full and the kernel unwilling.
    backlog: VecDeque<squeue::Entry>,
    /// Times that all queued entries have been submitted; wraps, and then says of an old one that it is queued.
    round: u16,
    pub(super) enters: u64,
    pub(super) overflows: u64,
    /// Enters in a row that the kernel has refused for the moment.
    refusals: u32,
    /// The times of the first and the last of them.
    refused: (Instant, Instant),
    /// The kernel refuses every other thread (`EEXIST`).
    owner: (u32, ThreadId),
}

impl Ring {
    /// Makes a ring for this thread of this process. `ENOMEM` (the locked-memory limit, which all processes of a user
    /// share) is answered with smaller queues.
    pub(super) fn open(sq_entries: u32, cq_entries: u32) -> io::Result<Self> {
        let (mut sq, mut cq) = (sq_entries, cq_entries);
        let ring = loop {
            match build(sq, cq) {
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && cq > CQ_ENTRIES_MIN => {
                    cq = (cq / 2).max(CQ_ENTRIES_MIN);
                    sq = sq.min((cq / 8).max(SQ_ENTRIES_MIN));
                }
                other => break other?,
            }
        };
        let params = ring.params();
        // Waiting with a time-out, never losing a completion, waiting for sockets without a thread each.
        if !(params.is_feature_ext_arg() && params.is_feature_nodrop() && params.is_feature_fast_poll()) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // A forked child that had it would keep the operations in flight, and their files, for a parent that has died.
        inherited::withhold(ring.as_raw_fd());
        Ok(Self {
            no_iowait: params.is_feature_no_iowait(),
            ring: ManuallyDrop::new(ring),
            stash: VecDeque::new(),
            backlog: VecDeque::new(),
            round: 0,
            enters: 0,
            overflows: 0,
            refusals: 0,
            refused: Default::default(),
            owner: (std::process::id(), thread::current().id()),
        })
    }

    /// Tells whether this is the process that made the ring. In a forked child nothing here may be touched.
    pub(super) fn is_own_process(&self) -> bool {
        self.owner.0 == std::process::id()
    }

    /// Closes a forked child's copy of the descriptor and touches nothing else. Nothing may be called after it.
    pub(super) fn close_in_child(&self) {
        // SAFETY: `IoUring` owns the descriptor, and in a child it is never used or dropped again (`forget_after_fork`
        // leaks it, `Drop` leaves it in its `ManuallyDrop`), so the number is closed once.
        unsafe { libc::close(self.ring.as_raw_fd()) };
    }

    pub(super) fn fileno(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    pub(super) fn inner(&self) -> &IoUring {
        &self.ring
    }

    pub(super) fn describe(&self) -> String {
        let params = self.ring.params();
        let iowait = if self.no_iowait { ", no_iowait" } else { "" };
        format!(
            "single issuer, deferred task work, sq {}, cq {}{iowait}",
            params.sq_entries(),
            params.cq_entries()
        )
    }

    /// Queues an entry for the next `enter`; a full queue is submitted first.
    ///
    /// # Safety
    /// Memory named by the entry stays valid until its terminal completion.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        debug_assert!(self.is_own_process(), "the ring belongs to another");
        if self.backlog.is_empty() {
            // SAFETY: memory named by the entry stays valid until its terminal completion: the contract of this
            // function.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // An error leaves the queue full, and the entry goes to the backlog; as does that of another thread.
            if self.owner.1 == thread::current().id() {
                let _ = self.submit();
            }
            // SAFETY: memory named by the entry stays valid until its terminal completion: the contract of this
            // function.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    fn push_backlog(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: memory named by the entry stays valid until its terminal completion: the caller of `push`
            // promised it when the entry came in, and only this queue has kept it since.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// Returns the number of the round in which entries that are queued now will be submitted. One that is queued is
    /// part of a round that is over only if the kernel has it.
    pub(super) fn round(&self) -> u16 {
        self.round
    }

    /// Tells whether all that was received can be seen, so that nothing comes of a reception whose cancellation is
    /// queued now: that takes effect with the next enter, before anything is received.
    pub(super) fn shows_all(&mut self) -> bool {
        !self.ring.submission().cq_overflow()
    }

    /// Returns the number of entries that the kernel has not seen.
    pub(super) fn unsubmitted(&mut self) -> usize {
        self.backlog.len() + self.ring.submission().len()
    }

    /// Submits without reaping or waiting.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.enter(0, EnterFlags::empty(), None)
    }

    /// Submits, and lets deferred work run, so that what is finished reaches the completion queue. Does not wait.
    pub(super) fn progress(&mut self) -> io::Result<()> {
        self.enter(0, EnterFlags::GETEVENTS, None)
    }

    /// Submits, and waits for one completion.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.enter(1, EnterFlags::GETEVENTS, timeout)
    }

    /// Tells whether more finished work waits for an `enter` (one runs about 20 pieces).
    pub(super) fn has_deferred_work(&mut self) -> bool {
        self.ring.submission().taskrun()
    }

    /// Tells whether something can be reaped without a system call.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.stash.is_empty() || !self.ring.completion().is_empty()
    }

    fn enter(&mut self, want: u32, mut flags: EnterFlags, timeout: Option<Duration>) -> io::Result<()> {
        debug_assert_eq!(
            self.owner,
            (std::process::id(), thread::current().id()),
            "the ring belongs to another"
        );
        self.push_backlog();
        // All of it first, and nothing is received meanwhile: a cancellation that came in after the queue was full
        // takes effect before its reception goes on.
        while !self.backlog.is_empty() {
            let before = self.backlog.len();
            if let Err(error) = self.enter_once(0, EnterFlags::empty(), None) {
                return self.judge(error);
            }
            self.push_backlog();
            if self.backlog.len() == before {
                return self.refused(io::Error::from_raw_os_error(libc::EAGAIN));
            }
        }
        let overflow = self.ring.submission().cq_overflow();
        if overflow {
            // What did not fit comes into the queue only by asking; and it is there, so there is nothing to wait for.
            self.overflows += 1;
            flags.insert(EnterFlags::GETEVENTS);
        }
        match self.enter_once(if overflow { 0 } else { want }, flags, timeout) {
            Ok(()) => {
                self.refusals = 0;
                if self.unsubmitted() == 0 {
                    self.round = self.round.wrapping_add(1);
                }
                Ok(())
            }
            Err(error) => self.judge(error),
        }
    }

    /// Submits what is in the submission queue.
    fn enter_once(&mut self, want: u32, mut flags: EnterFlags, timeout: Option<Duration>) -> io::Result<()> {
        self.enters += 1;
        let queued = self.ring.submission().len() as u32;
        if want > 0 && self.no_iowait {
            flags.insert(EnterFlags::NO_IOWAIT);
        }
        let submitter = self.ring.submitter();
        let result = match timeout {
            Some(timeout) if want > 0 => {
                let timespec = Timespec::from(timeout.min(WAIT_MAX));
                let args = SubmitArgs::new().timespec(&timespec);
                flags.insert(EnterFlags::EXT_ARG);
                // SAFETY: EXT_ARG says that the argument is a SubmitArgs; it and what it points to outlive the call.
                unsafe { submitter.enter(queued, want, flags.bits(), Some(&args)) }
            }
            // SAFETY: no argument is passed.
            _ => unsafe { submitter.enter::<libc::sigset_t>(queued, want, flags.bits(), None) },
        };
        result.map(drop)
    }

    /// Handles a failed enter. In all cases that go on, what was not submitted is still queued.
    fn judge(&mut self, error: io::Error) -> io::Result<()> {
        match error.raw_os_error() {
            // The time is over; a signal came.
            Some(libc::ETIME | libc::EINTR) => Ok(()),
            // The kernel wants completions reaped first, or is short of memory for a moment.
            Some(libc::EBUSY | libc::EAGAIN) => self.refused(error),
            _ => Err(error),
        }
    }

    /// Handles an enter that the kernel has refused for the moment.
    fn refused(&mut self, error: io::Error) -> io::Result<()> {
        let now = clock::now();
        let (first, last) = self.refused;
        // Between two that are far apart something else took the time, such as a call of the application.
        if self.refusals == 0 || now.since(last) >= REFUSALS_APART {
            self.refusals = 0;
            self.refused.0 = now;
        } else if now.since(first) >= REFUSED_MAX {
            return Err(error);
        }
        self.refused.1 = now;
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > REFUSALS_FREE {
            thread::sleep(REFUSED_PAUSE);
        }
        Ok(())
    }

    /// Takes the next completion, the stash first.
    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        if let Some(entry) = self.stash.pop_front() {
            return Some(entry);
        }
        self.ring.completion().next()
    }

    /// Copies all completions to the stash.
    pub(super) fn reap(&mut self) {
        let Self { ring, stash, .. } = self;
        stash.extend(ring.completion());
    }
}

/// Takes the completions with this user data out of a queue, in order.
pub(super) fn take_matching(queue: &mut VecDeque<cqueue::Entry>, user_data: u64) -> Vec<cqueue::Entry> {
    let mut found = Vec::new();
    queue.retain(|entry| {
        let hit = entry.user_data() == user_data;
        if hit {
            found.push(entry.clone());
        }
        !hit
    });
    found
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.is_own_process() {
            inherited::release(self.fileno());
            // SAFETY: dropped once, here; nothing uses it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.ring) };
        } else {
            self.close_in_child();
        }
    }
}

fn build(sq_entries: u32, cq_entries: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        // Without this the crate cannot see that deferred work waits.
        .setup_taskrun_flag()
        // One bad entry must not hold up those behind it.
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(cq_entries)
        // A forked child of the application must not reach the queues.
        .dontfork()
        .build(sq_entries)
}
