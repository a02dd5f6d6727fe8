//! The calls of the master's hooks, and of those of a worker's start and end. The table of all hooks is
//! `conf::Hook`.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PySystemExit, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::conf::{ConfigObjects, Hook, HookArg, HookFailure, ServerObject, WorkerHandle};
use crate::py::{exit_status, format_exception};
use rgunicorn_io::sys::listener::{Listener, Local};
use rgunicorn_io::sys::process::Pid;
use rgunicorn_server::arbiter::HookEvent;
use rgunicorn_server::log::{ErrorLog, Level};

use super::app::BootContext;
use super::console::write_stderr;

/// The status of a master in which a hook has failed once it serves; Gunicorn's -1.
const STATUS_HOOK_ERROR: i32 = 255;

/// The objects that hooks get.
pub(super) struct HookRunner {
    server: ServerObject,
    /// The worker that this process is, if it is one.
    worker: Option<Py<PyAny>>,
    phase: HookPhase,
}

/// The stage of the master, on which the status after a failed hook depends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HookPhase {
    Start,
    /// From the first fork on.
    Service,
    /// The sockets are closed.
    Stop,
}

impl HookRunner {
    /// Makes the server's object. `app`: that which stands for the application.
    ///
    /// # Errors
    /// The exceptions of making objects.
    pub(super) fn new(
        py: Python<'_>,
        ctx: &BootContext<'_>,
        app: &Bound<'_, PyAny>,
        log: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let server = ServerObject::new(py, ctx.objects, app, log)?;
        Ok(Self { server, worker: None, phase: HookPhase::Start })
    }

    /// Shows hooks the configuration that is in force from now on.
    pub(super) fn configure(
        &self,
        py: Python<'_>,
        objects: &ConfigObjects,
        app: Option<&str>,
        log: &Bound<'_, PyAny>,
    ) {
        if let Err(error) = self.server.configure(py, objects, app, log) {
            error.write_unraisable(py, None);
        }
    }

    /// Shows hooks the sockets that the master listens at; none when it stops.
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
            self.server.call_method(py, "_listen", (shown,)).map(drop)
        };
        if let Err(error) = told() {
            error.write_unraisable(py, None);
        }
    }

    /// Runs the hooks of a moment of the master's, or (`worker_exit`) of this worker's.
    ///
    /// # Errors
    /// The status to end with: a hook has failed, and that has been reported.
    pub(super) fn event(
        &mut self,
        py: Python<'_>,
        objects: &ConfigObjects,
        errors: &ErrorLog,
        event: HookEvent,
    ) -> Result<(), i32> {
        let server = &self.server;
        if self.phase == HookPhase::Start && matches!(event, HookEvent::PreFork { .. }) {
            self.phase = HookPhase::Service;
        }
        let hook = hook_of(event);
        let done = match event {
            // The object of the server keeps count of its workers, and calls the hook itself.
            HookEvent::NumWorkersChanged { new, old } => {
                server.call_method(py, "_nworkers_changed", (new, old)).map(drop)
            }
            HookEvent::PreFork { age } => server.call_method(py, "_pre_fork", (age,)).map(drop),
            HookEvent::Forked { age, pid } => server.call_method(py, "_forked", (age, pid)).map(drop),
            HookEvent::NotForked { age } => server.call_method(py, "_not_forked", (age,)).map(drop),
            HookEvent::ChildExit { pid, .. } => server.call_method(py, "_child_exit", (pid,)).map(drop),
            HookEvent::OnStarting
            | HookEvent::WhenReady
            | HookEvent::OnReload
            | HookEvent::PreExec
            | HookEvent::OnExit
            | HookEvent::WorkerExit { .. } => hook.map_or(Ok(()), |hook| self.call(py, objects, hook)),
        };
        done.or_else(|error| match hook.map(|hook| hook.row().failure) {
            Some(HookFailure::Logged) => {
                let text = format_exception(py, &error);
                errors.log(Level::Warning, format_args!("Exception during worker exit:\n{text}"));
                Ok(())
            }
            _ => Err(self.report(py, errors, &error)),
        })
    }

    /// Calls a hook whose arguments are the server and the worker. Does nothing if it gets a worker, and
    /// there is none in this process.
    ///
    /// # Errors
    /// The exception of the hook.
    pub(super) fn call(&self, py: Python<'_>, objects: &ConfigObjects, hook: Hook) -> PyResult<()> {
        let mut args = Vec::new();
        for arg in hook.row().args {
            args.push(match arg {
                HookArg::Server => self.server.bind(py),
                HookArg::Worker => match &self.worker {
                    Some(worker) => worker.bind(py),
                    None => return Ok(()),
                },
                HookArg::Other(name) => {
                    let text = format!("{} gets {name}, which only its caller has", hook.name());
                    return Err(PyTypeError::new_err(text));
                }
            });
        }
        objects.hook(py, hook)?.call1(PyTuple::new(py, args)?).map(drop)
    }

    /// Reports the failure of a hook, and returns the status to end with.
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

    /// Notes that the old master of an upgrade has gone.
    pub(super) fn promoted(&self, py: Python<'_>) {
        if let Err(error) = self.server.call_method(py, "_promoted", ()) {
            error.write_unraisable(py, None);
        }
    }

    /// Notes that a worker is about to get ABRT, for a missing heartbeat.
    pub(super) fn aborting(&self, py: Python<'_>, pid: Pid) {
        if let Err(error) = self.server.call_method(py, "_aborting", (pid,)) {
            error.write_unraisable(py, None);
        }
    }

    /// Sends the master's metrics.
    pub(super) fn counted(&self, py: Python<'_>, workers: usize) {
        if let Err(error) = self.server.call_method(py, "_counted", (workers,)) {
            error.write_unraisable(py, None);
        }
    }

    /// Takes the number of workers that a hook has asked for.
    pub(super) fn take_wanted(&self, py: Python<'_>) -> Option<u32> {
        self.server.take_wanted(py).unwrap_or_else(|error| {
            error.write_unraisable(py, None);
            None
        })
    }

    /// Makes this process, a child of the master, the worker of this age, and returns its object.
    ///
    /// # Errors
    /// The exceptions of making objects.
    pub(super) fn become_worker<'py>(
        &mut self,
        py: Python<'py>,
        age: u64,
        handle: WorkerHandle,
    ) -> PyResult<Bound<'py, PyAny>> {
        let worker = self.server.call_method(py, "_in_worker", (age, Py::new(py, handle)?))?;
        self.worker = Some(worker.clone().unbind());
        Ok(worker)
    }
}

/// Returns the hook of an event; `None` for one that only the object of the server has to know of.
fn hook_of(event: HookEvent) -> Option<Hook> {
    match event {
        HookEvent::NumWorkersChanged { .. } => Some(Hook::NumWorkersChanged),
        HookEvent::OnStarting => Some(Hook::OnStarting),
        HookEvent::WhenReady => Some(Hook::WhenReady),
        HookEvent::PreFork { .. } => Some(Hook::PreFork),
        HookEvent::Forked { .. } | HookEvent::NotForked { .. } => None,
        HookEvent::ChildExit { .. } => Some(Hook::ChildExit),
        HookEvent::WorkerExit { .. } => Some(Hook::WorkerExit),
        HookEvent::OnReload => Some(Hook::OnReload),
        HookEvent::PreExec => Some(Hook::PreExec),
        HookEvent::OnExit => Some(Hook::OnExit),
    }
}
