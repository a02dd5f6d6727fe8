//! Work that other threads give to the loop: threads that run the application must not touch the reactor, so they say what
//! is to be done with it.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys::waker::Waker;

use super::Reactor;

/// Something to do with the reactor, on its thread, with nothing borrowed.
pub type Task = Box<dyn FnOnce(&Reactor) + Send>;

/// A queue of tasks in the order in which they were posted, and the way to wake the loop for them.
pub struct Mailbox {
    tasks: Mutex<Tasks>,
    waker: Waker,
}

#[derive(Default)]
struct Tasks {
    queue: Vec<Task>,
    closed: bool,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("waiting", &self.tasks().queue.len()).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// An empty one.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self { tasks: Mutex::default(), waker: Waker::new()? })
    }

    /// Has `task` run by the loop, soon. Once the loop is over tasks are dropped instead, and whatever they own with them:
    /// who waits for one learns it by the end of the channel that it would have answered on.
    pub fn post(&self, task: Task) {
        {
            let mut tasks = self.tasks();
            if tasks.closed {
                drop(tasks);
                return drop(task);
            }
            tasks.queue.push(task);
        }
        self.waker.wake();
    }

    /// The loop is over.
    pub fn close(&self) {
        let dropped = {
            let mut tasks = self.tasks();
            tasks.closed = true;
            std::mem::take(&mut tasks.queue)
        };
        drop(dropped);
    }

    /// What the loop polls.
    pub(super) fn fd(&self) -> RawFd {
        self.waker.fd()
    }

    /// The loop is about to wait. `false`: it must not, there are tasks.
    pub(super) fn begin_wait(&self) -> bool {
        let tasks = self.tasks();
        let empty = tasks.queue.is_empty();
        self.waker.set_sleeping(empty);
        empty
    }

    /// The loop has waited.
    pub(super) fn end_wait(&self) {
        self.waker.set_sleeping(false);
    }

    /// The descriptor was readable.
    pub(super) fn drain(&self) {
        self.waker.drain();
    }

    pub(super) fn take(&self) -> Vec<Task> {
        std::mem::take(&mut self.tasks().queue)
    }

    /// No code of others runs under the lock, so a poisoned one is as good as any.
    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
