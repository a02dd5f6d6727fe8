//! A thread of ours beside those of the application, which looks after something and calls Python now and then.
//!
//! **The end.** A thread that waits for the interpreter while that is finalized never gets it. In pyo3's own wait it
//! hangs for good; in the middle of Python code CPython (up to 3.13) ends it by `pthread_exit`, which unwinds Rust
//! frames, and Rust answers that by aborting the process. So the thread is joined before the worker returns to Python,
//! with the interpreter given up meanwhile. Its work uses `try_attach`, for an end that somehow comes without that.
//!
//! **Forks.** A child that the application forks has no such thread, and its copy of [`SideThread`] leaves the handle
//! alone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pyo3::prelude::*;

use rgunicorn_io::sys::{atfork, signal};

/// Python frames take no C stack; what does is a few levels of the interpreter.
const STACK_BYTES: usize = 512 * 1024;

/// A thread that works until it is told to leave. Dropping it does that, and waits for its end.
#[derive(Debug)]
pub(super) struct SideThread {
    leave: Leave,
    thread: Option<JoinHandle<()>>,
    forks: u32,
}

/// A side thread's view of whether it is to leave.
#[derive(Clone, Debug, Default)]
pub(super) struct Leave(Arc<AtomicBool>);

impl Leave {
    /// Tells whether the thread is to leave.
    pub(super) fn is_told(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Sleeps for this time, or until the thread is told to leave; now and then for less.
    pub(super) fn sleep(&self, time: Duration) {
        if !self.is_told() {
            thread::park_timeout(time);
        }
    }
}

impl SideThread {
    /// Starts a thread that does `work`. The kernel keeps 15 bytes of its name, for `ps -L`.
    ///
    /// # Errors
    /// Those of the system, where there can be no further thread (RLIMIT_NPROC, pids.max).
    pub(super) fn start(name: &str, work: impl FnOnce(&Leave) + Send + 'static) -> io::Result<Self> {
        let leave = Leave::default();
        let told = leave.clone();
        // Signals are the loop's: a thread inherits the mask that holds while it is made.
        let blocked = signal::block_all()?;
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || work(&told))?;
        drop(blocked);
        Ok(Self { leave, thread: Some(thread), forks: atfork::generation() })
    }
}

impl Drop for SideThread {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if atfork::generation() != self.forks {
            // Of the thread a forked child has only the number.
            return std::mem::forget(thread);
        }
        self.leave.0.store(true, Relaxed);
        thread.thread().unpark();
        // The thread may be about to call Python. How it ended does not matter.
        Python::attach(|py| py.detach(|| drop(thread.join())));
    }
}
