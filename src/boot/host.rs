//! The arbiter's requests to Python and to the worker floor.

use std::fmt;
use std::io;
use std::sync::Arc;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;

use crate::conf::{self, ConfigObjects, Variable};
use crate::py::{exit_status, format_exception};
use rgunicorn_io::sys::listener::Listener;
use rgunicorn_io::sys::process::{self, Pid};
use rgunicorn_server::arbiter::{
    ArbiterConfig, ForkSide, HookEvent, Host, PARENT_VARIABLE, PROCESS_NAME, WorkerContext,
};
use rgunicorn_server::log::{ErrorLog, Level};
use rgunicorn_settings::Settings;

use super::app::BootContext;
use super::hooks::HookRunner;
use super::logs::Logs;
use super::sources::Sources;
use super::{cooperative, daemon, foreign, setup, worker};

/// A configuration, and the logs that were opened for it.
pub(super) struct Configuration {
    pub(super) settings: Settings,
    pub(super) objects: ConfigObjects,
    pub(super) logs: Logs,
}

/// The server's side of the arbiter, in the master and, copied by the fork, in each worker.
pub(super) struct Server {
    sources: Sources,
    /// The configuration in force.
    current: Configuration,
    /// The one before a reload that is on trial.
    former: Option<Configuration>,
    hook_runner: HookRunner,
    /// A worker that is over, and whose process goes without the interpreter's own end.
    pub(super) leaves_at_once: bool,
}

impl Server {
    pub(super) fn new(sources: Sources, current: Configuration, hook_runner: HookRunner) -> Self {
        Self { sources, current, former: None, hook_runner, leaves_at_once: false }
    }

    /// Reads everything again and opens what it names. The process has changed even where this fails.
    fn read_again(&self, py: Python<'_>) -> Result<(Configuration, ArbiterConfig), String> {
        self.sources.leave(py).map_err(|error| error.to_string())?;
        self.sources.read_program_again(py)?;
        let (settings, objects) = self.sources.read(py).map_err(|refused| refused.log)?;
        let config = setup::arbiter_config(&settings)?;
        self.sources.enter(py, &settings).map_err(|error| error.to_string())?;
        foreign::check(py, &objects)?;
        let logs = Logs::open(py, &settings, &objects, Some(&self.current.logs))?;
        cooperative::prepare_gevent(py, &settings)?;
        Ok((Configuration { settings, objects, logs }, config))
    }

    /// Shows hooks the configuration that is in force now.
    fn configure_hooks(&self, py: Python<'_>) {
        let Configuration { settings, objects, logs } = &self.current;
        self.hook_runner.configure(py, objects, settings.app(), &logs.object(py));
    }

    /// Goes back to the directory and variables of the settings in force.
    fn re_enter(&self, py: Python<'_>) {
        if let Err(error) = self.sources.enter(py, &self.current.settings) {
            self.errors().error(format_args!("Cannot go back to the former settings: {error}"));
        }
        // Which stand-ins have Gunicorn's code depends on the class that was looked at last.
        if let Err(text) = foreign::check(py, &self.current.objects) {
            self.errors().error(format_args!("Cannot go back to the former worker class: {text}"));
        }
    }

    fn errors(&self) -> &ErrorLog {
        &self.current.logs.errors
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
        // A worker on trial writes nothing to the former log files.
        self.former = None;
        Python::attach(|py| {
            let program = self.sources.embedding(py);
            let Configuration { settings, objects, logs } = &mut self.current;
            let ctx = BootContext { settings, objects, program };
            let ended = worker::run(py, context, &ctx, &mut self.hook_runner, logs);
            self.leaves_at_once = ended.leaves_at_once;
            ended.status
        })
    }

    fn reload(&mut self) -> Result<ArbiterConfig, String> {
        Python::attach(|py| {
            let (configuration, config) = self.read_again(py).inspect_err(|_| self.re_enter(py))?;
            for unknown in configuration.settings.unknown_names() {
                configuration.logs.errors.warning(format_args!("{unknown}"));
            }
            cooperative::warn_of_gevent_websocket(py, &configuration.settings, &configuration.logs.errors);
            self.former = Some(std::mem::replace(&mut self.current, configuration));
            self.configure_hooks(py);
            Ok(config)
        })
    }

    fn reload_done(&mut self, accepted: bool) {
        if let Some(former) = self.former.take()
            && !accepted
        {
            self.current = former;
            Python::attach(|py| {
                self.current.logs.restore(py, &self.current.objects);
                self.re_enter(py);
                self.configure_hooks(py);
            });
        }
    }

    fn event(&mut self, event: HookEvent) -> Result<(), i32> {
        let Configuration { objects, logs, .. } = &self.current;
        let done = Python::attach(|py| self.hook_runner.event(py, objects, &logs.errors, event));
        logs.flush();
        done
    }

    fn listening(&mut self, listeners: &[Arc<Listener>]) {
        Python::attach(|py| self.hook_runner.listening(py, listeners));
    }

    fn aborting(&mut self, pid: Pid) {
        Python::attach(|py| self.hook_runner.aborting(py, pid));
    }

    fn counted(&mut self, workers: usize) {
        self.errors().flush();
        let settings = &self.current.settings;
        if settings.statsd_host().is_some() || settings.enable_backlog_metric() {
            Python::attach(|py| self.hook_runner.counted(py, workers));
        }
    }

    fn take_wanted(&mut self) -> Option<u32> {
        Python::attach(|py| self.hook_runner.take_wanted(py))
    }

    fn became_master(&mut self) {
        let parent = Variable { name: PARENT_VARIABLE.to_owned(), value: None };
        let removed = Python::attach(|py| {
            self.hook_runner.promoted(py);
            conf::set_environ(py, parent).map(drop)
        });
        if let Err(error) = removed {
            self.errors()
                .error(format_args!("Cannot remove {PARENT_VARIABLE} from the environment: {error}"));
        }
    }

    fn startup_error(&mut self, text: &str) {
        eprintln!("\nError: {text}\n");
        // A daemon's standard error leads nowhere.
        if self.current.settings.daemon() {
            self.errors().error(format_args!("{text}"));
        }
    }

    fn reopen_logs(&mut self) {
        self.current.logs.reopen();
    }

    /// Names the process by the package `setproctitle`, as Gunicorn does, where that can be imported. It looks for the
    /// arguments of the process when it is first used, and would not find them once they are overwritten: calls of the
    /// application's own would do nothing.
    fn set_title(&mut self, title: &str) {
        let named =
            Python::attach(|py| py.import("setproctitle")?.call_method1("setproctitle", (title,)).map(drop));
        match named {
            Ok(()) => process::set_name(PROCESS_NAME),
            Err(_) => process::set_title(PROCESS_NAME, title),
        }
    }

    fn blocking(&mut self, wait: &mut dyn FnMut()) {
        crate::py::blocking(wait);
    }

    fn check_signals(&mut self) -> Result<(), i32> {
        Python::attach(|py| {
            py.check_signals().map_err(|error| {
                if !error.is_instance_of::<PySystemExit>(py) {
                    let text = format_exception(py, &error);
                    self.errors().error(format_args!("Unhandled exception in main loop\n{text}"));
                    return 1;
                }
                exit_status(py, &error)
            })
        })
    }

    fn log(&mut self, level: Level, message: fmt::Arguments<'_>) {
        self.errors().log(level, message);
        self.current.logs.flush();
    }
}
