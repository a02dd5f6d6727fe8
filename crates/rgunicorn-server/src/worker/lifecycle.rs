//! The life of a worker as its loop sees it: serving, draining, leaving.

use std::time::Duration;

use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::process;
use rgunicorn_io::sys::shared::Slot;

use super::accept::Acceptor;
use super::conn::io::ConnIo;
use super::handoff::Handoff;

/// How often the parent is looked at.
const PARENT_CHECK_EVERY: Duration = Duration::from_millis(900);

/// How long before its end at the latest a worker gives its connections up that no sibling has taken: their clients are
/// told with an answer, or find a clean end. At most half of the time that it has.
const GIVE_UP: Duration = Duration::from_secs(1);

/// The stages in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LifeStage {
    Serving,
    /// No new connections; requests in flight, and those that still arrive, are answered.
    Draining,
    /// No further request is begun.
    Leaving,
}

/// The stage of a worker's life, and what bounds it.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    stage: LifeStage,
    /// When draining is over at the latest.
    deadline: Option<Instant>,
    /// Connections that the kernel has queued for this worker have not been accepted yet.
    queue_waits: bool,
    /// Until when idle connections go to siblings.
    hands_over: Option<Instant>,
    parent_checked: Instant,
}

impl Lifecycle {
    /// Begins a life.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            stage: LifeStage::Serving,
            deadline: None,
            queue_waits: false,
            hands_over: None,
            parent_checked: now,
        }
    }

    /// Tells whether the worker takes no new connections any more.
    pub(crate) fn is_draining(&self) -> bool {
        self.stage != LifeStage::Serving
    }

    /// Tells whether no further request is begun.
    pub(crate) fn is_leaving(&self) -> bool {
        self.stage == LifeStage::Leaving
    }

    /// Drains, a turn of it: stops accepting, gives what is idle to siblings or closes it, takes what the kernel has
    /// queued for this worker. Requests in flight, and those that still arrive, are answered, with `Connection: close`
    /// where no sibling can have the connection.
    pub(crate) fn drain(&mut self, acceptor: &mut Acceptor, handoff: &mut Handoff, io: &mut ConnIo<'_>) {
        let (handles, config) = (&io.setup.handles, &io.setup.config);
        let begins = self.begin_drain(io.turn.now(), config.graceful_timeout);
        if begins {
            io.draining = true;
            acceptor.begin_drain(io);
        }
        self.see_to_idle(begins, acceptor, handoff, io);
        acceptor.take_given_at_end(io);
        let for_others = io.setup.retires()
            || leaves_queue_to_others(&handles.slot, config.shares_listeners, handles.parent);
        // A client that connects later must be refused, or go to another worker, and not wait in vain.
        if self.await_queue(acceptor.has_listeners() && !for_others) && acceptor.take_queue(io) {
            self.await_queue(false);
            handles.listener_guard.take();
        }
    }

    /// Gives idle connections to siblings; closes them, once, if that is or becomes impossible.
    fn see_to_idle(&mut self, begins: bool, acceptor: &Acceptor, handoff: &mut Handoff, io: &mut ConnIo<'_>) {
        let Some(until) = self.hands_over else { return };
        let handles = &io.setup.handles;
        let goes_on = io.turn.now() < until
            && io.hands_over()
            && process::parent_id() == handles.parent
            && !io.setup.retires();
        if goes_on && begins {
            handles.control.begin_to_give();
            io.spare_idle();
        }
        if !goes_on || !io.give_spare(handoff, |listener| acceptor.key(listener)) {
            self.hands_over = None;
            // All that is asked from here on has the same answer.
            handles.control.set_handoff(false);
            handoff.pause();
            io.drain_idle();
        }
    }

    /// Stops if the master has gone; looks now and then.
    pub(crate) fn watch_parent(&mut self, io: &ConnIo<'_>) {
        let handles = &io.setup.handles;
        if self.is_parent_check_due(io.turn.now()) && process::parent_id() != handles.parent {
            let pid = process::id();
            handles.errors.info(format_args!("Parent changed, shutting down: <Worker {pid}>"));
            handles.control.stop();
        }
    }

    /// Begins to drain, which ends after `timeout` at the latest. `false`: it had begun before.
    fn begin_drain(&mut self, now: Instant, timeout: Duration) -> bool {
        let begins = self.stage == LifeStage::Serving;
        if begins {
            self.stage = LifeStage::Draining;
            self.deadline = Some(now.after(timeout));
            self.hands_over = Some(now.after(timeout.saturating_sub(GIVE_UP.min(timeout / 2))));
        }
        begins
    }

    /// Begins to leave: waits for nothing any more.
    pub(crate) fn begin_leave(&mut self) {
        self.stage = LifeStage::Leaving;
        self.queue_waits = false;
        // It is over, and must not shorten waits to nothing.
        self.deadline = None;
        self.hands_over = None;
    }

    /// Notes whether connections that the kernel has queued for this worker are to be waited for. Returns whether they
    /// are; a worker that is leaving waits for none.
    fn await_queue(&mut self, waits: bool) -> bool {
        self.queue_waits = waits && !self.is_leaving();
        self.queue_waits
    }

    /// Returns when the worker's time to drain, or to give connections, is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.hands_over.or(self.deadline)
    }

    /// Tells whether a draining worker has nothing left to do. `idle`: it has neither work nor connections.
    fn has_drained(&self, idle: bool) -> bool {
        self.is_draining() && idle && !self.queue_waits
    }

    /// Tells whether the worker ends: it has nothing left to answer, or no time left to do so.
    pub(crate) fn is_over(&self, now: Instant, idle: bool) -> bool {
        self.has_drained(idle) || self.is_draining() && self.deadline.is_some_and(|at| now >= at)
    }

    /// Tells whether the wait must return at once, so that the end of the worker is seen.
    pub(crate) fn ends_wait(&self, idle: bool) -> bool {
        self.has_drained(idle) && !self.is_leaving()
    }

    /// Tells whether it is time to look at the parent, and begins the next interval if so.
    fn is_parent_check_due(&mut self, now: Instant) -> bool {
        let due = now.since(self.parent_checked) >= PARENT_CHECK_EVERY && !self.is_draining();
        if due {
            self.parent_checked = now;
        }
        due
    }
}

/// Tells whether what waits at the listeners is left to the siblings and successors. A worker that leaves
/// could take more of it than it can answer within its `graceful_timeout`; they have all the time. Asked in
/// each turn, because the server may stop, or lose its master, while the worker is leaving: then no other
/// process would take it.
fn leaves_queue_to_others(slot: &Slot, shares_listeners: bool, parent: i32) -> bool {
    shares_listeners
        && slot.is_replaced()
        && (slot.board().workers() > 0 || slot.board().has_other_master())
        && process::parent_id() == parent
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgunicorn_io::sys::shared::Scoreboard;

    const NOW: Instant = Instant(1_000_000_000);
    const TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn a_serving_worker_has_no_end() {
        let life = Lifecycle::new(NOW);
        assert!(!life.is_draining() && !life.is_leaving());
        assert!(!life.has_drained(true) && !life.ends_wait(true));
        assert!(!life.is_over(NOW.after(TIMEOUT * 9), true));
        assert_eq!(life.deadline(), None);
    }

    #[test]
    fn a_draining_worker_ends_when_it_is_idle_or_its_time_is_up() {
        let mut life = Lifecycle::new(NOW);
        assert!(life.begin_drain(NOW, TIMEOUT));
        assert!(!life.begin_drain(NOW.after(TIMEOUT), TIMEOUT), "the deadline does not move");
        assert_eq!(life.deadline(), Some(NOW.after(TIMEOUT - GIVE_UP)), "until then connections are given");
        life.hands_over = None;
        assert_eq!(life.deadline(), Some(NOW.after(TIMEOUT)));
        assert!(life.is_over(NOW, true) && life.ends_wait(true));
        assert!(!life.is_over(NOW, false) && !life.ends_wait(false));
        assert!(!life.is_over(Instant(NOW.after(TIMEOUT).0 - 1), false));
        assert!(life.is_over(NOW.after(TIMEOUT), false));
    }

    #[test]
    fn what_the_kernel_has_queued_is_waited_for_until_the_time_is_up() {
        let mut life = Lifecycle::new(NOW);
        life.begin_drain(NOW, TIMEOUT);
        assert!(life.await_queue(true));
        assert!(!life.has_drained(true) && !life.is_over(NOW, true));
        assert!(life.is_over(NOW.after(TIMEOUT), true));
        assert!(!life.await_queue(false));
        assert!(life.is_over(NOW, true));
    }

    #[test]
    fn a_leaving_worker_waits_for_nothing() {
        let mut life = Lifecycle::new(NOW);
        life.begin_drain(NOW, TIMEOUT);
        life.await_queue(true);
        life.begin_leave();
        assert!(life.is_leaving() && life.is_draining());
        assert!(!life.await_queue(true));
        assert!(life.has_drained(true) && !life.ends_wait(true), "its waits are as long as they should be");
        assert_eq!(life.deadline(), None);
    }

    #[test]
    fn the_parent_is_looked_at_now_and_then_while_the_worker_serves() {
        let mut life = Lifecycle::new(NOW);
        let later = NOW.after(PARENT_CHECK_EVERY);
        assert!(!life.is_parent_check_due(Instant(later.0 - 1)));
        assert!(life.is_parent_check_due(later) && !life.is_parent_check_due(later));
        life.begin_drain(later, TIMEOUT);
        assert!(!life.is_parent_check_due(later.after(PARENT_CHECK_EVERY)));
    }

    #[test]
    fn the_queue_is_left_to_others_only_while_there_are_others() {
        let board = Scoreboard::new().unwrap();
        let slot = board.claim(1).unwrap();
        let parent = process::parent_id();
        board.set_workers(1);
        assert!(!leaves_queue_to_others(&slot, true, parent), "no other process replaces it");
        slot.mark_replaced();
        assert!(leaves_queue_to_others(&slot, true, parent));
        assert!(!leaves_queue_to_others(&slot, false, parent), "its listeners are its own");
        assert!(!leaves_queue_to_others(&slot, true, parent + 1), "the master has gone");
        board.set_workers(0);
        assert!(!leaves_queue_to_others(&slot, true, parent), "the server stops");
        board.set_other_master(true);
        assert!(leaves_queue_to_others(&slot, true, parent));
    }
}
