//! A blocked loop is reported: which request holds it, and the stacks of all threads and greenlets.
//!
//! The loop says when it calls the application ([`Watch::begin`]) and when that is over ([`Watch::idle`]), each a
//! relaxed store. A thread of ours ([`Watchdog`]) looks at it about once per threshold and asks for the interpreter
//! only when there is something to report. Code that blocks in a system call has given the interpreter lock up and is
//! shown while it blocks; code that never gives it up, when it first does.
//!
//! **Forks.** The thread takes no lock that a child could find locked: the log has none, and what
//! [`Watch::describe_by`] was given runs with the interpreter lock held, as `os.fork()` does.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyType};

use rgunicorn_io::sys::clock::{self, Instant};
use rgunicorn_server::log::{ErrorLog, Level};

use super::overdue::{Overdue, Step};
use super::side_thread::{Leave, SideThread};

/// The thread's name in `ps -L`.
const THREAD_NAME: &str = "loop-watch";

/// Gives one line for each request in progress, those first that are the likeliest to hold the loop. Runs on a thread
/// of ours while the loop is in the middle of anything, and calls no Python.
pub type Describe = Box<dyn Fn(Python<'_>) -> Vec<String> + Send + Sync>;

/// The work of a worker's loop, and the reports about it. One per worker, shared in an `Arc`.
pub struct Watch {
    /// When the piece of application work that runs now began, in nanoseconds; 0 while there is none. Nothing is read
    /// on the strength of it, so the order of its stores and others does not matter.
    begun: AtomicU64,
    errors: Arc<ErrorLog>,
    /// `rgunicorn._stacks.report`, imported before the application could be in the middle of an import.
    stacks: Py<PyAny>,
    describe: OnceLock<Describe>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("running", &self.running()).finish_non_exhaustive()
    }
}

impl Watch {
    /// Makes the worker's watch; its reports go to `errors`. To be called on the main thread.
    ///
    /// # Errors
    /// Those of an import.
    pub fn new(py: Python<'_>, errors: Arc<ErrorLog>) -> PyResult<Self> {
        Ok(Self::with(errors, py.import("rgunicorn._stacks")?.getattr("report")?.unbind()))
    }

    fn with(errors: Arc<ErrorLog>, stacks: Py<PyAny>) -> Self {
        Self { begun: AtomicU64::new(0), errors, stacks, describe: OnceLock::new() }
    }

    /// Notes that the application begins a piece of work, which should be short. `now` is the time at this moment: two
    /// pieces with the same number are taken for one.
    pub fn begin(&self, now: Instant) {
        self.begun.store(now.0.max(1), Relaxed);
    }

    /// Notes that the application has returned.
    pub fn idle(&self) {
        self.begun.store(0, Relaxed);
    }

    /// Says how a report learns about the requests in progress. The first one counts.
    pub fn describe_by(&self, describe: Describe) {
        let _ = self.describe.set(describe);
    }

    /// Reports the work that a worker was at when it is about to be ended by ABRT. Called on the main thread.
    pub fn report_abort(&self, py: Python<'_>) {
        let Some(begun) = self.running() else {
            let stacks = self.stacks(py);
            return self
                .errors
                .error(format_args!("Worker aborted while its loop was not blocked\n{stacks}"));
        };
        let (held, requests, stacks) = (Elapsed::since(begun), self.requests(py), self.stacks(py));
        let by = requests.join("\n");
        self.errors.error(format_args!("Worker aborted, its loop was blocked for {held} by {by}\n{stacks}"));
    }

    /// Reports the piece that began at `begun`; returns its request.
    fn report_blocked(&self, py: Python<'_>, begun: Instant) -> Option<String> {
        // The interpreter may have been given up only when it was over.
        if self.running() != Some(begun) {
            return None;
        }
        let requests = self.requests(py);
        // Only to look for greenlets in a large heap takes its time: not if no log will show it.
        if self.errors.enabled(Level::Warning) {
            let (held, by, stacks) = (Elapsed::since(begun), requests.join("\n"), self.stacks(py));
            self.errors.warning(format_args!("Loop blocked for {held} so far by {by}\n{stacks}"));
        }
        requests.into_iter().next()
    }

    /// Reports the end of the reported piece.
    fn report_end(&self, request: Option<&str>, took: Duration) {
        let took = Elapsed(took);
        match request {
            Some(by) => self.errors.info(format_args!("Loop no longer blocked, after {took} in all by {by}")),
            // The interpreter was given up only when it was over: it is the first that is heard of it.
            None => self
                .errors
                .warning(format_args!("Loop was blocked for {took} and gave no chance to see by what")),
        }
    }

    fn running(&self) -> Option<Instant> {
        Some(Instant(self.begun.load(Relaxed))).filter(|begun| begun.0 != 0)
    }

    /// Describes the requests in progress, one line each; at least one line.
    fn requests(&self, py: Python<'_>) -> Vec<String> {
        let lines = self.describe.get().map(|describe| describe(py));
        lines.filter(|lines| !lines.is_empty()).unwrap_or_else(|| vec!["no request".to_owned()])
    }

    fn stacks(&self, py: Python<'_>) -> String {
        match self.stacks.bind(py).call0().and_then(|text| Ok(text.cast_into::<PyString>()?)) {
            Ok(text) => text.to_string_lossy().into_owned(),
            Err(error) => format!("(the stacks cannot be shown: {error})"),
        }
    }
}

/// A time in the form that readers want.
struct Elapsed(Duration);

impl Elapsed {
    fn since(begun: Instant) -> Self {
        Self(clock::now().since(begun))
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s", self.0.as_secs_f64())
    }
}

/// The thread that watches a loop. Dropping it ends the thread and waits for that.
#[derive(Debug)]
pub struct Watchdog {
    _thread: SideThread,
}

impl Watchdog {
    /// Reports each piece of work that takes longer than `threshold`, once. Where there can be no further thread a
    /// warning says so, and the worker serves without: what only watches decides nothing.
    pub fn start(watch: &Arc<Watch>, threshold: Duration) -> Option<Self> {
        let watched = Arc::clone(watch);
        SideThread::start(THREAD_NAME, move |leave| keep_watch(&watched, threshold, leave))
            .inspect_err(|error| {
                let what = "Cannot watch the loop, serving without";
                watch.errors.warning(format_args!("{what} (loop_block_warning): {error}"));
            })
            .ok()
            .map(|_thread| Self { _thread })
    }
}

/// Looks at the loop until it is told to leave.
fn keep_watch(watch: &Watch, threshold: Duration, leave: &Leave) {
    let mut overdue = Overdue::new(threshold);
    let mut request = None;
    loop {
        let leaving = leave.is_told();
        match overdue.look(watch.running(), clock::now()) {
            // The last look is for the end of what was reported.
            Step::Wait(_) if leaving => return,
            Step::Wait(time) => leave.sleep(time),
            Step::Report(begun) => {
                request = Python::try_attach(|py| watch.report_blocked(py, begun)).flatten();
            }
            Step::Ended(took) => {
                watch.report_end(request.take().as_deref(), took);
            }
        }
    }
}

/// Returns every object of `class` or of a class below it that the collector knows. No code of the objects or their
/// classes runs, and the interpreter lock is held all the time: no other code's last reference can get lost meanwhile,
/// whose finalizer would then run here.
///
/// # Errors
/// `MemoryError`.
#[pyfunction]
#[pyo3(name = "_instances")]
pub fn instances<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyList>> {
    let py = class.py();
    let objects = py.import("gc")?.call_method0("get_objects")?.cast_into::<PyList>()?;
    let found = PyList::empty(py);
    for object in objects.iter() {
        // Not `isinstance`: it asks the object for its `__class__`, which a proxy computes.
        if object.get_type().is_subclass(class)? {
            found.append(object)?;
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "tests/watch.rs"]
mod tests;
