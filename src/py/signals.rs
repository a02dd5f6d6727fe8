//! A worker's signal handlers. They are real Python handlers (applications look at them with `signal.getsignal` and
//! wrap them), installed before the application is imported.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

use rgunicorn_io::sys::signal::Signal;
use rgunicorn_server::log::{ErrorLog, Level};
use rgunicorn_server::worker::Control;

use super::error::{exit_status, format_exception};
use super::forks::{Installed, leave_worker_handlers};
use super::watch::Watch;

/// Gunicorn gives worker_int hooks and log writers this long before the process leaves.
const QUICK_STOP_PAUSE: Duration = Duration::from_millis(100);

/// The status of a worker whose `worker_int` or `worker_abort` fails; Gunicorn's -1.
const STATUS_HOOK_FAILED: i32 = 255;

/// The parts of a worker that its signal handlers act upon.
#[derive(Clone)]
pub struct WorkerSignals {
    /// Stop and quit requests of the worker.
    pub control: Arc<Control>,
    /// Opened again on USR1, at once; the access log follows when the loop turns.
    pub errors: Arc<ErrorLog>,
    /// Says before an abort what the worker was doing.
    pub watch: Arc<Watch>,
    /// Functions of the configuration.
    pub hooks: SignalHooks,
    /// The descriptor that Python's C handler writes to.
    pub wakeup: RawFd,
}

/// `worker_int` and `worker_abort`, and the worker that they get.
#[derive(Clone)]
pub struct SignalHooks(Arc<SignalFunctions>);

/// The functions of the configuration, and their argument.
struct SignalFunctions {
    int: Option<Py<PyAny>>,
    abort: Option<Py<PyAny>>,
    worker: Py<PyAny>,
}

impl SignalHooks {
    /// Makes the hooks of `worker`. `None`: nothing is configured.
    pub fn new(
        int: Option<Bound<'_, PyAny>>,
        abort: Option<Bound<'_, PyAny>>,
        worker: &Bound<'_, PyAny>,
    ) -> Self {
        let (int, abort) = (int.map(Bound::unbind), abort.map(Bound::unbind));
        Self(Arc::new(SignalFunctions { int, abort, worker: worker.clone().unbind() }))
    }

    /// Runs `worker_int`.
    ///
    /// # Errors
    /// What it raises.
    pub fn on_int(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, self.0.int.as_ref())
    }

    fn on_abort(&self, py: Python<'_>) -> PyResult<()> {
        self.0.worker.setattr(py, "aborted", true)?;
        self.run(py, self.0.abort.as_ref())
    }

    fn reopen_logs(&self, py: Python<'_>) {
        let log = self.0.worker.getattr(py, "log");
        if let Err(error) = log.and_then(|log| log.call_method0(py, "reopen_files")) {
            error.write_unraisable(py, None);
        }
    }

    fn run(&self, py: Python<'_>, hook: Option<&Py<PyAny>>) -> PyResult<()> {
        hook.map_or(Ok(()), |hook| hook.call1(py, (&self.0.worker,)).map(drop))
    }
}

impl WorkerSignals {
    /// Ends the worker because a hook has failed, as Gunicorn's ends, whose main thread gets the exception.
    fn quit_by(&self, py: Python<'_>, error: PyErr) -> PyErr {
        if error.is_instance_of::<PySystemExit>(py) {
            self.control.quit(exit_status(py, &error));
            return error;
        }
        let text = format_exception(py, &error);
        self.errors.log(Level::Error, format_args!("Exception in worker process\n{text}"));
        self.control.quit(STATUS_HOOK_FAILED);
        PySystemExit::new_err(STATUS_HOOK_FAILED)
    }

    /// Leaves at once. Ctrl-C goes to the whole group, and the master sends QUIT as well: the first one counts. A
    /// second exception would be that of `worker_exit`, or of whatever else the first one has begun.
    fn quit(&self, py: Python<'_>) -> PyResult<()> {
        if self.control.quitting().is_some() {
            return Ok(());
        }
        self.control.quit(0);
        if let Err(error) = self.hooks.on_int(py) {
            return Err(self.quit_by(py, error));
        }
        py.detach(|| std::thread::sleep(QUICK_STOP_PAUSE));
        Err(PySystemExit::new_err(0))
    }

    /// Installs the handlers: TERM stops gracefully, INT and QUIT leave at once with status 0, ABRT with status 1, USR1
    /// reopens the logs; HUP, USR2, WINCH, TTIN and TTOU are the master's and ignored here; CHLD is the application's.
    /// Children that the application forks do not have them. The worker's object has them under Gunicorn's names.
    ///
    /// # Errors
    /// Those of `signal.signal` and `os.register_at_fork`.
    pub fn install(&self, py: Python<'_>) -> PyResult<()> {
        let signal = py.import("signal")?;
        let mut installed = Vec::new();
        let mut set = |name: &str, handler: &Bound<'_, PyAny>| -> PyResult<()> {
            let number = signal.getattr(name)?;
            signal.call_method1("signal", (&number, handler))?;
            installed
                .push(Installed { signal: Signal(number.extract()?), handler: handler.clone().unbind() });
            Ok(())
        };
        let control = self.control.clone();
        let exit = handler(py, c"handle_exit", move |_| {
            control.stop();
            Ok(())
        })?;
        set("SIGTERM", &exit)?;
        let worker = self.hooks.0.worker.bind(py);
        worker.setattr("handle_exit", &exit)?;
        for name in ["SIGINT", "SIGQUIT"] {
            let signals = self.clone();
            let leave = handler(py, c"handle_quit", move |py| signals.quit(py))?;
            set(name, &leave)?;
            worker.setattr("handle_quit", &leave)?;
        }
        let signals = self.clone();
        let abort = handler(py, c"handle_abort", move |py| {
            signals.control.quit(1);
            signals.watch.report_abort(py);
            Err(match signals.hooks.on_abort(py) {
                Ok(()) => PySystemExit::new_err(1),
                Err(error) => signals.quit_by(py, error),
            })
        })?;
        set("SIGABRT", &abort)?;
        worker.setattr("handle_abort", &abort)?;
        let (errors, control, hooks) = (self.errors.clone(), self.control.clone(), self.hooks.clone());
        let reopen = handler(py, c"handle_usr1", move |py| {
            let _ = errors.reopen();
            control.reopen();
            hooks.reopen_logs(py);
            Ok(())
        })?;
        set("SIGUSR1", &reopen)?;
        worker.setattr("handle_usr1", &reopen)?;
        // Not SIG_IGN: programs that the application executes would inherit it.
        let ignore = handler(py, c"handle_nothing", |_| Ok(()))?;
        for name in ["SIGHUP", "SIGUSR2", "SIGWINCH", "SIGTTIN", "SIGTTOU"] {
            set(name, &ignore)?;
        }
        signal.call_method1("signal", (signal.getattr("SIGCHLD")?, signal.getattr("SIG_DFL")?))?;
        leave_worker_handlers(py, installed, self.wakeup)?;
        for name in ["SIGTERM", "SIGUSR1"] {
            signal.call_method1("siginterrupt", (signal.getattr(name)?, false))?;
        }
        Ok(())
    }
}

/// Makes a handler: a Python function that calls `act`.
fn handler<'py>(
    py: Python<'py>,
    name: &'static std::ffi::CStr,
    act: impl Fn(Python<'_>) -> PyResult<()> + Send + Sync + 'static,
) -> PyResult<Bound<'py, PyAny>> {
    let function = PyCFunction::new_closure(
        py,
        Some(name),
        Some(c"Signal handler of a worker: (signum, frame)."),
        move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| act(args.py()),
    )?;
    Ok(function.into_any())
}

/// The pipe through which every signal wakes the worker's loop, whichever thread received it: Python's own C handler
/// writes to it (`signal.set_wakeup_fd`).
pub struct WakeupPipe {
    /// The end that the loop polls.
    pub read: OwnedFd,
    /// The other end. It stays open for the process's life.
    pub write: RawFd,
}

impl WakeupPipe {
    /// Makes the pipe, and has Python write to it.
    ///
    /// # Errors
    /// Those of pipe2(2) and `set_wakeup_fd`.
    pub fn install(py: Python<'_>) -> PyResult<Self> {
        let (read, write) = rgunicorn_io::sys::file::nonblocking_pipe()?;
        let kwargs = PyDict::new(py);
        kwargs.set_item("warn_on_full_buffer", false)?;
        py.import("signal")?.call_method("set_wakeup_fd", (write.as_raw_fd(),), Some(&kwargs))?;
        let write = write.into_raw_fd();
        // Where no process can read any more, Python complains of signals that come late, on stderr.
        let _ = read.try_clone()?.into_raw_fd();
        Ok(Self { read, write })
    }
}
