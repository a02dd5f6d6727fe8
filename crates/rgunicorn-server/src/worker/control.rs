//! Requests of signal handlers and hooks to a worker. Plain atomics, so that they may be set from anywhere.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rgunicorn_io::sys::shared::Slot;

/// Requests to the worker loop; the loop looks at them once per turn and after each application call.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    quit: AtomicBool,
    status: AtomicI32,
    reopen: AtomicBool,
    handoff: AtomicBool,
    has_begun_to_give: AtomicBool,
    /// Where the master reads that the worker leaves.
    slot: Option<Slot>,
}

impl Control {
    /// Makes one that says in `slot` that the worker leaves as soon as that is asked for: its last request
    /// may take long, and the master does not wait for it with a replacement.
    pub fn of(slot: Slot) -> Self {
        Self { slot: Some(slot), ..Self::default() }
    }

    /// Asks for a graceful stop (TERM, max_requests): no new connections, requests in flight are answered.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(slot) = &self.slot {
            slot.set_leaving();
        }
    }

    /// Asks for an immediate end with this exit status (INT, QUIT: 0, ABRT: 1).
    pub fn quit(&self, status: i32) {
        self.status.store(status, Ordering::Relaxed);
        self.quit.store(true, Ordering::Relaxed);
        self.stop();
    }

    /// Asks for the logs to be opened again (USR1).
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Takes out whether the logs are to be opened again.
    pub fn take_reopen(&self) -> bool {
        self.reopen.load(Ordering::Relaxed) && self.reopen.swap(false, Ordering::Relaxed)
    }

    /// Tells whether a graceful (or quick) stop was asked for.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says whether idle connections can go to other workers, if there are any when this one leaves.
    pub fn set_handoff(&self, works: bool) {
        self.handoff.store(works, Ordering::Relaxed);
    }

    /// Notes that connections are being given: from here on the master is trusted to put other workers in the place of
    /// siblings that die.
    pub(crate) fn begin_to_give(&self) {
        self.has_begun_to_give.store(true, Ordering::Relaxed);
    }

    /// Tells whether connections outlive this worker when it leaves: the server goes on, and another worker is there,
    /// or was when this one began to give.
    pub fn hands_over(&self) -> bool {
        let others_go_on = |slot: &Slot| {
            slot.is_replaced()
                && slot.board().workers() > 0
                && (self.has_begun_to_give.load(Ordering::Relaxed) || slot.has_sibling())
        };
        self.handoff.load(Ordering::Relaxed) && self.slot.as_ref().is_some_and(others_go_on)
    }

    /// Tells whether an answer is the last one of its connection, because the worker leaves.
    pub fn closes_connections(&self) -> bool {
        self.stopping() && !self.hands_over()
    }

    /// Returns the exit status if an immediate end was asked for.
    pub fn quitting(&self) -> Option<i32> {
        self.quit.load(Ordering::Relaxed).then(|| self.status.load(Ordering::Relaxed))
    }
}
