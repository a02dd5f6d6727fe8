//! Relief on the loop's own thread: see [`super::relief`].

use std::os::fd::RawFd;

use super::app::App;
use super::message::Request;
use super::reactor::Reactor;
use super::relief::{IdleConn, ReliefRules, is_due};

/// Relief of a worker that has more to do than it can.
impl Reactor {
    /// Gives what waits for the application to siblings that have time, as the helper does while the loop's thread is
    /// in the application: in simulations, where there is no other thread. `has_input`: whether something has come on
    /// a descriptor.
    pub fn relieve(&self, has_input: impl Fn(RawFd) -> bool) {
        let core = &mut *self.core();
        let (idle, _) = core.idle_from(0, usize::MAX);
        let ready = |conn: &IdleConn| conn.has_input || has_input(conn.fd);
        let mut ready = idle.into_iter().filter(ready).map(|conn| conn.id).collect();
        core.relieve(&self.handles().slot, ReliefRules::of(self.config()), &mut ready);
    }

    /// Gives requests that wait for a thread to siblings that have time, where the application's threads are all taken.
    #[cold]
    pub(super) fn relieve_threads<A: App>(&self, app: &A) {
        let (rules, now) = (ReliefRules::of(self.config()), self.now());
        let slot = &self.handles().slot;
        let takers = self.core().handoff.takers(slot, now);
        for _ in 0..takers {
            let is_wanted =
                |request: &Request| is_due(request, now, rules.after) && self.core().may_give(request.id);
            let Some(request) = app.take_back(&is_wanted) else { return };
            if !self.core().give_taken_back(&request, slot, rules) {
                return app.put_back(self, request);
            }
        }
    }
}
