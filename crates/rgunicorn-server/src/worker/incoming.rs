//! A request body that its application reads while it arrives (`WorkerConfig::stream_bodies`). What has come and was not read
//! is bounded: at the limit reception pauses, and TCP's window holds the client back.

use rgunicorn_http::{HttpError, ParseEvent, Policy, RequestParser};

use super::app::{ConnId, RequestId};
use super::conn::{Conn, ConnPhase, Pending};
use super::drain::DRAIN_FRESH;
use super::reactor::{ConnTimer, Reactor, State};

/// Why the rest of a request body will not come. The connection can only be closed after the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// The client has left, or sends no more, before the end of the body. Also for a request that is over.
    Gone,
    /// The chunks are not those of HTTP.
    Framing(HttpError),
    /// The client was silent for longer than `body_stall_timeout` while the application waited.
    Stalled,
}

/// What [`Reactor::read_body`] has found.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyRead {
    /// The next bytes; never empty.
    Data(Vec<u8>),
    /// All was read.
    End,
    /// Nothing at the moment: [`Reactor::await_body`].
    Pending,
    /// All that came was read, and no more will come.
    Failed(BodyFault),
}

/// How far the reception of a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    Open,
    Complete,
    Failed(BodyFault),
}

/// State of one such body.
pub(super) struct Incoming {
    /// Received and not read.
    held: Pending,
    arrival: Arrival,
    /// The application waits for more.
    awaited: bool,
    /// The response is complete: bytes of the body that were read away since.
    skipped: Option<usize>,
}

impl Incoming {
    /// A body of which `held` came together with the head.
    pub(super) fn new(held: Pending) -> Self {
        Self { held, arrival: Arrival::Open, awaited: false, skipped: None }
    }

    /// Takes what of `input` belongs to the body.
    pub(super) fn take(
        &mut self,
        parser: &mut RequestParser,
        policy: &Policy,
        trusted: bool,
        input: &mut &[u8],
    ) {
        if matches!(self.arrival, Arrival::Failed(_)) {
            // Nobody knows where the next request would begin.
            *input = &[];
        }
        let before = input.len();
        while self.arrival == Arrival::Open {
            match parser.advance(policy, trusted, input) {
                Ok(ParseEvent::Data(data)) if self.skipped.is_none() => self.held.push(data),
                Ok(ParseEvent::Data(_)) => {}
                Ok(ParseEvent::NeedMore) => break,
                Ok(ParseEvent::End) => self.arrival = Arrival::Complete,
                Ok(ParseEvent::Head(_)) => {
                    debug_assert!(false, "the parser ends a body before it begins a request");
                    self.arrival = Arrival::Failed(BodyFault::Framing(HttpError::RequestLine));
                }
                Err(error) => {
                    self.arrival = Arrival::Failed(BodyFault::Framing(error));
                    *input = &[];
                }
            }
        }
        if let Some(skipped) = &mut self.skipped {
            *skipped += before - input.len();
        }
    }

    /// No more will come.
    pub(super) fn fail(&mut self, fault: BodyFault) {
        if self.arrival == Arrival::Open {
            self.arrival = Arrival::Failed(fault);
        }
    }

    /// Bytes received and not read.
    pub(super) fn into_held(self) -> Vec<u8> {
        self.held.into_rest()
    }

    /// Whether reception must pause; `None`: that is decided by what comes behind the body.
    pub(super) fn is_full(&self, window_bytes_max: usize) -> Option<bool> {
        match self.arrival {
            Arrival::Open => Some(self.held.len() >= window_bytes_max.max(1)),
            Arrival::Complete => None,
            Arrival::Failed(_) => Some(true),
        }
    }

    fn is_readable(&self) -> bool {
        self.arrival != Arrival::Open || !self.held.is_empty()
    }

    fn read(&mut self, bytes_max: usize) -> BodyRead {
        if !self.held.is_empty() {
            return BodyRead::Data(self.held.take_front(bytes_max.max(1)));
        }
        match self.arrival {
            Arrival::Open => BodyRead::Pending,
            Arrival::Complete => BodyRead::End,
            Arrival::Failed(fault) => BodyRead::Failed(fault),
        }
    }

    /// Nobody will read it any more.
    fn skip(&mut self) {
        self.awaited = false;
        self.skipped = Some(std::mem::take(&mut self.held).len());
    }
}

impl Conn {
    /// The body that the application reads while it arrives.
    pub(super) fn incoming(&mut self) -> Option<&mut Incoming> {
        self.ext.as_mut().and_then(|ext| ext.incoming.as_mut())
    }

    /// The application waits for more of it.
    pub(super) fn awaits_body(&self) -> bool {
        self.ext.as_ref().and_then(|ext| ext.incoming.as_ref()).is_some_and(|body| body.awaited)
    }

    /// The peer sends no more.
    pub(super) fn end_input(&mut self) {
        self.read_closed = true;
        if let Some(incoming) = self.incoming() {
            incoming.fail(BodyFault::Gone);
        }
    }
}

impl Reactor {
    /// Reads at most `bytes_max` bytes (and at least one) of the body of the request in progress, if that is a
    /// [`super::Body::Incoming`]; any other one is at its end. After [`Reactor::finish`] or [`Reactor::abort`] there is
    /// nothing to read; a caller that outlives its request must not ask on behalf of the next.
    pub fn read_body(&self, id: RequestId, bytes_max: usize) -> BodyRead {
        let state = &mut *self.state();
        let Some(conn) = state.request(id).filter(|conn| conn.phase == ConnPhase::Running) else {
            return BodyRead::Failed(BodyFault::Gone);
        };
        let Some(incoming) = conn.incoming() else {
            return BodyRead::End;
        };
        let read = incoming.read(bytes_max);
        // Not as soon as there is room for a byte: pausing again costs more than that.
        let roomy = incoming.held.len() <= self.config.body_window_bytes_max / 2;
        if roomy && conn.recv.is_none() {
            self.arm_recv(state, id.conn);
        }
        read
    }

    /// Asks for [`super::App::resume`] when there is something to read, be it the end or a fault (or for
    /// [`super::App::abandon`] when the connection is closed before). `false`: there is already. A connection may be parked,
    /// too: whoever waits looks again after either.
    /// [`Reactor::finish`] and [`Reactor::abort`] take the wish back.
    pub fn await_body(&self, id: RequestId) -> bool {
        let state = &mut *self.state();
        let Some(conn) = state.request(id).filter(|conn| conn.phase == ConnPhase::Running) else {
            return false;
        };
        let Some(incoming) = conn.incoming().filter(|incoming| !incoming.is_readable()) else {
            return false;
        };
        incoming.awaited = true;
        state.start_timer(id.conn.index, ConnTimer::BodyStall, self.config.body_stall_timeout);
        true
    }

    /// Something of a body has come that the application reads, or its end or a fault.
    pub(super) fn after_body_input(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.conn(id) else { return };
        let parked = conn.parked;
        let Some(incoming) = conn.incoming().filter(|incoming| incoming.awaited) else { return };
        if incoming.is_readable() {
            incoming.awaited = false;
            if parked {
                // Another greenlet of the application writes; its clock had given way to this one's.
                state.start_timer(id.index, ConnTimer::WriteStall, self.config.write_stall_timeout);
            } else {
                state.stop_timer(id.index);
            }
            state.resume(id);
        } else {
            // Framing only, but the client is alive.
            state.start_timer(id.index, ConnTimer::BodyStall, self.config.body_stall_timeout);
        }
    }

    /// The application has waited too long, unless something has just come and no completion has told of it.
    pub(super) fn stall_body(&self, state: &mut State, id: ConnId) {
        let (data, eof) = state.take_arrived(id);
        let Some(conn) = state.conn(id) else { return };
        conn.buffer_input(&self.policy, &data);
        if eof {
            conn.end_input();
        }
        if !data.is_empty() {
            self.after_body_input(state, id);
            return self.arm_recv(state, id);
        }
        if let Some(incoming) = conn.incoming() {
            incoming.fail(BodyFault::Stalled);
        }
        self.after_body_input(state, id);
        // What still comes is of no use.
        state.full.push(id);
    }

    /// The response is complete, and the connection stays if the rest of the request's body can be read away.
    pub(super) fn skip_body(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.conn(id) else { return };
        let Some(incoming) = conn.incoming() else {
            return self.next_request(state, id);
        };
        incoming.skip();
        conn.phase = ConnPhase::Skipping;
        self.skip_on(state, id);
        // It may have been paused, and the next request arms it by itself.
        if state.conn(id).is_some_and(|conn| conn.phase == ConnPhase::Skipping) {
            self.arm_recv(state, id);
        }
    }

    /// Some of the rest was read away.
    pub(super) fn skip_on(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.conn(id) else { return };
        let Some(incoming) = conn.incoming() else { return };
        let too_much = incoming.skipped.is_some_and(|bytes| bytes > self.config.unread_body_bytes_max);
        match incoming.arrival {
            Arrival::Complete => {
                conn.ext().incoming = None;
                self.next_request(state, id);
            }
            Arrival::Open if !too_much => self.start_skip_timer(state, id),
            Arrival::Open | Arrival::Failed(_) => self.begin_close(state, id),
        }
    }

    /// The clock of a body that is read away. A worker that leaves gives it a moment in all.
    pub(super) fn start_skip_timer(&self, state: &mut State, id: ConnId) {
        if !state.draining {
            state.start_timer(id.index, ConnTimer::BodyStall, self.config.body_stall_timeout);
        } else if state.timers.class(id.index) != Some(ConnTimer::Drain as u8) {
            state.start_timer(id.index, ConnTimer::Drain, DRAIN_FRESH);
        }
    }
}
