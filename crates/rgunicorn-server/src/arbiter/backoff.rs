//! The pause between workers that end as soon as they have begun: what ends them will end the next one too, and forks
//! without a pause would only take the CPU from the workers that serve.
//!
//! Counted are rounds and not workers: of those that were forked together the first one to end counts. A worker that
//! has begun a request is none of these: the next one may do better with another request, and a client must not be
//! able to keep workers away.

use rgunicorn_io::sys::clock::Instant;
use std::time::Duration;

/// The time after its boot from which on a worker has lived: an end has another cause than the start then.
pub(super) const LIVED_AFTER: Duration = Duration::from_secs(5);
/// The pause after the second round; it doubles with each further one. After the first there is none, as one worker
/// may end by accident.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause. A cause that passes (a database that was away) is noticed within this time.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// The rounds so far, and the pause.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BackOff {
    rounds: u32,
    /// The end that was counted last.
    counted_at: Instant,
    until: Instant,
}

impl BackOff {
    /// Notes a worker that ended as soon as it had begun, and was forked at `born`. Returns the pause if there is one
    /// that no worker of its round has caused yet.
    pub(super) fn note_end(&mut self, born: Instant, now: Instant) -> Option<Duration> {
        if self.rounds > 0 && born < self.counted_at {
            return None;
        }
        self.rounds = self.rounds.saturating_add(1);
        self.counted_at = now;
        let doublings = self.rounds.checked_sub(2)?;
        let pause = PAUSE_MIN.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(PAUSE_MAX);
        self.until = now.after(pause);
        Some(pause)
    }

    /// Notes a worker that was forked at `born` and has lived. One that was there before proves nothing.
    pub(super) fn note_lived(&mut self, born: Instant) {
        if born >= self.counted_at {
            *self = Self::default();
        }
    }

    /// Returns the moment before which nothing is to be forked.
    pub(super) fn until(&self) -> Instant {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant(1_000_000_000);

    /// Lets rounds of one worker end at once, each forked as soon as it may be; returns the pauses in milliseconds.
    fn pauses(back_off: &mut BackOff, rounds: usize) -> Vec<u128> {
        let mut now = START;
        let mut pause = || {
            let pause = back_off.note_end(now, now).unwrap_or_default();
            now = now.after(pause);
            pause.as_millis()
        };
        (0..rounds).map(|_| pause()).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut back_off = BackOff::default();
        let all = pauses(&mut back_off, 50);
        assert_eq!(all[..10], [0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 15_000]);
        assert!(all[10..].iter().all(|pause| *pause == 15_000), "{all:?}");
    }

    #[test]
    fn workers_that_were_forked_together_are_one_round() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.note_end(START, START.after(PAUSE_MIN)), None);
        for _ in 0..8 {
            assert_eq!(back_off.note_end(START, START.after(PAUSE_MIN * 2)), None);
        }
        let second = START.after(PAUSE_MIN);
        assert_eq!(back_off.note_end(second, second.after(PAUSE_MIN)), Some(PAUSE_MIN));
        assert_eq!(back_off.until(), second.after(PAUSE_MIN * 2));
    }

    #[test]
    fn a_worker_that_has_lived_ends_it_if_it_came_later() {
        let mut back_off = BackOff::default();
        pauses(&mut back_off, 5);
        back_off.note_lived(START);
        assert!(back_off.until() > START, "it was there before the last one ended");
        back_off.note_lived(back_off.until());
        assert_eq!(back_off.until(), Instant::default());
        assert_eq!(pauses(&mut back_off, 2), [0, 100]);
    }
}
