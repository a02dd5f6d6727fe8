//! The handoff queue: established connections on their way from one worker of a server to another (docs/handoff.md).
//!
//! It is a pair of unix sockets that keeps messages apart. The master makes it before the first fork, so that every
//! worker has both ends: one gives a message with the descriptor of a connection (`SCM_RIGHTS`), any other takes it.
//! The kernel holds what nobody has taken yet, and ends those connections when the last process with the queue has
//! gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::sockopt::SndBuf;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    setsockopt, socketpair,
};

use super::inherited;

/// Bytes of a message at most. With what the kernel adds it takes 8 KiB of memory, so that two fit.
pub const HANDOFF_MESSAGE_BYTES_MAX: usize = 7 * 1024 + 256;

/// The size of the queue: about 20 messages, as the kernel counts them. What it holds waits for a worker that has time,
/// and its giver no longer serves it.
const QUEUE_BYTES: usize = 8 * 1024;

/// The errno of a message that comes when as many descriptors are in messages as the user's processes may have open.
pub const TOO_MANY_UNDER_WAY: i32 = libc::ETOOMANYREFS;

/// Both ends of a queue.
#[derive(Debug)]
pub struct HandoffQueue {
    give: OwnedFd,
    take: OwnedFd,
}

/// The descriptors of both ends, for a worker.
#[derive(Clone, Copy, Debug)]
pub struct HandoffEnds {
    /// See [`give`].
    pub give: RawFd,
    /// See [`take`]. Readable while there is a message.
    pub take: RawFd,
}

impl HandoffEnds {
    /// Keeps the queue from children of this process, which are no workers.
    pub(super) fn withhold(self) {
        inherited::withhold(self.give);
        inherited::withhold(self.take);
    }
}

impl HandoffQueue {
    /// Makes an empty queue, which holds about 20 messages.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (give, take) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        setsockopt(&give, SndBuf, &QUEUE_BYTES)?;
        Ok(Self { give, take })
    }

    /// Returns the descriptors.
    pub fn ends(&self) -> HandoffEnds {
        HandoffEnds { give: self.give.as_raw_fd(), take: self.take.as_raw_fd() }
    }
}

/// The fate of a connection at the handoff queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HandoffEvent {
    /// Given by a worker that leaves.
    GivenLeaving,
    /// Given by a worker that has more than its share.
    GivenSpread,
    /// Given by a worker whose application works.
    GivenBusy,
    /// Taken by a sibling.
    Taken,
    /// Not given for now: the queue was full, or the kernel has not seen its reception. Counts at each try.
    Full,
    /// Not given: a request of more bytes than a message carries, or one whose bytes are not kept. Counts at each try.
    Unfit,
    /// Not given: the kernel does not let it pass.
    Refused,
    /// Closed by its taker, which did not understand the message; one of those taken.
    NotUnderstood,
}

impl HandoffEvent {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::GivenLeaving,
        Self::GivenSpread,
        Self::GivenBusy,
        Self::Taken,
        Self::Full,
        Self::Unfit,
        Self::Refused,
        Self::NotUnderstood,
    ];
    /// The ways into the queue.
    pub(super) const GIVEN: [Self; 3] = [Self::GivenLeaving, Self::GivenSpread, Self::GivenBusy];

    /// Returns its name in log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::GivenLeaving => "given while leaving",
            Self::GivenSpread => "given to spread them",
            Self::GivenBusy => "given while busy",
            Self::Taken => "taken",
            Self::Full => "queue full",
            Self::Unfit => "cannot travel",
            Self::Refused => "refused by the kernel",
            Self::NotUnderstood => "not understood",
        }
    }
}

/// Puts a connection with a message about it into the queue. The caller's descriptor is still the caller's.
///
/// # Errors
/// `WouldBlock` if the queue is full, `ETOOMANYREFS` if too many descriptors are under way: later there is room again.
/// Otherwise what sendmsg(2) says.
pub fn give(queue: RawFd, connection: RawFd, message: &[u8]) -> io::Result<()> {
    let rights = [connection];
    let control = [ControlMessage::ScmRights(&rights)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(queue, &[IoSlice::new(message)], &control, flags, None)?;
    Ok(())
}

/// Takes the oldest message and its connection out of the queue; the descriptor is close-on-exec.
///
/// # Errors
/// `WouldBlock` if it is empty. `EMFILE` or `ENFILE` if this process can have no further descriptor, and the message
/// stays. `InvalidData` for a message with another number of descriptors than one. Otherwise what recvmsg(2) says.
pub fn take(queue: RawFd) -> io::Result<(OwnedFd, Vec<u8>)> {
    // A descriptor for which there is no room the kernel drops, and with it the connection: whether there is any is
    // asked by making one.
    drop(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
    let mut bytes = [0; HANDOFF_MESSAGE_BYTES_MAX];
    let mut control = cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (len, mut connections) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(queue, &mut parts, Some(&mut control), flags)?;
        let rights = received.cmsgs().ok().into_iter().flatten().flat_map(|message| match message {
            ControlMessageOwned::ScmRights(rights) => rights,
            _ => Vec::new(),
        });
        // SAFETY: the kernel has made these descriptors for this message, and nothing else knows them.
        let connections: Vec<_> = rights.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
        (received.bytes, connections)
    };
    match (connections.pop(), connections.is_empty()) {
        (Some(connection), true) => Ok((connection, bytes[..len].to_vec())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
#[path = "tests/handoff.rs"]
mod tests;
