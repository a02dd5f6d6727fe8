//! Input and output of connections: the two doors through which bytes pass, and what both sides of them need.
//!
//! [`ConnIo`] borrows parts of the reactor for one step. Its methods, by subject: `input` (reception, and
//! what input does to a connection), `output` (the queue of a connection, and its end), `streaming` (bodies
//! that the application reads while they arrive), `timeouts` (deadlines).

use std::fmt;
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rgunicorn_io::driver::{BufId, Completion, Driver, OpKey, SendBuf, Sent, Urgency};
use rgunicorn_io::sys::net::is_lost;

use super::feed::{FeedContext, FeedOutcome};
use super::table::Connections;
use super::{Conn, ConnPhase, Reception};
use crate::log::{Level, RepeatedLine};
use crate::response::Outgoing;
use crate::worker::event_source::{EventSource, token_of};
use crate::worker::handling::is_short;
use crate::worker::ids::ConnId;
use crate::worker::jobs::{Job, NextJob};
use crate::worker::memory::Memory;
use crate::worker::setup::WorkerSetup;
use crate::worker::timers::ConnTimer;
use crate::worker::turn::Turn;

/// How long a connection that may be about to send a request, or to close after its answer, is given while the worker
/// leaves. One that had its last answer within this time before may be: a busy client's next request is on its way.
pub(crate) const DRAIN_FRESH: Duration = Duration::from_millis(500);

/// The table of connections and the parts that move their bytes, borrowed together for one step.
pub(crate) struct ConnIo<'a> {
    pub(crate) conns: &'a mut Connections,
    pub(crate) driver: &'a mut Driver,
    pub(crate) memory: &'a mut Memory,
    pub(crate) turn: &'a mut Turn,
    /// The worker takes no new connections any more.
    pub(crate) draining: bool,
    pub(crate) setup: &'a WorkerSetup,
}

/// Bytes that have arrived.
pub(crate) enum BytesIn<'a> {
    /// In a buffer of the driver, which gets it back.
    Lent(BufId),
    /// In memory of ours.
    Own(&'a [u8]),
}

/// Bytes that leave, or their end.
pub(crate) enum BytesOut<'a> {
    /// Memory.
    Buffer(SendBuf, Urgency),
    /// At most `len` bytes of a file from `offset` on.
    File { file: &'a File, offset: u64, len: u64 },
    /// No more will come.
    End,
}

/// The progress of bytes that leave.
pub(crate) enum OutProgress {
    /// The kernel has so many of them; of a buffer, all.
    Left(u64),
    /// A completion will tell.
    InFlight(OpKey),
}

impl ConnIo<'_> {
    /// Gives bytes that have arrived to their connection: the one entrance. `end`: no more will come.
    pub(crate) fn bytes_in(&mut self, id: ConnId, bytes: BytesIn<'_>, end: bool) {
        let Self { conns, driver, memory, turn, setup, .. } = self;
        let mut ctx = feed_context(turn, setup, memory, conns.held_bytes());
        let Some(conn) = conns.get(id) else {
            if let BytesIn::Lent(buf) = bytes {
                driver.release(buf);
            }
            return;
        };
        let data = match &bytes {
            BytesIn::Lent(buf) => driver.buffer(buf),
            BytesIn::Own(data) => data,
        };
        let outcome = conn.bytes_in(&mut ctx, id.index, data);
        if let BytesIn::Lent(buf) = bytes {
            driver.release(buf);
        }
        if end {
            conn.end_input();
        }
        let (reception, change) = (conn.reception(), conn.recount());
        self.conns.count_bytes(change);
        self.after_bytes(id, outcome, reception);
    }

    /// Goes on after input, from the peer or from what was held of it.
    fn after_bytes(&mut self, id: ConnId, outcome: FeedOutcome, reception: Reception) {
        if matches!(outcome, FeedOutcome::Buffered) {
            self.after_buffered(id);
            if self.is_over_budget() {
                self.relieve(id);
            }
            return;
        }
        // The rest of an incomplete request will not come.
        if reception.closed && outcome.is_incomplete() {
            return self.begin_close(id);
        }
        self.after_feed(id, outcome);
        if self.is_over_budget() {
            self.relieve(id);
        }
        if !reception.armed {
            self.arm_recv(id);
        }
    }

    /// Gives bytes of a connection to the kernel: the one exit. Memory that is no longer needed is taken care of.
    ///
    /// # Errors
    /// Those of the system call; `WouldBlock` if the socket takes nothing of a file now.
    #[inline(always)] // Each caller has one kind of bytes.
    pub(crate) fn bytes_out(&mut self, id: ConnId, bytes: BytesOut<'_>) -> io::Result<OutProgress> {
        let Some(conn) = self.conns.get(id) else {
            if let BytesOut::Buffer(buf, _) = bytes {
                self.memory.discard(buf);
            }
            return Err(io::ErrorKind::NotConnected.into());
        };
        let fd = conn.fd.as_raw_fd();
        match bytes {
            BytesOut::Buffer(buf, urgency) => {
                let len = buf.len() as u64;
                match self.driver.send(fd, EventSource::Send(id).token(), buf, urgency) {
                    Sent::Ready(result, sent) => {
                        self.memory.discard(sent);
                        result.map(|()| OutProgress::Left(len))
                    }
                    Sent::Pending(op) => Ok(OutProgress::InFlight(op)),
                }
            }
            BytesOut::File { file, offset, len } => {
                rgunicorn_io::sys::file::sendfile(fd, file, offset, len).map(OutProgress::Left)
            }
            BytesOut::End => self.driver.shutdown(fd, Shutdown::Write).map(|()| OutProgress::Left(0)),
        }
    }

    /// Takes input of the next request from what is held of it.
    pub(crate) fn feed_pending(&mut self, id: ConnId) {
        let Self { conns, memory, turn, setup, .. } = self;
        let mut ctx = feed_context(turn, setup, memory, conns.held_bytes());
        let Some(conn) = conns.get(id) else { return };
        let outcome = conn.feed_pending(&mut ctx, id.index);
        let (reception, change) = (conn.reception(), conn.recount());
        self.conns.count_bytes(change);
        self.after_bytes(id, outcome, reception);
    }

    /// Takes out the next job, and decides what is done about it: new ones first. `leaving`: no further request is
    /// begun. `over`: this turn has had its share of application work.
    #[inline]
    pub(crate) fn next_job(&mut self, leaving: bool, over: bool) -> Option<NextJob> {
        let job = if over { None } else { self.conns.pop_job() };
        let job = job.or_else(|| self.next_resume(over))?;
        if self.turn.is_slow() {
            self.driver.flush();
        }
        Some(match job {
            Job::Call(request) if leaving => NextJob::Abort(request.id),
            Job::Call(mut request) => {
                request.begun = self.turn.now();
                let waited = request.begun.since(request.arrived);
                let timeout = self.setup.config.abandon_timeout;
                match self.conns.request(request.id) {
                    Some(conn) if !conn.is_abandoned(self.driver, waited, timeout) => {
                        NextJob::Run(Job::Call(request))
                    }
                    _ => NextJob::Drop(request),
                }
            }
            job => NextJob::Run(job),
        })
    }

    /// Takes out the next resumption. One has its place in each turn, however much else there is to do.
    fn next_resume(&mut self, over: bool) -> Option<Job> {
        if over && self.turn.has_resumed() {
            return None;
        }
        let id = self.conns.pop_resume()?;
        self.turn.note_resumed();
        Some(Job::Resume(id))
    }

    /// Takes the time after a piece of application work.
    #[inline]
    pub(crate) fn end_work(&mut self) {
        self.turn.end_work(self.driver.now());
        // A busy worker is a living one: the beat must not wait for the end of a long queue.
        self.setup.handles.slot.beat(self.turn.now());
    }

    /// Tells whether a completion has to wait for the next turn, because this one has handled enough; counts it
    /// otherwise. Short input has its turn before what waits, for a while. Completions that are not a connection's wait
    /// for nothing: they cost little, and much depends on them.
    #[inline]
    pub(crate) fn puts_off(&mut self, completion: &Completion) -> bool {
        if !self.conns.has_late() && !self.turn.handling.is_over(|| self.driver.now()) {
            self.turn.handling.count(completion);
            return false;
        }
        let Some(token) = token_of(completion) else { return false };
        if EventSource::from_token(token).and_then(EventSource::conn).is_none() {
            return false;
        }
        // Behind what waits already: bytes come in their order.
        let jumps = is_short(completion)
            && !self.turn.handling.is_spent(|| self.driver.now())
            && !self.conns.has_late_of(token);
        if jumps {
            self.turn.handling.count(completion);
        }
        !jumps
    }

    /// Starts, or starts anew, the one deadline of a connection.
    pub(crate) fn start_timer(&mut self, id: ConnId, timer: ConnTimer, after: Duration) {
        self.conns.timers.start(id.index, timer, self.turn.now().after(after));
    }

    /// Writes a line to the error log of a kind that can come again and again: whatever a loop has to tell.
    pub(crate) fn log(&self, kind: RepeatedLine, level: Level, line: fmt::Arguments<'_>) {
        self.setup.handles.errors.repeated(kind, level, self.turn.now(), line);
    }

    /// Notes an error of a connection that is no disconnection.
    pub(crate) fn on_socket_error(&self, error: &io::Error) {
        self.log(
            RepeatedLine::SocketError,
            Level::Error,
            format_args!("Socket error processing request: {error}"),
        );
        self.setup.doubt_sockets(self.driver, self.turn.now());
    }

    /// Forgets a connection and closes its descriptor. Operations in flight keep their own memory in the driver.
    pub(crate) fn close(&mut self, id: ConnId) {
        let Some(Conn { fd, recv, send, ext, detached, phase, read_closed, .. }) = self.conns.remove(id)
        else {
            return;
        };
        if let Some(op) = recv {
            self.driver.recv_cancel(op);
        }
        if let Some(op) = send {
            self.driver.send_cancel(op);
        }
        if let Some(ext) = ext {
            if let Some(op) = ext.writable {
                self.driver.poll_cancel(op);
            }
            for piece in ext.out {
                if let Outgoing::Bytes { head, body } = piece {
                    self.memory.defer_drop(SendBuf { head, body });
                }
            }
        }
        // A child that the application has forked may hold the socket, too, and closing a descriptor would then tell
        // the peer nothing. Not if both directions have ended, nor if the socket is the application's.
        let is_over = phase == ConnPhase::Lingering && read_closed;
        // ENOTCONN: the peer has reset it.
        if !detached
            && !is_over
            && let Err(error) = self.driver.shutdown(fd.as_raw_fd(), Shutdown::Both)
            && is_lost(&error)
        {
            return fd.abandon();
        }
        self.driver.close(fd);
    }
}

/// Returns the surroundings of a connection that is fed now, while requests hold so many bytes.
fn feed_context<'a>(
    turn: &Turn,
    setup: &'a WorkerSetup,
    memory: &'a mut Memory,
    held_bytes: usize,
) -> FeedContext<'a> {
    FeedContext { held_bytes, setup, repeats: &mut memory.repeats, now: turn.now(), arrived: turn.arrived() }
}

/// The parts of a reactor, without one.
#[cfg(test)]
pub(crate) mod fixture {
    use rgunicorn_io::driver::sim::{SimConfig, SimNet};
    use rgunicorn_io::driver::{Fd, PeerAddr};

    use super::*;
    use crate::worker::config::WorkerConfig;
    use crate::worker::conn::NewConn;
    use crate::worker::conn::proxy_header::ProxyHeaderState;

    /// The parts that [`ConnIo`] borrows, on a simulated network.
    pub(crate) struct Parts {
        pub(crate) conns: Connections,
        pub(crate) driver: Driver,
        pub(crate) memory: Memory,
        pub(crate) turn: Turn,
        pub(crate) draining: bool,
        pub(crate) setup: WorkerSetup,
        pub(crate) net: SimNet,
    }

    impl Parts {
        pub(crate) fn new(config: WorkerConfig) -> Self {
            let calm = SimConfig {
                short_per_mille: 0,
                late_per_mille: 0,
                ended_per_mille: 0,
                ..SimConfig::default()
            };
            let (driver, net) = Driver::sim(1, &calm);
            let turn = Turn::new(driver.now(), config.handling_time_max);
            let setup = WorkerSetup::fixture(config);
            let (conns, memory) = Default::default();
            Self { conns, driver, memory, turn, draining: false, setup, net }
        }

        pub(crate) fn io(&mut self) -> ConnIo<'_> {
            let Self { conns, driver, memory, turn, draining, setup, .. } = self;
            ConnIo { conns, driver, memory, turn, draining: *draining, setup }
        }
    }

    /// A connection whose descriptor leads nowhere.
    pub(crate) fn new_conn() -> NewConn {
        let null = File::open("/dev/null").unwrap();
        of_fd(Fd::from(std::os::fd::OwnedFd::from(null)))
    }

    /// A connection with this descriptor.
    pub(crate) fn of_fd(fd: Fd) -> NewConn {
        let (peer, proxy_state) = (PeerAddr::Unix, ProxyHeaderState::Over);
        NewConn { fd, peer, listener: 0, trusted: true, proxy_state }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{Parts, of_fd};
    use crate::response::Outgoing;
    use crate::worker::config::WorkerConfig;
    use crate::worker::jobs::Job;
    use crate::worker::message::Flow;

    use super::*;

    /// Parts with one connection, and its peer.
    fn connected() -> (Parts, ConnId, rgunicorn_io::driver::sim::Peer) {
        let mut parts = Parts::new(WorkerConfig::default());
        let (fd, peer) = parts.net.pair();
        let id = parts.conns.insert(of_fd(fd));
        parts.io().arm_recv(id);
        (parts, id, peer)
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn bytes_in_become_a_request_and_what_follows_waits() {
        let (mut parts, id, _) = connected();
        let twice = [REQUEST, REQUEST].concat();
        parts.io().bytes_in(id, BytesIn::Own(&twice), false);
        let Some(Job::Call(request)) = parts.conns.pop_job() else { panic!("a request") };
        assert_eq!((request.id.conn, parts.conns.jobs()), (id, 0));
        assert_eq!(parts.conns.get(id).map(|conn| conn.pending_bytes()), Some(REQUEST.len()));
        parts.io().finish(request.id, true);
        assert!(matches!(parts.conns.pop_job(), Some(Job::Call(next)) if next.id != request.id));
    }

    #[test]
    fn bytes_in_after_the_application_took_the_socket_are_its_own() {
        let (mut parts, id, _) = connected();
        parts.io().bytes_in(id, BytesIn::Own(REQUEST), false);
        let Some(Job::Call(request)) = parts.conns.pop_job() else { panic!("a request") };
        parts.io().bytes_in(id, BytesIn::Own(b"early "), false);
        if let Some(conn) = parts.conns.get(id) {
            conn.detached = true;
        }
        parts.io().bytes_in(id, BytesIn::Own(b"late"), true);
        let conn = parts.conns.request(request.id).unwrap();
        assert_eq!((conn.take_unread(), conn.read_closed), (b"early late".to_vec(), true));
    }

    #[test]
    fn the_end_behind_a_part_of_a_request_closes_the_connection() {
        let (mut parts, id, peer) = connected();
        parts.io().bytes_in(id, BytesIn::Own(&REQUEST[..9]), true);
        assert!(parts.conns.get(id).is_none() && parts.conns.jobs() == 0);
        assert!(parts.net.sees_end(peer));
    }

    #[test]
    fn bytes_out_reach_the_peer_and_so_does_their_end() {
        let (mut parts, id, peer) = connected();
        let mut io = parts.io();
        assert_eq!(io.push_out(id, Outgoing::from(b"answer".to_vec()), Urgency::Now), Flow::Sent);
        io.begin_close(id);
        assert_eq!(parts.conns.get(id).map(|conn| conn.phase), Some(ConnPhase::Lingering));
        assert_eq!(parts.net.receive(peer), b"answer");
        assert!(parts.net.sees_end(peer));
    }

    /// What has come and had no turn yet stands before what the kernel still has.
    #[test]
    fn input_that_was_put_off_is_found_where_reception_stops() {
        let (mut parts, id, peer) = connected();
        let mut completions = Vec::new();
        parts.net.send(peer, b"first ");
        parts.driver.wait(Some(Duration::ZERO), &mut completions).unwrap();
        assert_eq!(completions.len(), 1);
        completions.drain(..).for_each(|completion| parts.conns.push_late(completion));
        parts.net.send(peer, b"second");
        let mut io = parts.io();
        let (mut data, end) = io.stop_recv(id);
        data.extend(io.take_arrived(id).0);
        assert_eq!((data, end), (b"first second".to_vec(), false));
        assert!(!parts.conns.has_late());
    }

    /// The loop did not run for longer than a reader may stall, and does not yet know that this one has read.
    #[test]
    fn output_whose_progress_was_put_off_is_not_stalled() {
        for progress in [false, true] {
            let (mut parts, id, _) = connected();
            let mut io = parts.io();
            assert_eq!(io.push_out(id, Outgoing::from(vec![b'x'; 1 << 20]), Urgency::Now), Flow::Queued);
            io.start_timer(id, ConnTimer::WriteStall, Duration::from_secs(60));
            if progress {
                let (token, buf) = (EventSource::Send(id).token(), SendBuf::default());
                parts.conns.push_late(Completion::Sent { token, result: Ok(()), buf });
            }
            parts.net.advance(Duration::from_secs(70));
            parts.turn.end_wait(parts.driver.now());
            parts.io().expire_timers();
            assert_eq!(parts.conns.get(id).is_some(), progress);
        }
    }

    #[test]
    fn a_stale_id_takes_bytes_no_further() {
        let (mut parts, id, _) = connected();
        let mut io = parts.io();
        io.close(id);
        io.bytes_in(id, BytesIn::Own(REQUEST), false);
        let buf = SendBuf { head: Vec::new(), body: bytes::Bytes::from_static(b"body") };
        assert!(io.bytes_out(id, BytesOut::Buffer(buf, Urgency::Now)).is_err());
        assert!(parts.memory.has_deferred_drops() && parts.conns.jobs() == 0);
    }
}
