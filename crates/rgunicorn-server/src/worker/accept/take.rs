//! One connection: a new one out of a listener, or one of a sibling's out of the handoff queue, which is a listener as
//! any other in all else.

use std::io;
use std::os::fd::AsRawFd;

use rgunicorn_io::driver::PeerAddr;
use rgunicorn_io::sys::handoff::HandoffEvent;

use super::{AcceptSocket, Acceptor};
use crate::log::{Level, RepeatedLine};
use crate::worker::conn::NewConn;
use crate::worker::conn::io::{BytesIn, ConnIo, DRAIN_FRESH};
use crate::worker::conn::proxy_header::ProxyHeaderState;
use crate::worker::handling::SYSTEM_CALLS_BYTES;
use crate::worker::handover::Handover;
use crate::worker::ids::ConnId;
use crate::worker::timers::ConnTimer;

impl Acceptor {
    /// Accepts a connection. `false`: there is nothing (more) to accept now.
    pub(super) fn accept_one(&mut self, io: &mut ConnIo<'_>, index: usize) -> bool {
        let accepted =
            if self.listeners[index].handoff { self.take(io, index) } else { self.accept(io, index) };
        let id = match accepted {
            Ok(id) => id,
            // The next one may be fine: the client of this one left before we came.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return true,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return false;
            }
            Err(error) => {
                let lasts = self.accepts_failing.note(io.turn.now());
                self.pause(io, &error, lasts);
                return false;
            }
        };
        self.has_taken |= self.listeners[index].handoff;
        io.arm_recv(id);
        io.turn.handling.count_work(SYSTEM_CALLS_BYTES);
        self.just_accepted = true;
        self.accepts_failing.end();
        self.make_room(io);
        self.reported = io.conns.len();
        io.setup.handles.slot.set_connections(self.reported as u32);
        true
    }

    /// Takes a new connection from a listener.
    fn accept(&self, io: &mut ConnIo<'_>, index: usize) -> io::Result<ConnId> {
        let AcceptSocket { fd: listener_fd, unix, .. } = self.listeners[index];
        let (fd, peer) = io.driver.accept(listener_fd)?;
        let (handles, config) = (&io.setup.handles, &io.setup.config);
        let trusted = unix || handles.trusted.trusts(peer.ip());
        let proxy_state = ProxyHeaderState::of(config, peer);
        let id = io.conns.insert(NewConn { fd, peer, listener: index as u16, trusted, proxy_state });
        if io.hands_over() {
            io.conns.push_spare(id);
        }
        if io.draining && !io.hands_over() {
            io.start_timer(id, ConnTimer::Drain, DRAIN_FRESH);
        } else {
            io.start_timer(id, ConnTimer::FirstByte, config.first_byte_timeout());
        }
        Ok(id)
    }
    /// Returns the number by which all workers know the listener of this index.
    pub(crate) fn key(&self, index: u16) -> u64 {
        self.keys.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// Returns the index of the listener with this key here. A reload may have taken that address away: then the first
    /// one stands for it.
    fn index_of(&self, key: u64) -> u16 {
        self.keys.iter().zip(0..).find(|(own, _)| **own == key).map_or(0, |(_, index)| index)
    }

    /// Takes a connection from the handoff queue.
    fn take(&self, io: &mut ConnIo<'_>, index: usize) -> io::Result<ConnId> {
        let taken = io.driver.take(self.listeners[index].fd);
        // One that carries no connection has been taken out, too.
        if taken.is_ok() || taken.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            io.setup.handles.slot.board().count_handoff(HandoffEvent::Taken);
        }
        let (fd, message) = match taken {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(unusable(io)),
            taken => taken?,
        };
        let Some((mut handover, data)) = Handover::decode(&message) else {
            io.driver.close(fd);
            return Err(unusable(io));
        };
        // A reload may have taken the trust away. None is gained: what was said before did not count.
        handover.trusted = handover.trusted && {
            let peer = io.driver.peer(fd.as_raw_fd());
            peer.is_some_and(|peer| peer == PeerAddr::Unix || io.setup.handles.trusted.trusts(peer.ip()))
        };
        let id = io.take_over(fd, self.index_of(handover.listener), &handover);
        if io.hands_over() {
            io.conns.push_spare(id);
        } else if io.draining {
            io.start_timer(id, ConnTimer::Drain, DRAIN_FRESH);
        }
        if !data.is_empty() {
            io.bytes_in(id, BytesIn::Own(data), false);
        }
        Ok(id)
    }
}

/// Tells of a message that is of no use. The next one may be fine.
fn unusable(io: &ConnIo<'_>) -> io::Error {
    io.setup.handles.slot.board().count_handoff(HandoffEvent::NotUnderstood);
    io.log(
        RepeatedLine::Handoff,
        Level::Warning,
        format_args!(
            "Another worker has given a connection in a way that this one does not know; it is closed"
        ),
    );
    io::ErrorKind::ConnectionAborted.into()
}
