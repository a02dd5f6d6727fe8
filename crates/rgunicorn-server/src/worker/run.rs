//! The loop: wait, take completions out, handle them, run the application, repeat. Its steps are public: a loop from
//! outside (an event loop that the application brings) can take them in the same order, with its own work in between.
//!
//! Each step borrows the parts of the reactor once; only what runs code of others lets go of them in between.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rgunicorn_io::driver::{Completion, Driver, READABLE};
use rgunicorn_io::sys::biased::Borrowed;
use rgunicorn_io::sys::clock::{self, Instant};
use rgunicorn_io::sys::net::is_lost;
use rgunicorn_io::sys::tempfile;

use super::app::{App, ExitStatus};
use super::conn::io::ConnIo;
use super::core::Parts;
use super::event_source::{EventSource, is_external, token_of};
use super::ids::ConnId;
use super::jobs::{Job, NextJob};
use super::reactor::Reactor;
use super::relief::{LOOK_AGAIN, needs_threads};
use super::setup::STATUS_BROKEN;
use crate::log::{ErrorLog, Level, RepeatedLine};

/// Application calls between two looks at the rings. One turn of the ring delivers about 20 requests.
const JOBS_PER_TURN_MAX: usize = 32;
/// Tasks of threads, of one turn, for which memory is kept.
const TASKS_KEPT_MAX: usize = 64;
/// The name of the wait in the line of `WorkerSetup::give_up`.
pub(crate) const WAITING: &str = "Waiting for events";
/// The name of the polls of a worker's own descriptors there.
const POLLING: &str = "Polling a descriptor of the worker's own";
/// The status in the access log of a request whose client has left before its turn; nginx's number.
pub const CLIENT_CLOSED_REQUEST: u16 = 499;

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

    /// Takes turns of the loop until there is an exit status.
    fn turns<A: App>(&self, app: &A) -> i32 {
        let mut completions = Vec::new();
        loop {
            if let Err(ExitStatus(status)) = app.check_signals(self.signalled.take()) {
                return status;
            }
            let wait = match self.begin_turn(app) {
                Ok(wait) => wait,
                Err(ExitStatus(status)) => return status,
            };
            if !self.wait(app, wait, &mut completions) {
                return STATUS_BROKEN;
            }
            self.after_wait(&mut completions);
            debug_assert!(completions.is_empty(), "the driver has no other user");
            self.run_jobs(app, false);
            if app.is_forked_child() {
                return self.handles().control.quitting().unwrap_or(0);
            }
            self.end_turn();
        }
    }

    /// Takes the first step of a turn, after the signal handlers: stop requests, and what is looked at once in a while;
    /// then the step before the wait. Returns how long that may take; a loop with deadlines of its own waits less.
    ///
    /// # Errors
    /// The exit status with which the worker is to leave.
    pub fn begin_turn<A: App>(&self, app: &A) -> Result<Duration, ExitStatus> {
        let control = &self.handles().control;
        // A signal handler may have forked, too.
        if app.is_forked_child() {
            return Err(ExitStatus(control.quitting().unwrap_or(0)));
        }
        if let Some(status) = control.quitting() {
            return Err(ExitStatus(status));
        }
        if control.take_reopen() {
            self.handles().reopen_access_log();
        }
        let mut core = self.core();
        if needs_threads(&core.parts(&self.setup).io) {
            drop(core);
            self.relieve_threads(app);
            core = self.core();
        }
        core.conns.elsewhere_bytes = app.waiting_bytes();
        let mut parts = core.parts(&self.setup);
        let Parts { lifecycle, acceptor, handoff, spread, io, .. } = &mut parts;
        lifecycle.watch_parent(io);
        if let Some(error) = handoff.take_refusal() {
            self.setup.cannot_give(&error, io.turn.now());
        }
        if control.stopping() {
            lifecycle.drain(acceptor, handoff, io);
        } else {
            spread.begin_turn(acceptor, handoff, io);
        }
        if lifecycle.is_over(io.turn.now(), io.conns.is_idle()) {
            return Err(ExitStatus(self.setup.status_at_end.get()));
        }
        Ok(self.arm(&mut parts))
    }

    /// Takes the step before the wait by itself: arms the listeners and the polls of signals and mail. For a loop that
    /// goes on although the worker is to leave. Returns how long the wait may take.
    pub fn before_wait(&self) -> Duration {
        self.arm(&mut self.core().parts(&self.setup))
    }

    fn arm(&self, parts: &mut Parts<'_>) -> Duration {
        let Parts { acceptor, io, wakes, .. } = parts;
        let polls = wakes.begin_wait(io.turn.now());
        io.end_stalls();
        acceptor.begin_wait(io, polls);
        io.driver.set_held(io.conns.late_bytes());
        // Those that the last turn left for this one.
        io.turn.begin(io.conns.jobs());
        if polls {
            wakes.arm_signals(io.driver);
        }
        let has_mail = self.mailbox().is_some_and(|mailbox| {
            if polls && let Err(error) = wakes.arm_mail(io.driver, mailbox.fd()) {
                io.log(
                    RepeatedLine::DriverRefused,
                    Level::Error,
                    format_args!("Cannot poll the mailbox: {error}"),
                );
            }
            !mailbox.begin_wait()
        });
        // After an accept among siblings only a look: the listeners are not armed.
        let look_only = acceptor.takes_look_only();
        if has_mail || look_only { Duration::ZERO } else { wait_time(parts) }
    }

    /// Returns the driver, for operations with [`super::EXTERNAL`] tokens. To be let go of before any other method is
    /// called.
    pub fn driver(&self) -> Borrowed<'_, Driver> {
        self.core().map(|core| &mut core.driver)
    }

    /// Takes the second step, the wait. The parts are borrowed while the interpreter lock is released: other
    /// threads cannot reach them, because they belong to this thread. `false`: the driver is of no use any more, and
    /// the worker must leave.
    #[must_use = "without a driver there are no further turns"]
    pub fn wait<A: App>(&self, app: &A, wait: Duration, completions: &mut Vec<Completion>) -> bool {
        let driver = &mut *self.driver();
        let mut result = Ok(());
        if wait.is_zero() {
            result = driver.wait(Some(wait), completions);
        } else {
            app.blocking(&mut || result = driver.wait(Some(wait), completions));
        }
        result.inspect_err(|error| self.give_up(WAITING, error)).is_ok()
    }

    /// Makes the worker leave because of an error that will not pass: see `WorkerSetup::give_up`.
    pub fn give_up(&self, what: &str, error: &io::Error) {
        self.setup.give_up(what, error);
    }

    /// Tells whether [`Self::give_up`] was called: no answer can leave any more.
    pub fn is_broken(&self) -> bool {
        self.setup.is_broken.get()
    }

    /// Takes the third step: handles what has completed, and deadlines. Completions of operations with
    /// [`super::EXTERNAL`] tokens stay in the list, in their order.
    pub fn after_wait(&self, completions: &mut Vec<Completion>) {
        let mut core = self.core();
        let now = core.driver.now();
        core.turn.end_wait(now);
        self.handles().slot.beat(now);
        let mut tasks = Vec::new();
        if let Some(mailbox) = self.mailbox() {
            tasks = self.tasks.take();
            mailbox.end_wait(&mut tasks);
        }
        // Several answers leave together.
        core.turn.add_requests(tasks.len());
        let mut parts = core.parts(&self.setup);
        if parts.io.conns.has_late() {
            parts.handle_late(self);
        }
        for completion in completions.extract_if(.., |completion| !is_external(completion)) {
            if parts.io.puts_off(&completion) {
                parts.io.conns.push_late(completion);
            } else {
                parts.handle(self, completion);
            }
        }
        // Behind them, for a task may take a connection over, with all that has been received.
        if !tasks.is_empty() {
            drop(core);
            for task in tasks.drain(..) {
                guarded(&self.handles().errors, "a task of a thread", || task(self));
            }
            tasks.shrink_to(TASKS_KEPT_MAX);
            core = self.core();
        }
        self.tasks.set(tasks);
        let parts = core.parts(&self.setup);
        let Parts { acceptor, mut io, .. } = parts;
        if acceptor.is_woken() {
            guarded(&self.handles().errors, "new connections", || acceptor.take_woken(&mut io));
        }
        io.pause_full();
        io.expire_timers();
        // For the record.
        io.turn.handling.is_over(|| io.driver.now());
    }

    /// Takes the fourth step: runs the application for the jobs at hand, or as many of them as one turn may. New
    /// requests come first, then those that go on, of which there is one at least. `late`: other work has been done
    /// since the wait, so the clock is looked at first.
    pub fn run_jobs<A: App>(&self, app: &A, late: bool) {
        for done in 0.. {
            let Some(job) = self.next_job(done, late) else { return };
            let id = job.id();
            if !guarded(&self.handles().errors, "a request", || self.run_job(app, job)) {
                close_failed(&mut self.core().parts(&self.setup).io, id.conn);
                // What the application keeps of that response is of no use any more.
                guarded(&self.handles().errors, "a failed request", || app.abandon(self, id));
            }
            if app.is_forked_child() {
                return;
            }
        }
    }

    /// Prepares for application work ([`Self::run_jobs`] does so itself): gives the listeners back.
    pub fn before_work(&self) {
        let mut core = self.core();
        let Parts { acceptor, mut io, .. } = core.parts(&self.setup);
        acceptor.begin_work(&mut io);
        io.turn.note_work(None);
        drop(core);
        self.wake_helper();
    }

    /// Ends a piece of application work ([`Self::run_jobs`] does so itself): reads the clock, and remembers
    /// when the work was slow.
    pub fn after_work(&self) {
        self.core().parts(&self.setup).io.end_work();
    }

    /// Takes the last step: drops what could not be dropped before, writes the access log.
    pub fn end_turn(&self) {
        let mut core = self.core();
        if core.memory.has_deferred_drops() {
            let drops = core.memory.take_deferred_drops();
            drop(core);
            drop(drops);
            core = self.core();
        }
        let connections = core.conns.len();
        core.acceptor.report(&self.handles().slot, connections);
        drop(core);
        if let Some(error) = tempfile::take_directory_error() {
            let (dir, most) = (std::env::temp_dir(), tempfile::MEMORY_FILES_BYTES_MAX >> 20);
            self.handles().errors.log(
                Level::Warning,
                format_args!(
                    "Cannot write to the temporary directory {}: {error}; what belongs there is kept in memory, at \
                     most {most} MiB in each worker",
                    dir.display()
                ),
            );
        }
        self.handles().flush_logs();
    }

    /// Drops buffers of finished sends. To be called where nothing is borrowed: their owners may be Python
    /// objects, so any Python may run. Once a turn; more often by a caller that sends much within one call of
    /// the application.
    pub fn run_deferred_drops(&self) {
        let drops = self.core().memory.take_deferred_drops();
        drop(drops);
    }

    /// Leaves with this turn or soon: no further request is begun, nothing is accepted. What is in progress
    /// may still be ended by the caller of a turn's steps.
    pub fn leave(&self) {
        let core = &mut *self.core();
        let Parts { lifecycle, acceptor, handoff, mut io, .. } = core.parts(&self.setup);
        lifecycle.drain(acceptor, handoff, &mut io);
        lifecycle.begin_leave();
        handoff.pause();
        self.handles().control.set_handoff(false);
    }
}

/// Parts of the steps.
impl Reactor {
    /// Ends a piece of application work, unless this turn has `done` none, and begins the next, if there is
    /// one and this turn may have more.
    fn next_job(&self, done: usize, late: bool) -> Option<NextJob> {
        let mut core = self.core();
        let Parts { lifecycle, acceptor, mut io, .. } = core.parts(&self.setup);
        let mut over = false;
        if done > 0 {
            io.end_work();
            if self.handles().control.quitting().is_some() {
                return None;
            }
            over = done >= JOBS_PER_TURN_MAX || io.turn.has_worked_long();
        } else if io.conns.jobs() > 0 {
            if late {
                io.turn.look_at_clock(io.driver.now());
            }
            io.turn.begin_work();
            acceptor.begin_work(&mut io);
        }
        let next = io.next_job(lifecycle.is_leaving(), over)?;
        io.turn.note_work(Some(next.id().conn));
        drop(core);
        if done == 0 {
            self.wake_helper();
        }
        Some(next)
    }

    /// Runs the application for a job.
    fn run_job<A: App>(&self, app: &A, next: NextJob) {
        match next {
            NextJob::Abort(id) => self.abort(id),
            // Nothing is left of it but a record of the access log.
            NextJob::Drop(request) => {
                let id = request.id;
                app.refused(self, request, CLIENT_CLOSED_REQUEST);
                self.abort(id);
            }
            NextJob::Run(Job::Call(request)) => app.call(self, request),
            NextJob::Run(Job::Resume(id)) => app.resume(self, id),
            NextJob::Run(Job::Abandon(id)) => app.abandon(self, id),
            NextJob::Run(Job::Refused(request, status)) => app.refused(self, request, status),
        }
    }
}

/// The parts that completions are for.
impl Parts<'_> {
    /// Handles the completions that earlier turns have put off, as many as this one may.
    fn handle_late(&mut self, reactor: &Reactor) {
        while self.io.conns.has_late() && !self.io.turn.handling.is_over(|| self.io.driver.now()) {
            let Some(completion) = self.io.conns.pop_late() else { return };
            self.io.turn.handling.count(&completion);
            self.handle(reactor, completion);
        }
    }

    /// Handles one completion. Nothing in here reaches the application; a panic ends its connection only.
    #[inline]
    fn handle(&mut self, reactor: &Reactor, completion: Completion) {
        let source = token_of(&completion).and_then(EventSource::from_token);
        let fine = guarded(&reactor.handles().errors, "a completion", || match (source, completion) {
            (Some(EventSource::Recv(id)), Completion::Recv { outcome, .. }) => self.io.on_recv(id, outcome),
            (Some(EventSource::Send(id)), Completion::Sent { result, buf, .. }) => {
                self.io.on_sent(id, result, buf);
            }
            (Some(EventSource::Writable(id)), Completion::Poll { .. }) => self.io.on_writable(id),
            (Some(EventSource::Listener(index)), Completion::Poll { result, .. }) => {
                self.acceptor.on_acceptable(&mut self.io, index, &result);
            }
            (
                Some(source @ (EventSource::SiblingWakeup | EventSource::Wake | EventSource::Mail)),
                Completion::Poll { result, .. },
            ) => self.on_own_poll(reactor, source, result),
            (_, Completion::Orphan { buf }) => self.io.memory.defer_drop(buf),
            (_, completion) => debug_assert!(false, "{completion:?}"),
        });
        if let (false, Some(id)) = (fine, source.and_then(EventSource::conn)) {
            close_failed(&mut self.io, id);
        }
    }

    /// Handles the end of a poll of one of the worker's own descriptors, which is emptied then. Where that fails, it
    /// would end in each turn, and the loop would never sleep: it is polled again after a pause; and what fails for
    /// long, or is of no use any more, is not waited for.
    fn on_own_poll(&mut self, reactor: &Reactor, source: EventSource, result: io::Result<u32>) {
        let Parts { acceptor, wakes, io, .. } = self;
        let (board, now) = (reactor.handles().slot.board(), io.turn.now());
        let is_lost = is_gone(&result);
        let emptied = match source {
            EventSource::SiblingWakeup => acceptor.on_sibling_wakeup(board, now),
            EventSource::Mail => {
                wakes.end_mail_poll();
                reactor.mailbox().map_or(Ok(()), |mailbox| mailbox.drain())
            }
            _ => wakes.drain_signals(),
        };
        if source == EventSource::Wake {
            reactor.signalled.set(true);
        }
        match result.and(emptied) {
            Ok(()) if is_lost => reactor.give_up(POLLING, &io::ErrorKind::BrokenPipe.into()),
            Ok(()) => wakes.end_failures(),
            Err(error) if is_lost => reactor.give_up(POLLING, &error),
            Err(error) if wakes.note_failure(now) => reactor.setup.retire(POLLING, &error),
            Err(error) => io.log(
                RepeatedLine::DriverRefused,
                Level::Warning,
                format_args!("Cannot poll a descriptor of the worker's own for the moment: {error}"),
            ),
        }
    }
}

/// Does some work. A panic ends it with a log line, never the worker: the driver owns the memory of
/// everything in flight. `false`: it panicked.
fn guarded(errors: &ErrorLog, what: &str, work: impl FnOnce()) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(work)) else {
        return true;
    };
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    errors.repeated(
        RepeatedLine::Panic,
        Level::Error,
        clock::now(),
        format_args!("Internal error while handling {what}: {text}"),
    );
    false
}

/// Closes a connection whose work has panicked: no answer would follow any more.
fn close_failed(io: &mut ConnIo<'_>, id: ConnId) {
    guarded(&io.setup.handles.errors, "a failed connection", || io.close(id));
}

/// Tells whether a poll of one of the worker's own descriptors says that it will never be of use again: it is none any
/// more, or no writer is left.
fn is_gone(result: &io::Result<u32>) -> bool {
    match result {
        Ok(mask) => mask & READABLE == 0,
        Err(error) => is_lost(error),
    }
}

/// Tells how long the next wait may take.
#[inline]
fn wait_time(parts: &Parts<'_>) -> Duration {
    let Parts { lifecycle, acceptor, io, wakes, handoff, spread } = parts;
    if io.conns.jobs() > 0
        || io.conns.has_late()
        || io.memory.has_deferred_drops()
        || lifecycle.ends_wait(io.conns.is_idle())
    {
        return Duration::ZERO;
    }
    let mut nearest = io.turn.now().after(io.setup.config.idle_wait_max);
    let [paused_until, next_check] = acceptor.deadlines();
    let (retry, give) = (wakes.paused_until(), handoff.retry_at());
    let deadline = io.conns.next_deadline(&io.setup.config);
    let of_life = if io.draining { lifecycle.deadline() } else { spread.next_look() };
    let mut no_later = |at: Option<Instant>| nearest = nearest.min(at.unwrap_or(nearest));
    no_later(deadline);
    no_later(of_life);
    no_later(paused_until);
    no_later(next_check);
    no_later(retry);
    no_later(give);
    if needs_threads(io) {
        let look = if handoff.has_idle_siblings() { LOOK_AGAIN } else { io.setup.config.handoff.after };
        nearest = nearest.min(io.turn.now().after(look));
    }
    nearest.since(io.turn.now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::config::WorkerConfig;
    use crate::worker::conn::io::fixture::of_fd;
    use crate::worker::reactor::WakeSources;
    use crate::worker::setup::WorkerSetup;
    use rgunicorn_io::driver::sim::SimConfig;

    #[test]
    fn a_panic_over_a_completion_closes_its_connection_only() {
        let (driver, net) = Driver::sim(1, &SimConfig::default());
        let WorkerSetup { handles, config, policy, .. } = WorkerSetup::fixture(WorkerConfig::default());
        let reactor = Reactor::new(driver, &[], WakeSources::default(), handles, config, policy);
        let open = || {
            let (fd, peer) = net.pair();
            (reactor.core().conns.insert(of_fd(fd)), peer)
        };
        let ((bad, bad_peer), (good, _)) = (open(), open());
        let completion = Completion::Poll { token: EventSource::Writable(bad).token(), result: Ok(0) };
        let conn = token_of(&completion).and_then(EventSource::from_token).and_then(EventSource::conn);
        assert_eq!(conn, Some(bad));
        {
            let core = &mut *reactor.core();
            let io = &mut core.parts(&reactor.setup).io;
            assert!(!guarded(&reactor.handles().errors, "a completion", || {
                let _borrowed = &io;
                panic!("{completion:?}");
            }));
            conn.into_iter().for_each(|id| close_failed(io, id));
        }
        let core = &mut *reactor.core();
        assert!(core.conns.get(bad).is_none() && core.conns.get(good).is_some());
        assert!(net.sees_end(bad_peer));
    }
}
