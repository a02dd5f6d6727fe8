//! The reactor of this thread, for Python objects that outlive a call: they may not hold it, because the collector and
//! other threads may touch them, so they hold a connection's number and ask here.

use std::cell::RefCell;
use std::rc::Rc;

use pyo3::PyResult;
use pyo3::exceptions::PyRuntimeError;

use rgunicorn_io::sys::atfork;
use rgunicorn_server::worker::Reactor;

use super::WsgiApp;
use super::link::Link;
use super::remote::RemoteResponder;

const NOT_HERE: &str = "this belongs to a request of the worker's own thread";

thread_local! {
    // The application's calls, for the greenlets of cooperative mode.
    static CALLS: RefCell<Option<Rc<WsgiApp>>> = const { RefCell::new(None) };
    // Holds a counted handle, never a pointer into a stack; and how many forks ago it was made.
    static CURRENT: RefCell<Option<(CurrentThread, u32)>> = const { RefCell::new(None) };
}

/// What requests of a thread reach their connections by.
#[derive(Clone)]
pub(super) enum CurrentThread {
    Loop(Rc<Reactor>),
    Thread(Rc<RemoteResponder>),
}

impl CurrentThread {
    pub(super) fn link(&self) -> Link<'_> {
        match self {
            Self::Loop(reactor) => Link::Loop(reactor),
            Self::Thread(remote) => Link::Thread(remote),
        }
    }
}

/// Makes `reactor` the one of this thread, for as long as the worker lives.
pub fn set_current(reactor: Rc<Reactor>) {
    CURRENT.set(Some((CurrentThread::Loop(reactor), atfork::generation())));
}

/// Makes `desk` the one of this thread, for as long as it works.
pub(super) fn set_desk(remote: Rc<RemoteResponder>) {
    CURRENT.set(Some((CurrentThread::Thread(remote), atfork::generation())));
}

/// Makes `calls` the ones of this thread, for as long as the worker lives.
pub fn set_calls(calls: Rc<WsgiApp>) {
    CALLS.set(Some(calls));
}

/// The worker is over.
pub fn clear_current() {
    CURRENT.set(None);
    let calls = CALLS.take();
    drop(calls);
}

/// The application's calls.
///
/// # Errors
/// As [`current`].
pub(super) fn calls() -> PyResult<Rc<WsgiApp>> {
    CALLS.with_borrow(Clone::clone).ok_or_else(|| PyRuntimeError::new_err(NOT_HERE))
}

/// The reactor of this thread.
///
/// # Errors
/// As [`current`], and for a thread that only has a remote.
pub(super) fn reactor() -> PyResult<Rc<Reactor>> {
    match current()? {
        CurrentThread::Loop(reactor) => Ok(reactor),
        CurrentThread::Thread(_) => Err(PyRuntimeError::new_err(NOT_HERE)),
    }
}

/// The way to the connections of this thread's requests.
///
/// # Errors
/// `RuntimeError` on a thread that is not the worker's, and in a child that the application forked: its connections
/// and rings are the parent's.
pub(super) fn current() -> PyResult<CurrentThread> {
    match CURRENT.with_borrow(Clone::clone) {
        Some((here, forks)) if forks == atfork::generation() => Ok(here),
        Some(_) => Err(PyRuntimeError::new_err("this belongs to a request of the parent process")),
        None => Err(PyRuntimeError::new_err(NOT_HERE)),
    }
}
