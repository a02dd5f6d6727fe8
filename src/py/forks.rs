//! Forks by the application, and by hooks: their children are programs of their own, with the dispositions that Python
//! starts with. A handler of the server's would swallow the TERM by which `multiprocessing` ends a process.
//!
//! Signals are kept back around the fork. Else one that comes to the child before its dispositions stand would be noted
//! by the inherited handler, and forgotten: Python begins a child without pending signals.

use std::cell::RefCell;
use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

use rgunicorn_io::sys::signal::{self, Blocked, Signal};
use rgunicorn_io::sys::waker;

thread_local! {
    /// The signals that this thread keeps back, by each of the pairs of functions below.
    static KEPT_BACK: RefCell<Vec<Option<Blocked>>> = const { RefCell::new(Vec::new()) };
}

/// A handler of the server's.
pub(super) struct Installed {
    pub(super) signal: Signal,
    pub(super) handler: Py<PyAny>,
}

/// Takes the worker's signal handlers, as far as they are still in place, and its wake-up descriptor away from children
/// that it forks.
///
/// # Errors
/// Those of `os.register_at_fork`.
pub(super) fn leave_worker_handlers(
    py: Python<'_>,
    installed: Vec<Installed>,
    wakeup: RawFd,
) -> PyResult<()> {
    let signals = installed.iter().map(|one| one.signal).collect();
    around_forks(py, signals, move |py| {
        let signal = py.import("signal")?;
        for Installed { signal: Signal(number), handler } in &installed {
            // A gevent program may watch it: its loop goes on in the child.
            if waker::is_watched(*number) || !signal.call_method1("getsignal", (number,))?.is(handler) {
                continue;
            }
            let default = if Signal(*number) == Signal::INT { "default_int_handler" } else { "SIG_DFL" };
            signal.call_method1("signal", (number, signal.getattr(default)?))?;
        }
        let former: RawFd = signal.call_method1("set_wakeup_fd", (-1,))?.extract()?;
        if former != wakeup {
            signal.call_method1("set_wakeup_fd", (former,))?;
        }
        Ok(())
    })
}

/// Takes the master's signal handlers away from children that its hooks fork. Those that it forks itself, workers and
/// new masters, have all signals blocked until their own handlers stand.
///
/// # Errors
/// Those of `os.register_at_fork`.
pub fn leave_master_handlers(py: Python<'_>, signals: &[Signal]) -> PyResult<()> {
    around_forks(py, signals.to_vec(), |_| {
        signal::leave_queue_in_child();
        Ok(())
    })
}

/// Registers what is done around each `os.fork`: `signals` are blocked, and the child does `in_child` before it gets
/// any.
fn around_forks(
    py: Python<'_>,
    signals: Vec<Signal>,
    in_child: impl Fn(Python<'_>) -> PyResult<()> + Send + Sync + 'static,
) -> PyResult<()> {
    let kwargs = PyDict::new(py);
    let block = move |_: Python<'_>| {
        let blocked = signal::block(&signals).ok();
        KEPT_BACK.with_borrow_mut(|kept| kept.push(blocked));
        Ok(())
    };
    kwargs.set_item("before", function(py, c"keep_signals_back", block)?)?;
    kwargs.set_item(
        "after_in_parent",
        function(py, c"let_signals_come", |_| {
            unblock();
            Ok(())
        })?,
    )?;
    let leave = move |py: Python<'_>| {
        let done = in_child(py);
        unblock();
        done
    };
    kwargs.set_item("after_in_child", function(py, c"leave_server_handlers", leave)?)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&kwargs)).map(drop)
}

/// Lets the signals come that the last call of a `before` has kept back.
fn unblock() {
    let blocked = KEPT_BACK.with_borrow_mut(Vec::pop);
    drop(blocked);
}

fn function<'py>(
    py: Python<'py>,
    name: &'static std::ffi::CStr,
    act: impl Fn(Python<'_>) -> PyResult<()> + Send + Sync + 'static,
) -> PyResult<Bound<'py, PyCFunction>> {
    PyCFunction::new_closure(
        py,
        Some(name),
        Some(c"Called around a fork."),
        move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| act(args.py()),
    )
}
