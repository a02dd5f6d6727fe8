//! Long-lived connections spread evenly. The kernel's wake-ups deal new connections out in turns, but know nothing of
//! those that stay: after a worker was killed, or came into being, or worked for long, the counts differ. The rule
//! (docs/handoff.md): a worker that serves, and has clearly more connections than the mean of itself and those siblings
//! that can take one **now**, gives idle ones to them, those that have been idle for longest first, and takes none of
//! the handoff queue itself.
//!
//! What is under way counts as the siblings'. So all that give at a time give no more than there is room for.

use std::time::Duration;

use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::shared::Scoreboard;

use super::accept::Acceptor;
use super::conn::io::ConnIo;
use super::handoff::Handoff;
use super::siblings::Siblings;

/// How often a worker compares itself with its siblings, if it has turns so often; one that sleeps has about one in a
/// second.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Connections that it gives each time: as many as the queue holds. 10,000 on one of four workers take 4 s.
const GIVEN_PER_LOOK_MAX: usize = 20;
/// Connections more than the mean that are nothing to care about.
const SLACK_CONNECTIONS: u64 = 2;
/// Part of the mean (one in so many) that is nothing to care about either: in all, more than 15 connections for each
/// worker are well within 1.2 times the mean.
const SLACK_PART: u64 = 16;
/// No sibling has taken any of what is under way for so long: whoever seemed to have time has none.
const UNTAKEN_MAX: Duration = Duration::from_millis(100);
/// How long a worker gives none after that, and after it has taken one itself: no connection goes to and fro.
const REST: Duration = Duration::from_millis(500);

/// The memory of a worker for this rule.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// When the worker compares again, at the earliest.
    next_look: Instant,
    /// It has to look then: what it gave may not have been taken.
    must_look: bool,
    /// It had more connections than the mean when it last looked.
    above: bool,
    /// Connections that all workers had taken by then.
    taken: u64,
    /// Since when none of those under way has been taken, some of them this worker's.
    untaken_since: Option<Instant>,
    /// Until then it gives none.
    rests_until: Instant,
}

impl Spread {
    /// Looks at the score-board, if it is time to, and gives connections to siblings.
    pub(crate) fn begin_turn(&mut self, acceptor: &mut Acceptor, handoff: &mut Handoff, io: &mut ConnIo<'_>) {
        let (now, own) = (io.turn.now(), io.conns.len() as u64);
        if now < self.next_look || own <= SLACK_CONNECTIONS && !self.above {
            return;
        }
        self.next_look = now.after(LOOK_EVERY);
        let slot = &io.setup.handles.slot;
        // Without a queue there is none that can take one.
        let siblings = if handoff.works() { Siblings::of(slot, now) } else { Siblings::default() };
        let excess = self.look(own, &siblings, slot.board(), now);
        acceptor.take_given(io, !self.above);
        let rests = now.since(acceptor.took_at()) < REST;
        if excess > 0 && !rests && self.give(excess, acceptor, handoff, io) {
            self.untaken_since.get_or_insert(now);
        }
        self.must_look = self.above && self.untaken_since.is_some();
    }

    /// Returns when the wait must be over.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        Some(self.next_look).filter(|_| self.must_look)
    }

    /// Gives so many connections at most. `false`: none has left.
    fn give(&self, excess: u64, acceptor: &mut Acceptor, handoff: &mut Handoff, io: &mut ConnIo<'_>) -> bool {
        let before = io.conns.len();
        io.spare_longest_idle(GIVEN_PER_LOOK_MAX.min(excess as usize));
        if !io.give_spare(handoff, |listener| acceptor.key(listener)) {
            io.setup.handles.control.set_handoff(false);
        }
        // What is left stays for now: it may be in use when there is room again.
        handoff.pause();
        io.conns.clear_spare();
        // At once, because the worker may sleep before the end of the turn.
        acceptor.report(&io.setup.handles.slot, io.conns.len());
        io.conns.len() < before
    }

    /// Returns by how many `own` connections are above the mean, 0 if not clearly so. Once above, the worker stays so
    /// until it has no more than the mean.
    fn look(&mut self, own: u64, siblings: &Siblings, board: &Scoreboard, now: Instant) -> u64 {
        let (taken, under_way) = (board.taken(), board.under_way());
        if under_way == 0 {
            self.untaken_since = None;
        } else if taken != self.taken {
            self.untaken_since = self.untaken_since.map(|_| now);
        }
        self.taken = taken;
        if self.untaken_since.is_some_and(|since| now.since(since) >= UNTAKEN_MAX) {
            self.untaken_since = None;
            self.rests_until = now.after(REST);
        }
        let (workers, all) = (siblings.count + 1, own + siblings.connections + under_way);
        let is_clear = own.saturating_sub(SLACK_CONNECTIONS) * workers * SLACK_PART > all * (SLACK_PART + 1);
        let excess = own.saturating_sub(all.div_ceil(workers));
        // A worker that rests takes back what no sibling has taken.
        self.above = excess > 0 && (self.above || is_clear) && now >= self.rests_until;
        if self.above { excess } else { 0 }
    }
}
