//! Bytes in, as one connection sees them: they become a request, a part of a body, or wait.

use std::sync::Arc;

use rgunicorn_http::proxy::{self, ProxyStep};
use rgunicorn_http::{BodyKind, HttpError, ParseEvent, Policy, Repeats, RequestHead};
use rgunicorn_io::sys::clock::Instant;

use super::body::Body;
use super::incoming::{Incoming, Pending};
use super::proxy_header::ProxyHeaderState;
use super::{Conn, ConnPhase};
use crate::worker::message::Request;
use crate::worker::setup::WorkerSetup;

/// The result of a piece of input.
pub(crate) enum FeedOutcome {
    /// No request is being received: it was kept for later, was part of a body that streams, or was dropped.
    Buffered,
    /// More is needed.
    Waiting,
    /// More is needed, and the client waits for `100 Continue` before it sends it.
    WantsContinue,
    /// A request is complete; the phase is `Running`.
    Ready(Box<Request>),
    /// A request's head is complete and its body is still to come; the phase is `Running`. Whether the client waits for
    /// `100 Continue`.
    Streaming(Box<Request>, bool),
    /// The bytes are not an acceptable request. With what could be read of the request's head.
    Refused(HttpError, Box<RequestHead>),
    /// The bytes are a PROXY header that is not acceptable.
    BadProxyHeader(proxy::ProxyError),
    /// The body could not be stored.
    BodyStoreFailed(std::io::Error, Box<RequestHead>),
}

impl FeedOutcome {
    /// Tells whether more of a request is to come.
    pub(crate) fn is_incomplete(&self) -> bool {
        matches!(self, Self::Waiting | Self::WantsContinue | Self::Streaming(..))
    }
}

/// The surroundings of a connection that is fed.
pub(crate) struct FeedContext<'a> {
    pub(crate) setup: &'a WorkerSetup,
    pub(crate) repeats: &'a mut Repeats,
    /// The memory that requests hold.
    pub(crate) held_bytes: usize,
    pub(crate) now: Instant,
    /// See [`Request::arrived`].
    pub(crate) arrived: Instant,
}

impl FeedContext<'_> {
    /// Returns the bound of a body in memory. One that streams holds only what came with its head: one input, which is
    /// bounded.
    fn body_memory_bytes_max(&self) -> usize {
        let usual = self.setup.config.body_memory_bytes_max;
        if self.setup.config.stream_bodies {
            usize::MAX
        } else if self.held_bytes > self.setup.config.request_memory_bytes_max / 2 {
            usual.min(self.setup.config.request_share_bytes())
        } else {
            usual
        }
    }

    /// Returns a body that is complete with its first bytes, in memory of the application's.
    fn whole_body(&self, head: Option<&RequestHead>, data: &[u8]) -> Option<Body> {
        let make = self.setup.handles.make_body_memory?;
        let is_whole = matches!(head?.body(), BodyKind::Length(length) if length == data.len() as u64);
        let fits = data.len() <= self.body_memory_bytes_max();
        (is_whole && fits).then(|| make(data)).flatten().map(Body::Whole)
    }
}

/// Refuses a body for its size. What follows belongs to no request.
fn too_large(head: Option<RequestHead>, input: &mut &[u8]) -> FeedOutcome {
    *input = &[];
    FeedOutcome::Refused(HttpError::BodyTooLarge, known_head(head))
}

/// Returns a request's head, or the one that says that none is known.
fn known_head(head: Option<RequestHead>) -> Box<RequestHead> {
    Box::new(head.unwrap_or_else(RequestHead::unread))
}

impl Conn {
    /// Takes bytes that have arrived; the one entrance. `index` is the connection's own.
    #[inline]
    pub(crate) fn bytes_in(&mut self, ctx: &mut FeedContext<'_>, index: u32, data: &[u8]) -> FeedOutcome {
        match self.phase {
            // They are the application's, like the socket.
            _ if self.detached => self.ext().pending.push(data),
            ConnPhase::Idle | ConnPhase::Head | ConnPhase::Body => return self.feed(ctx, index, data),
            ConnPhase::Running | ConnPhase::Skipping | ConnPhase::Flushing => {
                self.buffer(&ctx.setup.policy, data)
            }
            ConnPhase::Closing | ConnPhase::Lingering => self.ext().lingered_bytes += data.len(),
        }
        FeedOutcome::Buffered
    }

    /// Takes input while a request is being received. What follows the request is kept for later.
    fn feed(&mut self, ctx: &mut FeedContext<'_>, index: u32, mut input: &[u8]) -> FeedOutcome {
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
    fn buffer(&mut self, policy: &Policy, mut input: &[u8]) {
        if let Some(incoming) = self.ext.as_mut().and_then(|ext| ext.incoming.as_mut()) {
            incoming.take(&mut self.parser, policy, self.trusted, &mut input);
        }
        if !input.is_empty() {
            self.ext().pending.push(input);
        }
    }

    /// Takes input from what is held, as [`Conn::bytes_in`] does from what arrives.
    pub(crate) fn feed_pending(&mut self, ctx: &mut FeedContext<'_>, index: u32) -> FeedOutcome {
        let mut held = self.ext.as_mut().map(|ext| std::mem::take(&mut ext.pending)).unwrap_or_default();
        let mut input = held.rest();
        let fed = self.feed_one(ctx, index, &mut input);
        let left = input.len();
        held.keep_last(left);
        if !held.is_empty() {
            self.ext().pending = held;
        }
        self.trim();
        fed
    }

    /// Takes input up to the end of one request, at most.
    fn feed_one(&mut self, ctx: &mut FeedContext<'_>, index: u32, input: &mut &[u8]) -> FeedOutcome {
        let mut begun = self.ext.as_mut().and_then(|ext| ext.head.take());
        let mut wants_continue = false;
        // A first request may be the only one.
        let repeats = self.requests > 0;
        loop {
            let repeat = repeats.then(|| ctx.repeats.of(index));
            match self.parser.advance_repeated(&ctx.setup.policy, self.trusted, repeat, input) {
                Ok(ParseEvent::NeedMore) => break,
                Ok(ParseEvent::Head(head)) => {
                    if matches!(head.body(), BodyKind::Length(length) if length > ctx.setup.config.body_bytes_max)
                    {
                        return too_large(Some(head), input);
                    }
                    wants_continue = head.expects_continue();
                    begun = Some(head);
                }
                Ok(ParseEvent::Data(data)) => {
                    wants_continue = false;
                    if let Some(body) = ctx.whole_body(begun.as_ref(), data) {
                        self.ext().body = body;
                        continue;
                    }
                    let body = &mut self.ext().body;
                    if body.len() + data.len() as u64 > ctx.setup.config.body_bytes_max {
                        return too_large(begun, input);
                    }
                    if let Err(error) = body.push(data, ctx.body_memory_bytes_max()) {
                        *input = &[];
                        return FeedOutcome::BodyStoreFailed(error, known_head(begun));
                    }
                }
                Ok(ParseEvent::End) => return self.complete(ctx, index, begun),
                Err(error) => {
                    // The connection ends here; what follows belongs to no request.
                    *input = &[];
                    let head = begun.or_else(|| self.parser.take_refused());
                    return FeedOutcome::Refused(error, known_head(head));
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
            if ctx.setup.config.stream_bodies {
                return self.stream(ctx, index, head, wants_continue);
            }
            self.ext().head = Some(head);
        }
        if wants_continue { FeedOutcome::WantsContinue } else { FeedOutcome::Waiting }
    }

    /// Makes the request, whose end has come.
    fn complete(&mut self, ctx: &FeedContext<'_>, index: u32, head: Option<RequestHead>) -> FeedOutcome {
        let Some(head) = head else {
            debug_assert!(false, "the parser ends a request only after its head");
            return FeedOutcome::Waiting;
        };
        let mut body = Body::Empty;
        if let Some(ext) = &mut self.ext {
            ext.progress = None;
            body = std::mem::take(&mut ext.body);
        }
        if let Err(error) = body.rewind() {
            return FeedOutcome::BodyStoreFailed(error, Box::new(head));
        }
        FeedOutcome::Ready(self.request(ctx, index, head, body))
    }

    /// Makes the request, so that the application is called before the body is there.
    fn stream(
        &mut self,
        ctx: &FeedContext<'_>,
        index: u32,
        head: RequestHead,
        wants_continue: bool,
    ) -> FeedOutcome {
        let ext = self.ext();
        let held = match std::mem::take(&mut ext.body) {
            Body::Memory(bytes) => Pending::of(bytes),
            other => {
                debug_assert!(other.is_empty(), "one input is kept in memory");
                Pending::default()
            }
        };
        ext.incoming = Some(Incoming::new(held, ctx.setup.config.body_bytes_max));
        FeedOutcome::Streaming(self.request(ctx, index, head, Body::Incoming), wants_continue)
    }

    /// Makes a request and begins to run it.
    fn request(&mut self, ctx: &FeedContext<'_>, index: u32, head: RequestHead, body: Body) -> Box<Request> {
        self.phase = ConnPhase::Running;
        self.requests += 1;
        let keep_alive = head.keep_alive() && !head.close_after() && ctx.setup.keeps_alive();
        // Where it is to be: it is large.
        let place = Box::new_uninit();
        let id = self.request_id(index);
        Box::write(
            place,
            Request {
                id,
                held_bytes: head.held_bytes() + body.held_bytes(),
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
                refused: None,
            },
        )
    }

    /// Takes the first bytes of a connection. They start the clock of the first request's head.
    fn feed_proxy_header(&mut self, ctx: &mut FeedContext<'_>, index: u32, mut input: &[u8]) -> FeedOutcome {
        let mut reader = self.ext.as_mut().and_then(|ext| ext.proxy_header.take()).unwrap_or_default();
        let allowed = self.proxy_state == ProxyHeaderState::Allowed;
        match reader.advance(ctx.setup.config.proxy_protocol, allowed, &mut input) {
            Ok(ProxyStep::NeedMore) => {
                self.ext().proxy_header = Some(reader);
                self.phase = ConnPhase::Head;
                FeedOutcome::Waiting
            }
            Ok(ProxyStep::Absent(held)) => {
                self.proxy_state = ProxyHeaderState::Over;
                if held.is_empty() {
                    return self.feed(ctx, index, input);
                }
                self.feed(ctx, index, &[&held, input].concat())
            }
            Ok(ProxyStep::Header(header)) => {
                self.proxy_state = ProxyHeaderState::Over;
                if let Some(addresses) = header.addresses {
                    self.peer = addresses.source.into();
                }
                self.proxied = Some(Arc::new(header));
                self.feed(ctx, index, input)
            }
            Err(error) => FeedOutcome::BadProxyHeader(error),
        }
    }
}
