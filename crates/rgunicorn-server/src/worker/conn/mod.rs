//! One connection. Small on purpose: an idle keep-alive connection is this struct, its timer links and its armed
//! reception, nothing else; whatever a request needs lives in [`ConnExt`] or in the [`Request`] itself.

pub(crate) mod body;
mod budget;
mod evict;
mod feed;
pub(crate) mod handoff;
pub(crate) mod incoming;
mod input;
pub(crate) mod io;
pub(crate) mod output;
mod progress;
pub(crate) mod proxy_header;
mod rate;
pub(crate) mod refusal;
mod spool;
mod streaming;
pub(crate) mod table;
mod timeouts;

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use rgunicorn_http::proxy;
use rgunicorn_http::{RequestHead, RequestParser};
use rgunicorn_io::driver::{Driver, Fd, OpKey, PeerAddr};

use self::body::Body;
use self::incoming::{BodyFault, Incoming, Pending};
use self::proxy_header::ProxyHeaderState;
use self::rate::Progress;
use super::config::WorkerConfig;
use super::ids::{ConnId, RequestId};
use crate::response::Outgoing;

/// Requests that have waited for their turn no longer than this are run without a question to the kernel.
const ASK_AFTER: Duration = Duration::from_millis(100);
/// Pieces of earlier responses that may be queued when the next request of the same connection starts. Generous to
/// pipelining: short answers to one segment's worth of requests.
const QUEUED_PIECES_MAX: usize = 64;
/// Their bytes.
const QUEUED_BYTES_MAX: u64 = 64 * 1024;

/// The state of a connection between accept and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnPhase {
    /// Between requests: nothing received of the next one.
    Idle,
    /// A request head has begun.
    Head,
    /// A request body is being received.
    Body,
    /// A request waits for the application, runs in it, or its response is in progress.
    Running,
    /// The response is complete; what its application did not read of the request's body is read away.
    Skipping,
    /// The response is complete, but so much output waits for its reader that the next request waits too.
    Flushing,
    /// The last response is being sent; then the write side is shut.
    Closing,
    /// The write side is shut; late input is read away until the peer closes.
    Lingering,
}

/// State of one open connection.
pub(crate) struct Conn {
    pub(crate) fd: Fd,
    pub(crate) generation: u32,
    /// See [`RequestId::conn_number`].
    pub(crate) number: u64,
    /// The other end; with a PROXY header, the client behind it.
    pub(crate) peer: PeerAddr,
    pub(crate) listener: u16,
    pub(crate) phase: ConnPhase,
    /// The peer has shut its write side.
    pub(crate) read_closed: bool,
    /// Whether a PROXY header may come.
    pub(crate) proxy_state: ProxyHeaderState,
    /// The one that has come.
    pub(crate) proxied: Option<Arc<proxy::ProxyHeader>>,
    /// The peer may set the headers that only a trusted proxy may set.
    pub(crate) trusted: bool,
    /// The application waits for the output queue to become empty: only while its response is not over.
    pub(crate) parked: bool,
    /// The application, or the server in its place, has given the last response up.
    pub(crate) aborted: bool,
    /// The application took the socket; the reactor no longer reads from it.
    pub(crate) detached: bool,
    /// At least one request was answered.
    pub(crate) served: bool,
    /// Noted as one to give to a sibling.
    pub(crate) spare: bool,
    /// A greenlet works on its request ([`crate::worker::Reactor::begin_work`]).
    pub(crate) held: bool,
    /// Noted as one whose reception waits until there is memory for what it would bring.
    pub(crate) stalled: bool,
    /// Requests received.
    pub(crate) requests: u64,
    /// The part of [`table::Connections::held_bytes`] that is its own.
    counted_bytes: u32,
    pub(crate) recv: Option<OpKey>,
    pub(crate) send: Option<OpKey>,
    pub(crate) parser: RequestParser,
    pub(crate) ext: Option<Box<ConnExt>>,
}

/// State that only some connections need, and only for a while.
#[derive(Default)]
pub(crate) struct ConnExt {
    /// The request being received: its head, once complete, and what has come of its body.
    head: Option<RequestHead>,
    body: Body,
    /// How far the body had come when it was last looked at.
    progress: Option<Progress>,
    /// The PROXY header being received.
    pub(crate) proxy_header: Option<Box<proxy::ProxyReader>>,
    /// The body of the request in progress, if the application reads it while it arrives.
    pub(crate) incoming: Option<Incoming>,
    /// Bytes of later requests.
    pub(crate) pending: Pending,
    /// Output behind the send in flight.
    pub(crate) out: VecDeque<Outgoing>,
    /// Waits until the socket takes more of a file.
    pub(crate) writable: Option<OpKey>,
    /// Late input read away so far.
    pub(crate) lingered_bytes: usize,
}

/// The state of a connection's reception.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reception {
    /// An operation of the driver receives.
    pub(crate) armed: bool,
    /// The peer sends no more.
    pub(crate) closed: bool,
}

/// A new connection, as it was accepted.
pub(crate) struct NewConn {
    pub(crate) fd: Fd,
    pub(crate) peer: PeerAddr,
    /// Index of the listener.
    pub(crate) listener: u16,
    /// See [`Conn::trusted`].
    pub(crate) trusted: bool,
    /// See [`Conn::proxy_state`].
    pub(crate) proxy_state: ProxyHeaderState,
}

impl ConnExt {
    /// Tells whether all of it is empty.
    fn is_unused(&self) -> bool {
        self.is_without_request() && self.pending.is_empty() && self.out.is_empty() && self.writable.is_none()
    }

    /// Tells whether nothing is in it of a request that has begun to come and is not in [`Request`](super::Request).
    pub(crate) fn is_without_request(&self) -> bool {
        self.head.is_none() && self.body.is_empty() && self.proxy_header.is_none() && self.incoming.is_none()
    }
}

impl Conn {
    /// Makes the state of a new connection.
    pub(crate) fn new(new: NewConn, generation: u32, number: u64) -> Self {
        Self {
            fd: new.fd,
            generation,
            number,
            peer: new.peer,
            listener: new.listener,
            phase: ConnPhase::Idle,
            read_closed: false,
            proxy_state: new.proxy_state,
            proxied: None,
            trusted: new.trusted,
            parked: false,
            aborted: false,
            detached: false,
            served: false,
            spare: false,
            held: false,
            stalled: false,
            requests: 0,
            counted_bytes: 0,
            recv: None,
            send: None,
            parser: RequestParser::new(),
            ext: None,
        }
    }

    /// Returns the name of the request in progress, or of the last one; `index` is the connection's own.
    pub(crate) fn request_id(&self, index: u32) -> RequestId {
        let conn = ConnId { index, generation: self.generation };
        RequestId { conn, conn_number: self.number, sequence: self.requests }
    }

    /// Returns the rarely needed part, which is made if it is not there.
    pub(crate) fn ext(&mut self) -> &mut ConnExt {
        self.ext.get_or_insert_default()
    }

    /// Gives the memory of [`ConnExt`] back if nothing is in it.
    pub(crate) fn trim(&mut self) {
        if self.ext.as_ref().is_some_and(|ext| ext.is_unused()) {
            self.ext = None;
        }
    }

    /// Returns the state of its reception.
    pub(crate) fn reception(&self) -> Reception {
        Reception { armed: self.recv.is_some(), closed: self.read_closed }
    }

    /// Tells whether the client has left, or has shut its side of the connection: asks the kernel.
    pub(crate) fn is_half_closed(&self, driver: &Driver) -> bool {
        self.read_closed || driver.is_half_closed(self.fd.as_raw_fd())
    }

    /// Tells whether the answer to its request is no longer waited for, after a time in which that has waited
    /// for its turn; a client that has shut its side is taken for gone after `timeout`.
    pub(crate) fn is_abandoned(&self, driver: &Driver, waited: Duration, timeout: Duration) -> bool {
        // Reset, or (unix sockets) closed: an answer cannot reach the client any more.
        waited >= ASK_AFTER && driver.is_reset(self.fd.as_raw_fd())
            || !timeout.is_zero() && waited >= timeout && self.is_half_closed(driver)
    }

    /// Tells whether output is queued or in flight.
    pub(crate) fn has_output(&self) -> bool {
        self.send.is_some()
            || self.ext.as_ref().is_some_and(|ext| !ext.out.is_empty() || ext.writable.is_some())
    }

    /// Tells whether more output is queued than a client that sends requests without reading answers should
    /// cost: the next request waits until it has left. What is in flight is not counted.
    pub(crate) fn output_over_limit(&self) -> bool {
        let Some(ext) = &self.ext else { return false };
        ext.out.len() >= QUEUED_PIECES_MAX || ext.queued_bytes() >= QUEUED_BYTES_MAX
    }

    /// Counts the bytes that are held for after the response in progress.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.ext.as_ref().map_or(0, |ext| ext.pending.len())
    }

    /// Takes out all bytes that were received and not used: of a streaming body first, decoded, then what is
    /// held for later.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        let Some(ext) = &mut self.ext else { return Vec::new() };
        let mut unread = ext.incoming.take().map(Incoming::into_held).unwrap_or_default();
        unread.append(&mut std::mem::take(&mut ext.pending).into_rest());
        unread
    }

    /// Tells whether nothing is to be received for now: a response is in progress, and the client has sent more of its
    /// request's body, or for later, than is held. `over`: requests hold all the memory that there is for them; then
    /// next to nothing is, and no further request is begun.
    pub(crate) fn is_full(&self, config: &WorkerConfig, over: bool) -> bool {
        match self.phase {
            ConnPhase::Idle | ConnPhase::Head => over,
            ConnPhase::Running | ConnPhase::Flushing => {
                let bytes_max = |usual: usize| if over { usual.min(1) } else { usual };
                let incoming = self.ext.as_ref().and_then(|ext| ext.incoming.as_ref());
                incoming
                    .and_then(|incoming| incoming.is_full(bytes_max(config.body_window_bytes_max)))
                    .unwrap_or_else(|| self.pending_bytes() >= bytes_max(config.pipelined_bytes_max))
            }
            ConnPhase::Body | ConnPhase::Skipping | ConnPhase::Closing | ConnPhase::Lingering => false,
        }
    }

    /// Returns the body that the application reads while it arrives.
    pub(crate) fn incoming(&mut self) -> Option<&mut Incoming> {
        self.ext.as_mut().and_then(|ext| ext.incoming.as_mut())
    }

    /// Tells whether the application waits for more of it.
    pub(crate) fn awaits_body(&self) -> bool {
        self.ext.as_ref().and_then(|ext| ext.incoming.as_ref()).is_some_and(Incoming::is_awaited)
    }

    /// Notes that the peer sends no more.
    pub(crate) fn end_input(&mut self) {
        self.read_closed = true;
        if let Some(incoming) = self.incoming() {
            incoming.fail(BodyFault::Gone);
        }
    }
}
