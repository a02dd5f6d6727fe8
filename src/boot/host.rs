//! What the arbiter asks of Python and of the worker floor.

use std::fmt;
use std::io;
use std::sync::Arc;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;

use crate::arbiter::{self, Fork, Host, WorkerContext};
use crate::logging::{AccessLog, ErrorLog, Level};
use crate::settings::Settings;

use super::setup::{self, Sources};
use super::worker;

/// The server's side of the arbiter, in the master and, copied by the fork, in each worker.
pub(super) struct Server {
    sources: Sources,
    settings: Arc<Settings>,
    /// The settings before a reload that is on trial.
    former: Option<Arc<Settings>>,
    errors: Arc<ErrorLog>,
    access: Option<AccessLog>,
    /// The application, if it was imported before the fork.
    app: Option<Py<PyAny>>,
    pub(super) first_config: Option<arbiter::Config>,
}

impl Server {
    pub(super) fn new(
        sources: Sources,
        settings: Settings,
        config: arbiter::Config,
        errors: Arc<ErrorLog>,
        access: Option<AccessLog>,
        app: Option<Py<PyAny>>,
    ) -> Self {
        Self {
            sources,
            settings: Arc::new(settings),
            former: None,
            errors,
            access,
            app,
            first_config: Some(config),
        }
    }
}

fn level(level: arbiter::Level) -> Level {
    match level {
        arbiter::Level::Debug => Level::Debug,
        arbiter::Level::Info => Level::Info,
        arbiter::Level::Warning => Level::Warning,
        arbiter::Level::Error => Level::Error,
        arbiter::Level::Critical => Level::Critical,
    }
}

impl Host for Server {
    fn fork(&mut self) -> io::Result<Fork> {
        Python::attach(|py| {
            let pid: i32 = py
                .import("os")
                .and_then(|os| os.call_method0("fork"))
                .and_then(|pid| pid.extract())
                .map_err(|error: PyErr| io::Error::other(error.to_string()))?;
            Ok(if pid == 0 { Fork::Child } else { Fork::Parent(pid) })
        })
    }

    fn run_worker(&mut self, context: WorkerContext) -> i32 {
        Python::attach(|py| {
            let app = self.app.as_ref().map(|app| app.clone_ref(py));
            worker::run(py, context, &self.settings, &self.errors, self.access.take(), app)
        })
    }

    fn reload(&mut self) -> Result<arbiter::Config, String> {
        Python::attach(|py| {
            let settings = self.sources.read(py)?;
            let config = setup::arbiter_config(&settings)?;
            setup::enter(py, &settings).map_err(|error| error.to_string())?;
            let access = match settings.accesslog() {
                None => None,
                Some(target) => {
                    let format = setup::access_format(&settings)?;
                    Some(
                        AccessLog::open(target, format)
                            .map_err(|error| format!("'{target}' isn't writable [{error}]"))?,
                    )
                }
            };
            self.access = access;
            self.errors.set_level(Level::from_text(settings.loglevel()));
            for unknown in settings.unknown_names() {
                self.errors.log(Level::Warning, format_args!("{unknown}"));
            }
            self.former = Some(std::mem::replace(&mut self.settings, Arc::new(settings)));
            Ok(config)
        })
    }

    fn reload_done(&mut self, accepted: bool) {
        if let Some(former) = self.former.take()
            && !accepted
        {
            self.errors.set_level(Level::from_text(former.loglevel()));
            self.settings = former;
        }
    }

    fn reopen_logs(&mut self) {
        let _ = self.errors.reopen();
        if let Some(access) = &mut self.access {
            let _ = access.reopen();
        }
    }

    fn blocking(&mut self, wait: &mut dyn FnMut()) {
        crate::py::blocking(wait);
    }

    fn check_signals(&mut self) -> Result<(), i32> {
        Python::attach(|py| {
            py.check_signals().map_err(|error| {
                if !error.is_instance_of::<PySystemExit>(py) {
                    error.print(py);
                    return 1;
                }
                crate::py::exit_status(py, &error)
            })
        })
    }

    fn log(&mut self, at: arbiter::Level, message: fmt::Arguments<'_>) {
        self.errors.log(level(at), message);
    }
}
