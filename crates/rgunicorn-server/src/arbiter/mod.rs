//! The arbiter, the master process that keeps N workers alive and does what signals say.
//!
//! The arbiter is a decision table with a thin executor. [`plan()`] is pure: a state, an event and the time
//! go in, actions come out; it makes no system call and reads no clock, so every rule is a table test without
//! a process. [`run`](run()) turns signals, ended children and heartbeats into events, and performs the
//! actions.
//!
//! How to read it: `event.rs` has the events and the actions, `plan.rs` the table, that is what happens and
//! why. Its larger rows are in `ended.rs`, `reload.rs`, `upgrade.rs`, `stop.rs` and `notify.rs`, and `state.rs`
//! below them all holds what they decide upon, with the pauses of `backoff.rs`. `run.rs` is the executor,
//! `master.rs` the process that it drives, `reexec.rs` its part of an upgrade in place, `listener_set.rs` the
//! sockets.
//!
//! The arbiter may know `sys` and the levels of `log`. It knows no worker, no HTTP and no Python: what needs
//! those comes through [`Host`], which the floor above implements.
//!
//! One difference from Gunicorn 27 is on purpose: a reload is a transaction. The new configuration and the
//! first worker forked under it must prove themselves; until then nothing is taken away, and if they fail
//! everything stays as it was.

mod backoff;
mod ended;
mod event;
mod listener_set;
mod master;
mod notify;
mod plan;
mod reexec;
mod reload;
mod run;
mod state;
mod stop;
#[cfg(test)]
mod tests;
mod upgrade;

pub use event::{Action, MasterEvent, NotifyMessage, WorkerLimits};
pub use master::SIGNALS;
pub use plan::plan;
pub use run::run;
pub use state::MasterState;

use crate::log::Level;
use rgunicorn_io::sys::exec::Program;
use rgunicorn_io::sys::listener::{ListenAddress, Listener};
use rgunicorn_io::sys::place::Owner;
use rgunicorn_io::sys::process::{self, Pid};
use rgunicorn_io::sys::shared::Slot;
use rgunicorn_io::sys::signal::Blocked;
use rgunicorn_io::sys::systemd::Notifier;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Exit status of a worker that failed before it had booted, and of the server that stops for it.
pub const STATUS_WORKER_BOOT_ERROR: i32 = 3;
/// Exit status of a worker that could not find or load its application, and of the server that stops for it.
pub const STATUS_APP_LOAD_ERROR: i32 = 4;

/// The side of a fork on which a process finds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkSide {
    /// The parent, which gets the child's process id.
    Parent(Pid),
    /// The child.
    Child,
}

/// The moments at which hooks of the configuration run. The names are Gunicorn's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookEvent {
    /// `nworkers_changed`: the wanted number of workers is now `new`; `old` is `None` at the start.
    NumWorkersChanged {
        /// Wanted now.
        new: u32,
        /// Wanted before.
        old: Option<u32>,
    },
    /// `on_starting`: the pid file is written, nothing listens yet.
    OnStarting,
    /// `when_ready`: all sockets listen, no worker exists.
    WhenReady,
    /// `pre_fork`: in the master, before the worker of this age is forked.
    PreFork {
        /// The worker's age.
        age: u64,
    },
    /// No hook: the worker of this age has been forked, and is this process.
    Forked {
        /// The worker's age.
        age: u64,
        /// Its process id.
        pid: Pid,
    },
    /// No hook: the worker of this age could not be forked.
    NotForked {
        /// The worker's age.
        age: u64,
    },
    /// `child_exit`: in the master, a worker has been reaped.
    ChildExit {
        /// The process id that it had.
        pid: Pid,
        /// Its age.
        age: u64,
    },
    /// `worker_exit`: in the worker, after its last log line.
    WorkerExit {
        /// The worker's age.
        age: u64,
    },
    /// `on_reload`: the configuration was read again, no new worker exists.
    OnReload,
    /// `pre_exec`: in a child of the master that is about to become a new master (USR2).
    PreExec,
    /// `on_exit`: the last thing in the master.
    OnExit,
}

/// The part of the configuration that the arbiter needs.
#[derive(Clone, Debug)]
pub struct ArbiterConfig {
    /// The wanted number of workers.
    pub workers: u32,
    /// Silence in seconds after which a worker is killed; 0 = never.
    pub timeout_s: u64,
    /// How long a stopping server waits for its workers, in seconds.
    pub graceful_timeout_s: u64,
    /// Time in seconds for a worker to boot, after which it is killed; 0 = for ever.
    pub boot_timeout_s: u64,
    /// The server runs as a daemon, so WINCH stops the workers.
    pub daemon: bool,
    /// The addresses to listen at.
    pub binds: Vec<ListenAddress>,
    /// The length of the accept queues.
    pub backlog: i32,
    /// Each worker opens TCP sockets of its own.
    pub reuse_port: bool,
    /// The file that gets the master's process id.
    pub pidfile: Option<PathBuf>,
    /// The umask under which unix socket files are made.
    pub umask: u32,
    /// User and group ids that own unix socket files.
    pub socket_owner: Option<Owner>,
    /// The name in process titles.
    pub proc_name: String,
    /// The version in the log line `Starting rgunicorn VERSION`.
    pub version: String,
    /// The name in the log line `Using worker: NAME`.
    pub worker_name: String,
}

/// The circumstances under which this master was started.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// The program to start for an upgrade in place: this one, as it was started itself.
    pub program: Program,
    /// The master that has started this one in its place, if one has.
    pub old_master: Option<OldMaster>,
    /// Listening sockets that a service manager has opened. They stand for all addresses of every
    /// configuration, and their files are the manager's.
    pub activated: Vec<RawFd>,
    /// The socket at which the service manager listens for messages.
    pub notifier: Option<Notifier>,
    /// The time within which the service manager expects signs of life.
    pub watchdog: Option<Duration>,
}

/// The program's name in process titles, and for `pgrep`.
pub const PROCESS_NAME: &str = "rgunicorn";

/// The environment variable that tells a new master the process id of the old one. Gunicorn's name.
pub const PARENT_VARIABLE: &str = "GUNICORN_PID";
/// The environment variable that tells a new master the descriptors of its listening sockets, separated by
/// commas. Gunicorn's name.
pub const SOCKETS_VARIABLE: &str = "GUNICORN_FD";

/// The master that has started this one, and the sockets that it has handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldMaster {
    /// Its process id.
    pub pid: Pid,
    /// Its listening sockets, by descriptor.
    pub sockets: Vec<RawFd>,
}

/// Everything that a worker gets from the arbiter.
#[derive(Debug)]
pub struct WorkerContext {
    /// The worker's number in the order of forks: 1, 2, 3 ..., never reused.
    pub age: u64,
    /// The master's process id; the worker leaves when its parent is another (the master is gone).
    pub ppid: Pid,
    /// The worker's slot on the scoreboard. [`Slot::set_booted`] when the application is loaded, then
    /// [`Slot::beat`].
    pub slot: Slot,
    /// The listening sockets: shared ones, and with `reuse_port` its own, which do not listen yet
    /// ([`Listener::listen`]).
    pub listeners: Vec<Arc<Listener>>,
    /// The configuration under which it was forked.
    pub config: Arc<ArbiterConfig>,
    /// The master's signals, still blocked, with default dispositions. The worker drops this once its own
    /// handlers stand; signals that have arrived meanwhile are delivered then. The default of HUP and USR2
    /// ends a process and that of TTIN and TTOU stops it, so a worker needs handlers for those too; not
    /// `SIG_IGN`, which programs that it executes would inherit.
    pub blocked: Blocked,
}

/// The floor above the arbiter, which does for it what is Python's or the worker's.
pub trait Host {
    /// Forks, by Python's `os.fork()`, so that its at-fork handlers run.
    ///
    /// # Errors
    /// The error of fork(2); the arbiter tries again after a second.
    fn fork(&mut self) -> io::Result<ForkSide>;

    /// Runs the worker to its end, in the child, and returns the exit status.
    fn run_worker(&mut self, worker: WorkerContext) -> i32;

    /// Reads the configuration again (HUP). The new one is on trial until [`Host::reload_done`].
    ///
    /// # Errors
    /// The new configuration cannot be used: a text for the log. The present one stays in force.
    fn reload(&mut self) -> Result<ArbiterConfig, String>;

    /// Ends a reload. `true`: the new configuration is in force; `false`: the one before it is again.
    fn reload_done(&mut self, accepted: bool) {
        let _ = accepted;
    }

    /// Learns that the old master has gone: [`PARENT_VARIABLE`] is no longer true.
    fn became_master(&mut self) {}

    /// Names the process for `ps`.
    fn set_title(&mut self, title: &str) {
        process::set_title(PROCESS_NAME, title);
    }

    /// Opens the log files again (USR1, HUP).
    fn reopen_logs(&mut self);

    /// Runs `wait` with the interpreter lock released.
    fn blocking(&mut self, wait: &mut dyn FnMut());

    /// Lets Python-level signal handlers run.
    ///
    /// # Errors
    /// A handler wants to leave, with this exit status.
    fn check_signals(&mut self) -> Result<(), i32>;

    /// Writes one line to the error log.
    fn log(&mut self, level: Level, message: std::fmt::Arguments<'_>);

    /// Announces that the server cannot start, where the log is not the place for it (Gunicorn's `Error:
    /// TEXT` on stderr).
    fn startup_error(&mut self, text: &str) {
        eprintln!("\nError: {text}\n");
    }

    /// Runs the hooks of this moment.
    ///
    /// # Errors
    /// A hook has failed and has been reported; the server is to end with this exit status.
    fn event(&mut self, event: HookEvent) -> Result<(), i32> {
        let _ = event;
        Ok(())
    }

    /// Receives the sockets that the master listens at, which hooks can look at.
    fn listening(&mut self, listeners: &[Arc<Listener>]) {
        let _ = listeners;
    }

    /// Learns that a worker that has been silent for too long is about to get ABRT.
    fn aborting(&mut self, pid: Pid) {
        let _ = pid;
    }

    /// Receives the number of living workers after each turn of the loop, for metrics.
    fn counted(&mut self, workers: usize) {
        let _ = workers;
    }

    /// Takes the number of workers that a hook has asked for since the last call.
    fn take_wanted(&mut self) -> Option<u32> {
        None
    }
}
