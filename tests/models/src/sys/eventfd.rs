//! A model of eventfd(2) and of a poll that waits for it: a counter behind a lock, as it is in the kernel.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use loom::sync::{Condvar, Mutex};

thread_local! {
    /// The eventfd that was made last, for the model that has caused it and polls it. All threads of a model share one
    /// real thread.
    static NEWEST: RefCell<Option<EventFd>> = const { RefCell::new(None) };
}

/// The flags that the product asks for.
#[derive(Clone, Copy)]
pub struct EfdFlags;

impl EfdFlags {
    pub const EFD_CLOEXEC: Self = Self;
    pub const EFD_NONBLOCK: Self = Self;
}

impl std::ops::BitOr for EfdFlags {
    type Output = Self;
    fn bitor(self, _: Self) -> Self {
        self
    }
}

/// EAGAIN, in the place of nix's `Errno`.
#[derive(Debug)]
pub struct Again;

impl From<Again> for io::Error {
    fn from(_: Again) -> Self {
        io::ErrorKind::WouldBlock.into()
    }
}

#[derive(Debug, Default)]
struct Counter {
    count: Mutex<u64>,
    grown: Condvar,
}

/// A non-blocking eventfd; clones are one descriptor.
#[derive(Clone, Debug)]
pub struct EventFd {
    counter: Arc<Counter>,
    number: Arc<io::Stdin>,
}

impl EventFd {
    /// As nix's.
    ///
    /// # Errors
    /// None.
    pub fn from_flags(_: EfdFlags) -> io::Result<Self> {
        let event = Self { counter: Arc::default(), number: Arc::new(io::stdin()) };
        NEWEST.set(Some(event.clone()));
        Ok(event)
    }

    /// The one that the code under test has just made.
    pub fn newest() -> Self {
        NEWEST.take().expect("the code under test has made one")
    }

    /// As nix's.
    ///
    /// # Errors
    /// None: the models do not count to 2^64.
    pub fn write(&self, value: u64) -> io::Result<usize> {
        *self.counter.count.lock().unwrap() += value;
        self.counter.grown.notify_all();
        Ok(8)
    }

    /// As nix's.
    ///
    /// # Errors
    /// EAGAIN when nothing was written.
    pub fn read(&self) -> Result<u64, Again> {
        match std::mem::take(&mut *self.counter.count.lock().unwrap()) {
            0 => Err(Again),
            count => Ok(count),
        }
    }

    /// A poll without a time limit: sleeps until the descriptor is readable. What has been written, in all.
    pub fn poll(&self) -> u64 {
        let mut count = self.counter.count.lock().unwrap();
        while *count == 0 {
            count = self.counter.grown.wait(count).unwrap();
        }
        *count
    }

    /// What has been written since the last read.
    pub fn count(&self) -> u64 {
        *self.counter.count.lock().unwrap()
    }
}

/// A real descriptor, which nothing uses: the code under test only wants a number.
impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.number.as_fd()
    }
}
