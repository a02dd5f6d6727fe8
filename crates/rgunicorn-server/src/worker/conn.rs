//! One connection. Small on purpose: an idle keep-alive connection is this struct, its timer links and its armed
//! reception, nothing else; whatever a request needs lives in [`ConnExt`] or in the [`Request`] itself.

use std::collections::VecDeque;
use std::sync::Arc;

use rgunicorn_http::proxy;
use rgunicorn_http::{HttpError, ParseEvent, Policy, RequestHead, RequestParser};
use rgunicorn_io::driver::{Fd, OpKey, PeerAddr};
use rgunicorn_io::sys::clock::Instant;

use crate::response::Outgoing;

use super::app::{ConnId, Request, RequestId};
use super::incoming::Incoming;
use super::proxy_header::ProxyHeaderState;
use super::{Body, WorkerConfig};

/// Pieces of earlier responses that may be queued when the next request of the same connection starts. Generous to
/// pipelining: short answers to one segment's worth of requests.
const QUEUED_PIECES_MAX: usize = 64;
/// And their bytes.
const QUEUED_BYTES_MAX: u64 = 64 * 1024;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnPhase {
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
pub(super) struct Conn {
    pub(super) fd: Fd,
    pub(super) generation: u32,
    /// Who is at the other end; with a PROXY header, the client behind it.
    pub(super) peer: PeerAddr,
    pub(super) listener: u16,
    pub(super) phase: ConnPhase,
    /// The peer has shut its write side.
    pub(super) read_closed: bool,
    /// Whether a PROXY header may come.
    pub(super) proxy_state: ProxyHeaderState,
    /// The one that has come.
    pub(super) proxied: Option<Arc<proxy::ProxyHeader>>,
    /// The peer may set the headers that only a trusted proxy may set.
    pub(super) trusted: bool,
    /// The application waits for the output queue to become empty.
    pub(super) parked: bool,
    /// The application took the socket; the reactor no longer reads from it.
    pub(super) detached: bool,
    /// At least one request was answered.
    pub(super) served: bool,
    /// A greenlet works on its request ([`super::Reactor::begin_work`]).
    pub(super) held: bool,
    /// Requests received.
    pub(super) requests: u32,
    pub(super) recv: Option<OpKey>,
    pub(super) send: Option<OpKey>,
    pub(super) parser: RequestParser,
    pub(super) ext: Option<Box<ConnExt>>,
}

/// What only some connections need, and only for a while.
#[derive(Default)]
pub(super) struct ConnExt {
    /// The request being received: its head, once complete, and what has come of its body.
    head: Option<RequestHead>,
    body: Body,
    /// The PROXY header being received.
    pub(super) proxy_header: Option<Box<proxy::ProxyReader>>,
    /// The body of the request in progress, if the application reads it while it arrives.
    pub(super) incoming: Option<Incoming>,
    /// Bytes of later requests.
    pub(super) pending: Pending,
    /// Output behind the send in flight.
    pub(super) out: VecDeque<Outgoing>,
    /// Waits until the socket takes more of a file.
    pub(super) writable: Option<OpKey>,
    /// Late input read away so far.
    pub(super) lingered_bytes: usize,
}

/// Input held for after the response in progress. Requests are taken from the front without moving the rest: a client may
/// have sent many small ones at once.
#[derive(Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    /// Bytes at the front that have been taken.
    taken: usize,
}

impl Pending {
    pub(super) fn push(&mut self, data: &[u8]) {
        // Never more than half of it is waste, and each byte is moved once on average.
        if self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(data);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes at most `bytes_max` from the front.
    pub(super) fn take_front(&mut self, bytes_max: usize) -> Vec<u8> {
        if bytes_max >= self.len() {
            return std::mem::take(self).into_rest();
        }
        let front = self.bytes[self.taken..self.taken + bytes_max].to_vec();
        self.taken += bytes_max;
        front
    }

    /// What has not been taken.
    pub(super) fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.taken);
        self.bytes
    }
}

impl ConnExt {
    fn is_unused(&self) -> bool {
        self.head.is_none()
            && self.body.is_empty()
            && self.proxy_header.is_none()
            && self.incoming.is_none()
            && self.pending.is_empty()
            && self.out.is_empty()
            && self.writable.is_none()
    }
}

/// What a piece of input came to.
pub(super) enum FeedOutcome {
    /// More is needed.
    Waiting,
    /// More is needed, and the client waits for `100 Continue` before it sends it.
    WantsContinue,
    /// A request is complete; the phase is `Running`.
    Ready(Box<Request>),
    /// A request's head is complete and its body is still to come; the phase is `Running`. Whether the client waits for
    /// `100 Continue`.
    Streaming(Box<Request>, bool),
    /// The bytes are not an acceptable request. With the request's head, if that was complete.
    Refused(HttpError, Option<RequestHead>),
    /// The bytes are a PROXY header that is not acceptable.
    BadProxyHeader(proxy::ProxyError),
    /// The body could not be stored.
    BodyStoreFailed(std::io::Error),
}

impl Conn {
    pub(super) fn new(fd: Fd, generation: u32, peer: PeerAddr, listener: u16, trusted: bool) -> Self {
        Self {
            fd,
            generation,
            peer,
            listener,
            phase: ConnPhase::Idle,
            read_closed: false,
            proxy_state: ProxyHeaderState::Over,
            proxied: None,
            trusted,
            parked: false,
            detached: false,
            served: false,
            held: false,
            requests: 0,
            recv: None,
            send: None,
            parser: RequestParser::new(),
            ext: None,
        }
    }

    /// Returns the sequence of the request in progress, or of the last one.
    pub(super) fn sequence(&self) -> u8 {
        self.requests.to_le_bytes()[0]
    }

    /// Returns the name of that request; `index` is the connection's own.
    pub(super) fn request_id(&self, index: u32) -> RequestId {
        RequestId { conn: ConnId { index, generation: self.generation }, sequence: self.sequence() }
    }

    pub(super) fn ext(&mut self) -> &mut ConnExt {
        self.ext.get_or_insert_default()
    }

    /// Gives the memory of [`ConnExt`] back if nothing is in it.
    pub(super) fn trim(&mut self) {
        if self.ext.as_ref().is_some_and(|ext| ext.is_unused()) {
            self.ext = None;
        }
    }

    /// Output is queued or in flight.
    pub(super) fn has_output(&self) -> bool {
        self.send.is_some()
            || self.ext.as_ref().is_some_and(|ext| !ext.out.is_empty() || ext.writable.is_some())
    }

    /// More output is queued than a client that sends requests without reading answers should cost: the next request
    /// waits until it has left. What is in flight is not counted.
    pub(super) fn output_over_limit(&self) -> bool {
        let Some(ext) = &self.ext else { return false };
        ext.out.len() >= QUEUED_PIECES_MAX || ext.queued_bytes() >= QUEUED_BYTES_MAX
    }

    /// Bytes held back for after the response in progress.
    pub(super) fn pending_bytes(&self) -> usize {
        self.ext.as_ref().map_or(0, |ext| ext.pending.len())
    }

    /// Takes input while a request is being received. What follows the request is kept for later.
    pub(super) fn feed(&mut self, ctx: &FeedContext<'_>, index: u32, mut input: &[u8]) -> FeedOutcome {
        if self.proxy_state != ProxyHeaderState::Over {
            return self.feed_proxy_header(ctx, index, input);
        }
        let fed = self.feed_one(ctx, index, &mut input);
        if !input.is_empty() {
            self.ext().pending.push(input);
        }
        self.trim();
        fed
    }

    /// Takes input while a response is in progress: what is left of its request's body, and what is kept for later.
    pub(super) fn buffer_input(&mut self, policy: &Policy, mut input: &[u8]) {
        if let Some(incoming) = self.ext.as_mut().and_then(|ext| ext.incoming.as_mut()) {
            incoming.take(&mut self.parser, policy, self.trusted, &mut input);
        }
        if !input.is_empty() {
            self.ext().pending.push(input);
        }
    }

    /// As [`Conn::feed`], from what is held.
    pub(super) fn feed_pending(&mut self, ctx: &FeedContext<'_>, index: u32) -> FeedOutcome {
        let mut held = self.ext.as_mut().map(|ext| std::mem::take(&mut ext.pending)).unwrap_or_default();
        let mut input = held.bytes.get(held.taken..).unwrap_or_default();
        let fed = self.feed_one(ctx, index, &mut input);
        held.taken = held.bytes.len() - input.len();
        if !held.is_empty() {
            self.ext().pending = held;
        }
        self.trim();
        fed
    }

    /// Takes input up to the end of one request, at most.
    fn feed_one(&mut self, ctx: &FeedContext<'_>, index: u32, input: &mut &[u8]) -> FeedOutcome {
        let mut begun = self.ext.as_mut().and_then(|ext| ext.head.take());
        let mut wants_continue = false;
        loop {
            match self.parser.advance(ctx.policy, self.trusted, input) {
                Ok(ParseEvent::NeedMore) => break,
                Ok(ParseEvent::Head(head)) => {
                    wants_continue = head.expects_continue();
                    begun = Some(head);
                }
                Ok(ParseEvent::Data(data)) => {
                    wants_continue = false;
                    let body = &mut self.ext().body;
                    if let Err(error) = body.push(data, ctx.body_memory_bytes_max()) {
                        *input = &[];
                        return FeedOutcome::BodyStoreFailed(error);
                    }
                }
                Ok(ParseEvent::End) => return self.complete(ctx, index, begun),
                Err(error) => {
                    // The connection ends here; what follows is nobody's.
                    *input = &[];
                    return FeedOutcome::Refused(error, begun);
                }
            }
        }
        debug_assert!(input.is_empty(), "a parser that needs more has taken all");
        self.phase = match (&begun, self.parser.is_idle()) {
            (Some(_), _) => ConnPhase::Body,
            (None, true) => ConnPhase::Idle,
            (None, false) => ConnPhase::Head,
        };
        if let Some(head) = begun {
            if ctx.config.stream_bodies {
                return self.stream(ctx, index, head, wants_continue);
            }
            self.ext().head = Some(head);
        }
        if wants_continue { FeedOutcome::WantsContinue } else { FeedOutcome::Waiting }
    }

    fn complete(&mut self, ctx: &FeedContext<'_>, index: u32, head: Option<RequestHead>) -> FeedOutcome {
        let Some(head) = head else {
            debug_assert!(false, "the parser ends a request only after its head");
            return FeedOutcome::Waiting;
        };
        let mut body = self.ext.as_mut().map(|ext| std::mem::take(&mut ext.body)).unwrap_or_default();
        if let Err(error) = body.rewind() {
            return FeedOutcome::BodyStoreFailed(error);
        }
        FeedOutcome::Ready(self.request(ctx, index, head, body))
    }

    /// The application is called before the body is there.
    fn stream(
        &mut self,
        ctx: &FeedContext<'_>,
        index: u32,
        head: RequestHead,
        wants_continue: bool,
    ) -> FeedOutcome {
        let ext = self.ext();
        let held = match std::mem::take(&mut ext.body) {
            Body::Memory(bytes) => Pending { bytes, taken: 0 },
            other => {
                debug_assert!(other.is_empty(), "one input is kept in memory");
                Pending::default()
            }
        };
        ext.incoming = Some(Incoming::new(held));
        FeedOutcome::Streaming(self.request(ctx, index, head, Body::Incoming), wants_continue)
    }

    fn request(&mut self, ctx: &FeedContext<'_>, index: u32, head: RequestHead, body: Body) -> Box<Request> {
        self.phase = ConnPhase::Running;
        self.requests = self.requests.saturating_add(1);
        let keep_alive = head.keep_alive() && !head.close_after() && ctx.keep_alive;
        Box::new(Request {
            id: self.request_id(index),
            head,
            body,
            peer: self.peer,
            proxied: self.proxied.clone(),
            listener: self.listener,
            received: ctx.now,
            arrived: ctx.arrived,
            begun: ctx.now,
            keep_alive,
            number: self.requests,
        })
    }
}

/// What feeding needs to know besides the connection.
pub(super) struct FeedContext<'a> {
    pub(super) policy: &'a Policy,
    pub(super) config: &'a WorkerConfig,
    /// The worker is willing to keep connections open.
    pub(super) keep_alive: bool,
    pub(super) now: Instant,
    /// See [`Request::arrived`].
    pub(super) arrived: Instant,
}

impl FeedContext<'_> {
    /// A body that streams holds only what came with its head, in memory: one input, which is bounded.
    fn body_memory_bytes_max(&self) -> usize {
        if self.config.stream_bodies { usize::MAX } else { self.config.body_memory_bytes_max }
    }
}
