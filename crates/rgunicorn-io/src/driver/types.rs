//! The words of the interface: what goes in, what comes out.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use bytes::Bytes;

use crate::sys::inherited;

/// The caller's name for an operation; opaque to the driver, comes back in its completions.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
pub struct Token(pub u64);

/// Handle of an operation in flight. A stale one (its operation is over) is harmless everywhere.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Hash)]
pub struct OpKey {
    pub(crate) index: u32,
    /// Never 0, so that an optional key takes no more than a key: each connection has two of them.
    pub(crate) generation: NonZeroU32,
}

/// A filled receive buffer. It belongs to the caller until it goes back with `Driver::release`, exactly once.
#[must_use = "the buffer is lost to the pool until it is released"]
#[derive(PartialEq, Eq, Debug)]
pub struct BufId {
    pub(crate) id: u16,
    pub(crate) len: u32,
}

impl BufId {
    /// Returns the number of bytes received into it; never 0.
    pub fn len(&self) -> usize {
        self.len as usize
    }
    /// Returns false always: an empty reception is [`Received::Eof`].
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// An accepted connection's descriptor. Closing belongs to `Driver::close`; dropped elsewhere it is simply closed.
#[derive(Debug)]
pub enum Fd {
    /// A descriptor of this process.
    Real(OwnedFd),
    /// A socket of the simulated network: no system call may see it.
    #[cfg(feature = "sim")]
    Virtual(RawFd),
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Real(fd) => fd.as_raw_fd(),
            #[cfg(feature = "sim")]
            Self::Virtual(fd) => *fd,
        }
    }
}

impl From<OwnedFd> for Fd {
    /// Takes a descriptor, and withholds it from children that the application forks.
    fn from(fd: OwnedFd) -> Self {
        inherited::withhold(fd.as_raw_fd());
        Self::Real(fd)
    }
}

impl Fd {
    /// Lets go of a number that leads to another file than the connection, or to none: the application has closed it.
    /// It is not closed a second time.
    pub fn abandon(self) {
        inherited::release(self.as_raw_fd());
        std::mem::forget(self);
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        match self {
            Self::Real(fd) => inherited::release(fd.as_raw_fd()),
            #[cfg(feature = "sim")]
            Self::Virtual(_) => {}
        }
    }
}

/// The memory of a send until the kernel has no more use for it: `head`, then `body`; either may be empty. `body` may
/// be owned elsewhere (`Bytes::from_owner` of a Python object), so dropping one can run foreign code: the driver never
/// drops a `SendBuf` by itself while it runs, it hands every one back.
#[derive(Debug, Default)]
pub struct SendBuf {
    /// Sent first: the response head, and small bodies copied behind it.
    pub head: Vec<u8>,
    /// Sent second, from where it lies.
    pub body: Bytes,
}

impl SendBuf {
    /// Returns the number of bytes to send in all.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }
    /// Tells whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The immediate outcome of a send.
#[derive(Debug)]
#[must_use = "a Ready send gives the buffer back and never completes a second time"]
pub enum Sent {
    /// Over: all bytes are with the kernel, or it failed. No completion follows.
    Ready(io::Result<()>, SendBuf),
    /// A [`Completion::Sent`] (or, after `send_cancel`, a [`Completion::Orphan`]) follows.
    Pending(OpKey),
}

/// How long a send may wait for company.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// Try at once with `MSG_DONTWAIT`; only what does not fit becomes pending. Cheapest when a turn holds one request.
    Now,
    /// Queue: sent with the next wait, or earlier at [`batched_sends_max`](super::BATCHED_SENDS_MAX) queued or when the
    /// oldest has waited for about [`batched_age_max`](super::BATCHED_AGE_MAX).
    Batch,
}

/// An event, as `Driver::wait` tells it. `token` is always that of the operation.
#[derive(Debug)]
pub enum Completion {
    /// Something was received, or reception is over.
    Recv {
        /// The reception's.
        token: Token,
        /// The data, or the end.
        outcome: Received,
    },
    /// Everything was sent, or it failed.
    Sent {
        /// The send's.
        token: Token,
        /// The first error, if not everything was sent.
        result: io::Result<()>,
        /// The buffers come back; drop them where foreign code may run.
        buf: SendBuf,
    },
    /// A send whose owner had gone (`send_cancel`, `close`).
    Orphan {
        /// Its buffers; drop them where foreign code may run.
        buf: SendBuf,
    },
    /// A `poll` or `arm_accept` fired or failed. Terminal.
    Poll {
        /// The poll's.
        token: Token,
        /// The poll(2) mask of what the descriptor is ready for.
        result: io::Result<u32>,
    },
}

/// The outcome of an armed reception.
#[derive(Debug)]
pub enum Received {
    /// Bytes. Reception stays armed.
    Data(BufId),
    /// The peer has finished sending. The operation is over.
    Eof,
    /// The operation is over, and usually so is the connection.
    Err(io::Error),
}

/// Counters since the driver was made.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Waits and submissions: `io_uring_enter` or `epoll_wait` calls.
    pub enters: u64,
    /// Completions handed out.
    pub completions: u64,
    /// Times that the completion queue was found overflown (io_uring only).
    pub overflows: u64,
    /// Receptions parked because no buffer was free.
    pub enobufs: u64,
    /// Receptions armed again by the driver (after parking, or when the kernel ended a multishot).
    pub rearms: u64,
    /// Receptions' completions, or on epoll receptions, that were left for a later wait.
    pub deferrals: u64,
}
