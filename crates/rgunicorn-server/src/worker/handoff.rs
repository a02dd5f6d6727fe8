//! The worker's way to give connections away: whether there is one, and when it is tried again.

use std::io;
use std::time::Duration;

use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::handoff::HandoffEnds;
use rgunicorn_io::sys::shared::Slot;

use super::siblings::Siblings;

/// How soon a worker tries again that has found the queue full, or no sibling that takes connections.
const GIVE_AGAIN: Duration = Duration::from_millis(2);

/// The time after which what waiting siblings have not taken is not there.
const UNTAKEN_MAX: Duration = Duration::from_millis(20);

/// The giving end of the handoff queue. What is taken from it passes through the acceptor.
#[derive(Debug, Default)]
pub(crate) struct Handoff {
    ends: Option<HandoffEnds>,
    /// The queue was full, or nobody there to empty it.
    retry_at: Option<Instant>,
    refused: Option<io::Error>,
    /// Connections that all workers had taken at the last look, and since when it is so many.
    taken: u64,
    taken_at: Instant,
    /// Siblings waited at that look.
    has_idle: bool,
}

impl Handoff {
    /// Takes the queue, if there is one.
    pub(crate) fn new(ends: Option<HandoffEnds>) -> Self {
        Self { ends, ..Self::default() }
    }

    /// Returns the queue if it is time to give, and a sibling takes connections.
    pub(crate) fn begin(&mut self, slot: &Slot, now: Instant) -> Option<HandoffEnds> {
        if self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        let ends = self.ends.filter(|_| Siblings::of(slot, now).can_take());
        if ends.is_none() {
            self.retry_later(now);
        }
        ends
    }

    /// Counts the siblings that wait for connections, as far as none is on its way to them.
    pub(crate) fn takers(&mut self, slot: &Slot, now: Instant) -> u64 {
        let (idle, board) = (Siblings::of(slot, now).idle, slot.board());
        self.has_idle = idle > 0;
        let (taken, under_way) = (board.taken(), board.under_way());
        if under_way == 0 || taken != self.taken {
            (self.taken, self.taken_at) = (taken, now);
        }
        // A worker that was killed may have left one behind in the count that is not in the queue.
        if now.since(self.taken_at) >= UNTAKEN_MAX { idle } else { idle.saturating_sub(under_way) }
    }

    /// Tells whether siblings waited when takers were last counted: the next one may be free in a moment.
    pub(crate) fn has_idle_siblings(&self) -> bool {
        self.has_idle
    }

    /// Tells whether there is a queue that takes connections.
    pub(crate) fn works(&self) -> bool {
        self.ends.is_some()
    }

    /// Notes that there is more to give than the queue takes now.
    pub(crate) fn retry_later(&mut self, now: Instant) {
        self.retry_at = Some(now.after(GIVE_AGAIN));
    }

    /// Returns the queue, if there is one.
    pub(crate) fn ends(&self) -> Option<HandoffEnds> {
        self.ends
    }

    /// Gives nothing any more, because the kernel does not let it pass.
    pub(crate) fn refuse(&mut self, error: io::Error) {
        *self = Self { refused: Some(error), ..Self::default() };
    }

    /// Takes out the reason, once.
    pub(crate) fn take_refusal(&mut self) -> Option<io::Error> {
        self.refused.take()
    }

    /// Gives nothing any more.
    pub(crate) fn switch_off(&mut self) {
        *self = Self::default();
    }

    /// Plans no further try: there is nothing to give, or nobody is to have it.
    pub(crate) fn pause(&mut self) {
        self.retry_at = None;
    }

    /// Returns when the next try is, if there is something to give.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }
}

#[cfg(test)]
mod tests {
    use rgunicorn_io::sys::shared::{Accepting, Scoreboard};

    use super::*;

    const NOW: Instant = Instant(1_000_000_000);
    const ENDS: HandoffEnds = HandoffEnds { give: 1, take: 2 };

    #[test]
    fn nothing_is_given_until_a_sibling_takes_connections() {
        let board = Scoreboard::new().unwrap();
        let (slot, sibling) = (board.claim(1).unwrap(), board.claim(2).unwrap());
        slot.set_booted();
        slot.set_accepting(Accepting::Waiting);
        let mut at = NOW;
        let mut tries = |handoff: &mut Handoff| {
            at = at.after(GIVE_AGAIN);
            handoff.begin(&slot, at).is_some()
        };
        let mut handoff = Handoff::new(Some(ENDS));
        assert!(!tries(&mut handoff), "it has not booted");
        sibling.set_booted();
        assert!(!tries(&mut handoff), "it is full");
        sibling.set_accepting(Accepting::BusyDisarmed);
        assert!(!tries(&mut handoff), "it works for long");
        sibling.beat(NOW);
        assert!(tries(&mut handoff), "it has just begun");
        sibling.beat(Instant(1));
        sibling.set_accepting(Accepting::Waiting);
        assert!(tries(&mut handoff));
        sibling.set_leaving();
        assert!(!tries(&mut handoff));
        assert!(!tries(&mut Handoff::new(None)));
    }

    #[test]
    fn a_full_queue_is_tried_again_soon_and_not_before() {
        let board = Scoreboard::new().unwrap();
        let (slot, sibling) = (board.claim(1).unwrap(), board.claim(2).unwrap());
        sibling.set_booted();
        sibling.set_accepting(Accepting::Waiting);
        let mut handoff = Handoff::new(Some(ENDS));
        assert!(handoff.begin(&slot, NOW).is_some());
        handoff.retry_later(NOW);
        assert_eq!(handoff.retry_at(), Some(NOW.after(GIVE_AGAIN)));
        assert!(handoff.begin(&slot, Instant(NOW.after(GIVE_AGAIN).0 - 1)).is_none());
        assert!(handoff.begin(&slot, NOW.after(GIVE_AGAIN)).is_some());
        assert_eq!(handoff.retry_at(), None);
        handoff.retry_later(NOW);
        handoff.pause();
        assert_eq!(handoff.retry_at(), None);
        handoff.switch_off();
        assert!(handoff.begin(&slot, NOW.after(GIVE_AGAIN * 2)).is_none());
    }
}
