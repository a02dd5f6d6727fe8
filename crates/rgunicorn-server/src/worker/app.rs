//! The contract between the reactor and what runs on top of it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rgunicorn_http::RequestHead;
use rgunicorn_http::proxy;
use rgunicorn_io::driver::PeerAddr;
use rgunicorn_io::sys::clock::Instant;

use super::{Body, Reactor};

/// Names one connection for as long as it lives; a stale id is harmless.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnId {
    /// Slot in the connection slab.
    pub(crate) index: u32,
    /// Distinguishes the connections that a slot has held; 24 bits, never zero.
    pub(crate) generation: u32,
}

/// Names one request for as long as it is in progress; a stale id is harmless, every call with it answers `Gone`. A
/// connection carries its requests one after the other, and an id of one never reaches the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    /// The connection that it came on.
    pub(crate) conn: ConnId,
    /// The low bits of its number on that connection.
    pub(crate) sequence: u8,
}

impl RequestId {
    /// Packs it into one integer, never zero.
    pub fn to_raw(self) -> u64 {
        u64::from(self.conn.generation) << 40 | u64::from(self.sequence) << 32 | u64::from(self.conn.index)
    }

    /// Unpacks what [`Self::to_raw`] has made; anything else gives an id that names no request.
    #[expect(clippy::cast_possible_truncation, reason = "the three fields of a packed id")]
    pub fn from_raw(raw: u64) -> Self {
        let conn = ConnId { index: raw as u32, generation: (raw >> 40) as u32 };
        Self { conn, sequence: (raw >> 32) as u8 }
    }
}

impl Hash for RequestId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.to_raw());
    }
}

/// A table by request.
pub type RequestMap<V> = HashMap<RequestId, V, BuildHasherDefault<RequestHasher>>;

/// Spreads the numbers of requests, which are the server's own choice and small, over a table: no peer can choose them.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestHasher(u64);

impl Hasher for RequestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(false, "a request is one number");
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio, odd: neighbours end up far apart, also in the high bits that a table looks at.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {} of {:?}", self.sequence, self.conn)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn {}.{}", self.index, self.generation)
    }
}

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
    /// When its turn has come.
    pub begun: Instant,
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

/// A connection that the application has taken over.
#[derive(Debug)]
pub struct Hijacked {
    /// A descriptor of the application's own (a duplicate; the reactor keeps its one for the response).
    pub fd: OwnedFd,
    /// Bytes that had been received and not used; they come before anything read from `fd`.
    pub unread: Vec<u8>,
}

/// Why a worker leaves at once: the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(pub i32);

/// What the reactor runs. Called with nothing borrowed; every method may call back into the [`Reactor`].
pub trait App {
    /// Runs `wait`, which may block, with the interpreter lock released.
    fn blocking(&self, wait: &mut dyn FnMut());

    /// Lets pending signal handlers run. `arrived`: there may be some; without it none has come since the last call.
    ///
    /// # Errors
    /// [`ExitStatus`] when one of them asks the process to leave.
    fn check_signals(&self, arrived: bool) -> Result<(), ExitStatus>;

    /// Runs one request up to its first pause: it ends with [`Reactor::finish`], [`Reactor::abort`],
    /// [`Reactor::park`] or [`Reactor::await_body`].
    fn call(&self, reactor: &Reactor, request: Box<Request>);

    /// A parked response's queue is empty, or there is something to read of an awaited body: go on with it.
    fn resume(&self, reactor: &Reactor, id: RequestId);

    /// The client of a request that was parked or awaited its body has left, or an earlier call for this request
    /// panicked: clean up. The request may be unknown to the application.
    fn abandon(&self, reactor: &Reactor, id: RequestId);

    /// A request was answered by the server itself after its head was complete; for the access log.
    fn refused(&self, _reactor: &Reactor, _request: &Request, _status: u16) {}

    /// Whether this process is a child that the application forked: nothing of the reactor may be used.
    fn is_forked_child(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_request_id_is_the_same_again_and_never_zero() {
        for (index, generation, sequence) in [(0, 1, 0), (u32::MAX, 0x00ff_ffff, 0xff), (7, 9, 1)] {
            let id = RequestId { conn: ConnId { index, generation }, sequence };
            assert_ne!(id.to_raw(), 0);
            assert_eq!(RequestId::from_raw(id.to_raw()), id);
        }
    }
}
