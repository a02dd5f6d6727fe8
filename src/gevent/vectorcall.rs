//! The hot methods, without the cost of pyo3's way in (`py/vectorcall.rs`). Each does what the method of the same name
//! does.
//!
//! pyo3 does not know that the interpreter lock is held in here: a `Py` that is dropped would be kept, and let go of
//! the next time that a call enters pyo3, be it at the end of a wait, where the driver is borrowed. So objects are let
//! go of as `Bound` or by `drop_ref`, always.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use crate::py::{Args, FastMethod, MethodPair, assert_no_borrow, install_vectorcall_method};

use super::state::LoopState;
use super::types::{Loop, Watcher};
use super::watcher_state::{WatcherKind, WatcherState};
use super::watchers::{Io, Timer};

/// The class of this package, and the place for the two methods, one for each implementation.
macro_rules! ordinary {
    () => {
        fn class(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
            Ok(py.get_type::<Self::Class>())
        }

        fn pair() -> &'static PyOnceLock<MethodPair> {
            static PAIR: PyOnceLock<MethodPair> = PyOnceLock::new();
            &PAIR
        }
    };
}

/// Installs the methods. Once in a process.
///
/// # Errors
/// Those of changing the classes.
pub fn install_vectorcall(py: Python<'_>) -> PyResult<()> {
    install_vectorcall_method::<RunCallback>(py)?;
    install_vectorcall_method::<StartTimer>(py)?;
    install_vectorcall_method::<StartIo>(py)?;
    install_vectorcall_method::<Stop>(py)?;
    install_vectorcall_method::<Close>(py)
}

/// `Loop.run_callback(func, *args)`
struct RunCallback;

impl FastMethod for RunCallback {
    type Class = Loop;
    const NAME: &'static str = "run_callback";

    ordinary!();

    fn call<'py>(this: &Bound<'py, Loop>, args: Args<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(function) = args.get(0) else { return Ok(None) };
        Ok(Some(this.get().enqueue(function, args.rest(1)?)?.into_any()))
    }
}

/// `timer.start(callback, *args)`
struct StartTimer;

impl FastMethod for StartTimer {
    type Class = Timer;
    const NAME: &'static str = "start";

    ordinary!();

    fn call<'py>(this: &Bound<'py, Timer>, args: Args<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        start(this.as_super(), args, |state, _| {
            if state.in_callbacks {
                state.update_now();
            }
        })
    }
}

/// `io.start(callback, *args)`
struct StartIo;

impl FastMethod for StartIo {
    type Class = Io;
    const NAME: &'static str = "start";

    ordinary!();

    fn call<'py>(this: &Bound<'py, Io>, args: Args<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        start(this.as_super(), args, |_, inner| {
            if let WatcherKind::Io(io) = &mut inner.kind {
                io.begin(false);
            }
        })
    }
}

/// Starts a watcher for which no more is to be done than `prepare`. `None` for everything that fails.
fn start<'py>(
    watcher: &Bound<'py, Watcher>,
    args: Args<'_, 'py>,
    prepare: impl FnOnce(&mut LoopState<Watcher>, &mut WatcherState),
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(callback) = args.get(0).filter(|callback| callback.is_callable()) else { return Ok(None) };
    let started = start_with(watcher, callback, args.rest(1)?, prepare);
    Ok(started.then(|| watcher.py().None().into_bound(watcher.py())))
}

/// Starts a watcher with this callback and these arguments. `false`: its loop is over, or another thread's.
pub(super) fn start_with(
    watcher: &Bound<'_, Watcher>,
    callback: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    prepare: impl FnOnce(&mut LoopState<Watcher>, &mut WatcherState),
) -> bool {
    let (py, me) = (watcher.py(), watcher.get());
    assert_no_borrow();
    let owner = me.owner.get();
    if owner.driver_ref.check(py).is_err() {
        return false;
    }
    let (callback, rest) = (callback.unbind(), args.unbind());
    let before = owner.state.with(py, |state| {
        if state.destroyed {
            return Err((callback, rest));
        }
        me.inner.with(py, |inner| {
            prepare(state, inner);
            if inner.slot.is_none() {
                state.activate(watcher.clone().unbind(), inner);
            }
            Ok((inner.callback.replace(callback), inner.args.replace(rest)))
        })
    });
    let started = before.is_ok();
    let (callback, rest) = match before {
        Ok(before) => before,
        Err((callback, rest)) => (Some(callback), Some(rest)),
    };
    release(py, callback);
    release(py, rest);
    started
}

/// Lets go of a reference at once.
fn release<T>(py: Python<'_>, object: Option<Py<T>>) {
    if let Some(object) = object {
        object.drop_ref(py);
    }
}

/// `watcher.stop()`
struct Stop;

impl FastMethod for Stop {
    type Class = Watcher;
    const NAME: &'static str = "stop";
    const NO_ARGUMENTS: bool = true;

    ordinary!();

    fn call<'py>(this: &Bound<'py, Watcher>, _: Args<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(stop(this))
    }
}

/// `watcher.close()`
struct Close;

impl FastMethod for Close {
    type Class = Watcher;
    const NAME: &'static str = "close";
    const NO_ARGUMENTS: bool = true;

    ordinary!();

    fn call<'py>(this: &Bound<'py, Watcher>, _: Args<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(stop(this))
    }
}

/// Stops a watcher. `None` for that of a signal: when the last one stops, the signal's effect changes.
pub(super) fn stop<'py>(this: &Bound<'py, Watcher>) -> Option<Bound<'py, PyAny>> {
    let (py, me) = (this.py(), this.get());
    assert_no_borrow();
    let stopped = me.owner.get().state.with(py, |state| {
        me.inner.with(py, |inner| {
            if matches!(inner.kind, WatcherKind::Signal(_)) {
                return None;
            }
            inner.events = 0;
            let keep = state.deactivate(inner);
            Some((keep, inner.callback.take(), inner.args.take()))
        })
    });
    let (keep, callback, args) = stopped?;
    release(py, callback);
    release(py, args);
    release(py, keep);
    Some(py.None().into_bound(py))
}
