//! The loop: wait, take completions out, handle them, run the application, repeat.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::io::Completion;
use crate::logging::Level;
use crate::sys::{clock, process};

use super::app::{App, ConnId, Exit};
use super::reactor::{Job, Reactor, Source};

/// An application call that took longer than this makes the worker send every answer at once for a while: answers
/// queued for a common submission must not wait behind a slow call.
const SLOW_CALL: Duration = Duration::from_micros(500);
/// How long a slow call is remembered.
const SLOW_CALL_MEMORY: Duration = Duration::from_secs(5);
/// How often the parent is looked at.
const PARENT_CHECK_EVERY: Duration = Duration::from_millis(900);
/// Application calls between two looks at the rings. One turn of the ring delivers about 20 requests.
const JOBS_PER_TURN_MAX: usize = 32;

impl Reactor {
    /// Runs the worker to its end and returns its exit status.
    pub fn run<A: App>(&self, app: &A) -> i32 {
        let status = self.turns(app);
        if !app.is_forked_child() {
            // A last answer may still wait for company.
            self.state().driver.flush();
        }
        status
    }

    /// Turns of the loop until there is an exit status.
    fn turns<A: App>(&self, app: &A) -> i32 {
        let mut completions = Vec::new();
        let mut slow_until = self.state().now;
        loop {
            if let Err(Exit(status)) = app.check_signals() {
                return status;
            }
            // A handler may have forked, too.
            if app.is_forked_child() {
                return self.shared.control.quitting().unwrap_or(0);
            }
            if let Some(status) = self.shared.control.quitting() {
                return status;
            }
            self.look_around();
            if self.shared.control.stopping() {
                self.begin_drain();
            }
            if self.is_drained() {
                return 0;
            }
            self.turn(app, &mut completions);
            for completion in completions.drain(..) {
                let conn = completion_conn(&completion);
                if !self.guarded("a completion", || self.handle(completion))
                    && let Some(id) = conn
                {
                    self.close_failed(id);
                }
            }
            self.pause_full();
            self.expire_timers();
            self.run_jobs(app, &mut slow_until);
            if app.is_forked_child() {
                return self.shared.control.quitting().unwrap_or(0);
            }
            self.collect_garbage();
            self.end_turn();
        }
    }

    /// What is looked at once in a while: log rotation, and whether the master still lives.
    fn look_around(&self) {
        if self.shared.control.take_reopen()
            && let Some(log) = &mut *self.shared.access.borrow_mut()
            && let Err(error) = log.reopen()
        {
            self.shared.errors.log(Level::Error, format_args!("Cannot open the access log again: {error}"));
        }
        let state = &mut *self.state();
        if state.now.since(state.parent_checked) >= PARENT_CHECK_EVERY && !state.draining {
            state.parent_checked = state.now;
            if process::parent_id() != self.shared.parent {
                let pid = process::id();
                self.shared
                    .errors
                    .log(Level::Info, format_args!("Parent changed, shutting down: <Worker {pid}>"));
                self.shared.control.stop();
            }
        }
    }

    /// One wait. The state is borrowed while the interpreter lock is released: other threads cannot reach it, because
    /// it belongs to this thread.
    fn turn<A: App>(&self, app: &A, completions: &mut Vec<Completion>) {
        let state = &mut *self.state();
        // Those that the last turn left for this one.
        state.turn_requests = state.jobs.len();
        self.arm_listeners(state);
        state.arm_wake();
        let mut wait = self.wait_time(state);
        if std::mem::take(&mut state.just_accepted) && !self.is_solo() {
            // Only a look: the listeners are not armed.
            wait = Duration::ZERO;
        }
        let mut result = Ok(());
        if wait.is_zero() {
            result = state.driver.wait(Some(wait), completions);
        } else {
            let driver = &mut state.driver;
            app.blocking(&mut || result = driver.wait(Some(wait), completions));
        }
        state.now = state.driver.now();
        self.shared.slot.beat(state.now);
        if let Err(error) = result {
            self.shared.errors.log(Level::Error, format_args!("Waiting for events failed: {error}"));
        }
    }

    fn run_jobs<A: App>(&self, app: &A, slow_until: &mut clock::Instant) {
        if self.state().jobs.is_empty() {
            return;
        }
        self.disarm_listeners(&mut self.state());
        for _ in 0..JOBS_PER_TURN_MAX {
            let Some(job) = self.take_job(*slow_until) else {
                return;
            };
            let begun = self.state().now;
            let conn = job.conn();
            if !self.guarded("a request", || self.run_job(app, job)) {
                self.close_failed(conn);
                // What the application keeps of that response is of no use any more.
                self.guarded("a failed request", || app.abandon(self, conn));
            }
            if app.is_forked_child() {
                return;
            }
            let now = self.tick();
            if now.since(begun) > SLOW_CALL {
                *slow_until = now.after(SLOW_CALL_MEMORY);
            }
            // A busy worker is a living one: the beat must not wait for the end of a long queue.
            self.shared.slot.beat(now);
            if self.shared.control.quitting().is_some() {
                return;
            }
        }
    }

    /// Reads the clock.
    fn tick(&self) -> clock::Instant {
        let state = &mut *self.state();
        state.now = state.driver.now();
        state.now
    }

    fn take_job(&self, slow_until: clock::Instant) -> Option<Job> {
        let state = &mut *self.state();
        let job = state.jobs.pop_front()?;
        if state.now < slow_until {
            state.driver.flush();
        }
        Some(job)
    }

    fn run_job<A: App>(&self, app: &A, job: Job) {
        match job {
            Job::Call(request) => app.call(self, request),
            Job::Resume(id) => app.resume(self, id),
            Job::Abandon(id) => app.abandon(self, id),
            Job::Refused(request, status) => app.refused(self, &request, status),
        }
    }

    /// Drops buffers of finished sends. To be called where nothing is borrowed: their owners may be Python objects, so any
    /// Python may run. Once a turn; more often by whoever sends much within one call of the application.
    pub fn collect_garbage(&self) {
        if self.state().garbage.is_empty() {
            return;
        }
        let garbage = std::mem::take(&mut self.state().garbage);
        drop(garbage);
    }

    fn end_turn(&self) {
        let connections = self.connections();
        self.shared.slot.set_connections(connections as u32);
        if let Some(log) = &mut *self.shared.access.borrow_mut() {
            log.flush();
        }
    }

    /// A panic ends the work at hand with a log line, never the worker: borrows are released by the unwinding, and the
    /// driver owns the memory of everything in flight. `false`: it panicked.
    fn guarded(&self, what: &str, work: impl FnOnce()) -> bool {
        let Err(panic) = catch_unwind(AssertUnwindSafe(work)) else {
            return true;
        };
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        self.shared.errors.log(Level::Error, format_args!("Internal error while handling {what}: {text}"));
        false
    }

    /// Closes a connection whose work has panicked: nobody would answer it any more.
    fn close_failed(&self, id: ConnId) {
        self.guarded("a failed connection", || self.state().close(id));
    }
}

/// The connection that a completion is about.
fn completion_conn(completion: &Completion) -> Option<ConnId> {
    let (Completion::Recv { token, .. } | Completion::Sent { token, .. } | Completion::Poll { token, .. }) =
        completion
    else {
        return None;
    };
    match Source::from_token(*token)? {
        Source::Recv(id) | Source::Send(id) | Source::Writable(id) => Some(id),
        Source::Listener(_) | Source::Wake => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;

    use super::*;
    use crate::io::Driver;
    use crate::io::sim::SimConfig;
    use crate::logging::ErrorLog;
    use crate::sys::shared::Scoreboard;
    use crate::worker::conn::Conn;
    use crate::worker::{Control, Shared, Tuning};

    #[test]
    fn a_panic_over_a_completion_closes_its_connection_only() {
        let (driver, net) = Driver::sim(1, &SimConfig::default());
        let shared = Shared {
            errors: Arc::new(ErrorLog::open("/dev/null", Level::Debug).unwrap()),
            access: RefCell::new(None),
            slot: Scoreboard::new().unwrap().claim(1).unwrap(),
            control: Arc::new(Control::default()),
            trusted: crate::settings::Networks::default(),
            parent: process::parent_id(),
            keep: Box::new(()),
        };
        let policy = crate::http::Policy::default();
        let reactor = Reactor::new(driver, &[], None, shared, Tuning::default(), policy);
        let open = |generation| {
            let (fd, peer) = net.pair();
            let conn = Conn::new(fd, generation, crate::io::PeerAddr::Unix, 0, true);
            (ConnId { index: reactor.state().conns.insert(conn) as u32, generation }, peer)
        };
        let ((bad, bad_peer), (good, _)) = (open(1), open(2));
        let completion = Completion::Poll { token: Source::Writable(bad).token(), result: Ok(0) };
        let conn = completion_conn(&completion);
        assert_eq!(conn, Some(bad));
        assert!(!reactor.guarded("a completion", || {
            let _borrowed = reactor.state();
            panic!("{completion:?}");
        }));
        conn.into_iter().for_each(|id| reactor.close_failed(id));
        assert!(reactor.is_gone(bad) && !reactor.is_gone(good));
        assert!(net.sees_end(bad_peer));
    }
}
