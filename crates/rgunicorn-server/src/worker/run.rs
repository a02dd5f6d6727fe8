//! The loop: wait, take completions out, handle them, run the application, repeat. Its steps are public: a loop from
//! outside (an event loop that the application brings) can take them in the same order, with its own work in between.

use std::cell::RefMut;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::log::Level;
use rgunicorn_io::driver::{Completion, Driver, READABLE};
use rgunicorn_io::sys::{clock, process};

use super::app::{App, ConnId, ExitStatus};
use super::reactor::{EventSource, Job, Reactor, State, is_external};

/// An application call that took longer than this makes the worker send every answer at once for a while: answers
/// queued for a common submission must not wait behind a slow call.
const SLOW_CALL: Duration = Duration::from_micros(500);
/// A wait that took this long was a sleep.
const SLEPT_MIN: Duration = Duration::from_millis(1);
/// How long a slow call is remembered.
const SLOW_CALL_MEMORY: Duration = Duration::from_secs(5);
/// How often the parent is looked at.
const PARENT_CHECK_EVERY: Duration = Duration::from_millis(900);
/// Application calls between two looks at the rings. One turn of the ring delivers about 20 requests.
const JOBS_PER_TURN_MAX: usize = 32;

impl Reactor {
    /// Runs the worker to its end and returns its exit status: turns of the steps below, which a loop from outside may
    /// call instead.
    pub fn run<A: App>(&self, app: &A) -> i32 {
        let status = self.turns(app);
        if !app.is_forked_child() {
            // A last answer may still wait for company.
            self.driver().flush();
        }
        status
    }

    /// Turns of the loop until there is an exit status.
    fn turns<A: App>(&self, app: &A) -> i32 {
        let mut completions = Vec::new();
        loop {
            if let Err(ExitStatus(status)) = app.check_signals(self.take_signalled()) {
                return status;
            }
            if let Some(status) = self.begin_turn(app) {
                return status;
            }
            let wait = self.before_wait();
            self.wait(app, wait, &mut completions);
            self.after_wait(&mut completions);
            debug_assert!(completions.is_empty(), "nobody else has the driver");
            self.run_jobs(app);
            if app.is_forked_child() {
                return self.handles.control.quitting().unwrap_or(0);
            }
            self.end_turn();
        }
    }

    /// First step of a turn, after the signal handlers: stop requests, and what is looked at once in a while. `Some`: the
    /// worker is to leave with this exit status.
    pub fn begin_turn<A: App>(&self, app: &A) -> Option<i32> {
        // A signal handler may have forked, too.
        if app.is_forked_child() {
            return Some(self.handles.control.quitting().unwrap_or(0));
        }
        if let Some(status) = self.handles.control.quitting() {
            return Some(status);
        }
        self.look_around();
        if self.handles.control.stopping() {
            self.drain();
        }
        self.is_drained().then_some(0)
    }

    /// Second step: arms the listeners and the wake-up pipe. How long the wait may take; a loop with deadlines of its own
    /// waits less.
    pub fn before_wait(&self) -> Duration {
        let state = &mut *self.state();
        self.arm_listeners(state);
        let has_mail = !self.begin_mail(state);
        // After an accept among siblings only a look: the listeners are not armed.
        let look_only = self.begin_wait(state) && !self.is_only_worker();
        if has_mail || look_only { Duration::ZERO } else { self.wait_time(state) }
    }

    /// The driver, for operations with [`super::EXTERNAL`] tokens. To be let go of before any other method is called.
    pub fn driver(&self) -> RefMut<'_, Driver> {
        RefMut::map(self.state(), |state| &mut state.driver)
    }

    /// Third step, the wait. The state is borrowed while the interpreter lock is released: other threads cannot reach it,
    /// because it belongs to this thread.
    pub fn wait<A: App>(&self, app: &A, wait: Duration, completions: &mut Vec<Completion>) {
        let driver = &mut *self.driver();
        let mut result = Ok(());
        if wait.is_zero() {
            result = driver.wait(Some(wait), completions);
        } else {
            app.blocking(&mut || result = driver.wait(Some(wait), completions));
        }
        if let Err(error) = result {
            self.handles.errors.log(Level::Error, format_args!("Waiting for events failed: {error}"));
        }
    }

    /// Fourth step: handles what has completed, and timers. Completions of operations with [`super::EXTERNAL`] tokens stay
    /// in the list, in their order.
    pub fn after_wait(&self, completions: &mut Vec<Completion>) {
        let now = self.tick();
        self.handles.slot.beat(now);
        self.take_mail();
        for completion in completions.extract_if(.., |completion| !is_external(completion)) {
            let conn = completion_conn(&completion);
            if !self.guarded("a completion", || self.handle(completion))
                && let Some(id) = conn
            {
                self.close_failed(id);
            }
        }
        self.guarded("new connections", || self.take_woken());
        self.pause_full();
        self.expire_timers();
    }

    /// Requests and resumptions wait for the application.
    pub fn has_jobs(&self) -> bool {
        !self.state().jobs.is_empty()
    }

    /// Fifth step: runs the application for the jobs at hand, or as many of them as one turn may.
    pub fn run_jobs<A: App>(&self, app: &A) {
        if !self.has_jobs() {
            return;
        }
        self.before_work();
        for _ in 0..JOBS_PER_TURN_MAX {
            let Some(job) = self.take_job() else {
                return;
            };
            let id = job.id();
            if !self.guarded("a request", || self.run_job(app, job)) {
                self.close_failed(id.conn);
                // What the application keeps of that response is of no use any more.
                self.guarded("a failed request", || app.abandon(self, id));
            }
            if app.is_forked_child() {
                return;
            }
            self.after_work();
            if self.handles.control.quitting().is_some() {
                return;
            }
        }
    }

    /// To be called before the application runs ([`Self::run_jobs`] does): the listeners are given back.
    pub fn before_work(&self) {
        // Threads work while the loop waits.
        if self.config.threads == 0 {
            self.disarm_listeners(&mut self.state());
        }
    }

    /// To be called after each piece of application work ([`Self::run_jobs`] does): reads the clock, and remembers when
    /// the work was slow.
    pub fn after_work(&self) {
        let state = &mut *self.state();
        let begun = state.now;
        state.now = state.driver.now();
        if state.now.since(begun) > SLOW_CALL {
            state.slow_until = state.now.after(SLOW_CALL_MEMORY);
        }
        // A busy worker is a living one: the beat must not wait for the end of a long queue.
        self.handles.slot.beat(state.now);
    }

    /// Last step: drops what could not be dropped before, writes the access log.
    pub fn end_turn(&self) {
        self.run_deferred_drops();
        let connections = self.connections();
        self.handles.slot.set_connections(connections as u32);
        if let Some(log) = &mut *self.handles.access.borrow_mut() {
            log.flush();
        }
    }

    /// Drops buffers of finished sends. To be called where nothing is borrowed: their owners may be Python objects, so any
    /// Python may run. Once a turn; more often by whoever sends much within one call of the application.
    pub fn run_deferred_drops(&self) {
        if self.state().deferred_drops.is_empty() {
            return;
        }
        let garbage = std::mem::take(&mut self.state().deferred_drops);
        drop(garbage);
    }

    /// What is looked at once in a while: log rotation, and whether the master still lives.
    fn look_around(&self) {
        if self.handles.control.take_reopen()
            && let Some(log) = &mut *self.handles.access.borrow_mut()
            && let Err(error) = log.reopen()
        {
            self.handles.errors.log(Level::Error, format_args!("Cannot open the access log again: {error}"));
        }
        let state = &mut *self.state();
        if state.now.since(state.parent_checked) >= PARENT_CHECK_EVERY && !state.draining {
            state.parent_checked = state.now;
            if process::parent_id() != self.handles.parent {
                let pid = process::id();
                self.handles
                    .errors
                    .log(Level::Info, format_args!("Parent changed, shutting down: <Worker {pid}>"));
                self.handles.control.stop();
            }
        }
    }

    /// What every wait begins with. True: the last turn accepted a connection.
    fn begin_wait(&self, state: &mut State) -> bool {
        // Those that the last turn left for this one.
        state.turn_requests = state.jobs.len();
        state.arm_wake();
        self.arm_sibling_wakeup(state);
        std::mem::take(&mut state.just_accepted)
    }

    /// Reads the clock after a wait.
    fn tick(&self) -> clock::Instant {
        let state = &mut *self.state();
        let before = std::mem::replace(&mut state.now, state.driver.now());
        let now = state.now;
        // What ends a sleep has just come.
        if now.since(before) >= SLEPT_MIN {
            state.looked = [now; 2];
        }
        state.arrived = state.looked[0];
        state.looked = [state.looked[1], now];
        now
    }

    /// A signal has come since the last call.
    fn take_signalled(&self) -> bool {
        std::mem::take(&mut self.state().signalled)
    }

    /// Before a wait: arms the mailbox. `false`: there is mail, the wait must not last.
    fn begin_mail(&self, state: &mut State) -> bool {
        let Some(mailbox) = &self.handles.mailbox else { return true };
        if state.mail.is_none() {
            let polled = state.driver.poll(mailbox.fd(), READABLE, EventSource::Mail.token());
            state.mail = polled
                .inspect_err(|error| {
                    self.handles.errors.log(Level::Error, format_args!("Cannot poll the mailbox: {error}"));
                })
                .ok();
        }
        mailbox.begin_wait()
    }

    pub(super) fn drain_mail(&self) {
        self.state().mail = None;
        if let Some(mailbox) = &self.handles.mailbox {
            mailbox.drain();
        }
    }

    /// Does what other threads have asked for.
    fn take_mail(&self) {
        let Some(mailbox) = &self.handles.mailbox else { return };
        mailbox.end_wait();
        let tasks = mailbox.take();
        if tasks.is_empty() {
            return;
        }
        // Several answers leave together.
        self.state().turn_requests += tasks.len();
        for task in tasks {
            self.guarded("a task of a thread", || task(self));
        }
    }

    fn take_job(&self) -> Option<Job> {
        let state = &mut *self.state();
        let mut job = state.jobs.pop_front()?;
        if let Job::Call(request) = &mut job {
            request.begun = state.now;
        }
        if state.now < state.slow_until {
            state.driver.flush();
        }
        Some(job)
    }

    fn run_job<A: App>(&self, app: &A, job: Job) {
        match job {
            Job::Call(request) if self.state().leaving => self.abort(request.id),
            Job::Call(request) if self.is_abandoned(request.id, request.arrived, self.now()) => {
                self.drop_abandoned(app, &request);
            }
            Job::Call(request) => app.call(self, request),
            Job::Resume(id) => app.resume(self, id),
            Job::Abandon(id) => app.abandon(self, id),
            Job::Refused(request, status) => app.refused(self, &request, status),
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
        self.handles.errors.log(Level::Error, format_args!("Internal error while handling {what}: {text}"));
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
    match EventSource::from_token(*token)? {
        EventSource::Recv(id) | EventSource::Send(id) | EventSource::Writable(id) => Some(id),
        EventSource::Listener(_) | EventSource::Wake | EventSource::Mail | EventSource::SiblingWakeup => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;

    use super::*;
    use crate::log::ErrorLog;
    use crate::worker::conn::Conn;
    use crate::worker::{Control, WorkerConfig, WorkerHandles};
    use rgunicorn_io::driver::sim::SimConfig;
    use rgunicorn_io::sys::shared::Scoreboard;

    #[test]
    fn a_panic_over_a_completion_closes_its_connection_only() {
        let (driver, net) = Driver::sim(1, &SimConfig::default());
        let handles = WorkerHandles {
            errors: Arc::new(ErrorLog::open("/dev/null", Level::Debug).unwrap()),
            access: RefCell::new(None),
            slot: Scoreboard::new().unwrap().claim(1).unwrap(),
            control: Arc::new(Control::default()),
            mailbox: None,
            trusted: rgunicorn_settings::Networks::default(),
            parent: process::parent_id(),
            listener_guard: RefCell::new(None),
        };
        let policy = rgunicorn_http::Policy::default();
        let reactor = Reactor::new(driver, &[], None, handles, WorkerConfig::default(), policy);
        let open = |generation| {
            let (fd, peer) = net.pair();
            let conn = Conn::new(fd, generation, rgunicorn_io::driver::PeerAddr::Unix, 0, true);
            (ConnId { index: reactor.state().conns.insert(conn) as u32, generation }, peer)
        };
        let ((bad, bad_peer), (good, _)) = (open(1), open(2));
        let completion = Completion::Poll { token: EventSource::Writable(bad).token(), result: Ok(0) };
        let conn = completion_conn(&completion);
        assert_eq!(conn, Some(bad));
        assert!(!reactor.guarded("a completion", || {
            let _borrowed = reactor.state();
            panic!("{completion:?}");
        }));
        conn.into_iter().for_each(|id| reactor.close_failed(id));
        assert!(reactor.state().conn(bad).is_none() && reactor.state().conn(good).is_some());
        assert!(net.sees_end(bad_peer));
    }
}
