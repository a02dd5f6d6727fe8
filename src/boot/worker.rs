//! The life of a worker process, from the fork to its last line.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::conf::{ConfigObjects, Hook, HookFailure, WorkerHandle};
use crate::gevent;
use crate::py::{
    QueueListener, SignalHooks, Watch, Watchdog, WorkerSignals, exit_status, format_exception,
    install_chunk_cache, wakeup_pipe,
};
use crate::wsgi::{
    self, ErrorStream, ListenerName, LoadError, RequestHooks, ServerFacts, ThreadContext, Threads, WsgiApp,
    WsgiConfig,
};
use rgunicorn_io::driver::Driver;
use rgunicorn_io::sys::listener;
use rgunicorn_server::arbiter::{STATUS_APP_LOAD_ERROR, STATUS_WORKER_BOOT_ERROR, WorkerContext};
use rgunicorn_server::log::{AccessLog, ErrorLog, Level, LineRenderer};
use rgunicorn_server::worker::{App, Control, ListenerSpec, Mailbox, Reactor, WorkerConfig, WorkerHandles};
use rgunicorn_settings::{Networks, Settings, WorkerKind};

use super::app::{BootContext, load_app};
use super::console::write_stderr;
use super::cooperative::{self, RequestMode};
use super::hooks::HookRunner;
use super::logs::Logs;
use super::names::ServerNames;
use super::{reloader, setup};

/// Why a worker does not reach its loop.
enum BootError {
    Python(PyErr),
    /// The application cannot be found or loaded: stderr and status 4.
    App(String),
    /// A hook has ended the worker.
    Exit(i32),
    Other(String),
}

impl From<PyErr> for BootError {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

/// A worker that is ready to serve.
struct ReadyWorker {
    worker: Py<PyAny>,
    reactor: Rc<Reactor>,
    runs: Executor,
    watch: Arc<Watch>,
    watchdog: Option<Watchdog>,
}

/// Who runs the application.
enum Executor {
    /// The loop's thread, in greenlets or not.
    Here(Rc<WsgiApp>),
    Threads(Box<Threads>),
}

/// What is left of a worker.
pub(super) struct Outcome {
    pub(super) status: i32,
    /// Threads of the application do not end: the process must go without the interpreter's own end.
    pub(super) has_busy_threads: bool,
}

impl From<i32> for Outcome {
    fn from(status: i32) -> Self {
        Self { status, has_busy_threads: false }
    }
}

/// Runs one worker to its end.
pub(super) fn run(
    py: Python<'_>,
    context: WorkerContext,
    ctx: &BootContext<'_>,
    hook_runner: &mut HookRunner,
    logs: &mut Logs,
    app: Option<Py<PyAny>>,
) -> Outcome {
    let control = Arc::new(Control::of(context.slot.clone()));
    let errors = Arc::clone(&logs.errors);
    let ended = match boot(py, context, (ctx, hook_runner), logs, app, &control) {
        Ok(served) => serve(py, served),
        Err(error) => {
            let report = || report(py, ctx.settings, &errors, &error);
            control.quitting().unwrap_or_else(report).into()
        }
    };
    logs.flush();
    ended
}

fn serve(py: Python<'_>, served: ReadyWorker) -> Outcome {
    let ReadyWorker { worker, reactor, runs, watch, watchdog } = served;
    reactor.handles().slot.set_booted();
    if let Err(error) = worker.setattr(py, "booted", true) {
        error.write_unraisable(py, None);
    }
    match runs {
        Executor::Here(calls) => serve_here(py, &reactor, &calls, (&watch, watchdog)).into(),
        Executor::Threads(threads) => serve_in_threads(py, &reactor, &threads),
    }
}

/// The loop has this thread for itself, and the interpreter lock is the others'.
fn serve_in_threads(py: Python<'_>, reactor: &Reactor, threads: &Threads) -> Outcome {
    let mut status = 0;
    crate::py::blocking(&mut || status = reactor.run(threads));
    let has_busy_threads = !threads.finish(py);
    if has_busy_threads {
        let errors = &reactor.handles().errors;
        errors.log(Level::Warning, format_args!("Leaving requests behind that did not end in time"));
    }
    wsgi::clear_current();
    Outcome { status, has_busy_threads }
}

fn serve_here(
    py: Python<'_>,
    reactor: &Rc<Reactor>,
    calls: &Rc<WsgiApp>,
    (watch, watchdog): (&Arc<Watch>, Option<Watchdog>),
) -> i32 {
    let status = if calls.is_cooperative() {
        cooperative::serve(py, reactor, (calls, watch)).unwrap_or_else(|error| {
            let text = format_exception(py, &error);
            reactor.handles().errors.log(Level::Error, format_args!("Exception in worker process\n{text}"));
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

fn report(py: Python<'_>, settings: &Settings, errors: &ErrorLog, error: &BootError) -> i32 {
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
        BootError::Exit(status) => *status,
        BootError::App(text) => {
            write_stderr(py, &format!("{text}\n"));
            // Nobody reads the standard error of a daemon.
            if settings.daemon() {
                errors.log(Level::Error, format_args!("{text}"));
            }
            STATUS_APP_LOAD_ERROR
        }
    }
}

/// A worker that is somebody, before the application.
struct Identified<'py> {
    worker: Bound<'py, PyAny>,
    wake: OwnedFd,
    watch: Arc<Watch>,
    signal_hooks: SignalHooks,
}

/// Everything up to the loop, in Gunicorn's order: account, signals, application, then what serves it.
fn boot(
    py: Python<'_>,
    context: WorkerContext,
    (ctx, hook_runner): (&BootContext<'_>, &mut HookRunner),
    logs: &mut Logs,
    app: Option<Py<PyAny>>,
    control: &Arc<Control>,
) -> Result<ReadyWorker, BootError> {
    let BootContext { settings, live, .. } = *ctx;
    let errors = &Arc::clone(&logs.errors);
    let WorkerContext { age, ppid, slot, listeners, blocked, .. } = context;
    let worker = hook_runner.become_worker(py, age, WorkerHandle::new(control.clone(), slot.clone()))?;
    run_hook(py, ctx, hook_runner, Hook::PostFork)?;
    let begun = begin(py, ctx, (errors, control), worker)?;
    // From here on a signal runs a handler of ours; what came in since the fork is delivered now.
    drop(blocked);
    py.check_signals()?;
    let app = load_app_object(py, ctx, hook_runner, (errors, control), &begun, app)?;
    let Identified { worker, wake, watch, .. } = begun;
    // Handlers and filters of the application and the hooks are there by now.
    logs.sync_polls(py, live)?;
    let access_logger = logs.access_logger(py, live)?.filter(|_| logs_access(&worker));
    let access = logs.access.take().filter(|_| access_logger.is_none());
    let kind = settings.worker_kind().map_err(BootError::Other)?;
    let mode =
        cooperative::decide(py, (kind, setup::threads(settings)), errors)?.map_err(BootError::Other)?;
    wsgi::set_server(&ServerNames::of_process(py).header);
    let hooks = request_hooks(live, &worker, access_logger)?;
    let wsgi_config = wsgi_config(py, app, ctx, (errors, logs.relay()), &listeners, (mode, &watch), hooks)?;
    let renderer = access.as_ref().map(AccessLog::line_renderer);
    for listener in &listeners {
        // Its own ones, with `reuse_port`: from here on they are served.
        let failed = |error| BootError::Other(format!("Cannot listen at {}: {error}", listener.local()));
        listener.listen().map_err(failed)?;
    }
    let handles = WorkerHandles {
        errors: errors.clone(),
        access: RefCell::new(access),
        slot,
        control: control.clone(),
        mailbox: mailbox(mode)?,
        trusted: Networks::parse(settings.forwarded_allow_ips()).map_err(BootError::Other)?,
        parent: ppid,
        // The sockets must stay open as long as the reactor may accept from them.
        listener_guard: RefCell::new(None),
    };
    let mut config = config(settings, &worker, mode)?;
    config.shares_listeners = !listeners.iter().any(|listener| listener.is_own());
    let reactor = made_reactor(settings, listeners, wake, handles, config)?;
    let runs = runs(py, (&reactor, mode), wsgi_config, renderer)?;
    let watchdog = if matches!(runs, Executor::Here(_)) { watchdog(settings, &watch)? } else { None };
    Ok(ReadyWorker { worker: worker.unbind(), reactor, runs, watch, watchdog })
}

/// Runs a hook of the worker's start.
fn run_hook(
    py: Python<'_>,
    ctx: &BootContext<'_>,
    hook_runner: &HookRunner,
    hook: Hook,
) -> Result<(), BootError> {
    hook_runner.call(py, ctx.live, hook).map_err(|error| {
        let exits = hook.row().failure == HookFailure::EndsStart && error.is_instance_of::<PySystemExit>(py);
        if exits { BootError::Exit(exit_status(py, &error)) } else { error.into() }
    })
}

/// The process becomes what a worker is: its account, its signal handlers.
fn begin<'py>(
    py: Python<'py>,
    ctx: &BootContext<'_>,
    (errors, control): (&Arc<ErrorLog>, &Arc<Control>),
    worker: Bound<'py, PyAny>,
) -> Result<Identified<'py>, BootError> {
    let BootContext { settings, live, .. } = *ctx;
    become_user(settings)?;
    // CurrentThread and not in the master: what serves is what gains, and no thread of the application can be in the allocator.
    install_chunk_cache(py, settings.frame_cache_chunks());
    let wake = wakeup_pipe(py)?;
    let watch = Arc::new(Watch::new(py, errors.clone())?);
    let signal_hooks =
        SignalHooks::new(live.own_hook(py, Hook::WorkerInt)?, live.own_hook(py, Hook::WorkerAbort)?, &worker);
    let (errors, control, hooks) = (errors.clone(), control.clone(), signal_hooks.clone());
    WorkerSignals { control, errors, watch: watch.clone(), hooks }.install(py)?;
    Ok(Identified { worker, wake, watch, signal_hooks })
}

/// The application is loaded, if it was not before the fork, and watched, and the worker's object knows it.
fn load_app_object<'py>(
    py: Python<'py>,
    ctx: &BootContext<'py>,
    hook_runner: &HookRunner,
    (errors, control): (&Arc<ErrorLog>, &Arc<Control>),
    begun: &Identified<'py>,
    app: Option<Py<PyAny>>,
) -> Result<Py<PyAny>, BootError> {
    let BootContext { settings, .. } = *ctx;
    if settings.worker_kind() == Ok(WorkerKind::Gevent) {
        gevent::patch_all(py)?;
    }
    let (app, broken) = match app {
        Some(app) => (app, Vec::new()),
        None => load(py, ctx, errors)?,
    };
    begun.worker.setattr("wsgi", &app)?;
    begun.worker.getattr("app")?.setattr("callable", &app)?;
    run_hook(py, ctx, hook_runner, Hook::PostWorkerInit)?;
    let (control, hooks) = (control.clone(), begun.signal_hooks.clone());
    let leave = move |py: Python<'_>| {
        control.stop();
        if let Err(error) = hooks.on_int(py) {
            error.write_unraisable(py, None);
        }
    };
    reloader::start(py, settings, errors, broken, leave).map_err(BootError::Other)?;
    Ok(app)
}

/// For the application's threads to tell the loop what to do.
fn mailbox(mode: RequestMode) -> Result<Option<Arc<Mailbox>>, BootError> {
    let made = matches!(mode, RequestMode::Threads(_)).then(Mailbox::new).transpose();
    Ok(made.map_err(|error| BootError::Other(format!("Cannot make a mailbox: {error}")))?.map(Arc::new))
}

/// The numbers that this worker runs by.
fn config(
    settings: &Settings,
    worker: &Bound<'_, PyAny>,
    mode: RequestMode,
) -> Result<WorkerConfig, BootError> {
    let mut config = setup::config(settings, requests_max(worker)?);
    config.proxy_allowed = Networks::parse(settings.proxy_allow_ips()).map_err(BootError::Other)?;
    // A greenlet may wait for the rest of a body.
    config.stream_bodies = mode == RequestMode::Greenlets;
    config.threads = if let RequestMode::Threads(count) = mode { count } else { 0 };
    Ok(config)
}

fn made_reactor(
    settings: &Settings,
    listeners: Vec<Arc<listener::Listener>>,
    wake: OwnedFd,
    handles: WorkerHandles,
    config: WorkerConfig,
) -> Result<Rc<Reactor>, BootError> {
    let driver = open_driver(settings, &handles.errors)?;
    let specs: Vec<ListenerSpec> = listeners.iter().map(|socket| spec(socket)).collect();
    handles.listener_guard.replace(Some(Box::new(listeners)));
    Ok(Rc::new(Reactor::new(driver, &specs, Some(wake), handles, config, setup::policy(settings))))
}

/// Who runs the application.
fn runs(
    py: Python<'_>,
    (reactor, mode): (&Rc<Reactor>, RequestMode),
    wsgi_config: WsgiConfig,
    renderer: Option<LineRenderer>,
) -> PyResult<Executor> {
    let WorkerHandles { mailbox, control, errors, slot, .. } = reactor.handles();
    if let (RequestMode::Threads(count), Some(mailbox)) = (mode, mailbox) {
        let keeps_alive = !reactor.config().keepalive.is_zero();
        let counted = (slot.clone(), reactor.count());
        let context = ThreadContext::new(
            mailbox.clone(),
            control.clone(),
            errors.clone(),
            renderer,
            keeps_alive,
            counted,
        );
        return Ok(Executor::Threads(Box::new(Threads::start(py, count, context, wsgi_config)?)));
    }
    let calls = Rc::new(wsgi_config.calls(py, mode == RequestMode::Greenlets)?);
    wsgi::set_current(reactor.clone());
    wsgi::set_calls(calls.clone());
    Ok(Executor::Here(calls))
}

/// Before anything of the application runs, and before the driver, whose ring belongs to whom opened it.
fn become_user(settings: &Settings) -> Result<(), BootError> {
    let identity = setup::identity(settings).map_err(|invalid| BootError::Other(invalid.to_string()))?;
    identity.assume().map_err(|error| {
        let (user, group) = (settings.user().unwrap_or("-"), settings.group().unwrap_or("-"));
        BootError::Other(format!("Cannot become user {user}, group {group}: {error}"))
    })
}

/// The application; and files that are to be watched although they could not be loaded.
fn load<'py>(
    py: Python<'py>,
    ctx: &BootContext<'py>,
    errors: &ErrorLog,
) -> Result<(Py<PyAny>, Vec<PathBuf>), BootError> {
    match load_app(py, ctx) {
        Ok(app) => Ok((app.unbind(), Vec::new())),
        Err(LoadError::App(text)) => Err(BootError::App(text)),
        Err(LoadError::Raised(error)) => {
            let error_app = reloader::error_app(py, ctx.settings, errors, &error)?;
            error_app.ok_or(BootError::Python(error))
        }
    }
}

/// What of the configuration runs for each request; `None` if nothing does.
fn request_hooks(
    live: &ConfigObjects,
    worker: &Bound<'_, PyAny>,
    access: Option<Py<PyAny>>,
) -> PyResult<Option<RequestHooks>> {
    let py = worker.py();
    let post = live.own_hook(py, Hook::PostRequest)?;
    let arity = |hook: Bound<'_, PyAny>| -> PyResult<_> {
        let taken = py.import("rgunicorn.config")?.call_method1("positional", (&hook,))?;
        // A function that does not say how many takes all.
        let all = Hook::PostRequest.row().args.len();
        Ok((hook.unbind(), taken.extract::<Option<usize>>()?.unwrap_or(all)))
    };
    let hooks = RequestHooks {
        worker: worker.clone().unbind(),
        pre: live.own_hook(py, Hook::PreRequest)?.map(Bound::unbind),
        post: post.map(arity).transpose()?,
        access,
    };
    Ok((!hooks.is_empty()).then_some(hooks))
}

/// Whether Python's logger has to hear of requests: the stock class computes nothing where no access log is kept, one of
/// somebody's own may count them in any case.
fn logs_access(worker: &Bound<'_, PyAny>) -> bool {
    let asked = || -> PyResult<bool> {
        let log = worker.getattr("log")?;
        let stock = worker.py().import("rgunicorn.glogging")?.getattr("Logger")?;
        Ok(!log.get_type().is(&stock) || log.getattr("access_log_enabled")?.is_truthy()?)
    };
    asked().unwrap_or(true)
}

/// After how many requests the worker leaves, as its object says after all hooks; 0: never.
fn requests_max(worker: &Bound<'_, PyAny>) -> PyResult<u64> {
    let most: f64 = worker.getattr("max_requests")?.extract()?;
    // `sys.maxsize` is Gunicorn's word for never.
    Ok(if most >= i64::MAX as f64 { 0 } else { most.max(0.0) as u64 })
}

fn wsgi_config(
    py: Python<'_>,
    app: Py<PyAny>,
    ctx: &BootContext<'_>,
    (errors, relay): (&Arc<ErrorLog>, Option<Arc<QueueListener>>),
    listeners: &[Arc<listener::Listener>],
    (mode, watch): (RequestMode, &Arc<Watch>),
    hooks: Option<RequestHooks>,
) -> PyResult<WsgiConfig> {
    let settings = ctx.settings;
    let stream = ErrorStream::new(errors.clone(), settings.errorlog() == "-");
    let constants = PyDict::new(py);
    constants.set_item("wsgi.errors", Py::new(py, stream)?)?;
    let facts =
        server_facts(settings, listeners, mode != RequestMode::Direct, ServerNames::of_process(py).software);
    let (constants, sendfile) = (constants.unbind(), settings.sendfile());
    Ok(WsgiConfig { app, facts, constants, sendfile, watch: watch.clone(), hooks, relay })
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
    ListenerSpec { fd: socket.as_fd().as_raw_fd(), unix, shared: !socket.is_own() }
}

fn server_facts(
    settings: &Settings,
    listeners: &[Arc<listener::Listener>],
    multithread: bool,
    software: String,
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
        multithread,
        software,
        script_name: std::env::var("SCRIPT_NAME").unwrap_or_default(),
    }
}
