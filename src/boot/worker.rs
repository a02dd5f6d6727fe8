//! The life of a worker process, from the fork to its last line.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arbiter::{STATUS_APP_LOAD_ERROR, STATUS_WORKER_BOOT_ERROR, WorkerContext};
use crate::conf::Hooks;
use crate::gevent;
use crate::io::Driver;
use crate::logging::{AccessLog, ErrorLog, Level};
use crate::py::{Watch, Watchdog, WorkerSignals, format_exception, keep_frame_chunks, wakeup_pipe};
use crate::settings::{Networks, Settings, WorkerKind};
use crate::sys::listener;
use crate::worker::{App, Control, ListenerSpec, Reactor, Shared};
use crate::wsgi::{self, Calls, ErrorStream, ListenerName, LoadError, ServerFacts};

use super::{cooperative, setup};

/// Why a worker does not reach its loop.
enum BootError {
    Python(PyErr),
    /// The application cannot be found or loaded: stderr and status 4.
    App(String),
    Other(String),
}

impl From<PyErr> for BootError {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

/// A worker that is ready to serve.
struct Served {
    reactor: Rc<Reactor>,
    calls: Rc<Calls>,
    watch: Arc<Watch>,
    watchdog: Option<Watchdog>,
}

/// Runs one worker to its end; returns its exit status.
pub(super) fn run(
    py: Python<'_>,
    context: WorkerContext,
    (settings, hooks): (&Settings, &Hooks),
    errors: &Arc<ErrorLog>,
    access: Option<AccessLog>,
    app: Option<Py<PyAny>>,
) -> i32 {
    let control = Arc::new(Control::of(context.slot.clone()));
    match boot(py, context, (settings, hooks), errors, access, app, &control) {
        Ok(served) => serve(py, served),
        Err(error) => control.quitting().unwrap_or_else(|| report(py, errors, &error)),
    }
}

fn serve(py: Python<'_>, served: Served) -> i32 {
    let Served { reactor, calls, watch, watchdog } = served;
    let (reactor, calls) = (&reactor, &calls);
    reactor.shared().slot.set_booted();
    let status = if calls.is_cooperative() {
        cooperative::serve(py, reactor, (calls, &watch)).unwrap_or_else(|error| {
            let text = format_exception(py, &error);
            reactor.shared().errors.log(Level::Error, format_args!("Exception in worker process\n{text}"));
            1
        })
    } else {
        reactor.run(&**calls)
    };
    drop(watchdog);
    if calls.is_forked_child() {
        // The rings and descriptors are the parent's: nothing of them may be touched, not even to let go of it.
        std::mem::forget((reactor.clone(), calls.clone()));
        return status;
    }
    calls.close_parked(reactor);
    wsgi::clear_current();
    status
}

fn report(py: Python<'_>, errors: &ErrorLog, error: &BootError) -> i32 {
    match error {
        BootError::Python(error) => {
            let text = format_exception(py, error);
            errors.log(Level::Error, format_args!("Exception in worker process\n{text}"));
            STATUS_WORKER_BOOT_ERROR
        }
        BootError::Other(text) => {
            errors.log(Level::Error, format_args!("Exception in worker process\n{text}"));
            STATUS_WORKER_BOOT_ERROR
        }
        BootError::App(text) => {
            super::write_text(py, "", &format!("{text}\n"));
            STATUS_APP_LOAD_ERROR
        }
    }
}

/// Everything up to the loop, in Gunicorn's order: account, signals, application, then what serves it.
fn boot(
    py: Python<'_>,
    context: WorkerContext,
    (settings, hooks): (&Settings, &Hooks),
    errors: &Arc<ErrorLog>,
    access: Option<AccessLog>,
    app: Option<Py<PyAny>>,
    control: &Arc<Control>,
) -> Result<Served, BootError> {
    let WorkerContext { age, ppid, slot, listeners, blocked, .. } = context;
    hooks.post_fork(py, age, ppid, errors)?;
    become_user(settings)?;
    // Here and not in the master: what serves is what gains, and no thread of the application can be in the allocator.
    keep_frame_chunks(py, settings.frame_cache_chunks());
    let wake = wakeup_pipe(py)?;
    let watch = Arc::new(Watch::new(py, errors.clone())?);
    WorkerSignals { control: control.clone(), errors: errors.clone(), watch: watch.clone() }.install(py)?;
    // From here on a signal runs a handler of ours; what came in since the fork is delivered now.
    drop(blocked);
    py.check_signals()?;
    let kind = settings.worker_kind().map_err(BootError::Other)?;
    if kind == WorkerKind::Gevent {
        gevent::patch_all(py)?;
    }
    let app = match app {
        Some(app) => app,
        None => load(py, settings)?,
    };
    let cooperative = cooperative::decide(py, kind, errors)?.map_err(BootError::Other)?;
    let calls = Rc::new(calls(py, app, settings, errors, &listeners, (cooperative, &watch))?);
    let driver = open_driver(settings, errors)?;
    let specs: Vec<ListenerSpec> = listeners.iter().map(|socket| spec(socket)).collect();
    let shared = Shared {
        errors: errors.clone(),
        access: RefCell::new(access),
        slot,
        control: control.clone(),
        trusted: Networks::parse(settings.forwarded_allow_ips()).map_err(BootError::Other)?,
        parent: ppid,
        // The sockets must stay open as long as the reactor may accept from them.
        keep: RefCell::new(Some(Box::new(listeners))),
    };
    let mut tuning = setup::tuning(settings, jitter(settings, age));
    // A greenlet may wait for the rest of a body.
    tuning.stream_bodies = cooperative;
    let reactor = Rc::new(Reactor::new(driver, &specs, Some(wake), shared, tuning, setup::policy(settings)));
    wsgi::set_current(reactor.clone());
    wsgi::set_calls(calls.clone());
    let watchdog = watchdog(settings, &watch)?;
    Ok(Served { reactor, calls, watch, watchdog })
}

/// Before anything of the application runs, and before the driver, whose ring belongs to whom opened it.
fn become_user(settings: &Settings) -> Result<(), BootError> {
    let identity = setup::identity(settings).map_err(|invalid| BootError::Other(invalid.to_string()))?;
    identity.assume().map_err(|error| {
        let (user, group) = (settings.user().unwrap_or("-"), settings.group().unwrap_or("-"));
        BootError::Other(format!("Cannot become user {user}, group {group}: {error}"))
    })
}

fn load(py: Python<'_>, settings: &Settings) -> Result<Py<PyAny>, BootError> {
    wsgi::load(py, settings.app().unwrap_or_default()).map(Bound::unbind).map_err(|error| match error {
        LoadError::App(text) => BootError::App(text),
        LoadError::Raised(error) => BootError::Python(error),
    })
}

fn calls(
    py: Python<'_>,
    app: Py<PyAny>,
    settings: &Settings,
    errors: &Arc<ErrorLog>,
    listeners: &[Arc<listener::Listener>],
    (cooperative, watch): (bool, &Arc<Watch>),
) -> PyResult<Calls> {
    let stream = ErrorStream::new(errors.clone(), settings.errorlog() == "-");
    let constants = PyDict::new(py);
    constants.set_item("wsgi.errors", Py::new(py, stream)?)?;
    let facts = server_facts(settings, listeners, cooperative);
    Calls::new(py, app, &facts, &constants, true, watch.clone(), cooperative)
}

/// Not for `sync`, whose requests may take their time as under Gunicorn.
fn watchdog(settings: &Settings, watch: &Arc<Watch>) -> Result<Option<Watchdog>, BootError> {
    let threshold = settings.loop_block_warning();
    if threshold.is_zero() || settings.worker_kind() == Ok(WorkerKind::Sync) {
        return Ok(None);
    }
    let started = Watchdog::start(watch, threshold);
    started
        .map(Some)
        .map_err(|error| BootError::Other(format!("Cannot watch the loop (loop_block_warning): {error}")))
}

fn open_driver(settings: &Settings, errors: &ErrorLog) -> Result<Driver, BootError> {
    let opened = setup::open_driver(settings);
    let (driver, report) = opened.map_err(BootError::Other)?;
    errors.log(Level::Info, format_args!("Worker {} uses {report}", std::process::id()));
    Ok(driver)
}

fn spec(socket: &listener::Listener) -> ListenerSpec {
    let unix = !matches!(socket.local(), listener::Local::Tcp(_));
    ListenerSpec { fd: socket.as_fd().as_raw_fd(), unix }
}

fn server_facts(
    settings: &Settings,
    listeners: &[Arc<listener::Listener>],
    cooperative: bool,
) -> ServerFacts {
    let name = |socket: &Arc<listener::Listener>| match socket.local() {
        listener::Local::Tcp(address) => {
            ListenerName::Tcp { host: address.ip().to_string(), port: address.port() }
        }
        listener::Local::Unix(path) => ListenerName::Unix { path: path.to_string_lossy().into_owned() },
        listener::Local::Abstract(name) => {
            ListenerName::Unix { path: format!("\0{}", String::from_utf8_lossy(name)) }
        }
    };
    ServerFacts {
        listeners: listeners.iter().map(name).collect(),
        multiprocess: settings.workers() > 1,
        multithread: cooperative,
        software: setup::software(),
        script_name: std::env::var("SCRIPT_NAME").unwrap_or_default(),
    }
}

/// This worker's random part of `max_requests`. The age and the clock are random enough to spread restarts.
fn jitter(settings: &Settings, age: u64) -> u64 {
    let most = u64::from(settings.max_requests_jitter());
    let mut seed = crate::sys::clock::now().0 ^ age.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // One round of xorshift64*.
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    seed.wrapping_mul(0x2545_f491_4f6c_dd1d) % (most + 1)
}
