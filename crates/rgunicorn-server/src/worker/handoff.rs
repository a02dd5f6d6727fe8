//! The worker's way to give connections away: whether there is one, and when it is tried again.

use std::time::Duration;

use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::handoff::HandoffEnds;
use rgunicorn_io::sys::shared::{Accepting, Slot};

/// How soon a worker tries again that has found the queue full, or no sibling that takes connections.
const GIVE_AGAIN: Duration = Duration::from_millis(2);
/// A sibling that has begun its work so recently will be back in a moment, as a rule. What is given to one that works
/// for longer waits for it, and its giver could have served it.
const TAKER_BUSY_MAX: Duration = Duration::from_millis(20);

/// The giving end of the handoff queue. What is taken from it passes through the acceptor.
#[derive(Debug, Default)]
pub(crate) struct Handoff {
    ends: Option<HandoffEnds>,
    /// The queue was full, or nobody there to empty it.
    retry_at: Option<Instant>,
}

impl Handoff {
    /// Takes the queue, if there is one.
    pub(crate) fn new(ends: Option<HandoffEnds>) -> Self {
        Self { ends, retry_at: None }
    }

    /// Returns the queue if it is time to give, and a sibling takes connections.
    pub(crate) fn begin(&mut self, slot: &Slot, now: Instant) -> Option<HandoffEnds> {
        if self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        let ends = self.ends.filter(|_| has_taker(slot, now));
        if ends.is_none() {
            self.retry_later(now);
        }
        ends
    }

    /// Notes that there is more to give than the queue takes now.
    pub(crate) fn retry_later(&mut self, now: Instant) {
        self.retry_at = Some(now.after(GIVE_AGAIN));
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

/// Tells whether another worker waits for connections, or will in a moment.
fn has_taker(slot: &Slot, now: Instant) -> bool {
    let own = slot.read().age;
    slot.board().readings().any(|reading| {
        let takes = match reading.accepting {
            Accepting::Waiting => true,
            Accepting::BusyDisarmed => reading.beat.is_some_and(|at| now.since(at) < TAKER_BUSY_MAX),
            Accepting::No | Accepting::BusyArmed => false,
        };
        reading.age != own && reading.booted && !reading.leaving && takes
    })
}

#[cfg(test)]
mod tests {
    use rgunicorn_io::sys::shared::Scoreboard;

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
