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
const NOT_TAKEN_MAX: Duration = Duration::from_millis(50);
/// How long a worker gives none after that, and after it has taken one itself: no connection goes to and fro.
const REST: Duration = Duration::from_millis(500);

/// The memory of a worker for this rule.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// When the worker compares again, at the earliest.
    next_look: Instant,
    /// The worker has to look then: what it gave may not have been taken, or it may take one again.
    must_look: bool,
    /// The worker had clearly more connections than the mean, and has not come down to that yet.
    above: bool,
    /// The worker takes none that siblings give.
    is_full: bool,
    /// Connections that all workers had taken when this one last looked.
    taken: u64,
    /// Since when none of those under way has been taken, some of them this worker's.
    untaken_since: Option<Instant>,
    /// Until then the worker gives none, because it has taken one.
    rests_until: Instant,
    /// Until then the worker gives none and takes what comes, because no sibling did.
    stands_back_until: Instant,
}

impl Spread {
    /// Looks at the score-board, if it is time to, and gives connections to siblings.
    #[inline]
    pub(crate) fn begin_turn(&mut self, acceptor: &mut Acceptor, handoff: &mut Handoff, io: &mut ConnIo<'_>) {
        let has_taken = acceptor.has_taken();
        if has_taken || io.turn.now() >= self.next_look {
            self.compare(has_taken, acceptor, handoff, io);
        }
    }

    fn compare(
        &mut self,
        has_taken: bool,
        acceptor: &mut Acceptor,
        handoff: &mut Handoff,
        io: &mut ConnIo<'_>,
    ) {
        let (now, own) = (io.turn.now(), io.conns.len() as u64);
        if has_taken {
            self.rests_until = now.after(REST);
        }
        self.next_look = now.after(LOOK_EVERY);
        if own <= SLACK_CONNECTIONS && !self.is_full {
            return;
        }
        let slot = &io.setup.handles.slot;
        // Without a queue there is none that can take one.
        let siblings = if handoff.works() { Siblings::of(slot, now) } else { Siblings::default() };
        let excess = self.look(own, &siblings, slot.board(), now);
        acceptor.take_given(io, !self.is_full);
        if excess > 0 && self.give(excess, acceptor, handoff, io) {
            self.untaken_since.get_or_insert(now);
        }
        self.must_look = self.is_full && (self.untaken_since.is_some() || now < self.rests_until);
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

    /// Returns how many of `own` connections to give: as many as are above the mean, if that is clear. Once above, the
    /// worker stays so until it has no more than the mean. One that takes has an eye on the mean with each connection.
    fn look(&mut self, own: u64, siblings: &Siblings, board: &Scoreboard, now: Instant) -> u64 {
        let (taken, under_way) = (board.taken(), board.under_way());
        if under_way == 0 {
            self.untaken_since = None;
        } else if taken != self.taken {
            self.untaken_since = self.untaken_since.map(|_| now);
        }
        self.taken = taken;
        if self.untaken_since.is_some_and(|since| now.since(since) >= NOT_TAKEN_MAX) {
            self.untaken_since = None;
            self.stands_back_until = now.after(REST);
        }
        let (workers, all) = (siblings.count + 1, own + siblings.connections + under_way);
        let is_clear = own.saturating_sub(SLACK_CONNECTIONS) * workers * SLACK_PART > all * (SLACK_PART + 1);
        let excess = own.saturating_sub(all.div_ceil(workers));
        let (stands_back, rests) = (now < self.stands_back_until, now < self.rests_until);
        self.above = excess > 0 && (self.above || is_clear) && !stands_back;
        // One is on its way at least, as far as this matters.
        let has_share = own >= (all + u64::from(under_way == 0)).div_ceil(workers);
        self.is_full = self.above || rests && has_share && !stands_back;
        if self.above && !rests { excess } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use rgunicorn_io::sys::handoff::HandoffEvent;

    use super::*;

    const NOW: Instant = Instant(1_000_000_000_000);

    /// What a worker with `own` connections gives siblings with these, while so many are under way.
    fn excess(spread: &mut Spread, own: u64, siblings: &[u64], under_way: u64) -> u64 {
        let board = Scoreboard::new().unwrap();
        (0..under_way).for_each(|_| board.count_handoff(HandoffEvent::GivenSpread));
        let (count, connections) = (siblings.len() as u64, siblings.iter().sum());
        spread.look(own, &Siblings { count, idle: count, connections }, &board, NOW)
    }

    #[test]
    fn only_what_is_clearly_more_than_the_mean_is_given_and_no_more_than_that() {
        let table: &[(u64, &[u64], u64, u64)] = &[
            (2, &[0, 0, 0], 0, 0),
            (3, &[0, 0, 0], 0, 2),
            (40, &[0, 0, 0], 0, 30),
            (12, &[10, 10, 8], 0, 0),
            (13, &[9, 9, 9], 0, 3),
            (250, &[240, 240, 240], 0, 0),
            (263, &[240, 240, 240], 0, 0),
            (264, &[240, 240, 240], 0, 18),
            (333, &[333, 333, 0], 0, 83),
            (250, &[333, 333, 0], 0, 21),
            (200, &[333, 333, 0], 0, 0),
            // Half of what it is to give is on its way, of whichever giver.
            (90, &[0], 10, 40),
            (60, &[60, 60, 0], 60, 0),
            (1000, &[], 0, 0),
        ];
        for (own, siblings, under_way, expected) in table {
            let found = excess(&mut Spread::default(), *own, siblings, *under_way);
            assert_eq!(found, *expected, "{own} against {siblings:?}, {under_way} under way");
        }
    }

    #[test]
    fn a_giver_goes_on_until_it_has_the_mean() {
        let mut spread = Spread::default();
        assert_eq!(excess(&mut spread, 12, &[8], 0), 0, "not clearly");
        assert_eq!(excess(&mut spread, 16, &[4], 0), 6);
        assert_eq!((excess(&mut spread, 12, &[8], 0), spread.above), (2, true));
        assert_eq!((excess(&mut spread, 10, &[10], 0), spread.above), (0, false));
        assert_eq!(excess(&mut spread, 11, &[9], 0), 0);
    }

    #[test]
    fn a_worker_that_takes_stops_at_the_mean() {
        let taking = || Spread { rests_until: NOW.after(REST), ..Spread::default() };
        let table: &[(u64, &[u64], u64, bool)] = &[
            (9, &[10, 11], 0, false),
            (10, &[10, 10], 0, false),
            (11, &[10, 10], 0, true),
            (11, &[10, 0], 9, true),
        ];
        for (own, siblings, under_way, full) in table {
            let mut spread = taking();
            assert_eq!(excess(&mut spread, *own, siblings, *under_way), 0);
            assert_eq!(spread.is_full, *full, "{own} against {siblings:?}, {under_way} under way");
        }
        let mut spread = taking();
        assert_eq!(
            (excess(&mut spread, 40, &[0], 0), spread.above),
            (0, true),
            "it gives none either, for now"
        );
        let mut spread = Spread::default();
        assert_eq!(
            (excess(&mut spread, 11, &[10, 10], 0), spread.is_full),
            (0, false),
            "it has not taken any"
        );
    }

    #[test]
    fn a_worker_rests_when_no_sibling_takes_what_is_under_way() {
        let board = Scoreboard::new().unwrap();
        (0..20).for_each(|_| board.count_handoff(HandoffEvent::GivenSpread));
        let siblings = Siblings { count: 1, idle: 1, connections: 0 };
        let mut spread = Spread { untaken_since: Some(NOW), ..Spread::default() };
        let mut look = |after| spread.look(100, &siblings, &board, NOW.after(after));
        let moment = Duration::from_millis(1);
        assert_eq!(look(NOT_TAKEN_MAX - moment), 40);
        board.count_handoff(HandoffEvent::Taken);
        assert_eq!(look(NOT_TAKEN_MAX), 40, "one has been taken");
        assert_eq!(look(NOT_TAKEN_MAX * 2), 0);
        assert_eq!(look(NOT_TAKEN_MAX * 2 + REST - moment), 0);
        assert_eq!(look(NOT_TAKEN_MAX * 2 + REST), 40);
    }
}
