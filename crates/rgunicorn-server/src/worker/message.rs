//! Values that pass between the reactor and the application.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rgunicorn_http::RequestHead;
use rgunicorn_http::proxy;
use rgunicorn_io::driver::PeerAddr;
use rgunicorn_io::sys::clock::Instant;

use super::conn::body::Body;
use super::ids::RequestId;

/// A request that is ready for the application: complete, unless its body is [`Body::Incoming`]. Owns all of
/// its memory.
#[derive(Debug)]
pub struct Request {
    /// Its name in calls of the [`Reactor`](super::Reactor).
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
    /// When its turn has come.
    pub begun: Instant,
    /// The client asked for keep-alive and the worker agrees.
    pub keep_alive: bool,
    /// The how many-th request of its connection, from 1.
    pub number: u64,
    /// The server has answered it by itself, with this status: it is only to be recorded.
    pub refused: Option<u16>,
    /// The memory that its head and its body take, since it is complete.
    pub(crate) held_bytes: usize,
}

/// The fate of bytes given to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The kernel has them all.
    Sent,
    /// They are queued; after [`Reactor::park`](super::Reactor::park) the application is resumed when the queue is
    /// empty.
    Queued,
    /// The client has left; stop producing.
    Gone,
}

/// A connection that the application has taken over.
#[derive(Debug)]
pub struct Hijacked {
    /// A descriptor of the application's own (a duplicate; the reactor keeps its one for the response).
    pub fd: OwnedFd,
    /// Bytes that had been received and not used; they come before anything read from `fd`.
    pub unread: Vec<u8>,
}
