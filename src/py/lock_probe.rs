//! The proof that Python can run, for a loop that beats without it.
//!
//! In threads mode the loop never waits for the interpreter lock, so that its beats say nothing about the application:
//! a request that never gives the lock up (a regular expression that backtracks for hours, C code that forgets it)
//! would stop all others for good, unseen by the master. A thread of ours asks for the lock now and then, and says on
//! the score-board since when it has not got it: beats from then on do not count ([`Slot::set_stuck`]). Requests that
//! wait without the lock may take as long as they like, and neither loop nor requests do anything for it.

use std::time::Duration;

use pyo3::prelude::*;

use rgunicorn_io::sys::clock;
use rgunicorn_io::sys::shared::Slot;
use rgunicorn_server::log::ErrorLog;

use super::side_thread::{Leave, SideThread};

/// The thread's name in `ps -L`.
const THREAD_NAME: &str = "lock-probe";

/// The thread that asks for the interpreter lock. Dropping it ends the thread and waits for that.
#[derive(Debug)]
pub struct LockProbe {
    _thread: SideThread,
}

impl LockProbe {
    /// Asks for the lock once in `every`, on behalf of the worker with this slot. Where there can be no further thread
    /// a warning says so, and the worker serves without: what only watches decides nothing.
    pub fn start(slot: &Slot, every: Duration, errors: &ErrorLog) -> Option<Self> {
        let slot = slot.clone();
        SideThread::start(THREAD_NAME, move |leave| probe(&slot, every, leave))
            .inspect_err(|error| {
                let what = "Cannot watch the interpreter lock, serving without";
                errors.warning(format_args!("{what} (timeout): {error}"));
            })
            .ok()
            .map(|_thread| Self { _thread })
    }
}

/// Asks for the lock until it is told to leave.
fn probe(slot: &Slot, every: Duration, leave: &Leave) {
    let ask = || slot.set_stuck(Some(clock::now()));
    ask();
    // Attached for good: each thread state that is made anew is a chance for a fork to find it half made.
    Python::try_attach(|py| {
        slot.set_stuck(None);
        while !leave.is_told() {
            py.detach(|| {
                leave.sleep(every);
                ask();
            });
            slot.set_stuck(None);
        }
    });
}

#[cfg(test)]
#[path = "tests/lock_probe.rs"]
mod tests;
