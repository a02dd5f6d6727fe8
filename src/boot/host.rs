//! What the arbiter asks of Python and of the worker floor.

use std::fmt;
use std::io;
use std::sync::Arc;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;

use crate::conf::{self, ConfigObjects};
use rgunicorn_io::sys::listener::Listener;
use rgunicorn_io::sys::process::Pid;
use rgunicorn_server::arbiter::{self, ForkSide, HookEvent, Host, Launch, PARENT_VARIABLE, WorkerContext};
use rgunicorn_server::log::Level;
use rgunicorn_settings::Settings;

use super::hooks::HookRunner;
use super::logs::Logs;
use super::sources::Sources;
use super::worker::BootContext;
use super::{daemon, setup, worker};

/// The server's side of the arbiter, in the master and, copied by the fork, in each worker.
pub(super) struct Server {
    sources: Sources,
    settings: Arc<Settings>,
    live: Arc<ConfigObjects>,
    hook_runner: HookRunner,
    logs: Logs,
    /// Settings, the same as objects, and logs from before a reload that is on trial.
    former: Option<(Arc<Settings>, Arc<ConfigObjects>, Logs)>,
    /// The application, if it was imported before the fork.
    app: Option<Py<PyAny>>,
    /// What the arbiter starts with, until it has.
    pub(super) start: Option<(arbiter::ArbiterConfig, Launch)>,
    /// A worker that is over, but for threads of the application that do not end.
    pub(super) has_busy_threads: bool,
}

impl Server {
    pub(super) fn new(
        sources: Sources,
        (settings, live, hook_runner): (Settings, ConfigObjects, HookRunner),
        start: (arbiter::ArbiterConfig, Launch),
        logs: Logs,
        app: Option<Py<PyAny>>,
    ) -> Self {
        let (settings, live) = (Arc::new(settings), Arc::new(live));
        Self {
            sources,
            settings,
            live,
            hook_runner,
            logs,
            former: None,
            app,
            start: Some(start),
            has_busy_threads: false,
        }
    }

    /// Reads everything again and opens what it names. The process has changed even where this fails.
    fn read_again(
        &self,
        py: Python<'_>,
    ) -> Result<((Settings, ConfigObjects), arbiter::ArbiterConfig, Logs), String> {
        self.sources.leave(py).map_err(|error| error.to_string())?;
        self.sources.read_program_again(py)?;
        let (settings, live) = self.sources.read(py).map_err(|refused| refused.log)?;
        let config = setup::arbiter_config(&settings)?;
        self.sources.enter(py, &settings).map_err(|error| error.to_string())?;
        let logs = Logs::open(py, &settings, &live, Some(&self.logs))?;
        super::prepare_gevent(py, &settings)?;
        Ok(((settings, live), config, logs))
    }

    /// Hooks see the configuration that is in force now.
    fn tell_stage(&self, py: Python<'_>) {
        self.hook_runner.configure(py, &self.live, &self.logs.object(py));
    }

    /// Back to the directory and variables of the settings in force.
    fn re_enter(&self, py: Python<'_>) {
        if let Err(error) = self.sources.enter(py, &self.settings) {
            self.logs.errors.error(format_args!("Cannot go back to the former settings: {error}"));
        }
    }
}

impl Host for Server {
    fn fork(&mut self) -> io::Result<ForkSide> {
        Python::attach(|py| {
            let pid = daemon::fork(py).map_err(|error| io::Error::other(error.to_string()))?;
            Ok(if pid == 0 { ForkSide::Child } else { ForkSide::Parent(pid) })
        })
    }

    fn run_worker(&mut self, context: WorkerContext) -> i32 {
        // A worker on trial: the former log files are not its business.
        self.former = None;
        Python::attach(|py| {
            let app = self.app.as_ref().map(|app| app.clone_ref(py));
            let program = self.sources.embedding(py);
            let ctx = BootContext { settings: &self.settings, live: &self.live, program };
            let ended = worker::run(py, context, &ctx, &mut self.hook_runner, &mut self.logs, app);
            self.has_busy_threads = ended.has_busy_threads;
            ended.status
        })
    }

    fn reload(&mut self) -> Result<arbiter::ArbiterConfig, String> {
        Python::attach(|py| {
            let ((settings, live), config, logs) = self.read_again(py).inspect_err(|_| self.re_enter(py))?;
            for unknown in settings.unknown_names() {
                logs.errors.warning(format_args!("{unknown}"));
            }
            let logs = std::mem::replace(&mut self.logs, logs);
            let settings = std::mem::replace(&mut self.settings, Arc::new(settings));
            let live = std::mem::replace(&mut self.live, Arc::new(live));
            self.former = Some((settings, live, logs));
            self.tell_stage(py);
            Ok(config)
        })
    }

    fn reload_done(&mut self, accepted: bool) {
        if let Some((settings, live, logs)) = self.former.take()
            && !accepted
        {
            self.settings = settings;
            self.live = live;
            self.logs = logs;
            Python::attach(|py| {
                self.logs.restore(py, &self.live);
                self.re_enter(py);
                self.tell_stage(py);
            });
        }
    }

    fn event(&mut self, event: HookEvent) -> Result<(), i32> {
        let done = Python::attach(|py| self.hook_runner.event(py, &self.live, &self.logs.errors, event));
        self.logs.flush();
        done
    }

    fn listening(&mut self, listeners: &[Arc<Listener>]) {
        Python::attach(|py| self.hook_runner.listening(py, listeners));
    }

    fn aborting(&mut self, pid: Pid) {
        Python::attach(|py| self.hook_runner.aborting(py, pid));
    }

    fn counted(&mut self, workers: usize) {
        if self.settings.statsd_host().is_some() || self.settings.enable_backlog_metric() {
            Python::attach(|py| self.hook_runner.counted(py, workers));
        }
    }

    fn take_wanted(&mut self) -> Option<u32> {
        Python::attach(|py| self.hook_runner.take_wanted(py))
    }

    fn became_master(&mut self) {
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
        self.logs.flush();
    }
}
