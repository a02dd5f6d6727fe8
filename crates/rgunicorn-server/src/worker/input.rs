//! Bytes in: what reception does to a connection.

use std::fmt;

use crate::log::Level;
use rgunicorn_http::proxy::ProxyError;
use rgunicorn_http::{HttpError, RequestHead, error_response, error_response_with};
use rgunicorn_io::driver::{Received, Token};

use crate::response::Outgoing;

use super::app::{ConnId, Flow, Request};
use super::conn::{Conn, ConnPhase, FeedOutcome};
use super::drain::DRAIN_FRESH;
use super::reactor::{ConnTimer, EventSource, Job, Reactor, State};

impl Reactor {
    pub(super) fn on_recv(&self, token: Token, outcome: Received) {
        let Some(EventSource::Recv(id)) = EventSource::from_token(token) else {
            debug_assert!(false, "a receive completion for {token:?}");
            return;
        };
        let state = &mut *self.state();
        match outcome {
            Received::Data(buf) => {
                // The buffer belongs to the driver, the connection to the slab: copy nothing, borrow both apart.
                let clocks = state.clocks();
                let State { driver, conns, .. } = state;
                let fed = match conns.get_mut(id.index as usize).filter(|c| c.generation == id.generation) {
                    None => None,
                    Some(conn) => {
                        let data = driver.buffer(&buf);
                        match conn.phase {
                            ConnPhase::Idle | ConnPhase::Head | ConnPhase::Body => {
                                Some(conn.feed(&self.feed_context(clocks), id.index, data))
                            }
                            ConnPhase::Running | ConnPhase::Skipping | ConnPhase::Flushing => {
                                conn.buffer_input(&self.policy, data);
                                None
                            }
                            ConnPhase::Closing | ConnPhase::Lingering => {
                                conn.ext().lingered_bytes += data.len();
                                None
                            }
                        }
                    }
                };
                state.driver.release(buf);
                match fed {
                    Some(fed) => self.after_feed(state, id, fed),
                    None => self.after_unfed(state, id),
                }
            }
            Received::Eof => self.on_eof(state, id),
            Received::Err(error) => {
                if let Some(conn) = state.conn(id) {
                    conn.recv = None;
                }
                if !is_disconnect(&error) {
                    self.handles
                        .errors
                        .log(Level::Error, format_args!("Socket error processing request: {error}"));
                }
                state.close(id);
            }
        }
    }

    /// Input behind a request's head, or behind the request: bounded while a response is in progress, counted while
    /// closing.
    fn after_unfed(&self, state: &mut State, id: ConnId) {
        let State { conns, full, .. } = state;
        let Some(conn) = conns.get_mut(id.index as usize).filter(|conn| conn.generation == id.generation)
        else {
            return;
        };
        if self.is_full(conn) {
            full.push(id);
        }
        let lingered_bytes = conn.ext.as_ref().map_or(0, |ext| ext.lingered_bytes);
        match conn.phase {
            ConnPhase::Running => self.after_body_input(state, id),
            ConnPhase::Skipping => self.skip_on(state, id),
            ConnPhase::Lingering if lingered_bytes > self.config.linger_bytes_max => state.close(id),
            _ => {}
        }
    }

    /// Pauses the connections that were found full, unless their input has been taken meanwhile.
    pub(super) fn pause_full(&self) {
        let state = &mut *self.state();
        while let Some(id) = state.full.pop() {
            if state.conn(id).is_some_and(|conn| self.is_full(conn)) {
                self.pause(state, id);
            }
        }
    }

    /// A response is in progress, and the client has sent more of its request's body, or for later, than is held.
    fn is_full(&self, conn: &Conn) -> bool {
        if !matches!(conn.phase, ConnPhase::Running | ConnPhase::Flushing) {
            return false;
        }
        let incoming = conn.ext.as_ref().and_then(|ext| ext.incoming.as_ref());
        incoming
            .and_then(|incoming| incoming.is_full(self.config.body_window_bytes_max))
            .unwrap_or_else(|| conn.pending_bytes() >= self.config.pipelined_bytes_max)
    }

    /// Stops reception, keeping what had been received already. TCP's window then holds the client back.
    fn pause(&self, state: &mut State, id: ConnId) {
        let Some(op) = state.conn(id).and_then(|conn| conn.recv.take()) else {
            return;
        };
        let (data, eof) = state.driver.recv_stop(op);
        if let Some(conn) = state.conn(id) {
            conn.buffer_input(&self.policy, &data);
            if eof {
                conn.end_input();
            }
        }
        self.after_body_input(state, id);
    }

    /// Arms reception unless it is armed, cannot be, or as much is held as may be: then the end of a later response does.
    pub(super) fn arm_recv(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.conn(id) else { return };
        if conn.recv.is_some() || conn.read_closed || conn.detached || self.is_full(conn) {
            return;
        }
        let fd = std::os::fd::AsRawFd::as_raw_fd(&conn.fd);
        match state.driver.recv(fd, EventSource::Recv(id).token()) {
            Ok(op) => {
                if let Some(conn) = state.conn(id) {
                    conn.recv = Some(op);
                }
            }
            Err(error) => {
                self.handles
                    .errors
                    .log(Level::Error, format_args!("Cannot receive on a connection: {error}"));
                state.close(id);
            }
        }
    }

    fn on_eof(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.conn(id) else { return };
        conn.recv = None;
        conn.end_input();
        match conn.phase {
            // A half-closed client may still read its response.
            ConnPhase::Running => self.after_body_input(state, id),
            ConnPhase::Flushing | ConnPhase::Closing => {}
            ConnPhase::Lingering => state.close(id),
            ConnPhase::Idle | ConnPhase::Head | ConnPhase::Body | ConnPhase::Skipping => {
                if conn.phase != ConnPhase::Idle {
                    self.handles
                        .errors
                        .log(Level::Debug, format_args!("Ignored premature client disconnection."));
                }
                // Earlier responses that are still on their way out go first.
                self.begin_close(state, id);
            }
        }
    }

    pub(super) fn after_feed(&self, state: &mut State, id: ConnId, fed: FeedOutcome) {
        match fed {
            FeedOutcome::Ready(request) => call(state, request),
            FeedOutcome::Streaming(request, wants_continue) => {
                if !wants_continue || self.send_continue(state, id) != Flow::Gone {
                    call(state, request);
                }
            }
            FeedOutcome::Waiting => self.await_more(state, id),
            FeedOutcome::WantsContinue => {
                self.await_more(state, id);
                self.send_continue(state, id);
            }
            FeedOutcome::Refused(error, head) => self.refuse(state, id, &Refusal::from(error), head),
            FeedOutcome::BadProxyHeader(error) => self.refuse(state, id, &Refusal::from(error), None),
            FeedOutcome::BodyStoreFailed(error) => {
                self.handles.errors.log(Level::Error, format_args!("Cannot store a request body: {error}"));
                self.refuse(state, id, &Refusal::INTERNAL, None);
            }
        }
    }

    fn send_continue(&self, state: &mut State, id: ConnId) -> Flow {
        let line = rgunicorn_http::continue_response(rgunicorn_http::Version::HTTP_11).to_vec();
        self.push_out(state, id, Outgoing::from(line), true)
    }

    fn await_more(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.conn(id) else { return };
        if conn.phase == ConnPhase::Body {
            state.start_timer(id.index, ConnTimer::BodyStall, self.config.body_stall_timeout);
        } else if state.timers.class(id.index) != Some(ConnTimer::Header as u8) {
            // The head's clock starts with its first byte (or the accept) and is not restarted by later ones.
            state.start_timer(id.index, ConnTimer::Header, self.config.header_timeout);
        }
    }

    /// Answers a bad request and begins to close.
    pub(super) fn refuse(&self, state: &mut State, id: ConnId, refusal: &Refusal, head: Option<RequestHead>) {
        let Some(conn) = state.conn(id) else { return };
        conn.phase = ConnPhase::Running;
        let (peer, proxied, listener) = (conn.peer, conn.proxied.clone(), conn.listener);
        let request_id = conn.request_id(id.index);
        if refusal.status != 0 {
            if let Some(error) = &refusal.cause {
                let ip = peer.ip_text();
                self.handles
                    .errors
                    .log(Level::Warning, format_args!("Invalid request from ip={ip}: {error}"));
            }
            let mut out = state.spare.pop().unwrap_or_default();
            refusal.render(&mut out);
            self.push_out(state, id, Outgoing::from(out), true);
        }
        self.begin_close(state, id);
        if let Some(head) = head {
            let request = Box::new(Request {
                id: request_id,
                head,
                body: super::Body::Empty,
                peer,
                proxied,
                listener,
                received: state.now,
                arrived: state.now,
                begun: state.now,
                keep_alive: false,
                number: 0,
            });
            state.jobs.push_back(Job::Refused(request, refusal.status));
        }
    }

    /// The response is complete and the connection stays: on to what the client has already sent of the next request.
    pub(super) fn next_request(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.conn(id) else { return };
        conn.served = true;
        if conn.output_over_limit() {
            conn.phase = ConnPhase::Flushing;
            return state.start_timer(id.index, ConnTimer::WriteStall, self.config.write_stall_timeout);
        }
        conn.phase = ConnPhase::Idle;
        if conn.pending_bytes() > 0 {
            let ctx = self.feed_context(state.clocks());
            let Some(conn) = state.conn(id) else { return };
            let fed = conn.feed_pending(&ctx, id.index);
            return self.after_held(state, id, fed);
        }
        conn.trim();
        if conn.read_closed {
            return self.begin_close(state, id);
        }
        self.start_idle_timer(state, id);
        self.arm_recv(state, id);
    }

    /// The clock of a connection between two requests. While the worker leaves, a client that was promised keep-alive
    /// has a moment for the request that may be on its way.
    pub(super) fn start_idle_timer(&self, state: &mut State, id: ConnId) {
        if state.draining {
            state.start_timer(id.index, ConnTimer::Drain, DRAIN_FRESH);
        } else {
            state.start_timer(id.index, ConnTimer::Keepalive, self.config.keepalive);
        }
    }

    /// Takes input that came when the connection was idle, and not as a completion.
    pub(super) fn feed_held(&self, state: &mut State, id: ConnId, data: &[u8]) {
        let ctx = self.feed_context(state.clocks());
        let Some(conn) = state.conn(id) else { return };
        let fed = conn.feed(&ctx, id.index, data);
        self.after_held(state, id, fed);
    }

    fn after_held(&self, state: &mut State, id: ConnId, fed: FeedOutcome) {
        let ended = state.conn(id).is_some_and(|conn| conn.read_closed);
        if ended
            && matches!(fed, FeedOutcome::Waiting | FeedOutcome::WantsContinue | FeedOutcome::Streaming(..))
        {
            return self.begin_close(state, id);
        }
        self.after_feed(state, id, fed);
        self.arm_recv(state, id);
    }
}

/// A request is ready for the application; no clock runs.
fn call(state: &mut State, request: Box<Request>) {
    state.stop_timer(request.id.conn.index);
    state.turn_requests += 1;
    state.jobs.push_back(Job::Call(request));
}

/// Why the server answers a request by itself, and how.
pub(super) struct Refusal {
    /// 0: with nothing but a close.
    status: u16,
    cause: Option<Cause>,
}

/// What the client, or the proxy before it, has done wrong.
enum Cause {
    Http(HttpError),
    Proxy(ProxyError),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => error.fmt(f),
            Self::Proxy(error) => error.fmt(f),
        }
    }
}

impl Refusal {
    pub(super) const INTERNAL: Self = Self { status: 500, cause: None };

    fn render(&self, out: &mut Vec<u8>) {
        match &self.cause {
            Some(Cause::Http(error)) => error_response(error, out),
            Some(Cause::Proxy(error)) => {
                error_response_with(self.status, error.reason(), &error.to_string(), out);
            }
            None => error_response_with(self.status, "Internal Server Error", "", out),
        }
    }
}

impl From<HttpError> for Refusal {
    fn from(error: HttpError) -> Self {
        let status = if error.wants_answer() { error.status() } else { 0 };
        Self { status, cause: Some(Cause::Http(error)) }
    }
}

impl From<ProxyError> for Refusal {
    fn from(error: ProxyError) -> Self {
        Self { status: error.status(), cause: Some(Cause::Proxy(error)) }
    }
}

/// Errors that only say that the client has left; not worth more than a debug line (Gunicorn treats EPIPE, ECONNRESET
/// and ENOTCONN so).
pub(super) fn is_disconnect(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as K;
    matches!(
        error.kind(),
        K::BrokenPipe | K::ConnectionReset | K::NotConnected | K::ConnectionAborted | K::TimedOut
    )
}
