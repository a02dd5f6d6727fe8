//! Output: one send in flight per connection, the rest queued behind it; and the end of a connection.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rgunicorn_io::driver::{SendBuf, Urgency, WRITABLE};
use rgunicorn_io::sys::tempfile::TemporaryFile;

use super::ConnPhase;
use super::io::{BytesIn, BytesOut, ConnIo, DRAIN_FRESH, OutProgress};
use super::refusal::is_disconnect;
use crate::response::Outgoing;
use crate::worker::event_source::EventSource;
use crate::worker::handling::SYSTEM_CALLS_BYTES;
use crate::worker::ids::{ConnId, RequestId};
use crate::worker::message::{Flow, Hijacked};
use crate::worker::timers::ConnTimer;

/// Most bytes of one send operation. The write-stall timer sees progress between two of them only (the ring reports a
/// send when it is complete), so this over the time-out is the slowest reader that is served: 4 KiB/s by default.
const SEND_SLICE_BYTES_MAX: usize = 256 * 1024;
/// Most bytes of one sendfile(2) call, so that a fast reader of a large file does not hold up the others.
const FILE_SLICE_BYTES_MAX: u64 = 256 * 1024;

/// A part of a file that is on its way out.
struct FilePart {
    file: PartFile,
    offset: u64,
    len: u64,
}

/// The file of a part.
enum PartFile {
    /// One of the application's.
    Plain(File),
    /// One of the reactor's own making ([`Outgoing::Spool`]).
    Spool(TemporaryFile),
}

impl FilePart {
    /// Makes a piece of a response of it again.
    fn into_piece(self) -> Outgoing {
        let Self { file, offset, len } = self;
        match file {
            PartFile::Plain(file) => Outgoing::File { file, offset, len },
            PartFile::Spool(file) => Outgoing::Spool { file, offset, len },
        }
    }

    fn file(&self) -> &File {
        match &self.file {
            PartFile::Plain(file) => file,
            PartFile::Spool(file) => file,
        }
    }
}

impl ConnIo<'_> {
    /// Ends a response. `keep`: the connection stays open for the next request.
    pub(crate) fn finish(&mut self, id: RequestId, keep: bool) {
        let Some(conn) = self.conns.running(id) else { return };
        let keep = keep && !conn.detached;
        self.end_waits(id.conn);
        if keep {
            self.skip_body(id.conn);
        } else {
            self.begin_close(id.conn);
        }
    }

    /// Gives a response up that is not over: nothing more of it is sent than what is queued.
    pub(crate) fn abort(&mut self, id: RequestId) {
        let Some(conn) = self.conns.running(id) else { return };
        conn.aborted = true;
        self.begin_close(id.conn);
    }

    /// Resumes the parts of the application that still wait for the client although the response is over (greenlets of
    /// its own that write, or read the body): later their request would no longer be the one in progress.
    fn end_waits(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let awaited = conn.incoming().is_some_and(|incoming| incoming.set_awaited(false));
        if std::mem::take(&mut conn.parked) | awaited {
            self.conns.timers.stop(id.index);
            self.conns.resume(id);
        }
    }

    /// Notes that the application waits until all output has left. `false`: nothing is queued, or the response is over.
    pub(crate) fn park(&mut self, id: RequestId) -> bool {
        let Some(conn) = self.conns.running(id).filter(|conn| conn.has_output()) else { return false };
        conn.parked = true;
        self.start_timer(id.conn, ConnTimer::WriteStall, self.setup.config.write_stall_timeout);
        true
    }

    /// Takes the socket over for the application. Bytes that have come are handed over: of the request's body
    /// first, decoded as far as it was received.
    ///
    /// # Errors
    /// `NotConnected` when the response is over or the connection gone, or what duplicating the descriptor gives.
    pub(crate) fn hijack(&mut self, id: RequestId) -> io::Result<Hijacked> {
        let conn = self.conns.running(id).ok_or(io::ErrorKind::NotConnected)?;
        let fd = rgunicorn_io::sys::file::duplicate(conn.fd.as_raw_fd())?;
        conn.detached = true;
        // What comes now is the new owner's: whichever waits for it as a body finds its end.
        if conn.incoming().is_some_and(|incoming| incoming.set_awaited(false)) {
            self.conns.timers.stop(id.conn.index);
            self.conns.resume(id.conn);
        }
        let conn = self.conns.running(id).ok_or(io::ErrorKind::NotConnected)?;
        let mut unread = conn.take_unread();
        let (data, end) = self.stop_recv(id.conn);
        self.bytes_in(id.conn, BytesIn::Own(&data), end);
        if let Some(conn) = self.conns.request(id) {
            unread.append(&mut conn.take_unread());
        }
        self.conns.recount(id.conn);
        Ok(Hijacked { fd, unread })
    }

    /// Sends a piece, or queues it behind others.
    pub(crate) fn push_out(&mut self, id: ConnId, piece: Outgoing, urgency: Urgency) -> Flow {
        let Some(conn) = self.conns.get(id) else {
            if let Outgoing::Bytes { head, body } = piece {
                self.memory.discard(SendBuf { head, body });
            }
            return Flow::Gone;
        };
        if !conn.has_output() {
            return self.start_out(id, piece, urgency);
        }
        match conn.ext().enqueue(piece) {
            Ok(None) => Flow::Queued,
            Ok(Some(used)) => {
                self.memory.discard(used);
                Flow::Queued
            }
            Err((error, used)) => {
                self.memory.discard(used);
                self.on_send_error(id, &error);
                Flow::Gone
            }
        }
    }

    /// Starts `piece` on a connection with nothing in flight.
    fn start_out(&mut self, id: ConnId, piece: Outgoing, urgency: Urgency) -> Flow {
        let started = match piece {
            Outgoing::Bytes { head, body } => self.start_bytes(id, SendBuf { head, body }, urgency),
            Outgoing::File { file, offset, len } => {
                self.start_file(id, FilePart { file: PartFile::Plain(file), offset, len })
            }
            Outgoing::Spool { file, offset, len } => {
                self.start_file(id, FilePart { file: PartFile::Spool(file), offset, len })
            }
        };
        started.unwrap_or_else(|error| {
            self.on_send_error(id, &error);
            Flow::Gone
        })
    }

    /// Starts bytes, slice by slice as long as the kernel takes them at once.
    fn start_bytes(&mut self, id: ConnId, mut buf: SendBuf, urgency: Urgency) -> io::Result<Flow> {
        loop {
            let rest =
                (buf.body.len() > SEND_SLICE_BYTES_MAX).then(|| buf.body.split_off(SEND_SLICE_BYTES_MAX));
            match (self.bytes_out(id, BytesOut::Buffer(buf, urgency))?, rest) {
                (OutProgress::Left(_), None) => return Ok(Flow::Sent),
                (OutProgress::Left(_), Some(body)) => buf = SendBuf { head: Vec::new(), body },
                (OutProgress::InFlight(op), rest) => {
                    if let Some(conn) = self.conns.get(id) {
                        conn.send = Some(op);
                        if let Some(body) = rest {
                            conn.ext().out.push_front(Outgoing::Bytes { head: Vec::new(), body });
                        }
                    }
                    return Ok(Flow::Queued);
                }
            }
        }
    }

    /// Starts a part of a file: sends a slice, and waits until the socket takes more.
    fn start_file(&mut self, id: ConnId, mut part: FilePart) -> io::Result<Flow> {
        let slice = part.len.min(FILE_SLICE_BYTES_MAX);
        match self.bytes_out(id, BytesOut::File { file: part.file(), offset: part.offset, len: slice }) {
            Ok(OutProgress::Left(0)) if slice > 0 => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
            }
            Ok(OutProgress::Left(sent)) => {
                part.offset += sent;
                part.len -= sent;
            }
            Ok(OutProgress::InFlight(_)) => debug_assert!(false, "files leave by no operation"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if part.len == 0 {
            return Ok(Flow::Sent);
        }
        let Some(conn) = self.conns.get(id) else { return Ok(Flow::Gone) };
        let op = self.driver.poll(conn.fd.as_raw_fd(), WRITABLE, EventSource::Writable(id).token())?;
        let ext = conn.ext();
        ext.writable = Some(op);
        ext.out.push_front(part.into_piece());
        Ok(Flow::Queued)
    }

    /// Closes a connection whose output has failed.
    fn on_send_error(&mut self, id: ConnId, error: &io::Error) {
        if is_disconnect(error) {
            self.setup.debug(format_args!("Ignoring client disconnection: {error}"));
        } else {
            self.on_socket_error(error);
        }
        self.close(id);
    }

    /// Handles the completion of a send.
    pub(crate) fn on_sent(&mut self, id: ConnId, result: io::Result<()>, buf: SendBuf) {
        self.memory.discard(buf);
        let Some(conn) = self.conns.get(id) else { return };
        conn.send = None;
        match result {
            Ok(()) => self.next_out(id),
            Err(error) => self.on_send_error(id, &error),
        }
    }

    /// Handles a socket that takes more of a file.
    pub(crate) fn on_writable(&mut self, id: ConnId) {
        let Some(ext) = self.conns.get(id).and_then(|conn| conn.ext.as_mut()) else { return };
        ext.writable = None;
        self.next_out(id);
    }

    /// Starts the next pieces after one that has left, or goes on without any.
    fn next_out(&mut self, id: ConnId) {
        loop {
            let Some(conn) = self.conns.get(id) else { return };
            let Some(piece) = conn.ext.as_mut().and_then(|ext| ext.out.pop_front()) else {
                return self.on_drained(id);
            };
            self.turn.handling.count_work(SYSTEM_CALLS_BYTES);
            match self.start_out(id, piece, Urgency::Now) {
                Flow::Sent => {}
                Flow::Queued => {
                    // Progress: the stall clock starts again, if it was running.
                    if self.conns.timers.runs(id.index, ConnTimer::WriteStall) {
                        self.start_timer(id, ConnTimer::WriteStall, self.setup.config.write_stall_timeout);
                    }
                    return;
                }
                Flow::Gone => return,
            }
        }
    }

    /// Goes on when all output of a connection has left.
    fn on_drained(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.parked {
            conn.parked = false;
            if conn.awaits_body() {
                // Another greenlet of the application does; its clock had given way to this one's.
                self.start_timer(id, ConnTimer::BodyStall, self.setup.config.body_stall_timeout);
            } else {
                self.conns.timers.stop(id.index);
            }
            return self.conns.resume(id);
        }
        match conn.phase {
            ConnPhase::Closing => self.linger(id),
            ConnPhase::Flushing => self.next_request(id),
            phase => {
                conn.trim();
                // The write clock had taken the place of another one.
                if self.conns.timers.runs(id.index, ConnTimer::WriteStall) {
                    match phase {
                        ConnPhase::Idle => self.start_idle_timer(id),
                        ConnPhase::Skipping => self.start_skip_timer(id),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Ends a connection after the present response: it closes when its output has left.
    pub(crate) fn begin_close(&mut self, id: ConnId) {
        self.end_waits(id);
        let Some(conn) = self.conns.get(id) else { return };
        conn.phase = ConnPhase::Closing;
        conn.forget_input();
        let (change, output) = (conn.recount(), conn.has_output());
        self.conns.count_bytes(change);
        self.conns.unfinished.clear(id.index);
        if output {
            self.start_timer(id, ConnTimer::WriteStall, self.setup.config.write_stall_timeout);
        } else {
            self.linger(id);
        }
    }

    /// Shuts the write side and reads late input away, so that the last bytes are not lost to a reset (a close with
    /// unread input makes TCP send RST, RFC 9112 section 9.6).
    fn linger(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        // A shutdown would reach the application's descriptor of a detached socket too.
        if conn.read_closed || conn.detached || self.bytes_out(id, BytesOut::End).is_err() {
            return self.close(id);
        }
        if let Some(conn) = self.conns.get(id) {
            conn.phase = ConnPhase::Lingering;
        }
        if self.draining {
            self.start_timer(id, ConnTimer::Drain, DRAIN_FRESH);
        } else {
            self.start_timer(id, ConnTimer::Linger, self.setup.config.linger_timeout);
        }
        self.arm_recv(id);
    }
}
