//! The parts of a worker that stay the same for its whole life.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use crate::log::{AccessLog, ErrorLog, Level, RepeatedLine};
use rgunicorn_http::Policy;
use rgunicorn_io::driver::Driver;
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::handoff::HandoffEnds;
use rgunicorn_io::sys::net::is_shortage;
use rgunicorn_io::sys::shared::Slot;
use rgunicorn_settings::Networks;

use super::config::WorkerConfig;
use super::conn::body::MakeBodyMemory;
use super::control::Control;
use super::failing::Failing;

/// Exit status of a worker that cannot go on: its driver, or a descriptor that it cannot do without, is gone.
pub(crate) const STATUS_BROKEN: i32 = 1;

/// A listening socket as the worker gets it.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// The socket; owned by the arbiter's side, open for the worker's whole life.
    pub fd: RawFd,
    /// A unix socket: its peers are always trusted.
    pub unix: bool,
    /// Other workers accept from it, too. Not so with a socket of this worker's own (`reuse_port`).
    pub shared: bool,
    /// A number by which all workers of a server know its address.
    pub key: u64,
}

/// Handles that the worker shares with the floors above and below: logs, score-board slot, control.
pub struct WorkerHandles {
    /// Error log.
    pub errors: Arc<ErrorLog>,
    /// The access log, if switched on. Taken out while a record is rendered, because rendering may run Python.
    pub access: RefCell<Option<AccessLog>>,
    /// This worker's score-board slot.
    pub slot: Slot,
    /// Stop and quit requests.
    pub control: Arc<Control>,
    /// Peers that are trusted proxies.
    pub trusted: Networks,
    /// The master: when this is no longer our parent, the worker leaves.
    pub parent: i32,
    /// The owner of the listening sockets. Let go of when the worker begins to leave: a client that connects after that
    /// must go to another worker or be refused, and not wait in vain.
    pub listener_guard: RefCell<Option<Box<dyn std::any::Any>>>,
    /// The handoff queue, if there is one: connections of other workers come out of it.
    pub handoff: Option<HandoffEnds>,
    /// Memory of the application's for bodies that come at once, if this thread may make it.
    pub make_body_memory: Option<MakeBodyMemory>,
}

/// The way to count requests; for any thread.
#[derive(Clone, Copy, Debug)]
pub struct RequestCount {
    /// See [`WorkerConfig`].
    pub requests_max: u64,
    /// See [`WorkerConfig`].
    pub shares_listeners: bool,
}

impl RequestCount {
    /// Counts a request that is about to run. At the limit (`max_requests`) the worker begins to leave, and this is the
    /// last turn that accepts: the request is answered, with `Connection: close` if no sibling can have the connection.
    /// While another worker is being replaced for that reason it goes on, and asks again at its next request.
    pub fn add(self, slot: &Slot, control: &Control, errors: &ErrorLog) {
        let count = slot.add_request();
        let limit = self.requests_max;
        if limit != 0 && count >= limit && !control.stopping() && slot.begin_recycling() {
            errors.info(format_args!("Autorestarting worker after current request."));
            if self.shares_listeners {
                slot.mark_replaced();
            }
            if !slot.has_sibling() {
                // The only worker: what the answer says must not depend on how far its successor is by then.
                control.set_handoff(false);
            }
            control.stop();
        }
    }
}

/// Handles, numbers and rules that every part of the reactor may look at.
pub(crate) struct WorkerSetup {
    pub(crate) handles: WorkerHandles,
    pub(crate) config: WorkerConfig,
    /// Which requests are acceptable.
    pub(crate) policy: Policy,
    /// See [`WorkerSetup::give_up`].
    pub(crate) is_broken: Cell<bool>,
    /// The exit status of a worker that has nothing left to do; see [`WorkerSetup::retire`].
    pub(crate) status_at_end: Cell<i32>,
    /// For how long no socket has been of use.
    sockets_failing: Cell<Failing>,
}

impl WorkerSetup {
    /// Puts the parts together, of a worker in good health.
    pub(crate) fn new(handles: WorkerHandles, config: WorkerConfig, policy: Policy) -> Self {
        let (is_broken, status_at_end, sockets_failing) = Default::default();
        Self { handles, config, policy, is_broken, status_at_end, sockets_failing }
    }

    /// Goes on after an error that is strange for a connection: if it is none of that connection alone, this process
    /// cannot send or receive any more, and would take connections only to drop them.
    pub(crate) fn doubt_sockets(&self, driver: &Driver, now: Instant) {
        let mut failing = self.sockets_failing.get();
        match driver.try_sockets() {
            Ok(()) => failing.end(),
            Err(error) if failing.note(now) || !is_shortage(&error) => {
                self.give_up("Sending and receiving", &error);
            }
            Err(_) => {}
        }
        self.sockets_failing.set(failing);
    }

    /// Gives nothing any more, and says so: the kernel does not let it pass.
    pub(crate) fn cannot_give(&self, error: &io::Error, now: Instant) {
        self.handles.control.set_handoff(false);
        self.handles.errors.repeated(
            RepeatedLine::Handoff,
            Level::Warning,
            now,
            format_args!("Cannot give connections to other workers, they end with this one: {error}"),
        );
    }

    /// Says that requests will wait for an application that works for long.
    pub(crate) fn cannot_relieve(&self, error: &io::Error) {
        self.handles.errors.warning(format_args!(
            "Cannot give connections to other workers while the application works: {error}"
        ));
    }

    /// Tells whether the worker is willing to keep connections open at this moment.
    pub(crate) fn keeps_alive(&self) -> bool {
        !self.config.close_always
            && self.config.keepalive > Duration::ZERO
            && !self.handles.control.closes_connections()
    }

    /// Makes the worker leave at once, with one line and status 1, because of an error that will not pass: the
    /// application has closed a descriptor that was not its own, or the kernel allows no more what it allowed at the
    /// start. What was in flight is lost with the driver, so there is nothing to wait for; the worker that the master
    /// puts in this one's place finds out afresh which driver works.
    pub(crate) fn give_up(&self, what: &str, error: &io::Error) {
        if !self.is_broken.replace(true) {
            // The log's descriptor may be among those that the application has closed.
            let _ = self.handles.errors.reopen();
            self.handles.errors.critical(format_args!("{what} failed for good, the worker leaves: {error}"));
        }
        self.handles.control.quit(STATUS_BROKEN);
    }

    /// Makes the worker leave, with one line and status 1, because of an error that another process may not have. Its
    /// driver and its connections are fine: what is in progress is answered first.
    pub(crate) fn retire(&self, what: &str, error: &io::Error) {
        if self.status_at_end.replace(STATUS_BROKEN) == 0 {
            self.handles.errors.critical(format_args!("{what} failed for good, the worker leaves: {error}"));
        }
        self.handles.control.stop();
    }

    /// Tells whether [`Self::retire`] was called.
    pub(crate) fn retires(&self) -> bool {
        self.status_at_end.get() != 0
    }

    /// Writes a line for those who look for a fault, as often as it comes.
    pub(crate) fn debug(&self, line: fmt::Arguments<'_>) {
        self.handles.errors.debug(line);
    }
}

#[cfg(test)]
impl WorkerSetup {
    /// Makes one for tests: the only worker of its board, whose logs go nowhere.
    pub(crate) fn fixture(config: WorkerConfig) -> Self {
        let board = rgunicorn_io::sys::shared::Scoreboard::new().unwrap();
        board.set_workers(1);
        let handles = WorkerHandles {
            errors: Arc::new(ErrorLog::open("/dev/null", Level::Debug).unwrap()),
            access: RefCell::new(None),
            slot: board.claim(1).unwrap(),
            control: Arc::new(Control::default()),
            trusted: Networks::default(),
            parent: rgunicorn_io::sys::process::parent_id(),
            listener_guard: RefCell::new(None),
            handoff: None,
            make_body_memory: None,
        };
        Self::new(handles, config, Policy::default())
    }
}
