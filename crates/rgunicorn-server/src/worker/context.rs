//! The parts of a worker that stay the same for its whole life.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::sync::Arc;

use crate::log::{AccessLog, ErrorLog};
use rgunicorn_io::sys::shared::Slot;
use rgunicorn_settings::Networks;

use super::control::Control;

/// A listening socket as the worker gets it.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// The socket; owned by the arbiter's side, open for the worker's whole life.
    pub fd: RawFd,
    /// A unix socket: its peers are always trusted.
    pub unix: bool,
    /// Other workers accept from it, too. Not so with a socket of this worker's own (`reuse_port`).
    pub shared: bool,
}

/// What the worker shares with the floors above and below: logs, score-board slot, control.
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
    /// What keeps the listening sockets open. Let go of when the worker begins to leave: who connects after that must go
    /// to another worker or be refused, and not wait for nobody.
    pub listener_guard: RefCell<Option<Box<dyn std::any::Any>>>,
}

/// How requests are counted; for any thread.
#[derive(Clone, Copy, Debug)]
pub struct RequestCount {
    /// See [`WorkerConfig`].
    pub requests_max: u64,
    /// See [`WorkerConfig`].
    pub shares_listeners: bool,
}

impl RequestCount {
    /// See [`Reactor::count_request`].
    pub fn add(self, slot: &Slot, control: &Control, errors: &ErrorLog) {
        let count = slot.add_request();
        let limit = self.requests_max;
        if limit != 0 && count >= limit && !control.stopping() && slot.begin_recycling() {
            errors.info(format_args!("Autorestarting worker after current request."));
            if self.shares_listeners {
                slot.mark_replaced();
            }
            control.stop();
        }
    }
}
