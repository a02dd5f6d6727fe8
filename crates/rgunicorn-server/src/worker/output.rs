//! Bytes out: one send in flight per connection, the rest queued behind it.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::Duration;

use bytes::Bytes;

use crate::log::Level;
use rgunicorn_io::driver::{SendBuf, Sent, Token, Urgency};
use rgunicorn_io::sys::clock::Instant;

use crate::response::Outgoing;

use super::app::{App, ConnId, Flow, Hijacked, Request, RequestId};
use super::conn::ConnPhase;
use super::drain::DRAIN_FRESH;
use super::incoming::Incoming;
use super::input::is_disconnect;
use super::reactor::{ConnTimer, EventSource, Job, Reactor, State};

/// Most bytes of one send operation. The write-stall timer sees progress between two of them only (the ring reports a
/// send when it is complete), so this over the time-out is the slowest reader that is served: 4 KiB/s by default.
const SEND_SLICE_BYTES_MAX: usize = 256 * 1024;
/// Most bytes of one sendfile(2) call, so that a fast reader of a large file does not hold up the others.
const FILE_SLICE_BYTES_MAX: u64 = 256 * 1024;
/// Requests that have waited for their turn no longer than this are run without a question to the kernel.
const ASK_AFTER: Duration = Duration::from_millis(100);
/// The status in the access log of a request whose client has left before its turn; nginx's number.
pub const CLIENT_CLOSED_REQUEST: u16 = 499;

impl Reactor {
    /// Gives a piece of a response to a connection. `last`: the application has nothing further, so the piece may
    /// leave together with those of other connections; otherwise it is offered to the kernel before this returns.
    pub fn send(&self, id: RequestId, mut piece: Outgoing, last: bool) -> Flow {
        // An empty body may have an owner all the same; it is dropped here, where nothing is borrowed.
        if let Outgoing::Bytes { body, .. } = &mut piece
            && body.is_empty()
        {
            *body = Bytes::new();
        }
        let state = &mut *self.state();
        let urgent = !last || state.turn_requests <= 1;
        self.push_out(state, id.conn, piece, urgent)
    }

    /// The response is complete. `keep`: the connection stays open for the next request, if what was not read of this
    /// one's body is not too much to be read away.
    pub fn finish(&self, id: RequestId, keep: bool) {
        self.finish_in(&mut self.state(), id, keep);
    }

    pub(super) fn finish_in(&self, state: &mut State, id: RequestId, keep: bool) {
        let Some(conn) = state.request(id).filter(|conn| conn.phase == ConnPhase::Running) else { return };
        if keep && !conn.detached {
            self.skip_body(state, id.conn);
        } else {
            self.begin_close(state, id.conn);
        }
    }

    /// The response cannot be completed: what is queued still leaves, then the connection is cut.
    pub fn abort(&self, id: RequestId) {
        let state = &mut *self.state();
        if state.request(id).is_some() {
            self.begin_close(state, id.conn);
        }
    }

    /// Asks for [`super::App::resume`] when all output has left (or [`super::App::abandon`] when the client has).
    /// `false`: nothing is queued, go on at once.
    pub fn park(&self, id: RequestId) -> bool {
        let stall = self.config.write_stall_timeout;
        let state = &mut *self.state();
        let Some(conn) = state.request(id) else { return false };
        if !conn.has_output() {
            return false;
        }
        conn.parked = true;
        state.start_timer(id.conn.index, ConnTimer::WriteStall, stall);
        true
    }

    /// Asks for [`super::App::resume`] in the next turn although nothing is queued: lets others run in between.
    pub fn yield_turn(&self, id: RequestId) {
        self.state().jobs.push_back(Job::Resume(id));
    }

    /// A greenlet or a thread begins to work on the request of a connection. Until [`Self::end_work`] it counts as one of
    /// `worker_connections` also when its connection is closed, and the worker's end waits for it.
    pub fn begin_work(&self, id: RequestId) {
        let state = &mut *self.state();
        state.held += 1;
        match state.conn(id.conn) {
            Some(conn) => conn.held = true,
            None => state.orphans += 1,
        }
    }

    /// It has done its work.
    pub fn end_work(&self, id: RequestId) {
        let state = &mut *self.state();
        state.held = state.held.saturating_sub(1);
        match state.conn(id.conn) {
            Some(conn) => conn.held = false,
            None => state.orphans = state.orphans.saturating_sub(1),
        }
    }

    /// The client has left (or never was).
    pub fn is_closed(&self, id: RequestId) -> bool {
        self.state().request(id).is_none()
    }

    /// The client has left, or has at least shut its side of the connection: asks the kernel, because the loop may not have
    /// looked for a while.
    pub fn is_half_closed(&self, id: RequestId) -> bool {
        let state = &mut *self.state();
        let Some(conn) = state.request(id) else { return true };
        let (read_closed, fd) = (conn.read_closed, conn.fd.as_raw_fd());
        read_closed || state.driver.is_half_closed(fd)
    }

    /// Nobody waits for the answer to a request any more, which has waited for its turn from `arrived` to `now`. A client
    /// that has shut its side of the connection may be gone, or wait for its answer all the same (RFC 9112 section 9.6 lets
    /// it), and TCP cannot tell: it is taken for gone after `abandon_timeout`.
    pub fn is_abandoned(&self, id: RequestId, arrived: Instant, now: Instant) -> bool {
        let (waited, timeout) = (now.since(arrived), self.config.abandon_timeout);
        self.is_closed(id)
            || waited >= ASK_AFTER && self.is_reset(id)
            || !timeout.is_zero() && waited >= timeout && self.is_half_closed(id)
    }

    /// An answer cannot reach the client any more: its connection was reset, or (unix sockets) closed.
    fn is_reset(&self, id: RequestId) -> bool {
        let state = &mut *self.state();
        let Some(fd) = state.request(id).map(|conn| conn.fd.as_raw_fd()) else { return true };
        state.driver.is_reset(fd)
    }

    /// What then becomes of it: nothing but a record of the access log.
    pub fn drop_abandoned<A: App>(&self, app: &A, request: &Request) {
        app.refused(self, request, CLIENT_CLOSED_REQUEST);
        self.abort(request.id);
    }

    /// Takes the connection's socket over for the application. Reception stops; what was received and not used is
    /// handed over: of the request's body first, decoded as far as it was received. The reactor keeps its own descriptor,
    /// sends the response if there will be one, and closes then.
    ///
    /// # Errors
    /// `NotConnected` when the connection is gone, or whatever duplicating the descriptor gives.
    pub fn hijack(&self, id: RequestId) -> io::Result<Hijacked> {
        let state = &mut *self.state();
        let conn = state.request(id).ok_or(io::ErrorKind::NotConnected)?;
        let fd = rgunicorn_io::sys::file::duplicate(conn.fd.as_raw_fd())?;
        conn.detached = true;
        let mut unread = Vec::new();
        if let Some(ext) = &mut conn.ext {
            unread = ext.incoming.take().map(Incoming::into_held).unwrap_or_default();
            unread.append(&mut std::mem::take(&mut ext.pending).into_rest());
        }
        if let Some(op) = conn.recv.take() {
            let (data, eof) = state.driver.recv_stop(op);
            unread.extend_from_slice(&data);
            if let Some(conn) = state.request(id) {
                conn.read_closed |= eof;
            }
        }
        Ok(Hijacked { fd, unread })
    }

    /// The application has taken the socket.
    pub fn is_detached(&self, id: RequestId) -> bool {
        self.state().request(id).is_some_and(|conn| conn.detached)
    }

    pub(super) fn push_out(&self, state: &mut State, id: ConnId, piece: Outgoing, urgent: bool) -> Flow {
        let Some(conn) = state.conn(id) else {
            if let Outgoing::Bytes { head, body } = piece {
                state.discard(SendBuf { head, body });
            }
            return Flow::Gone;
        };
        if !conn.has_output() {
            return self.start_out(state, id, piece, urgent);
        }
        match conn.ext().enqueue(piece) {
            Ok(None) => Flow::Queued,
            Ok(Some(used)) => {
                state.discard(used);
                Flow::Queued
            }
            Err((error, used)) => {
                state.discard(used);
                self.on_send_error(state, id, &error);
                Flow::Gone
            }
        }
    }

    /// Starts `piece` on a connection with nothing in flight.
    fn start_out(&self, state: &mut State, id: ConnId, piece: Outgoing, urgent: bool) -> Flow {
        match piece {
            Outgoing::Bytes { head, body } => self.start_bytes(state, id, SendBuf { head, body }, urgent),
            Outgoing::File { file, offset, len } => {
                let rest = |file, offset, len| Outgoing::File { file, offset, len };
                self.start_file(state, id, file, (offset, len), rest)
            }
            Outgoing::Spool { file, offset, len } => {
                let rest = |file, offset, len| Outgoing::Spool { file, offset, len };
                self.start_file(state, id, file, (offset, len), rest)
            }
        }
    }

    fn start_bytes(&self, state: &mut State, id: ConnId, mut buf: SendBuf, urgent: bool) -> Flow {
        loop {
            let Some(conn) = state.conn(id) else {
                state.discard(buf);
                return Flow::Gone;
            };
            let fd = conn.fd.as_raw_fd();
            let rest =
                (buf.body.len() > SEND_SLICE_BYTES_MAX).then(|| buf.body.split_off(SEND_SLICE_BYTES_MAX));
            let urgency = if urgent { Urgency::Now } else { Urgency::Batch };
            match state.driver.send(fd, EventSource::Send(id).token(), buf, urgency) {
                Sent::Ready(Ok(()), sent) => {
                    state.discard(sent);
                    match rest {
                        Some(body) => buf = SendBuf { head: Vec::new(), body },
                        None => return Flow::Sent,
                    }
                }
                Sent::Ready(Err(error), sent) => {
                    state.discard(sent);
                    self.on_send_error(state, id, &error);
                    return Flow::Gone;
                }
                Sent::Pending(op) => {
                    if let Some(conn) = state.conn(id) {
                        conn.send = Some(op);
                        if let Some(body) = rest {
                            conn.ext().out.push_front(Outgoing::Bytes { head: Vec::new(), body });
                        }
                    }
                    return Flow::Queued;
                }
            }
        }
    }

    /// `rest` makes the piece that stands for what could not be sent now.
    fn start_file(
        &self,
        state: &mut State,
        id: ConnId,
        file: File,
        (mut offset, mut len): (u64, u64),
        rest: impl FnOnce(File, u64, u64) -> Outgoing,
    ) -> Flow {
        let Some(conn) = state.conn(id) else {
            return Flow::Gone;
        };
        let fd = conn.fd.as_raw_fd();
        let sent = rgunicorn_io::sys::file::sendfile(fd, &file, offset, len.min(FILE_SLICE_BYTES_MAX));
        match sent {
            Ok(0) if len > 0 => {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter");
                self.on_send_error(state, id, &error);
                return Flow::Gone;
            }
            Ok(n) => {
                offset += n;
                len -= n;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                self.on_send_error(state, id, &error);
                return Flow::Gone;
            }
        }
        if len == 0 {
            return Flow::Sent;
        }
        match state.driver.poll(fd, rgunicorn_io::driver::WRITABLE, EventSource::Writable(id).token()) {
            Ok(op) => {
                if let Some(conn) = state.conn(id) {
                    let ext = conn.ext();
                    ext.writable = Some(op);
                    ext.out.push_front(rest(file, offset, len));
                }
                Flow::Queued
            }
            Err(error) => {
                self.on_send_error(state, id, &error);
                Flow::Gone
            }
        }
    }

    fn on_send_error(&self, state: &mut State, id: ConnId, error: &io::Error) {
        if is_disconnect(error) {
            self.handles.errors.log(Level::Debug, format_args!("Ignoring client disconnection: {error}"));
        } else {
            self.handles.errors.log(Level::Error, format_args!("Socket error processing request: {error}"));
        }
        state.close(id);
    }

    pub(super) fn on_sent(&self, token: Token, result: io::Result<()>, buf: SendBuf) {
        let state = &mut *self.state();
        state.discard(buf);
        let Some(EventSource::Send(id)) = EventSource::from_token(token) else {
            debug_assert!(false, "a send completion for {token:?}");
            return;
        };
        let Some(conn) = state.conn(id) else { return };
        conn.send = None;
        match result {
            Ok(()) => self.next_out(state, id),
            Err(error) => self.on_send_error(state, id, &error),
        }
    }

    pub(super) fn on_writable(&self, id: ConnId) {
        let state = &mut *self.state();
        let Some(ext) = state.conn(id).and_then(|conn| conn.ext.as_mut()) else {
            return;
        };
        ext.writable = None;
        self.next_out(state, id);
    }

    /// The piece in flight has left: start the next, or say that all is gone.
    fn next_out(&self, state: &mut State, id: ConnId) {
        loop {
            let Some(conn) = state.conn(id) else { return };
            let Some(piece) = conn.ext.as_mut().and_then(|ext| ext.out.pop_front()) else {
                return self.on_drained(state, id);
            };
            match self.start_out(state, id, piece, true) {
                Flow::Sent => {}
                Flow::Queued => {
                    // Progress: the stall clock starts again, if it was running.
                    if state.timers.class(id.index) == Some(ConnTimer::WriteStall as u8) {
                        state.start_timer(id.index, ConnTimer::WriteStall, self.config.write_stall_timeout);
                    }
                    return;
                }
                Flow::Gone => return,
            }
        }
    }

    fn on_drained(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.conn(id) else { return };
        if conn.parked {
            conn.parked = false;
            if conn.awaits_body() {
                // Another greenlet of the application does; its clock had given way to this one's.
                state.start_timer(id.index, ConnTimer::BodyStall, self.config.body_stall_timeout);
            } else {
                state.stop_timer(id.index);
            }
            state.resume(id);
            return;
        }
        match conn.phase {
            ConnPhase::Closing => self.linger(state, id),
            ConnPhase::Flushing => self.next_request(state, id),
            phase => {
                conn.trim();
                // The write clock had taken the place of another one.
                if state.timers.class(id.index) == Some(ConnTimer::WriteStall as u8) {
                    match phase {
                        ConnPhase::Idle => self.start_idle_timer(state, id),
                        ConnPhase::Skipping => self.start_skip_timer(state, id),
                        _ => {}
                    }
                }
            }
        }
    }

    /// No further response on this connection: close it when its output has left.
    pub(super) fn begin_close(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.conn(id) else { return };
        conn.phase = ConnPhase::Closing;
        conn.parked = false;
        if let Some(ext) = &mut conn.ext {
            ext.incoming = None;
        }
        if conn.has_output() {
            state.start_timer(id.index, ConnTimer::WriteStall, self.config.write_stall_timeout);
        } else {
            self.linger(state, id);
        }
    }

    /// Shuts the write side and reads late input away, so that the last bytes are not lost to a reset (a close with
    /// unread input makes TCP send RST, RFC 9112 section 9.6).
    fn linger(&self, state: &mut State, id: ConnId) {
        let draining = state.draining;
        let Some(conn) = state.conn(id) else { return };
        // A shutdown would reach the application's descriptor of a detached socket too.
        if conn.read_closed || conn.detached {
            return state.close(id);
        }
        let fd = conn.fd.as_raw_fd();
        if state.driver.shutdown(fd, Shutdown::Write).is_err() {
            return state.close(id);
        }
        if let Some(conn) = state.conn(id) {
            conn.phase = ConnPhase::Lingering;
        }
        if draining {
            state.start_timer(id.index, ConnTimer::Drain, DRAIN_FRESH);
        } else {
            state.start_timer(id.index, ConnTimer::Linger, self.config.linger_timeout);
        }
        self.arm_recv(state, id);
    }
}
