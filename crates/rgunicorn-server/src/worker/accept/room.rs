//! A worker that has as many connections as it may. It takes no more while a sibling can; where none can, and one of
//! its own connections may be closed, a new one takes that one's place (`conn::evict`).

use std::time::Duration;

use super::Acceptor;
use crate::worker::conn::io::ConnIo;
use crate::worker::siblings::Siblings;

/// How often a worker that has no room looks again whether a sibling still has, or a connection can be closed that
/// could not be before: the longest time that a new one waits because of that.
const ROOM_LOOK_EVERY: Duration = Duration::from_millis(100);

impl Acceptor {
    /// Tells whether there is room for a connection, or can be made. If not, plans the next look.
    pub(super) fn has_room(&mut self, io: &mut ConnIo<'_>) -> bool {
        let now = io.turn.now();
        if !io.conns.is_full(&io.setup.config) {
            self.room_at = None;
            return true;
        }
        if self.room_at.is_some_and(|at| now < at) {
            return false;
        }
        self.room_at = io.room_at();
        if self.room_at.is_none_or(|at| now < at) {
            return false;
        }
        // One beyond the limit is enough: first its place must be found.
        let beyond = io.conns.load() > io.setup.config.connections_max;
        if beyond {
            self.make_room(io);
        }
        if beyond || !self.alone && self.has_roomy_sibling(io) {
            return self.looks_later(io);
        }
        self.room_at = None;
        true
    }

    /// Tells whether a sibling can take a connection.
    fn has_roomy_sibling(&self, io: &ConnIo<'_>) -> bool {
        let now = io.turn.now();
        Siblings::of(&io.setup.handles.slot, now).can_take()
    }

    /// Makes room for the connection of a wake-up. `false`: that is not possible now.
    pub(super) fn gets_room(&mut self, io: &mut ConnIo<'_>) -> bool {
        self.has_room(io) && (!io.conns.is_full(&io.setup.config) || io.make_room() || self.looks_later(io))
    }

    /// Plans a look after one that was in vain.
    fn looks_later(&mut self, io: &ConnIo<'_>) -> bool {
        self.room_at = Some(io.turn.now().after(ROOM_LOOK_EVERY));
        false
    }

    /// Makes room after an accept that has led beyond the limit.
    pub(super) fn make_room(&mut self, io: &mut ConnIo<'_>) {
        if io.conns.load() > io.setup.config.connections_max && !io.make_room() {
            self.looks_later(io);
        }
    }

    /// Tells whether the connection of a wake-up is left to a sibling that waits, because another one would have to go
    /// for it here.
    pub(super) fn leaves_for_room(&mut self, io: &ConnIo<'_>) -> bool {
        let (slot, now) = (&io.setup.handles.slot, io.turn.now());
        let leaves = io.conns.is_full(&io.setup.config)
            && !io.draining
            && Siblings::of(slot, now).idle > 0
            && self.wakeups.may_wake_siblings(now);
        if leaves {
            slot.board().wake_siblings();
        }
        leaves
    }
}
