//! Records of the error log that its reader does not take at the moment: a pipe, a terminal or a socket whose other end
//! has stopped reading. They wait here, up to a bound, and the rest is counted; a write that waits would stop the loop,
//! and with it every connection of the worker, for as long as nobody reads the log.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread::yield_now;

use rgunicorn_io::sys::logfile::LogFile;

/// The most bytes that wait: the largest report several times over, and little beside a worker.
pub const BACKLOG_BYTES_MAX: usize = 1024 * 1024;

/// The number of tries at the lock, with other threads let run in between. It is held for moments only; but a child
/// that was forked in one of them would wait for ever.
const LOCK_TRIES_MAX: u32 = 1_000;

/// The records that wait, of one process. Any thread may add to them.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Whether there may be any: a log that flows takes no lock.
    waits: AtomicBool,
    held: Mutex<Held>,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// The process that put them here: a forked child must not write the records of its parent a second time.
    pid: u32,
}

impl Backlog {
    /// Tells whether records may wait.
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// Writes `bytes` behind what waits, or lets them wait as well.
    pub(super) fn write(&self, file: &LogFile, bytes: &[u8]) {
        let rest = if self.waits() { bytes } else { put(file, bytes) };
        if rest.is_empty() {
            return;
        }
        let held = self.lock().is_some_and(|mut held| {
            let torn = rest.len() < bytes.len();
            if held.bytes.len() + rest.len() <= BACKLOG_BYTES_MAX {
                held.bytes.extend_from_slice(rest);
                return true;
            }
            if torn {
                // The next record begins on a line of its own.
                held.bytes.push(b'\n');
            }
            false
        });
        self.waits.store(true, Ordering::Release);
        if !held {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what waits, as far as the file takes it. When that was all: the number of records that were lost since
    /// the last time.
    pub(super) fn flush(&self, file: &LogFile) -> u64 {
        let Some(mut held) = self.lock() else { return 0 };
        let left = write_lines(file, &held.bytes).len();
        let written = held.bytes.len() - left;
        held.bytes.drain(..written);
        if left > 0 {
            return 0;
        }
        held.bytes.shrink_to(0);
        self.waits.store(false, Ordering::Release);
        drop(held);
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Locks what waits in this process.
    fn lock(&self) -> Option<MutexGuard<'_, Held>> {
        let mut held = self.try_lock()?;
        let pid = std::process::id();
        if held.pid != pid {
            *held = Held { bytes: Vec::new(), pid };
            self.lost.store(0, Ordering::Relaxed);
        }
        Some(held)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Held>> {
        for _ in 0..LOCK_TRIES_MAX {
            match self.held.try_lock() {
                Ok(held) => return Some(held),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => yield_now(),
            }
        }
        None
    }
}

/// Writes lines in pieces that stay whole; returns the rest, which the file does not take now.
fn write_lines<'a>(file: &LogFile, mut bytes: &'a [u8]) -> &'a [u8] {
    let together = file.atomic_bytes_max();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(whole_lines(bytes, together));
        let left = put(file, piece).len();
        if left > 0 {
            return &bytes[piece.len() - left..];
        }
        bytes = rest;
    }
    bytes
}

/// Writes bytes; returns the rest, which the file does not take now. What it will never take is gone.
fn put<'a>(file: &LogFile, mut bytes: &'a [u8]) -> &'a [u8] {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(written @ 1..) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return bytes,
            Ok(0) | Err(_) => return &[],
        }
    }
    bytes
}

/// Returns the length of as many whole lines as one write keeps together (`together` bytes), or of one longer line.
pub(super) fn whole_lines(bytes: &[u8], together: usize) -> usize {
    let Some(start) = bytes.get(..together) else { return bytes.len() };
    let newline = memchr::memrchr(b'\n', start).or_else(|| memchr::memchr(b'\n', bytes));
    newline.map_or(bytes.len(), |newline| newline + 1)
}
