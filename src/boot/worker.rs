//! The life of a worker process, from the fork to its last line.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::conf::{Hook, HookFailure, WorkerHandle};
use crate::gevent;
use crate::py::{
    LockProbe, QueueListener, SignalHooks, WakeupPipe, Watch, Watchdog, WorkerSignals, exit_status,
    format_exception, install_chunk_cache,
};
use crate::wsgi::{
    DirectApp, ErrorStream, GreenletApp, LoadError, RequestHooks, ServedApp, ServerFacts, ThreadContext,
    Threads, WsgiConfig, make_body_memory,
};
use rgunicorn_io::sys::inherited::WithheldListeners;
use rgunicorn_io::sys::listener::Listener;
use rgunicorn_server::arbiter::{STATUS_APP_LOAD_ERROR, STATUS_WORKER_BOOT_ERROR, WorkerContext};
use rgunicorn_server::log::{AccessLog, ErrorLog, Level, LineRenderer};
use rgunicorn_server::response::set_server_name;
use rgunicorn_server::worker::{App, Control, Mailbox, Reactor, WakeSources, WorkerConfig, WorkerHandles};
use rgunicorn_settings::{Networks, Settings, WorkerKind};

use super::app::{BootContext, load_app};
use super::console::write_stderr;
use super::cooperative::{self, Decided, RequestMode};
use super::hooks::HookRunner;
use super::logs::Logs;
use super::names::ServerNames;
use super::{foreign, reloader, setup, sockets};

/// The reason why a worker does not reach its loop.
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
    executor: Executor,
    watch: Arc<Watch>,
    watchdog: Option<Watchdog>,
}

/// The threads that run the application.
enum Executor {
    /// The loop's own.
    Direct(Rc<DirectApp>),
    /// Greenlets of the loop's own, one for each request.
    Greenlets(Rc<GreenletApp>),
    /// Threads beside the loop's.
    Threads(Box<Threads>),
}

/// The end of a worker.
pub(super) struct Outcome {
    pub(super) status: i32,
    /// Threads of the application do not end, or the loop is broken: the interpreter's own end is left out.
    pub(super) leaves_at_once: bool,
}

impl From<i32> for Outcome {
    fn from(status: i32) -> Self {
        Self { status, leaves_at_once: false }
    }
}

/// Runs one worker to its end.
pub(super) fn run(
    py: Python<'_>,
    context: WorkerContext,
    ctx: &BootContext<'_>,
    hook_runner: &mut HookRunner,
    logs: &mut Logs,
) -> Outcome {
    let control = Arc::new(Control::of(context.slot.clone()));
    let errors = Arc::clone(&logs.errors);
    let boot = WorkerBoot { py, ctx, errors: errors.clone(), control: control.clone(), hook_runner };
    if ctx.settings.worker_kind() == Ok(WorkerKind::Foreign) {
        let status = boot.serve_foreign(context, logs);
        logs.flush();
        return status.unwrap_or_else(|error| report(py, ctx.settings, &errors, &error)).into();
    }
    let outcome = match boot.boot(context, logs) {
        Ok(ready) => serve(py, ready),
        Err(error) => {
            let report = || report(py, ctx.settings, &errors, &error);
            control.quitting().unwrap_or_else(report).into()
        }
    };
    logs.flush();
    outcome
}

/// Serves until the worker is to leave. A decorator of the executor's [`App`] has its place here, around it.
fn serve(py: Python<'_>, ready: ReadyWorker) -> Outcome {
    let ReadyWorker { worker, reactor, executor, watch, watchdog } = ready;
    reactor.handles().slot.set_booted();
    worker.setattr(py, "booted", true).unwrap_or_else(|error| error.write_unraisable(py, None));
    let mut outcome: Outcome = match executor {
        Executor::Direct(app) => serve_directly(&reactor, &app, &app, watchdog).into(),
        Executor::Greenlets(app) => serve_greenlets(py, &reactor, &app, &app, &watch, watchdog).into(),
        Executor::Threads(threads) => serve_in_threads(py, &reactor, &*threads, &threads),
    };
    if reactor.is_broken() {
        outcome.leaves_at_once = true;
        // Its descriptors may be other files' by now.
        std::mem::forget(reactor);
    } else {
        reactor.report_handling();
    }
    outcome
}

/// Serves with `app`, which is `threads` or a decorator of them. The loop has this thread for itself, and the
/// interpreter lock is the others'.
fn serve_in_threads(py: Python<'_>, reactor: &Reactor, app: &impl App, threads: &Threads) -> Outcome {
    let WorkerHandles { slot, errors, .. } = reactor.handles();
    // As often as an idle loop beats.
    let probe = LockProbe::start(slot, reactor.config().idle_wait_max, errors);
    let mut status = 0;
    crate::py::blocking(&mut || status = reactor.run(app));
    let has_busy_threads = !threads.finish(py);
    drop(probe);
    if has_busy_threads {
        errors.log(Level::Warning, format_args!("Leaving requests behind that did not end in time"));
    }
    Outcome { status, leaves_at_once: has_busy_threads }
}

/// Serves with `app`, which is `direct` or a decorator of it, on this thread; returns the exit status.
fn serve_directly<A: App>(
    reactor: &Rc<Reactor>,
    app: &Rc<A>,
    direct: &DirectApp,
    watchdog: Option<Watchdog>,
) -> i32 {
    let status = reactor.run(&**app);
    drop(watchdog);
    if app.is_forked_child() {
        // The rings and descriptors are the parent's, and not even to be let go of.
        std::mem::forget((reactor.clone(), app.clone()));
        return status;
    }
    direct.close();
    status
}

/// Serves with `app`, which is `greenlets` or a decorator of it, as a part of the gevent loop's turns, on this
/// thread; returns the exit status.
fn serve_greenlets<A: App + 'static>(
    py: Python<'_>,
    reactor: &Rc<Reactor>,
    app: &Rc<A>,
    greenlets: &Rc<GreenletApp>,
    watch: &Arc<Watch>,
    watchdog: Option<Watchdog>,
) -> i32 {
    let status = gevent::serve(py, reactor, app, greenlets, watch).unwrap_or_else(|error| {
        let text = format_exception(py, &error);
        reactor.handles().errors.log(Level::Error, format_args!("Exception in worker process\n{text}"));
        1
    });
    drop(watchdog);
    if app.is_forked_child() {
        // As in direct mode.
        std::mem::forget((reactor.clone(), app.clone()));
        return status;
    }
    greenlets.close();
    status
}

/// Reports why a worker does not reach its loop, and returns its exit status.
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
            // A daemon's standard error leads nowhere.
            if settings.daemon() {
                errors.log(Level::Error, format_args!("{text}"));
            }
            STATUS_APP_LOAD_ERROR
        }
    }
}

/// A worker with its account, its signal handlers and its object, before the application.
struct Identified<'py> {
    worker: Bound<'py, PyAny>,
    wake: OwnedFd,
    watch: Arc<Watch>,
    signal_hooks: SignalHooks,
}

/// A worker on its way to its loop.
struct WorkerBoot<'a, 'py> {
    py: Python<'py>,
    ctx: &'a BootContext<'py>,
    errors: Arc<ErrorLog>,
    control: Arc<Control>,
    hook_runner: &'a mut HookRunner,
}

impl<'py> WorkerBoot<'_, 'py> {
    /// Does everything up to the loop, in Gunicorn's order: account, signals, application, then what serves
    /// it.
    fn boot(self, context: WorkerContext, logs: &mut Logs) -> Result<ReadyWorker, BootError> {
        let (py, BootContext { settings, objects, .. }) = (self.py, self.ctx);
        let WorkerContext { age, ppid, slot, listeners, blocked, .. } = context;
        let handle = WorkerHandle::new(self.control.clone(), slot.clone());
        let worker = self.hook_runner.become_worker(py, age, handle)?;
        self.run_hook(Hook::PostFork)?;
        let identified = self.identify(worker)?;
        // From here on a signal runs a handler of ours; what came in since the fork is delivered now.
        drop(blocked);
        py.check_signals()?;
        let app = self.prepare_app(&identified)?;
        let Identified { worker, wake, watch, .. } = identified;
        // Handlers and filters of the application and the hooks are there by now.
        logs.choose_writer(py, objects)?;
        let access_logger = logs.access_logger(py, objects)?.filter(|_| logs_access(&worker));
        let access = logs.access.take().filter(|_| access_logger.is_none());
        let mode = self.request_mode()?;
        set_server_name(&ServerNames::of_process(py).header);
        let hooks = self.request_hooks(&worker, access_logger)?;
        let facts = sockets::server_facts(settings, &listeners, mode, ServerNames::of_process(py).software);
        let wsgi_config = self.wsgi_config(app, facts, &watch, hooks, logs.relay())?;
        let renderer = access.as_ref().map(AccessLog::line_renderer);
        sockets::listen(&listeners).map_err(BootError::Other)?;
        let handoff = slot.handoff();
        let handles = WorkerHandles {
            errors: self.errors,
            access: RefCell::new(access),
            slot,
            control: self.control,
            trusted: Networks::parse(settings.forwarded_allow_ips()).map_err(BootError::Other)?,
            parent: ppid,
            // The sockets must stay open as long as the reactor may accept from them.
            listener_guard: RefCell::new(None),
            handoff,
            make_body_memory: (mode == RequestMode::Direct).then_some(make_body_memory),
        };
        let mut config = worker_config(settings, &worker, mode)?;
        config.shares_listeners = !listeners.iter().any(|listener| listener.is_exclusive());
        let wakes = WakeSources { signals: Some(wake), mailbox: mailbox(mode)? };
        let reactor = make_reactor(settings, listeners, wakes, handles, config, &mode.text(py)?)?;
        let executor = make_executor(py, &reactor, mode, wsgi_config, renderer)?;
        if let Executor::Threads(threads) = &executor {
            threads.show(py, &worker)?;
        }
        let watchdog = watchdog(settings, &watch, mode);
        Ok(ReadyWorker { worker: worker.unbind(), reactor, executor, watch, watchdog })
    }

    /// Has the class of others serve, and returns the exit status.
    fn serve_foreign(self, context: WorkerContext, logs: &mut Logs) -> Result<i32, BootError> {
        let (py, BootContext { settings, objects, .. }) = (self.py, self.ctx);
        let WorkerContext { age, slot, listeners, blocked, .. } = context;
        let handle = WorkerHandle::new(self.control.clone(), slot.clone());
        // Those of this worker: a reload on trial may have others than the master.
        self.hook_runner.listening(py, &listeners);
        let worker = self.hook_runner.become_worker(py, age, handle)?;
        // It has copies of their descriptors, and closes them when it accepts no more.
        drop(listeners);
        self.run_hook(Hook::PostFork)?;
        become_user(settings)?;
        logs.choose_writer(py, objects)?;
        let handle = Bound::new(py, WorkerHandle::new(self.control, slot.clone()))?;
        let Err(error) = foreign::serve(&worker, handle.as_any(), blocked) else { return Ok(0) };
        if error.is_instance_of::<PySystemExit>(py) {
            return Ok(exit_status(py, &error));
        }
        // USR1 has opened the logs of the class's own logger only.
        let _ = self.errors.reopen();
        if foreign::is_load_error(&error, py) {
            return Err(BootError::App(error.value(py).to_string()));
        }
        if slot.read().booted {
            let text = format_exception(py, &error);
            self.errors.log(Level::Error, format_args!("Exception in worker process\n{text}"));
            return Ok(foreign::STATUS_LOOP_ERROR);
        }
        Err(error.into())
    }

    /// Runs a hook of the worker's start.
    fn run_hook(&self, hook: Hook) -> Result<(), BootError> {
        let py = self.py;
        self.hook_runner.call(py, self.ctx.objects, hook).map_err(|error| {
            let exits =
                hook.row().failure == HookFailure::EndsStart && error.is_instance_of::<PySystemExit>(py);
            if exits { BootError::Exit(exit_status(py, &error)) } else { error.into() }
        })
    }

    /// Gives the process the account and the signal handlers of a worker.
    fn identify(&self, worker: Bound<'py, PyAny>) -> Result<Identified<'py>, BootError> {
        let (py, BootContext { settings, objects, .. }) = (self.py, self.ctx);
        become_user(settings)?;
        // Only here and not in the master: the process that serves is the one that gains, and no thread of
        // the application can be in the allocator yet.
        install_chunk_cache(py, settings.frame_cache_chunks());
        let WakeupPipe { read: wake, write: wakeup } = WakeupPipe::install(py)?;
        let watch = Arc::new(Watch::new(py, self.errors.clone())?);
        let int = objects.own_hook(py, Hook::WorkerInt)?;
        let abort = objects.own_hook(py, Hook::WorkerAbort)?;
        let signal_hooks = SignalHooks::new(int, abort, &worker);
        let (errors, control, hooks) = (self.errors.clone(), self.control.clone(), signal_hooks.clone());
        WorkerSignals { control, errors, watch: watch.clone(), hooks, wakeup }.install(py)?;
        Ok(Identified { worker, wake, watch, signal_hooks })
    }

    /// Loads the application, if that was not done before the fork, shows it to the worker's object and watches its
    /// files. Returns what the object has of it after the hooks, which may have wrapped it.
    fn prepare_app(&self, identified: &Identified<'py>) -> Result<Py<ServedApp>, BootError> {
        let (py, settings) = (self.py, self.ctx.settings);
        if settings.worker_kind() == Ok(WorkerKind::Gevent) {
            gevent::patch_all(py)?;
        }
        let (app, broken) = self.load(&identified.worker.getattr("app")?)?;
        identified.worker.setattr("wsgi", &app)?;
        self.run_hook(Hook::PostWorkerInit)?;
        let app = ServedApp::of_worker(&identified.worker)?;
        let (control, hooks) = (self.control.clone(), identified.signal_hooks.clone());
        let leave = move |py: Python<'_>| {
            control.stop();
            hooks.on_int(py).unwrap_or_else(|error| error.write_unraisable(py, None));
        };
        reloader::start(py, settings, &self.errors, broken, leave).map_err(BootError::Other)?;
        Ok(app)
    }

    /// Loads the application; returns the files, too, that are to be watched although they could not be loaded.
    fn load(&self, app: &Bound<'py, PyAny>) -> Result<(Py<PyAny>, Vec<PathBuf>), BootError> {
        let py = self.py;
        match load_app(app) {
            Ok(app) => Ok((app.unbind(), Vec::new())),
            Err(LoadError::App(text)) => Err(BootError::App(text)),
            Err(LoadError::Raised(error)) => {
                let error_app = reloader::error_app(py, self.ctx.settings, &self.errors, &error)?;
                if let Some((stand_in, _)) = &error_app {
                    app.setattr("callable", stand_in)?;
                }
                error_app.ok_or(BootError::Python(error))
            }
        }
    }

    fn request_mode(&self) -> Result<RequestMode, BootError> {
        let settings = self.ctx.settings;
        let kind = settings.worker_kind().map_err(BootError::Other)?;
        match cooperative::decide(self.py, kind, settings, &self.errors)? {
            Decided::Mode(mode) => Ok(mode),
            Decided::Refused(reason) => Err(BootError::Other(reason)),
        }
    }

    /// Collects the functions of the configuration that run for each request; `None` if there are none.
    fn request_hooks(
        &self,
        worker: &Bound<'_, PyAny>,
        access: Option<Py<PyAny>>,
    ) -> PyResult<Option<RequestHooks>> {
        let (py, objects) = (self.py, self.ctx.objects);
        let arity = |hook: Bound<'_, PyAny>| -> PyResult<_> {
            let taken = py.import("rgunicorn.config")?.call_method1("positional", (&hook,))?;
            // A function that does not say how many takes all.
            let all = Hook::PostRequest.row().args.len();
            Ok((hook.unbind(), taken.extract::<Option<usize>>()?.unwrap_or(all)))
        };
        let hooks = RequestHooks {
            worker: worker.clone().unbind(),
            pre: objects.own_hook(py, Hook::PreRequest)?.map(Bound::unbind),
            post: objects.own_hook(py, Hook::PostRequest)?.map(arity).transpose()?,
            access,
        };
        Ok((!hooks.is_empty()).then_some(hooks))
    }

    fn wsgi_config(
        &self,
        app: Py<ServedApp>,
        facts: ServerFacts,
        watch: &Arc<Watch>,
        hooks: Option<RequestHooks>,
        listener: Option<Arc<QueueListener>>,
    ) -> PyResult<WsgiConfig> {
        let (py, settings) = (self.py, self.ctx.settings);
        let stream = ErrorStream::new(self.errors.clone(), settings.errorlog() == "-");
        let constants = PyDict::new(py);
        constants.set_item("wsgi.errors", Py::new(py, stream)?)?;
        let (constants, sendfile) = (constants.unbind(), settings.sendfile());
        Ok(WsgiConfig { app, facts, constants, sendfile, watch: watch.clone(), hooks, listener })
    }
}

/// Opens the way for the application's threads to tell the loop what to do.
fn mailbox(mode: RequestMode) -> Result<Option<Arc<Mailbox>>, BootError> {
    let made = matches!(mode, RequestMode::Threads(_)).then(Mailbox::new).transpose();
    Ok(made.map_err(|error| BootError::Other(format!("Cannot make a mailbox: {error}")))?.map(Arc::new))
}

/// Computes the numbers that this worker runs by.
fn worker_config(
    settings: &Settings,
    worker: &Bound<'_, PyAny>,
    mode: RequestMode,
) -> Result<WorkerConfig, BootError> {
    let mut config = setup::worker_config(settings, requests_max(worker)?);
    config.proxy_allowed = Networks::parse(settings.proxy_allow_ips()).map_err(BootError::Other)?;
    // A greenlet may wait for the rest of a body.
    config.stream_bodies = mode == RequestMode::Greenlets;
    config.threads = if let RequestMode::Threads(count) = mode { count } else { 0 };
    Ok(config)
}

fn make_reactor(
    settings: &Settings,
    listeners: Vec<Arc<Listener>>,
    wakes: WakeSources,
    handles: WorkerHandles,
    config: WorkerConfig,
    mode: &str,
) -> Result<Rc<Reactor>, BootError> {
    let (driver, report) = setup::open_driver(settings).map_err(BootError::Other)?;
    let (pid, errors) = (std::process::id(), Arc::clone(&handles.errors));
    let specs: Vec<_> = listeners.iter().map(|socket| sockets::spec(socket)).collect();
    handles.listener_guard.replace(Some(Box::new(WithheldListeners::new(listeners))));
    let reactor = Reactor::new(driver, &specs, wakes, handles, config, setup::policy(settings));
    // One line of the log says how requests run, on what, and where they go if they would wait.
    errors.info(format_args!("Worker {pid} {mode} on {report:#}; {}", reactor.describe_handoff()));
    errors.debug(format_args!("Worker {pid} uses {report}"));
    Ok(Rc::new(reactor))
}

/// Makes the executor of the application, and starts its threads.
fn make_executor(
    py: Python<'_>,
    reactor: &Rc<Reactor>,
    mode: RequestMode,
    wsgi_config: WsgiConfig,
    renderer: Option<LineRenderer>,
) -> PyResult<Executor> {
    match (mode, reactor.mailbox()) {
        (RequestMode::Threads(count), Some(mailbox)) => {
            let context = ThreadContext::new(reactor, Arc::clone(mailbox), renderer);
            Ok(Executor::Threads(Box::new(Threads::start(py, count, context, wsgi_config)?)))
        }
        (RequestMode::Greenlets, _) => Ok(Executor::Greenlets(GreenletApp::new(py, &wsgi_config, reactor)?)),
        _ => Ok(Executor::Direct(Rc::new(DirectApp::new(py, &wsgi_config, reactor)?))),
    }
}

/// Changes to the account of the settings. Before anything of the application runs, and before the driver,
/// whose ring belongs to the account that opened it.
fn become_user(settings: &Settings) -> Result<(), BootError> {
    let identity = setup::identity(settings).map_err(|invalid| BootError::Other(invalid.to_string()))?;
    identity.assume().map_err(|error| {
        let (user, group) = (settings.user().unwrap_or("-"), settings.group().unwrap_or("-"));
        BootError::Other(format!("Cannot become user {user}, group {group}: {error}"))
    })
}

/// Returns whether Python's logger has to hear of requests: the stock class computes nothing where no access
/// log is kept, a class of the operator's may count them in any case.
fn logs_access(worker: &Bound<'_, PyAny>) -> bool {
    let asked = || -> PyResult<bool> {
        let log = worker.getattr("log")?;
        let stock = worker.py().import("rgunicorn.glogging")?.getattr("Logger")?;
        Ok(!log.get_type().is(&stock) || log.getattr("access_log_enabled")?.is_truthy()?)
    };
    asked().unwrap_or(true)
}

/// Returns after how many requests the worker leaves, as its object says after all hooks; 0: never.
fn requests_max(worker: &Bound<'_, PyAny>) -> PyResult<u64> {
    let most: f64 = worker.getattr("max_requests")?.extract()?;
    // `sys.maxsize` is Gunicorn's word for never.
    Ok(if most >= i64::MAX as f64 { 0 } else { most.max(0.0) as u64 })
}

/// Starts the watchdog of the loop. Not for `sync`, whose requests may take their time as under Gunicorn.
fn watchdog(settings: &Settings, watch: &Arc<Watch>, mode: RequestMode) -> Option<Watchdog> {
    let is_sync = settings.worker_kind() == Ok(WorkerKind::Sync);
    let threshold = settings.loop_block_warning();
    let is_off = is_sync || threshold.is_zero() || matches!(mode, RequestMode::Threads(_));
    if is_off { None } else { Watchdog::start(watch, threshold) }
}
