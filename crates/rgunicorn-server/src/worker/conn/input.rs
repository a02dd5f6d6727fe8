//! Reception, and what input does to a connection.

use std::os::fd::AsRawFd;

use rgunicorn_http::{PageFacts, RequestHead};
use rgunicorn_io::driver::{Received, Urgency};
use rgunicorn_io::sys::clock;

use super::ConnPhase;
use super::body::Body;
use super::feed::FeedOutcome;
use super::io::{BytesIn, ConnIo, DRAIN_FRESH};
use super::refusal::{Refusal, is_disconnect};
use crate::log::{Level, RepeatedLine};
use crate::response::Outgoing;
use crate::worker::event_source::EventSource;
use crate::worker::ids::ConnId;
use crate::worker::jobs::Job;
use crate::worker::message::{Flow, Request};
use crate::worker::timers::ConnTimer;

impl ConnIo<'_> {
    /// Handles a completion of a reception.
    #[inline]
    pub(crate) fn on_recv(&mut self, id: ConnId, outcome: Received) {
        match outcome {
            Received::Data(buf) => self.bytes_in(id, BytesIn::Lent(buf), false),
            Received::Eof => self.on_eof(id),
            Received::Err(error) => {
                if let Some(conn) = self.conns.get(id) {
                    conn.recv = None;
                }
                if !is_disconnect(&error) {
                    self.on_socket_error(&error);
                }
                self.close(id);
            }
        }
    }

    /// Handles the end of what the peer sends.
    fn on_eof(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.recv = None;
        conn.end_input();
        match conn.phase {
            // A half-closed client may still read its response.
            ConnPhase::Running => self.after_body_input(id),
            ConnPhase::Flushing | ConnPhase::Closing => {}
            ConnPhase::Lingering => self.close(id),
            ConnPhase::Idle | ConnPhase::Head | ConnPhase::Body | ConnPhase::Skipping => {
                if conn.phase != ConnPhase::Idle {
                    self.setup.debug(format_args!("Ignored premature client disconnection."));
                }
                // Earlier responses that are still on their way out go first.
                self.begin_close(id);
            }
        }
    }

    /// Goes on after input behind a request's head, or behind the request: it is bounded while a response is
    /// in progress, and counted while closing.
    pub(crate) fn after_buffered(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let (phase, full) = (conn.phase, conn.is_full(&self.setup.config, false));
        let lingered_bytes = conn.ext.as_ref().map_or(0, |ext| ext.lingered_bytes);
        if full {
            self.conns.mark_full(id);
        }
        match phase {
            ConnPhase::Running => self.after_body_input(id),
            ConnPhase::Skipping => self.skip_on(id),
            ConnPhase::Lingering if lingered_bytes > self.setup.config.linger_bytes_max => self.close(id),
            _ => {}
        }
    }

    /// Pauses the connections that were found full, unless their input has been taken meanwhile. TCP's window
    /// then holds the client back.
    #[inline]
    pub(crate) fn pause_full(&mut self) {
        while let Some(id) = self.conns.pop_full() {
            let (config, over) = (&self.setup.config, self.is_over_budget());
            let Some(conn) = self.conns.get(id).filter(|conn| conn.is_full(config, over)) else { continue };
            // The end of a response goes on with the others.
            let awaits_memory = matches!(conn.phase, ConnPhase::Idle | ConnPhase::Head);
            if conn.recv.is_some() {
                if awaits_memory {
                    self.conns.stall(id);
                }
                let (data, end) = self.stop_recv(id);
                self.bytes_in(id, BytesIn::Own(&data), end);
            }
        }
    }

    /// Arms reception unless it is armed, cannot be, or as much is held as may be: then the end of a later
    /// response does.
    pub(crate) fn arm_recv(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.recv.is_some() || conn.read_closed || conn.detached {
            return;
        }
        let over = self.is_over_budget();
        let Some(conn) = self.conns.get(id) else { return };
        if conn.is_full(&self.setup.config, over) {
            if over && matches!(conn.phase, ConnPhase::Idle | ConnPhase::Head) {
                self.conns.stall(id);
            }
            return;
        }
        match self.driver.recv(conn.fd.as_raw_fd(), EventSource::Recv(id).token()) {
            Ok(op) => conn.recv = Some(op),
            Err(error) => {
                self.log(
                    RepeatedLine::DriverRefused,
                    Level::Error,
                    format_args!("Cannot receive on a connection: {error}"),
                );
                self.close(id);
            }
        }
    }

    /// Stops reception. Returns what has come and no completion has told yet, and whether that is its end.
    pub(crate) fn stop_recv(&mut self, id: ConnId) -> (Vec<u8>, bool) {
        let (mut data, mut end) = self.conns.take_late_input(id, self.driver);
        if let Some(op) = self.conns.get(id).and_then(|conn| conn.recv.take()) {
            let (rest, ended) = self.driver.recv_stop(op);
            if data.is_empty() {
                data = rest;
            } else {
                data.extend_from_slice(&rest);
            }
            end |= ended;
        }
        (data, end)
    }

    /// Does the same, and asks the kernel for more if nothing has come.
    pub(crate) fn take_arrived(&mut self, id: ConnId) -> (Vec<u8>, bool) {
        let arrived = self.stop_recv(id);
        match self.conns.get(id) {
            Some(conn) if arrived == Default::default() => self.driver.try_recv(conn.fd.as_raw_fd()),
            _ => arrived,
        }
    }

    /// Goes on after input of a request that is being received.
    pub(crate) fn after_feed(&mut self, id: ConnId, fed: FeedOutcome) {
        match fed {
            FeedOutcome::Buffered => {}
            FeedOutcome::Streaming(_, true) if self.send_continue(id) == Flow::Gone => {}
            FeedOutcome::Ready(request) | FeedOutcome::Streaming(request, _) => {
                self.turn.add_requests(1);
                self.conns.call(request, self.turn.goes_on_with(id));
            }
            FeedOutcome::Waiting => self.await_more(id),
            FeedOutcome::WantsContinue => {
                self.await_more(id);
                self.send_continue(id);
            }
            FeedOutcome::Refused(error, head) => self.refuse(id, &Refusal::from(error), *head),
            FeedOutcome::BadProxyHeader(error) => {
                self.refuse(id, &Refusal::from(error), RequestHead::unread());
            }
            FeedOutcome::BodyStoreFailed(error, head) => {
                self.log(
                    RepeatedLine::BodyStore,
                    Level::Error,
                    format_args!("Cannot store a request body: {error}"),
                );
                self.refuse(id, &Refusal::INTERNAL, *head);
            }
        }
    }

    /// Tells the client to send the body.
    fn send_continue(&mut self, id: ConnId) -> Flow {
        let line = rgunicorn_http::continue_response(rgunicorn_http::Version::HTTP_11).to_vec();
        self.push_out(id, Outgoing::from(line), Urgency::Now)
    }

    /// Starts the deadline of a request that is not complete.
    fn await_more(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let (phase, begins_body) = (conn.phase, conn.begins_body());
        if begins_body || self.conns.unfinished.at(id.index).is_none() {
            self.queue_unfinished(id);
        }
        if phase == ConnPhase::Body {
            self.start_timer(id, ConnTimer::BodyStall, self.setup.config.body_stall_timeout);
        } else if !self.conns.timers.runs(id.index, ConnTimer::Header) {
            // The head's clock starts with its first byte and is not restarted by later ones.
            self.start_timer(id, ConnTimer::Header, self.setup.config.header_timeout);
        }
    }

    /// Answers a bad request, begins to close, and has the answer recorded. `head`: what could be read of it.
    pub(crate) fn refuse(&mut self, id: ConnId, refusal: &Refusal, head: RequestHead) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.phase = ConnPhase::Running;
        if refusal.status == 0 {
            return self.begin_close(id);
        }
        let (head_request, now) = (head.method() == b"HEAD", self.turn.now());
        let request = Request {
            id: conn.request_id(id.index),
            head,
            body: Body::Empty,
            peer: conn.peer,
            proxied: conn.proxied.clone(),
            listener: conn.listener,
            received: now,
            arrived: now,
            begun: now,
            keep_alive: false,
            number: 0,
            refused: Some(refusal.status),
            held_bytes: 0,
        };
        if let Some(error) = &refusal.cause {
            let ip = conn.peer.ip_text();
            self.log(
                RepeatedLine::InvalidRequest,
                Level::Warning,
                format_args!("Invalid request from ip={ip}: {error}"),
            );
        }
        let date = self.memory.date(clock::unix_now().as_secs());
        let mut out = self.memory.buffer();
        refusal.render(&PageFacts { date, head_request }, &mut out);
        self.push_out(id, Outgoing::from(out), Urgency::Now);
        self.begin_close(id);
        self.conns.push_job(Job::Refused(Box::new(request), refusal.status));
    }

    /// Goes on, after a response on a connection that stays, to what the client has already sent of the next request.
    pub(crate) fn next_request(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.served = true;
        if conn.output_over_limit() {
            conn.phase = ConnPhase::Flushing;
            return self.start_timer(id, ConnTimer::WriteStall, self.setup.config.write_stall_timeout);
        }
        conn.phase = ConnPhase::Idle;
        if conn.pending_bytes() > 0 {
            return self.feed_pending(id);
        }
        conn.trim();
        if conn.read_closed {
            return self.begin_close(id);
        }
        self.start_idle_timer(id);
        self.arm_recv(id);
    }

    /// Starts the deadline of a connection between two requests. While the worker leaves, a client that was promised
    /// keep-alive has a moment for the request that may be on its way, or gets another worker.
    pub(crate) fn start_idle_timer(&mut self, id: ConnId) {
        let hands_over = self.hands_over();
        if hands_over {
            self.conns.push_spare(id);
        }
        if self.draining && !hands_over {
            self.start_timer(id, ConnTimer::Drain, DRAIN_FRESH);
        } else {
            self.start_timer(id, ConnTimer::Keepalive, self.setup.config.keepalive);
        }
    }
}
