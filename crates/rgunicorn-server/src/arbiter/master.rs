//! The master process as the executor sees it: its parts, and the names that the world knows it by, which are
//! its pid file and its process title. `run.rs` drives it; `reexec.rs` starts another one beside it.

use super::event::{Action, MasterEvent};
use super::listener_set::ListenerSet;
use super::plan::plan;
use super::state::MasterState;
use super::{ArbiterConfig, Host, Level, PROCESS_NAME};
use rgunicorn_io::sys::clock;
use rgunicorn_io::sys::exec::Program;
use rgunicorn_io::sys::listener::Listener;
use rgunicorn_io::sys::pidfile::{PidFile, PidFileError};
use rgunicorn_io::sys::process::Pid;
use rgunicorn_io::sys::shared::{Scoreboard, Slot};
use rgunicorn_io::sys::signal::{Signal, SignalQueue};
use rgunicorn_io::sys::systemd::Notifier;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow::{self, Continue};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Weak;

/// The signals that the master takes. A worker starts with all of them blocked and at their default actions.
pub const SIGNALS: [Signal; 10] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::TTIN,
    Signal::TTOU,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
    Signal::CHLD,
];

/// The process that forks the workers.
pub(super) struct Master<'h> {
    pub(super) host: &'h mut dyn Host,
    pub(super) state: MasterState,
    pub(super) listener_set: ListenerSet,
    /// The listeners on trial during a reload. Workers are forked under them while there are any.
    pub(super) candidate: Option<ListenerSet>,
    /// `None` only in a child.
    pub(super) signals: Option<SignalQueue>,
    pub(super) board: Scoreboard,
    /// The workers that live or are not reaped yet.
    pub(super) slots: HashMap<Pid, WorkerRecord>,
    /// The troubles that the log knows of.
    pub(super) told: HashSet<Trouble>,
    pub(super) pidfile: Option<PidFile>,
    /// The program that an upgrade in place starts.
    pub(super) program: Program,
    pub(super) activated: Vec<RawFd>,
    pub(super) notifier: Option<Notifier>,
}

/// A call of the master's own that fails, which nothing can be done about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Trouble {
    /// The wait for signals.
    Wait,
    /// The question for children that have ended.
    Reap,
}

/// The executor's record of a worker.
pub(super) struct WorkerRecord {
    pub(super) slot: Slot,
    /// The listeners that it got, which may be closed meanwhile.
    pub(super) listeners: Vec<Weak<Listener>>,
}

impl Master<'_> {
    pub(super) fn answer(&mut self, event: MasterEvent<'_>) -> ControlFlow<i32, Vec<Action>> {
        Continue(plan(&mut self.state, event, clock::now()))
    }

    pub(super) fn set_title(&mut self, role: &str) {
        set_title(self.host, role, &self.listener_set.config, self.state.suffix());
    }

    /// Writes the pid file again after a reload: it may have a new name, or have been removed by hand. At no
    /// moment is there none.
    pub(super) fn rewrite_pidfile(&mut self) {
        let path = pid_path(&self.listener_set.config, self.state.suffix());
        let before = self.pidfile.take();
        if let Some(before) = before.as_ref().filter(|before| Some(before.path()) != path.as_deref()) {
            before.remove();
        }
        self.pidfile = path.and_then(|path| {
            PidFile::create(&path)
                .inspect_err(|error| self.host.log(Level::Error, format_args!("{error}")))
                .ok()
        });
    }
}

/// Creates the first pid file.
///
/// # Errors
/// The file belongs to a running server, or cannot be written.
pub(super) fn create_pidfile(config: &ArbiterConfig, suffix: &str) -> Result<Option<PidFile>, PidFileError> {
    pid_path(config, suffix).map(|path| PidFile::create(&path)).transpose()
}

pub(super) fn pid_path(config: &ArbiterConfig, suffix: &str) -> Option<PathBuf> {
    let mut path = config.pidfile.clone()?.into_os_string();
    path.push(suffix);
    Some(path.into())
}

/// Sets the process title, such as `rgunicorn: master [NAME]`.
pub(super) fn set_title(host: &mut dyn Host, role: &str, config: &ArbiterConfig, suffix: &str) {
    host.set_title(&format!("{PROCESS_NAME}: {role} [{}{suffix}]", config.proc_name));
}
