//! The queue of the error log's records for Python's `logging`. That may not be called where the records
//! arise (it may switch greenlets, and other state is open there), so they wait here until it may.

use std::collections::VecDeque;
use std::mem;
use std::sync::TryLockError;

use rgunicorn_io::sys::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use rgunicorn_io::sys::sync::{Mutex, MutexGuard, yield_now};

use super::level::Level;

/// The most records that wait. A loop takes them each turn, so these are for a turn in which very much goes
/// wrong.
pub const QUEUED_RECORDS_MAX: usize = 1_000;

/// The most bytes that the texts of waiting records take: stacks of all greenlets are long.
pub const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The number of tries at the lock, with other threads let run in between. It is held for moments only; but a
/// child that was forked in one of them would wait for ever.
const LOCK_TRIES_MAX: u32 = 1_000;

/// One record, without time and process, which its writer adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its severity.
    pub level: Level,
    /// The message, of one line or several.
    pub text: String,
}

/// The queue, and whether it is in use. Any thread may push and take.
#[derive(Debug, Default)]
pub(super) struct RecordQueue {
    on: AtomicBool,
    /// Whether there may be something to take: most turns have nothing, and ask for it all the same.
    pending: AtomicBool,
    queue: Mutex<Queue>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Record>,
    bytes: usize,
    /// The process that pushed them, 0 before the first: a child must not give out the records of its parent.
    pid: u32,
    /// The figure of [`RecordQueue::dropped`] when records were last taken.
    dropped_reported: u64,
}

impl RecordQueue {
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    pub(super) fn set_on(&self, on: bool) {
        self.on.store(on, Ordering::Release);
    }

    /// Queues a record; if there is no room, it is dropped and counted.
    pub(super) fn push(&self, record: Record) {
        let fits = self.lock().is_some_and(|mut queue| queue.push(record));
        if !fits {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.pending.store(true, Ordering::Release);
    }

    /// Takes all records, oldest first; the last one says how many were dropped since the last time, if any
    /// were.
    pub(super) fn take(&self) -> Vec<Record> {
        if !self.pending.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        let Some(mut queue) = self.lock() else {
            self.pending.store(true, Ordering::Release);
            return Vec::new();
        };
        let mut records = Vec::from(mem::take(&mut queue.records));
        queue.bytes = 0;
        let dropped = self.dropped();
        let lost = dropped - queue.dropped_reported;
        queue.dropped_reported = dropped;
        drop(queue);
        if lost > 0 {
            let text = format!("{lost} records of this log were dropped: too many at a time");
            records.push(Record { level: Level::Warning, text });
        }
        records
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Locks the queue of this process.
    fn lock(&self) -> Option<MutexGuard<'_, Queue>> {
        self.lock_as(std::process::id())
    }

    fn lock_as(&self, pid: u32) -> Option<MutexGuard<'_, Queue>> {
        let mut queue = self.try_lock()?;
        if queue.pid != pid {
            let dropped_reported = if queue.pid == 0 { 0 } else { self.dropped() };
            *queue = Queue { pid, dropped_reported, ..Queue::default() };
        }
        Some(queue)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Queue>> {
        for _ in 0..LOCK_TRIES_MAX {
            match self.queue.try_lock() {
                Ok(queue) => return Some(queue),
                // A panic in between leaves a queue whose count may be off by one record.
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => yield_now(),
            }
        }
        None
    }
}

impl Queue {
    /// Adds a record if there is room, and returns whether there was.
    fn push(&mut self, record: Record) -> bool {
        let bytes = self.bytes + record.text.len();
        if self.records.len() >= QUEUED_RECORDS_MAX || bytes > QUEUED_BYTES_MAX {
            return false;
        }
        self.bytes = bytes;
        self.records.push_back(record);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record { level: Level::Info, text: "x".to_owned() }
    }

    #[test]
    fn a_child_begins_with_an_empty_queue_and_tells_nothing_of_its_parents_losses() {
        let queue = RecordQueue::default();
        queue.push(record());
        assert_eq!(queue.lock().unwrap().records.len(), 1);
        queue.dropped.store(3, Ordering::Relaxed);
        // As after a fork: the same memory, another process.
        let queue = queue.lock_as(std::process::id().wrapping_add(1)).unwrap();
        assert_eq!((queue.records.len(), queue.bytes, queue.dropped_reported), (0, 0, 3));
    }

    #[test]
    fn a_lock_that_is_never_released_drops() {
        let queue = RecordQueue::default();
        let held = queue.queue.try_lock().unwrap();
        queue.push(record());
        assert_eq!((queue.dropped(), queue.take().len()), (1, 0));
        drop(held);
        assert_eq!(queue.take().len(), 1);
    }

    #[test]
    fn a_panic_with_the_lock_stops_no_other_thread() {
        let queue = RecordQueue::default();
        let panicked = std::thread::scope(|scope| {
            let broken = || {
                let _held = queue.queue.try_lock();
                panic!("with the lock held");
            };
            scope.spawn(broken).join()
        });
        assert!(panicked.is_err());
        queue.push(record());
        assert_eq!(queue.take(), [record()]);
    }
}
