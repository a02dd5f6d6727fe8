//! The reactor as a source of events in a loop from outside: an event loop that the application brings takes the steps
//! of `run` within its own turns. The steps are named after GLib's: prepare, check, dispatch.
//!
//! One driver serves both. The loop does the waiting, and starts its own operations with [`super::EXTERNAL`] tokens.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use rgunicorn_io::driver::{Completion, Driver};
use rgunicorn_io::sys::biased::Borrowed;

use super::app::{App, ExitStatus};
use super::reactor::Reactor;
use super::run::WAITING;

/// A source of events that shares a loop's driver and its turns. The loop knows no more of it than this.
///
/// Every method is called on the loop's thread with nothing of the loop borrowed. The methods of one turn are called in
/// the order in which they stand here; those about work, before each piece of it that is the loop's own.
pub trait LoopSource {
    /// Borrows the driver that both use. The borrow ends before another method is called.
    fn driver(&self) -> Borrowed<'_, Driver>;

    /// Returns whether the source still wants turns. If not, nothing but its driver is used.
    fn is_serving(&self) -> bool;

    /// Gives the listeners back: the loop is about to run code of the application, which takes its time.
    fn before_work(&self);

    /// Reads the clock and beats: the loop has run code of the application for a while, and goes on with it.
    fn after_work(&self);

    /// Prepares a wait and returns how long it may take, as far as the source is concerned. May run Python, and may
    /// switch to another greenlet for good: the worker's end begins here.
    fn prepare(&self) -> Duration;

    /// Handles what a wait has completed: takes the source's completions out, leaves the loop's in their order. Runs
    /// nothing of the application.
    fn check(&self, completions: &mut Vec<Completion>);

    /// Learns that the driver is of no use any more: the wait has failed. The source is over, and the loop as well.
    fn wait_failed(&self, error: &io::Error);

    /// Runs the application for what has become ready.
    fn dispatch(&self);
}

/// The side of the loop: what a [`WorkerSource`] asks for, with nothing borrowed.
pub trait SourceHost {
    /// Does what is due once a turn, before the reactor looks for requests to stop.
    fn begin_turn(&self);

    /// Leaves the loop: [`WorkerSource::status`] has a value from now on. When it comes back, turns go on until
    /// [`WorkerSource::end`], so that what is in progress can be ended, but the reactor is not asked to leave again.
    fn leave(&self);
}

/// A worker's reactor and its application as a [`LoopSource`].
pub struct WorkerSource<A, H> {
    reactor: Rc<Reactor>,
    app: Rc<A>,
    host: H,
    /// The worker leaves with this status; what is in progress is being ended.
    status: Cell<Option<i32>>,
    /// That is done, too.
    is_over: Cell<bool>,
}

impl<A: App, H: SourceHost> WorkerSource<A, H> {
    /// Makes the source of a worker that is ready to serve.
    pub fn new(reactor: Rc<Reactor>, app: Rc<A>, host: H) -> Self {
        Self { reactor, app, host, status: Cell::new(None), is_over: Cell::new(false) }
    }

    /// Returns the status with which the worker leaves, as soon as it is to leave.
    pub fn status(&self) -> Option<i32> {
        self.status.get()
    }

    /// Sets the status with which the worker leaves, when the reason is not the reactor's.
    pub fn set_status(&self, status: i32) {
        self.status.set(Some(status));
    }

    /// Ends the source: the loop turns without it from now on.
    pub fn end(&self) {
        self.is_over.set(true);
    }
}

impl<A: App, H: SourceHost> LoopSource for WorkerSource<A, H> {
    fn driver(&self) -> Borrowed<'_, Driver> {
        self.reactor.driver()
    }

    fn is_serving(&self) -> bool {
        !self.is_over.get() && !self.app.is_forked_child()
    }

    fn before_work(&self) {
        self.reactor.before_work();
    }

    fn after_work(&self) {
        self.reactor.after_work();
    }

    fn prepare(&self) -> Duration {
        self.host.begin_turn();
        if self.status.get().is_none() {
            let status = match self.reactor.begin_turn(&*self.app) {
                Ok(wait) => return wait,
                Err(ExitStatus(status)) => status,
            };
            self.status.set(Some(status));
            self.host.leave();
        }
        // The end may have come while another greenlet ran, or a child.
        if self.is_serving() { self.reactor.before_wait() } else { Duration::ZERO }
    }

    fn check(&self, completions: &mut Vec<Completion>) {
        self.reactor.after_wait(completions);
    }

    fn wait_failed(&self, error: &io::Error) {
        self.reactor.give_up(WAITING, error);
    }

    fn dispatch(&self) {
        // The loop may have done other work since the wait.
        self.reactor.run_jobs(&*self.app, true);
        if !self.app.is_forked_child() {
            self.reactor.end_turn();
        }
    }
}
