//! One turn of the loop in time: its clock, the arrival of what it reads, and how urgent its answers are.

use std::time::Duration;

use rgunicorn_io::driver::Urgency;
use rgunicorn_io::sys::clock::Instant;

use super::handling::Handling;
use super::ids::ConnId;

/// An application call that took longer than this makes the worker send every answer at once for a while: answers
/// queued for a common submission must not wait behind a slow call.
const SLOW_CALL: Duration = Duration::from_micros(500);
/// How long a slow call is remembered.
const SLOW_CALL_MEMORY: Duration = Duration::from_secs(5);
/// Application work in a turn, until the loop looks at the rings, the listeners and its own end again. What waits there
/// unseen waits for no longer than this and one piece of work; a look costs some microseconds.
const WORK_PER_TURN_MAX: Duration = Duration::from_millis(5);
/// The part of it that one response has, if it has more to give: items that are slow by themselves are one each.
const RESPONSE_PER_TURN_MAX: Duration = Duration::from_millis(1);
/// Pipelined requests of one connection that are begun one behind the other while others wait, so that their answers
/// leave in one segment.
const IN_A_ROW_MAX: u32 = 16;
/// A wait that took this long was a sleep.
const SLEPT_MIN: Duration = Duration::from_millis(1);

/// The clock of the loop, and what depends on the present turn.
#[derive(Debug)]
pub(crate) struct Turn {
    now: Instant,
    /// The ends of the last two waits, the older one first: a connection that waits to be accepted is seen by one, and
    /// its request by the next.
    waits_ended: [Instant; 2],
    /// When what this turn reads has arrived, at the earliest.
    arrived: Instant,
    /// Requests that the present turn brought; one alone is answered at once, several are batched.
    requests: usize,
    /// When the first piece of this turn's application work began.
    work_begun: Instant,
    /// The application works, or is about to.
    is_at_work: bool,
    /// The connection of the request that it works on, as far as that is known.
    current: Option<ConnId>,
    /// The connection that has gone on in this turn, if one has.
    row: Option<Row>,
    /// A request in progress has gone on in this turn.
    has_resumed: bool,
    /// All application work so far.
    worked_ns: u64,
    /// An application call was slow not long ago: answers do not wait for company behind the next one.
    slow_until: Instant,
    /// The time before the application's work.
    pub(crate) handling: Handling,
}

/// Requests of one connection that follow each other.
#[derive(Clone, Copy, Debug)]
struct Row {
    id: ConnId,
    count: u32,
    /// When the first of them began.
    begun: Instant,
}

impl Turn {
    /// Starts the clock. `handling_max`: see [`Handling::new`].
    pub(crate) fn new(now: Instant, handling_max: Duration) -> Self {
        Self {
            now,
            waits_ended: [now; 2],
            arrived: now,
            requests: 0,
            work_begun: now,
            is_at_work: false,
            current: None,
            row: None,
            has_resumed: false,
            worked_ns: 0,
            slow_until: now,
            handling: Handling::new(now, handling_max),
        }
    }

    /// Returns when the loop last read the clock: after its wait, and after each call of the application.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Returns when what this turn reads has arrived, at the earliest.
    pub(crate) fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Begins to count anew, from the requests that the last turn has left over.
    pub(crate) fn begin(&mut self, left_over: usize) {
        self.requests = left_over;
        self.has_resumed = false;
        self.is_at_work = false;
        self.current = None;
        self.row = None;
    }

    /// Notes that the application works from here on, on a request of this connection if it is known.
    pub(crate) fn note_work(&mut self, current: Option<ConnId>) {
        self.is_at_work = true;
        self.current = current;
    }

    /// Tells whether the application works. The present piece of its work began at [`Self::now`].
    pub(crate) fn is_at_work(&self) -> bool {
        self.is_at_work
    }

    /// Returns the connection of the request that it works on.
    pub(crate) fn current(&self) -> Option<ConnId> {
        self.current
    }

    /// Tells whether the next request of a connection may be begun before those of others, and counts it: it has come
    /// together with the one that the application works on. Slow answers do not make others wait.
    #[inline]
    pub(crate) fn goes_on_with(&mut self, id: ConnId) -> bool {
        self.current == Some(id) && self.goes_on(id)
    }

    fn goes_on(&mut self, id: ConnId) -> bool {
        let (now, is_slow) = (self.now, self.is_slow());
        let first = Row { id, count: 1, begun: now };
        let row = self.row.take_if(|row| row.id == id).unwrap_or(first);
        let goes_on = !is_slow && row.count < IN_A_ROW_MAX && now.since(row.begun) < RESPONSE_PER_TURN_MAX;
        self.row = Some(Row { count: row.count + u32::from(goes_on), ..row });
        goes_on
    }

    /// Begins the turn's application work. Not at the end of the wait, where the loop is not ours and does its own work
    /// in between.
    pub(crate) fn begin_work(&mut self) {
        self.work_begun = self.now;
    }

    /// Tells whether the turn has had its share of application work, as of the last look at the clock.
    pub(crate) fn has_worked_long(&self) -> bool {
        self.now.since(self.work_begun) >= WORK_PER_TURN_MAX
    }

    /// Tells at `now` whether a response that goes on since `begun` has had its share. A wait since then was a look.
    pub(crate) fn has_gone_on_long(&self, begun: Instant, now: Instant) -> bool {
        now.since(begun.max(self.waits_ended[1])) >= RESPONSE_PER_TURN_MAX
    }

    /// Notes that a request in progress goes on.
    pub(crate) fn note_resumed(&mut self) {
        self.has_resumed = true;
    }

    /// Tells whether one has gone on in this turn.
    pub(crate) fn has_resumed(&self) -> bool {
        self.has_resumed
    }

    /// Takes the time where no wait and no work ends.
    pub(crate) fn look_at_clock(&mut self, now: Instant) {
        self.now = now;
    }

    /// Takes the time at the end of a wait.
    pub(crate) fn end_wait(&mut self, now: Instant) {
        let before = std::mem::replace(&mut self.now, now);
        self.handling.begin(now);
        // What ends a sleep has just come.
        if now.since(before) >= SLEPT_MIN {
            self.waits_ended = [now; 2];
        }
        self.arrived = self.waits_ended[0];
        self.waits_ended = [self.waits_ended[1], now];
    }

    /// Counts requests, or answers of other threads, that this turn has brought.
    pub(crate) fn add_requests(&mut self, count: usize) {
        self.requests += count;
    }

    /// Takes the time after a piece of application work, and remembers whether it was slow.
    pub(crate) fn end_work(&mut self, now: Instant) {
        let begun = std::mem::replace(&mut self.now, now);
        self.worked_ns += now.0.saturating_sub(begun.0);
        if now.since(begun) > SLOW_CALL {
            self.slow_until = now.after(SLOW_CALL_MEMORY);
        }
    }

    /// Returns the time by a clock that stands still while the loop does application work, and nothing is read.
    pub(crate) fn reading(&self) -> Instant {
        Instant(self.now.0.saturating_sub(self.worked_ns))
    }

    /// Tells whether application work is slow at present.
    pub(crate) fn is_slow(&self) -> bool {
        self.now < self.slow_until
    }

    /// Tells how long a piece of an answer may wait for company. `last`: nothing follows it.
    pub(crate) fn urgency(&self, last: bool) -> Urgency {
        if last && self.requests > 1 { Urgency::Batch } else { Urgency::Now }
    }

    /// Returns how many requests this turn has brought so far.
    #[cfg(test)]
    pub(crate) fn requests(&self) -> usize {
        self.requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant(1_000_000_000);

    fn at(time: Duration) -> Instant {
        START.after(time)
    }

    #[test]
    fn the_last_piece_waits_for_company_only_if_there_is_any() {
        let mut turn = Turn::new(START, Duration::ZERO);
        turn.begin(1);
        assert_eq!([turn.urgency(true), turn.urgency(false)], [Urgency::Now; 2]);
        turn.add_requests(1);
        assert_eq!([turn.urgency(true), turn.urgency(false)], [Urgency::Batch, Urgency::Now]);
        turn.begin(0);
        assert_eq!(turn.urgency(true), Urgency::Now);
    }

    #[test]
    fn a_slow_call_is_remembered_for_a_while_and_a_quick_one_changes_nothing() {
        let mut turn = Turn::new(START, Duration::ZERO);
        turn.end_work(at(SLOW_CALL));
        assert!(!turn.is_slow());
        let slow = at(SLOW_CALL * 2 + Duration::from_nanos(1));
        turn.end_work(slow);
        assert!(turn.is_slow());
        turn.end_work(slow.after(SLOW_CALL));
        assert!(turn.is_slow());
        turn.end_wait(Instant(slow.after(SLOW_CALL_MEMORY).0 - 1));
        assert!(turn.is_slow());
        turn.end_wait(slow.after(SLOW_CALL_MEMORY));
        assert!(!turn.is_slow());
    }

    #[test]
    fn what_a_busy_loop_reads_may_have_come_before_its_last_but_one_wait() {
        let mut turn = Turn::new(START, Duration::ZERO);
        let step = SLEPT_MIN / 2;
        let ends: Vec<Instant> = (1..=4).map(|count| at(step * count)).collect();
        let arrived: Vec<Instant> = ends
            .iter()
            .map(|end| {
                turn.end_wait(*end);
                turn.arrived()
            })
            .collect();
        assert_eq!(arrived, [START, START, ends[0], ends[1]]);
    }

    #[test]
    fn what_ends_a_sleep_has_just_come() {
        let mut turn = Turn::new(START, Duration::ZERO);
        turn.end_wait(at(SLEPT_MIN / 2));
        let woken = at(SLEPT_MIN * 2);
        turn.end_wait(woken);
        assert_eq!((turn.arrived(), turn.now()), (woken, woken));
        turn.end_wait(woken.after(SLEPT_MIN / 2));
        assert_eq!(turn.arrived(), woken);
    }

    #[test]
    fn a_slow_call_does_not_count_as_a_sleep() {
        let mut turn = Turn::new(START, Duration::ZERO);
        turn.end_work(at(SLEPT_MIN * 9));
        turn.end_wait(at(SLEPT_MIN * 9));
        assert_eq!(turn.arrived(), START, "it came while the application worked");
    }

    #[test]
    fn a_turn_is_as_long_as_its_work_whatever_came_before() {
        let mut turn = Turn::new(START, Duration::ZERO);
        turn.look_at_clock(at(WORK_PER_TURN_MAX));
        turn.begin_work();
        assert!(!turn.has_worked_long());
        turn.end_work(Instant(at(WORK_PER_TURN_MAX * 2).0 - 1));
        assert!(!turn.has_worked_long());
        turn.end_work(at(WORK_PER_TURN_MAX * 2));
        assert!(turn.has_worked_long());
        turn.begin_work();
        assert!(!turn.has_worked_long());
    }

    #[test]
    fn a_response_has_its_share_anew_after_each_wait() {
        let mut turn = Turn::new(START, Duration::ZERO);
        let (before, after) = (Instant(at(RESPONSE_PER_TURN_MAX).0 - 1), at(RESPONSE_PER_TURN_MAX));
        assert!(!turn.has_gone_on_long(START, before) && turn.has_gone_on_long(START, after));
        turn.end_wait(before);
        assert!(!turn.has_gone_on_long(START, after), "it waited, and all others had their turn");
        assert!(turn.has_gone_on_long(START, before.after(RESPONSE_PER_TURN_MAX)));
    }

    #[test]
    fn the_clock_of_reading_stands_still_while_the_application_works() {
        let mut turn = Turn::new(START, Duration::ZERO);
        turn.end_work(at(SLOW_CALL));
        assert_eq!((turn.now(), turn.reading()), (at(SLOW_CALL), START));
        turn.end_wait(at(SLOW_CALL * 3));
        assert_eq!(turn.reading(), at(SLOW_CALL * 2));
    }

    #[test]
    fn a_connection_has_its_requests_in_a_row_until_it_has_had_enough() {
        let (one, other) = (ConnId { index: 1, generation: 1 }, ConnId { index: 2, generation: 1 });
        let mut turn = Turn::new(START, Duration::ZERO);
        turn.begin(1);
        assert!(!turn.goes_on_with(one), "nothing of it has begun");
        turn.note_work(Some(one));
        for _ in 1..IN_A_ROW_MAX {
            assert!(!turn.goes_on_with(other) && turn.goes_on_with(one));
            turn.end_work(turn.now().after(RESPONSE_PER_TURN_MAX / 100));
        }
        assert!(!turn.goes_on_with(one), "it had as many as it may");
        turn.note_work(Some(other));
        assert!(turn.goes_on_with(other));
        turn.look_at_clock(turn.now().after(RESPONSE_PER_TURN_MAX));
        assert!(!turn.goes_on_with(other), "it has had its time");
        turn.begin(1);
        turn.note_work(Some(one));
        assert!(turn.goes_on_with(one), "a new turn");
        turn.end_work(turn.now().after(SLOW_CALL * 2));
        assert!(!turn.goes_on_with(one), "answers are slow");
    }

    #[test]
    fn one_response_goes_on_in_each_turn() {
        let mut turn = Turn::new(START, Duration::ZERO);
        assert!(!turn.has_resumed());
        turn.note_resumed();
        assert!(turn.has_resumed());
        turn.begin(0);
        assert!(!turn.has_resumed());
    }
}
