//! Values that pass between the reactor and the application.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;

use rgunicorn_http::RequestHead;
use rgunicorn_http::proxy;
use rgunicorn_io::driver::PeerAddr;
use rgunicorn_io::sys::clock::Instant;

use super::conn::body::Body;
use super::ids::RequestId;

/// A request that is ready for the application: complete, unless its body is [`Body::Incoming`]. Owns all of its memory.
#[derive(Debug)]
pub struct Request {
    /// Its name in calls of the [`Reactor`].
    pub id: RequestId,
    /// Request line and header fields.
    pub head: RequestHead,
    /// The body, at its first byte.
    pub body: Body,
    /// The client's address: the peer's, or what a PROXY header says.
    pub peer: PeerAddr,
    /// The PROXY header that the connection began with.
    pub proxied: Option<Arc<proxy::ProxyHeader>>,
    /// Index of the listener that accepted the connection.
    pub listener: u16,
    /// When the last byte of the request was seen (or of its head, if the body is still to come).
    pub received: Instant,
    /// When that byte arrived at the earliest: a loop that was busy sees late what came meanwhile.
    pub arrived: Instant,
    /// The client asked for keep-alive and the worker agrees.
    pub keep_alive: bool,
    /// The how many-th request of its connection, from 1.
    pub number: u32,
}

/// What became of bytes given to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The kernel has them all.
    Sent,
    /// They are queued; after [`Reactor::park`] the application is resumed when the queue is empty.
    Queued,
    /// The client has left; stop producing.
    Gone,
}

/// One piece of a response on its way out.
#[derive(Debug)]
pub enum Outgoing {
    /// `head` and then `body`.
    Bytes {
        /// Bytes of ours (response head, chunk framing, small bodies).
        head: Vec<u8>,
        /// Bytes of the application's; keeps its owner alive until the kernel is done.
        body: Bytes,
    },
    /// A part of a file, by sendfile(2); the file's own offset is not used.
    File {
        /// The file, a descriptor of our own.
        file: File,
        /// Where the part starts.
        offset: u64,
        /// Bytes in the part.
        len: u64,
    },
    /// Output that was too much to hold in memory, in an unlinked temporary file of the reactor's own; still growing
    /// while it is the last piece of its queue.
    Spool {
        /// The file.
        file: File,
        /// Where the unsent part starts.
        offset: u64,
        /// Bytes in it.
        len: u64,
    },
}

impl Outgoing {
    /// Memory that it keeps busy; nothing for a file.
    pub(super) fn memory_bytes(&self) -> u64 {
        match self {
            Self::Bytes { head, body } => (head.len() + body.len()) as u64,
            Self::File { .. } | Self::Spool { .. } => 0,
        }
    }
}

impl From<Vec<u8>> for Outgoing {
    fn from(head: Vec<u8>) -> Self {
        Self::Bytes { head, body: Bytes::new() }
    }
}

/// A connection that the application has taken over.
#[derive(Debug)]
pub struct Hijacked {
    /// A descriptor of the application's own (a duplicate; the reactor keeps its one for the response).
    pub fd: OwnedFd,
    /// Bytes that had been received and not used; they come before anything read from `fd`.
    pub unread: Vec<u8>,
}
