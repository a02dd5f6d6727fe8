//! What the arbiter asks of Python and of the worker floor.

use std::fmt;
use std::io;
use std::sync::Arc;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;

use crate::arbiter::{self, Fork, Host, Launch, PARENT_VARIABLE, WorkerContext};
use crate::conf::{self, Hooks};
use crate::logging::Level;
use crate::settings::Settings;

use super::logs::Logs;
use super::sources::Sources;
use super::{daemon, setup, worker};

/// The server's side of the arbiter, in the master and, copied by the fork, in each worker.
pub(super) struct Server {
    sources: Sources,
    settings: Arc<Settings>,
    hooks: Arc<Hooks>,
    logs: Logs,
    /// Settings, hooks and logs from before a reload that is on trial.
    former: Option<(Arc<Settings>, Arc<Hooks>, Logs)>,
    /// The application, if it was imported before the fork.
    app: Option<Py<PyAny>>,
    /// What the arbiter starts with, until it has.
    pub(super) start: Option<(arbiter::Config, Launch)>,
    /// A worker that is over, but for threads of the application that do not end.
    pub(super) has_busy_threads: bool,
}

impl Server {
    pub(super) fn new(
        sources: Sources,
        (settings, hooks): (Settings, Hooks),
        start: (arbiter::Config, Launch),
        logs: Logs,
        app: Option<Py<PyAny>>,
    ) -> Self {
        let (settings, hooks) = (Arc::new(settings), Arc::new(hooks));
        Self {
            sources,
            settings,
            hooks,
            logs,
            former: None,
            app,
            start: Some(start),
            has_busy_threads: false,
        }
    }

    /// Reads everything again and opens what it names. The process has changed even where this fails.
    fn read_again(&self, py: Python<'_>) -> Result<((Settings, Hooks), arbiter::Config, Logs), String> {
        self.sources.leave(py).map_err(|error| error.to_string())?;
        let (settings, hooks) = self.sources.read(py).map_err(|refused| refused.log)?;
        let config = setup::arbiter_config(&settings)?;
        self.sources.enter(py, &settings).map_err(|error| error.to_string())?;
        let logs = Logs::open(&settings)?;
        super::prepare_gevent(py, &settings)?;
        Ok(((settings, hooks), config, logs))
    }

    /// Back to the directory and variables of the settings in force.
    fn re_enter(&self, py: Python<'_>) {
        if let Err(error) = self.sources.enter(py, &self.settings) {
            self.logs.errors.error(format_args!("Cannot go back to the former settings: {error}"));
        }
    }
}

impl Host for Server {
    fn fork(&mut self) -> io::Result<Fork> {
        Python::attach(|py| {
            let pid = daemon::fork(py).map_err(|error| io::Error::other(error.to_string()))?;
            Ok(if pid == 0 { Fork::Child } else { Fork::Parent(pid) })
        })
    }

    fn run_worker(&mut self, context: WorkerContext) -> i32 {
        // A worker on trial: the former log files are not its business.
        self.former = None;
        Python::attach(|py| {
            let app = self.app.as_ref().map(|app| app.clone_ref(py));
            let (settings, hooks) = (&self.settings, &self.hooks);
            let ended =
                worker::run(py, context, (settings, hooks), &self.logs.errors, self.logs.access.take(), app);
            self.has_busy_threads = ended.has_busy_threads;
            ended.status
        })
    }

    fn reload(&mut self) -> Result<arbiter::Config, String> {
        Python::attach(|py| {
            let ((settings, hooks), config, logs) = self.read_again(py).inspect_err(|_| self.re_enter(py))?;
            for unknown in settings.unknown_names() {
                logs.errors.warning(format_args!("{unknown}"));
            }
            let logs = std::mem::replace(&mut self.logs, logs);
            let settings = std::mem::replace(&mut self.settings, Arc::new(settings));
            let hooks = std::mem::replace(&mut self.hooks, Arc::new(hooks));
            self.former = Some((settings, hooks, logs));
            Ok(config)
        })
    }

    fn reload_done(&mut self, accepted: bool) {
        if let Some((settings, hooks, logs)) = self.former.take()
            && !accepted
        {
            self.settings = settings;
            self.hooks = hooks;
            self.logs = logs;
            Python::attach(|py| self.re_enter(py));
        }
    }

    fn promoted(&mut self) {
        let removed =
            Python::attach(|py| conf::set_environ(py, (PARENT_VARIABLE.to_owned(), None)).map(drop));
        if let Err(error) = removed {
            self.logs
                .errors
                .error(format_args!("Cannot remove {PARENT_VARIABLE} from the environment: {error}"));
        }
    }

    fn startup_error(&mut self, text: &str) {
        eprintln!("\nError: {text}\n");
        // Nobody reads the standard error of a daemon.
        if self.settings.daemon() {
            self.logs.errors.error(format_args!("{text}"));
        }
    }

    fn reopen_logs(&mut self) {
        self.logs.reopen();
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

    fn log(&mut self, level: Level, message: fmt::Arguments<'_>) {
        self.logs.errors.log(level, message);
    }
}
