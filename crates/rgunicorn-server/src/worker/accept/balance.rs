//! Long-lived connections spread evenly. Exclusive wake-ups deal new connections out in turns, but know
//! nothing of those that are open: after a worker was replaced, or when clients of some workers stay longer,
//! the counts differ. The rule: a worker with clearly more connections than the mean of those siblings that
//! can take one **now** leaves the next ones to them.
//!
//! A connection waits because of it for [`LOOK_EVERY`] at most: with every look the worker takes one that no
//! other has taken, and looks again soon. A sibling that leaves, is full, silent, or busy for longer than
//! [`BUSY_GRACE`] is none that can take one.

use std::time::Duration;

use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::shared::{Accepting, SlotReading};

/// Connections more than the siblings' mean that are nothing to care about. Applications that answer one-shot clients
/// one at a time never have more, and never ask the score-board.
const SLACK_CONNECTIONS: u64 = 8;
/// Part of the mean (one in so many) that is nothing to care about either: 1.0625 times is well below a
/// noticeable 1.2 times.
const SLACK_PART: u64 = 16;
/// How often a worker that holds back looks again. The longest time that a connection can wait because of it.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How soon it looks again when it has found a connection that no worker had taken.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// A sibling that has begun to work so recently is back in a moment, as a rule. Longer than it may wait for
/// its CPU where all are busy: in a burst the counts would differ otherwise by what the others' slices of
/// time bring.
const BUSY_GRACE: Duration = Duration::from_millis(20);
/// Excess of the time without an idle sibling over that with one, above which there are more connections than
/// the siblings can take: to have begun to work just now is to be busy then. Longer than a burst that is over soon.
const SATURATED_AFTER: Duration = Duration::from_millis(200);
/// How long that is remembered. Clients that come again for each request lose next to nothing to the rule then.
const SATURATED_FOR: Duration = Duration::from_secs(5);
/// When no worker has accepted anything for so long, holding back is over: an idle worker sleeps. The next
/// connection that it takes may make it hold back again.
const FLOW_MEMORY: Duration = Duration::from_secs(1);
/// A waiting worker beats every second. One that says that it waits and has not beaten for so long is stopped.
const SILENT_AFTER: Duration = Duration::from_millis(2500);

/// The memory of a worker for this rule.
#[derive(Debug, Default)]
pub(super) struct Balancer {
    /// When the worker looks again, if it holds back.
    next_look: Option<Instant>,
    /// The worker has accepted a connection since it last looked.
    accepted: bool,
    /// When the worker last looked.
    looked: Instant,
    /// How much longer than otherwise there was no idle sibling, or a connection that no worker had taken.
    saturated: Duration,
    /// Until then siblings that have begun to work just now are busy ones.
    saturated_until: Option<Instant>,
}

/// The decision whether the next connections are left to the siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    No,
    Yes,
    /// Yes; and it is time to take a connection that no sibling has taken, and to [`Balancer::note_look`].
    Look {
        /// A sibling waits.
        idle: bool,
    },
}

impl Balancer {
    /// Returns when a worker that holds back looks again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Holds back no longer.
    pub(super) fn end_hold(&mut self) {
        self.next_look = None;
    }

    /// Notes that the worker has accepted a connection.
    pub(super) fn note_accepted(&mut self) {
        self.accepted = true;
    }

    /// Decides for a worker with `own` connections, which `shares` listeners or not. Asks for the `siblings`
    /// (of which those count that have been busy no longer than it tells) only after the worker has taken a
    /// connection, and while it holds back.
    pub(super) fn decide(
        &mut self,
        own: u64,
        shares: bool,
        now: Instant,
        siblings: impl FnOnce(Duration) -> Siblings,
    ) -> Hold {
        let held = self.next_look.take();
        if !std::mem::take(&mut self.accepted) && held.is_none() || own <= SLACK_CONNECTIONS || !shares {
            return Hold::No;
        }
        if held.is_some_and(|at| now < at) {
            self.next_look = held;
            return Hold::Yes;
        }
        let siblings = siblings(self.busy_grace(now));
        if !siblings.is_above_mean(own) {
            return Hold::No;
        }
        if held.is_some() {
            return Hold::Look { idle: siblings.idle() };
        }
        self.back_off(LOOK_EVERY, now);
        Hold::Yes
    }

    /// Notes a look, after which holding back goes on. `idle`: a sibling waits; `left_over`: there was a
    /// connection that no worker had taken.
    pub(super) fn note_look(&mut self, idle: bool, left_over: bool, now: Instant) {
        let since = now.since(self.looked);
        self.saturated = if idle && !left_over {
            self.saturated.saturating_sub(since)
        } else {
            self.saturated.saturating_add(since)
        };
        if self.saturated >= SATURATED_AFTER {
            self.saturated = Duration::ZERO;
            self.saturated_until = Some(now.after(SATURATED_FOR));
        }
        self.back_off(if left_over { LOOK_AGAIN } else { LOOK_EVERY }, now);
    }

    /// Holds back for this time.
    fn back_off(&mut self, time: Duration, now: Instant) {
        (self.looked, self.next_look) = (now, Some(now.after(time)));
    }

    /// Returns how long a sibling may have been working to count as one that can take a connection.
    pub(super) fn busy_grace(&self, now: Instant) -> Duration {
        if self.saturated_until.is_some_and(|until| now < until) { Duration::ZERO } else { BUSY_GRACE }
    }
}

/// The siblings that can take a connection, summed up from the score-board.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    count: u64,
    /// The part of them that waits.
    idle: u64,
    connections: u64,
    /// A worker, perhaps this one, has accepted a connection not long ago.
    flows: bool,
}

impl Siblings {
    /// Sums up the `readings`, without that of the worker of this age.
    pub(super) fn of(
        age: u64,
        now: Instant,
        busy_grace: Duration,
        readings: impl Iterator<Item = SlotReading>,
    ) -> Self {
        let mut found = Self::default();
        for reading in readings {
            found.flows |= reading.accepted.is_some_and(|at| now.since(at) < FLOW_MEMORY);
            if reading.age != age && can_take(&reading, now, busy_grace) {
                found.count += 1;
                found.idle += u64::from(reading.accepting == Accepting::Waiting);
                found.connections += u64::from(reading.connections);
            }
        }
        found
    }

    /// Tells whether there is one.
    pub(super) fn can_take(&self) -> bool {
        self.count > 0
    }

    /// Tells whether one of them waits.
    pub(super) fn idle(&self) -> bool {
        self.idle > 0
    }

    /// Tells whether `own` connections are clearly more than their mean.
    fn is_above_mean(&self, own: u64) -> bool {
        let part = own.saturating_sub(SLACK_CONNECTIONS) * self.count;
        self.flows && part.saturating_sub(self.connections) * SLACK_PART > self.connections
    }
}

/// Tells whether a worker is in its wait, its listeners armed, and the wait is one that it wakes from; or has begun to
/// compute just now, and most often will be back in a moment.
fn can_take(reading: &SlotReading, now: Instant, busy_grace: Duration) -> bool {
    let patience = match reading.accepting {
        Accepting::No | Accepting::BusyArmed => return false,
        Accepting::BusyDisarmed => busy_grace,
        Accepting::Waiting => SILENT_AFTER,
    };
    reading.booted && !reading.leaving && reading.beat.is_some_and(|at| now.since(at) < patience)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1_000_000_000_000);

    fn ago(time: Duration) -> Option<Instant> {
        Some(Instant(NOW.0 - time.as_nanos() as u64))
    }

    fn waiting(age: u64, connections: u32) -> SlotReading {
        SlotReading {
            age,
            beat: ago(Duration::from_millis(900)),
            booted: true,
            connections,
            requests: 0,
            accepted: ago(Duration::from_millis(100)),
            accepting: Accepting::Waiting,
            leaving: false,
        }
    }

    /// Judges worker 1 with `own` connections.
    fn rich(own: u64, siblings: &[SlotReading]) -> bool {
        let myself = SlotReading { accepting: Accepting::No, ..waiting(1, own as u32) };
        Siblings::of(1, NOW, BUSY_GRACE, siblings.iter().copied().chain([myself])).is_above_mean(own)
    }

    #[test]
    fn clearly_more_than_the_mean_is_rich() {
        let table: &[(u64, &[u32], bool)] = &[
            (8, &[0, 0, 0], false),
            (9, &[0, 0, 0], true),
            (12, &[0, 12], false),
            (15, &[0, 12], true),
            (250, &[240, 240, 240], false),
            (263, &[240, 240, 240], false),
            (264, &[240, 240, 240], true),
            (333, &[333, 333, 0], true),
            (250, &[333, 333, 0], true),
            (200, &[333, 333, 0], false),
            (1000, &[], false),
            (u64::from(u32::MAX), &[0], true),
        ];
        for (own, others, expected) in table {
            let siblings: Vec<SlotReading> =
                (2..).zip(*others).map(|(age, count)| waiting(age, *count)).collect();
            assert_eq!(rich(*own, &siblings), *expected, "{own} against {others:?}");
        }
    }

    #[test]
    fn who_cannot_take_a_connection_does_not_count() {
        let poor = waiting(2, 0);
        assert!(rich(100, &[poor]));
        let just_begun =
            SlotReading { accepting: Accepting::BusyDisarmed, beat: ago(Duration::from_millis(19)), ..poor };
        assert!(rich(100, &[just_begun]));
        let cannot = [
            SlotReading { accepting: Accepting::No, ..poor },
            SlotReading { accepting: Accepting::BusyDisarmed, ..poor },
            SlotReading { booted: false, ..poor },
            SlotReading { leaving: true, ..poor },
            SlotReading { beat: None, ..poor },
            SlotReading { beat: ago(Duration::from_secs(3)), ..poor },
        ];
        for sibling in cannot {
            assert!(!rich(100, &[sibling]), "{sibling:?}");
            assert!(!rich(100, &[sibling, waiting(3, 100)]), "the other one is as rich");
            assert!(rich(100, &[sibling, waiting(3, 50)]));
        }
    }

    #[test]
    fn without_a_flow_of_connections_nobody_holds_back() {
        let long_ago = ago(Duration::from_millis(1100));
        let (quiet, myself) = (SlotReading { accepted: long_ago, ..waiting(2, 0) }, waiting(1, 100));
        let judge = |myself: SlotReading| {
            Siblings::of(1, NOW, BUSY_GRACE, [quiet, myself].into_iter()).is_above_mean(100)
        };
        assert!(!judge(SlotReading { accepted: long_ago, ..myself }));
        assert!(!judge(SlotReading { accepted: None, ..myself }));
        assert!(judge(myself), "its own count as well");
        // The sibling's clock was read a moment later.
        assert!(judge(SlotReading { accepted: Some(Instant(NOW.0 + 1000)), ..myself }));
    }

    #[test]
    fn when_siblings_are_busy_most_of_the_time_those_that_have_just_begun_are() {
        let look = |balancer: &mut Balancer, (idle, left_over)| {
            balancer.looked = Instant(NOW.0 - LOOK_EVERY.as_nanos() as u64);
            balancer.note_look(idle, left_over, NOW);
        };
        let (free, busy, behind) = ((true, false), (false, false), (true, true));
        let mut balancer = Balancer::default();
        for _ in 0..100 {
            [free, busy, free, behind, free].into_iter().for_each(|found| look(&mut balancer, found));
            assert_eq!(balancer.busy_grace(NOW), BUSY_GRACE, "there is room");
        }
        let looks = (1..).find(|_| {
            [free, busy, behind].into_iter().for_each(|found| look(&mut balancer, found));
            balancer.busy_grace(NOW) == Duration::ZERO
        });
        assert!(looks.is_some_and(|looks| (30..=41).contains(&looks)), "{looks:?}");
        let later = NOW.after(SATURATED_FOR);
        assert_eq!(balancer.busy_grace(later), BUSY_GRACE);
        look(&mut balancer, busy);
        assert_eq!(
            (balancer.busy_grace(later), balancer.next_look),
            (BUSY_GRACE, Some(NOW.after(LOOK_EVERY)))
        );
        look(&mut balancer, behind);
        assert_eq!(balancer.next_look, Some(NOW.after(LOOK_AGAIN)));
    }

    #[test]
    fn the_score_board_is_asked_only_after_an_accept_and_while_holding_back() {
        let rich = || Siblings { count: 3, idle: 2, connections: 30, flows: true };
        let never = |_| -> Siblings { panic!("it need not be asked") };
        let mut balancer = Balancer::default();
        assert_eq!(balancer.decide(100, true, NOW, never), Hold::No, "it has accepted nothing");
        balancer.note_accepted();
        assert_eq!(balancer.decide(SLACK_CONNECTIONS, true, NOW, never), Hold::No);
        balancer.note_accepted();
        assert_eq!(balancer.decide(100, false, NOW, never), Hold::No, "its listeners are its own");
        balancer.note_accepted();
        assert_eq!(balancer.decide(100, true, NOW, |_| rich()), Hold::Yes);
        assert_eq!(balancer.next_look(), Some(NOW.after(LOOK_EVERY)));
        assert_eq!(balancer.decide(100, true, Instant(NOW.after(LOOK_EVERY).0 - 1), never), Hold::Yes);
        let later = NOW.after(LOOK_EVERY);
        assert_eq!(balancer.decide(100, true, later, |_| rich()), Hold::Look { idle: true });
        balancer.note_look(true, false, later);
        let even_later = later.after(LOOK_EVERY);
        assert_eq!(balancer.decide(100, true, even_later, |_| Siblings::default()), Hold::No);
        assert_eq!(balancer.next_look(), None);
    }
}
