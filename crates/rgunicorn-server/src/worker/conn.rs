//! One connection. Small on purpose: an idle keep-alive connection is this struct, its timer links and its armed
//! reception, nothing else; whatever a request needs lives in [`Extra`] or in the [`Request`] itself.

use std::collections::VecDeque;
use std::sync::Arc;

use rgunicorn_http::proxy;
use rgunicorn_http::{HttpError, ParseEvent, Policy, RequestHead, RequestParser};
use rgunicorn_io::driver::{Fd, OpKey, PeerAddr};
use rgunicorn_io::sys::clock::Instant;

use super::app::{ConnId, Outgoing, Request};
use super::incoming::Incoming;
use super::preamble::Preamble;
use super::{Body, Tuning};

/// Pieces of earlier responses that may be queued when the next request of the same connection starts. Generous to
/// pipelining: short answers to one segment's worth of requests.
const QUEUED_PIECES_MAX: usize = 64;
/// And their bytes.
const QUEUED_BYTES_MAX: u64 = 64 * 1024;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
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
    pub(super) phase: Phase,
    /// The peer has shut its write side.
    pub(super) read_closed: bool,
    /// Whether a PROXY header may come.
    pub(super) preamble: Preamble,
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
    /// A greenlet works on its request ([`super::Reactor::hold`]).
    pub(super) held: bool,
    /// Requests received.
    pub(super) requests: u32,
    pub(super) recv: Option<OpKey>,
    pub(super) send: Option<OpKey>,
    pub(super) parser: RequestParser,
    pub(super) extra: Option<Box<Extra>>,
}

/// What only some connections need, and only for a while.
#[derive(Default)]
pub(super) struct Extra {
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

impl Extra {
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
pub(super) enum Fed {
    /// More is needed.
    Waiting,
    /// More is needed, and the client waits for `100 Continue` before it sends it.
    WantsContinue,
    /// A request is complete; the phase is `Running`.
    Ready(Request),
    /// A request's head is complete and its body is still to come; the phase is `Running`. Whether the client waits for
    /// `100 Continue`.
    Streaming(Request, bool),
    /// The bytes are not an acceptable request. With the request's head, if that was complete.
    Refused(HttpError, Option<RequestHead>),
    /// The bytes are a PROXY header that is not acceptable.
    Misled(proxy::ProxyError),
    /// The body could not be stored.
    Unstorable(std::io::Error),
}

impl Conn {
    pub(super) fn new(fd: Fd, generation: u32, peer: PeerAddr, listener: u16, trusted: bool) -> Self {
        Self {
            fd,
            generation,
            peer,
            listener,
            phase: Phase::Idle,
            read_closed: false,
            preamble: Preamble::Over,
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
            extra: None,
        }
    }

    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Gives the memory of [`Extra`] back if nothing is in it.
    pub(super) fn trim(&mut self) {
        if self.extra.as_ref().is_some_and(|extra| extra.is_unused()) {
            self.extra = None;
        }
    }

    /// Output is queued or in flight.
    pub(super) fn has_output(&self) -> bool {
        self.send.is_some()
            || self.extra.as_ref().is_some_and(|extra| !extra.out.is_empty() || extra.writable.is_some())
    }

    /// More output is queued than a client that sends requests without reading answers should cost: the next request
    /// waits until it has left. What is in flight is not counted.
    pub(super) fn is_clogged(&self) -> bool {
        let Some(extra) = &self.extra else { return false };
        extra.out.len() >= QUEUED_PIECES_MAX || extra.queued_bytes() >= QUEUED_BYTES_MAX
    }

    /// Bytes held back for after the response in progress.
    pub(super) fn pending_bytes(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.pending.len())
    }

    /// Takes input while a request is being received. What follows the request is kept for later.
    pub(super) fn feed(&mut self, ctx: &FeedContext<'_>, index: u32, mut input: &[u8]) -> Fed {
        if self.preamble != Preamble::Over {
            return self.feed_preamble(ctx, index, input);
        }
        let fed = self.feed_one(ctx, index, &mut input);
        if !input.is_empty() {
            self.extra().pending.push(input);
        }
        self.trim();
        fed
    }

    /// Takes input while a response is in progress: what is left of its request's body, and what is kept for later.
    pub(super) fn hold(&mut self, policy: &Policy, mut input: &[u8]) {
        if let Some(incoming) = self.extra.as_mut().and_then(|extra| extra.incoming.as_mut()) {
            incoming.take(&mut self.parser, policy, self.trusted, &mut input);
        }
        if !input.is_empty() {
            self.extra().pending.push(input);
        }
    }

    /// As [`Conn::feed`], from what is held.
    pub(super) fn feed_pending(&mut self, ctx: &FeedContext<'_>, index: u32) -> Fed {
        let mut held =
            self.extra.as_mut().map(|extra| std::mem::take(&mut extra.pending)).unwrap_or_default();
        let mut input = held.bytes.get(held.taken..).unwrap_or_default();
        let fed = self.feed_one(ctx, index, &mut input);
        held.taken = held.bytes.len() - input.len();
        if !held.is_empty() {
            self.extra().pending = held;
        }
        self.trim();
        fed
    }

    /// Takes input up to the end of one request, at most.
    fn feed_one(&mut self, ctx: &FeedContext<'_>, index: u32, input: &mut &[u8]) -> Fed {
        let mut begun = self.extra.as_mut().and_then(|extra| extra.head.take());
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
                    let body = &mut self.extra().body;
                    if let Err(error) = body.push(data, ctx.body_memory_bytes_max()) {
                        *input = &[];
                        return Fed::Unstorable(error);
                    }
                }
                Ok(ParseEvent::End) => return self.complete(ctx, index, begun),
                Err(error) => {
                    // The connection ends here; what follows is nobody's.
                    *input = &[];
                    return Fed::Refused(error, begun);
                }
            }
        }
        debug_assert!(input.is_empty(), "a parser that needs more has taken all");
        self.phase = match (&begun, self.parser.is_idle()) {
            (Some(_), _) => Phase::Body,
            (None, true) => Phase::Idle,
            (None, false) => Phase::Head,
        };
        if let Some(head) = begun {
            if ctx.tuning.stream_bodies {
                return self.stream(ctx, index, head, wants_continue);
            }
            self.extra().head = Some(head);
        }
        if wants_continue { Fed::WantsContinue } else { Fed::Waiting }
    }

    fn complete(&mut self, ctx: &FeedContext<'_>, index: u32, head: Option<RequestHead>) -> Fed {
        let Some(head) = head else {
            debug_assert!(false, "the parser ends a request only after its head");
            return Fed::Waiting;
        };
        let mut body = self.extra.as_mut().map(|extra| std::mem::take(&mut extra.body)).unwrap_or_default();
        if let Err(error) = body.rewind() {
            return Fed::Unstorable(error);
        }
        Fed::Ready(self.request(ctx, index, head, body))
    }

    /// The application is called before the body is there.
    fn stream(&mut self, ctx: &FeedContext<'_>, index: u32, head: RequestHead, wants_continue: bool) -> Fed {
        let extra = self.extra();
        let held = match std::mem::take(&mut extra.body) {
            Body::Memory(bytes) => Pending { bytes, taken: 0 },
            other => {
                debug_assert!(other.is_empty(), "one input is kept in memory");
                Pending::default()
            }
        };
        extra.incoming = Some(Incoming::new(held));
        Fed::Streaming(self.request(ctx, index, head, Body::Incoming), wants_continue)
    }

    fn request(&mut self, ctx: &FeedContext<'_>, index: u32, head: RequestHead, body: Body) -> Request {
        self.phase = Phase::Running;
        self.requests = self.requests.saturating_add(1);
        let keep_alive = head.keep_alive() && !head.close_after() && ctx.keep_alive;
        Request {
            conn: ConnId { index, generation: self.generation },
            head,
            body,
            peer: self.peer,
            proxied: self.proxied.clone(),
            listener: self.listener,
            received: ctx.now,
            arrived: ctx.arrived,
            keep_alive,
            number: self.requests,
        }
    }
}

/// What feeding needs to know besides the connection.
pub(super) struct FeedContext<'a> {
    pub(super) policy: &'a Policy,
    pub(super) tuning: &'a Tuning,
    /// The worker is willing to keep connections open.
    pub(super) keep_alive: bool,
    pub(super) now: Instant,
    /// See [`Request::arrived`].
    pub(super) arrived: Instant,
}

impl FeedContext<'_> {
    /// A body that streams holds only what came with its head, in memory: one input, which is bounded.
    fn body_memory_bytes_max(&self) -> usize {
        if self.tuning.stream_bodies { usize::MAX } else { self.tuning.body_memory_bytes_max }
    }
}
