//! The Python side of the server: the configuration and the master as objects, and the hooks that are called with them.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PySystemExit};
use pyo3::prelude::*;

use crate::conf::{ConfigObjects, ServerObject, WorkerHandle};
use crate::py::{exit_status, format_exception};
use rgunicorn_io::sys::listener::{Listener, Local};
use rgunicorn_io::sys::process::Pid;
use rgunicorn_server::arbiter::HookEvent;
use rgunicorn_server::log::{ErrorLog, Level};

use super::app::BootContext;
use super::console::write_stderr;

/// The status of a master that a hook has failed in, once it serves; Gunicorn's -1.
const STATUS_HOOK_ERROR: i32 = 255;

/// What hooks are called with.
pub(super) struct HookRunner {
    server: ServerObject,
    /// In a worker: itself.
    worker: Option<Py<PyAny>>,
    phase: HookPhase,
}

/// What a hook that fails is the end of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HookPhase {
    Start,
    /// From the first fork on.
    Service,
    /// The sockets are closed.
    Stop,
}

impl HookRunner {
    /// Makes the server's object. `preloaded`: the application, if it was imported already.
    ///
    /// # Errors
    /// Those of making objects.
    pub(super) fn new(
        py: Python<'_>,
        ctx: &BootContext<'_>,
        log: &Bound<'_, PyAny>,
        preloaded: Option<&Py<PyAny>>,
    ) -> PyResult<Self> {
        let made = || {
            let class = py.import("rgunicorn._server")?.getattr("App")?;
            class.call1((ctx.live.config(py), ctx.settings.app().unwrap_or_default()))
        };
        let app = ctx.program.clone().map_or_else(made, Ok)?;
        if let Some(object) = preloaded {
            app.setattr("callable", object)?;
        }
        let server = ServerObject::new(py, ctx.live, &app, log)?;
        Ok(Self { server, worker: None, phase: HookPhase::Start })
    }

    /// Another configuration is in force.
    pub(super) fn configure(&self, py: Python<'_>, live: &ConfigObjects, log: &Bound<'_, PyAny>) {
        if let Err(error) = self.server.configure(py, live, log) {
            error.write_unraisable(py, None);
        }
    }

    /// The sockets that the master listens at; none when it stops.
    pub(super) fn listening(&mut self, py: Python<'_>, listeners: &[Arc<Listener>]) {
        if listeners.is_empty() {
            self.phase = HookPhase::Stop;
        }
        let told = || -> PyResult<()> {
            let mut shown = Vec::new();
            for listener in listeners {
                let name = match listener.local() {
                    Local::Tcp(address) => {
                        (address.ip().to_string(), address.port()).into_pyobject(py)?.into_any()
                    }
                    Local::Unix(path) => path.into_pyobject(py)?.into_any().str()?.into_any(),
                    Local::Abstract(name) => {
                        format!("\0{}", String::from_utf8_lossy(name)).into_pyobject(py)?.into_any()
                    }
                };
                shown.push((listener.as_fd().as_raw_fd(), name, listener.local().to_string()));
            }
            self.server.call_hook(py, "_listen", (shown,)).map(drop)
        };
        if let Err(error) = told() {
            error.write_unraisable(py, None);
        }
    }

    /// A moment of the master's, or (`worker_exit`) of this worker's.
    ///
    /// # Errors
    /// The status to end with: a hook has failed, and that has been reported.
    pub(super) fn event(
        &mut self,
        py: Python<'_>,
        live: &ConfigObjects,
        errors: &ErrorLog,
        event: HookEvent,
    ) -> Result<(), i32> {
        let server = &self.server;
        if self.phase == HookPhase::Start && matches!(event, HookEvent::PreFork { .. }) {
            self.phase = HookPhase::Service;
        }
        let done = match event {
            HookEvent::NumWorkersChanged { new, old } => {
                server.call_hook(py, "_nworkers_changed", (new, old)).map(drop)
            }
            HookEvent::OnStarting => server.hook(py, live, "on_starting"),
            HookEvent::WhenReady => server.hook(py, live, "when_ready"),
            HookEvent::PreFork { age } => server.call_hook(py, "_pre_fork", (age,)).map(drop),
            HookEvent::Forked { age, pid } => server.call_hook(py, "_forked", (age, pid)).map(drop),
            HookEvent::NotForked { age } => server.call_hook(py, "_not_forked", (age,)).map(drop),
            HookEvent::ChildExit { pid, .. } => server.call_hook(py, "_child_exit", (pid,)).map(drop),
            HookEvent::OnReload => server.hook(py, live, "on_reload"),
            HookEvent::PreExec => server.hook(py, live, "pre_exec"),
            HookEvent::OnExit => server.hook(py, live, "on_exit"),
            HookEvent::WorkerExit { .. } => return self.worker_exit(py, live, errors),
        };
        done.map_err(|error| self.report(py, errors, &error))
    }

    fn worker_exit(&self, py: Python<'_>, live: &ConfigObjects, errors: &ErrorLog) -> Result<(), i32> {
        let Some(worker) = &self.worker else { return Ok(()) };
        let done = live
            .config(py)
            .getattr("worker_exit")
            .and_then(|hook| hook.call1((self.server.bind(py), worker)));
        if let Err(error) = done {
            let text = format_exception(py, &error);
            errors.log(Level::Warning, format_args!("Exception during worker exit:\n{text}"));
        }
        Ok(())
    }

    /// A hook has failed; the status.
    fn report(&self, py: Python<'_>, errors: &ErrorLog, error: &PyErr) -> i32 {
        if error.is_instance_of::<PySystemExit>(py) {
            return exit_status(py, error);
        }
        if self.phase == HookPhase::Start && error.is_instance_of::<PyRuntimeError>(py) {
            write_stderr(py, &format!("\nError: {}\n\n", error.value(py)));
            return 1;
        }
        let text = format_exception(py, error);
        if self.phase == HookPhase::Service {
            errors.log(Level::Error, format_args!("Unhandled exception in main loop\n{text}"));
            return STATUS_HOOK_ERROR;
        }
        write_stderr(py, &format!("{text}\n"));
        1
    }

    /// A worker is about to get ABRT for its silence.
    pub(super) fn aborting(&self, py: Python<'_>, pid: Pid) {
        if let Err(error) = self.server.call_hook(py, "_aborting", (pid,)) {
            error.write_unraisable(py, None);
        }
    }

    /// Metrics of the master.
    pub(super) fn counted(&self, py: Python<'_>, workers: usize) {
        if let Err(error) = self.server.call_hook(py, "_counted", (workers,)) {
            error.write_unraisable(py, None);
        }
    }

    /// The number of workers that a hook has asked for.
    pub(super) fn take_wanted(&self, py: Python<'_>) -> Option<u32> {
        self.server.take_wanted(py).unwrap_or_else(|error| {
            error.write_unraisable(py, None);
            None
        })
    }

    /// In a worker: who it is.
    ///
    /// # Errors
    /// Those of making objects.
    pub(super) fn become_worker<'py>(
        &mut self,
        py: Python<'py>,
        age: u64,
        handle: WorkerHandle,
    ) -> PyResult<Bound<'py, PyAny>> {
        let worker = self.server.call_hook(py, "_in_worker", (age, Py::new(py, handle)?))?;
        self.worker = Some(worker.clone().unbind());
        Ok(worker)
    }

    /// WsgiApp `post_fork(server, worker)`.
    ///
    /// # Errors
    /// What it raises.
    pub(super) fn post_fork(
        &self,
        py: Python<'_>,
        live: &ConfigObjects,
        worker: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        live.config(py).getattr("post_fork")?.call1((self.server.bind(py), worker)).map(drop)
    }
}
