//! The arbiter, the master process that keeps N workers alive and does what signals say.
//!
//! It is a decision table with a thin executor. [`plan()`] is pure: a state, an event and the time go in, actions come out;
//! it makes no system call and reads no clock, so every rule is a table test without a process. [`run`](run()) turns
//! signals, ended children and heartbeats into events, and performs the actions. Read `plan.rs` for what happens and why,
//! `run.rs` for how; `upgrade.rs` and `handover.rs` are what an upgrade in place adds to each.
//!
//! It may know `sys`, `settings` and the levels of `log`. It knows no worker, no HTTP and no Python: what needs those comes through [`Host`],
//! which the floor above implements.
//!
//! Where it differs from Gunicorn 27, on purpose: a reload is a transaction. The new configuration and the first worker
//! forked under it must prove themselves; until then nothing is taken away, and if they fail everything stays as it was.

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
pub use plan::plan;
pub use run::run;
pub use state::MasterState;

use crate::log::Level;
use rgunicorn_io::sys::exec::Program;
use rgunicorn_io::sys::listener::{ListenAddress, Listener};
use rgunicorn_io::sys::process::Pid;
use rgunicorn_io::sys::shared::Slot;
use rgunicorn_io::sys::signal::Blocked;
use rgunicorn_io::sys::systemd::Notifier;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// ChildExit status of a worker that failed before it had booted, and of the server that stops for it.
pub const STATUS_WORKER_BOOT_ERROR: i32 = 3;
/// ChildExit status of a worker that could not find or load its application, and of the server that stops for it.
pub const STATUS_APP_LOAD_ERROR: i32 = 4;

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkSide {
    /// The master; the child's id.
    Parent(Pid),
    /// The child.
    Child,
}

/// Moments at which hooks of the configuration run. The names are Gunicorn's.
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
        /// Its former process id.
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

/// What the arbiter needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct ArbiterConfig {
    /// Wanted number of workers.
    pub workers: u32,
    /// Silence in seconds after which a worker is killed; 0 = never.
    pub timeout_s: u64,
    /// How long a stopping server waits for its workers, in seconds.
    pub graceful_timeout_s: u64,
    /// Time in seconds for a worker to boot, after which it is killed; 0 = for ever.
    pub boot_timeout_s: u64,
    /// The server was told to be a daemon: WINCH sends the workers home.
    pub daemon: bool,
    /// Where to listen.
    pub binds: Vec<ListenAddress>,
    /// Length of the accept queues.
    pub backlog: i32,
    /// Each worker opens TCP sockets of its own.
    pub reuse_port: bool,
    /// Where to write the master's process id.
    pub pidfile: Option<PathBuf>,
    /// The umask under which unix socket files are made.
    pub umask: u32,
    /// User and group ids that get unix socket files.
    pub socket_owner: Option<(u32, u32)>,
    /// The name in the process title.
    pub proc_name: String,
    /// For `Starting rgunicorn VERSION`.
    pub version: String,
    /// For `Using worker: NAME`.
    pub worker_name: String,
}

/// How this master came into being.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// What to start for an upgrade in place: this program as it was started itself.
    pub program: Program,
    /// Set in a master that another one has started in its place.
    pub old_master: Option<OldMaster>,
    /// Listening sockets that a service manager has opened. They stand for all addresses of every configuration, and their
    /// files are the manager's.
    pub activated: Vec<RawFd>,
    /// Where the service manager wants to be told.
    pub notifier: Option<Notifier>,
    /// Within which time it expects signs of life.
    pub watchdog: Option<Duration>,
}

/// The variable that tells a new master the process id of the one that has started it. Gunicorn's name.
pub const PARENT_VARIABLE: &str = "GUNICORN_PID";
/// The variable that tells a new master the descriptors of its listening sockets, separated by commas. Gunicorn's name.
pub const SOCKETS_VARIABLE: &str = "GUNICORN_FD";

/// The master that has started this one, and what it has handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldMaster {
    /// Its process id.
    pub pid: Pid,
    /// Its listening sockets, by descriptor.
    pub sockets: Vec<RawFd>,
}

/// All that a worker gets from the arbiter.
#[derive(Debug)]
pub struct WorkerContext {
    /// 1, 2, 3 ...: the order of birth, never reused.
    pub age: u64,
    /// The master's process id; the worker leaves when its parent is another (the master is gone).
    pub ppid: Pid,
    /// Its place on the score-board. [`Slot::set_booted`] when the application is loaded, then [`Slot::beat`].
    pub slot: Slot,
    /// The listening sockets: shared ones, and with `reuse_port` its own, which do not listen yet ([`Listener::listen`]).
    pub listeners: Vec<Arc<Listener>>,
    /// The configuration under which it was forked.
    pub config: Arc<ArbiterConfig>,
    /// The master's signals, still blocked, with default dispositions. The worker drops this once its own handlers stand;
    /// what came in meanwhile is delivered then. The default of HUP and USR2 ends a process and that of TTIN and TTOU stops
    /// it, so a worker needs handlers for those too; not `SIG_IGN`, which programs that it executes would inherit.
    pub blocked: Blocked,
}

/// What the arbiter cannot do itself, because it is Python's or the worker's.
pub trait Host {
    /// Forks, by Python's `os.fork()`, so that its at-fork handlers run.
    ///
    /// # Errors
    /// What fork(2) answers; the arbiter tries again after a second.
    fn fork(&mut self) -> io::Result<ForkSide>;

    /// In the child: runs the worker to its end and returns the exit status.
    fn run_worker(&mut self, worker: WorkerContext) -> i32;

    /// Reads the configuration again (HUP). The new one is on trial until [`Host::reload_done`].
    ///
    /// # Errors
    /// A text for the log; the former configuration stays in force.
    fn reload(&mut self) -> Result<ArbiterConfig, String>;

    /// The end of a reload: `true`, the new configuration is in force; `false`, go back to the former one.
    fn reload_done(&mut self, accepted: bool) {
        let _ = accepted;
    }

    /// The master that has started this one has gone: [`PARENT_VARIABLE`] is no longer true.
    fn became_master(&mut self) {}

    /// Opens the log files again (USR1, HUP).
    fn reopen_logs(&mut self);

    /// Runs `wait` with the interpreter lock released.
    fn blocking(&mut self, wait: &mut dyn FnMut());

    /// Lets Python-level signal handlers run.
    ///
    /// # Errors
    /// The exit status with which one of them wants to leave.
    fn check_signals(&mut self) -> Result<(), i32>;

    /// Writes one line to the error log.
    fn log(&mut self, level: Level, message: std::fmt::Arguments<'_>);

    /// The server cannot start, and the log is not the place to say so (Gunicorn's `Error: TEXT` on stderr).
    fn startup_error(&mut self, text: &str) {
        eprintln!("\nError: {text}\n");
    }

    /// A moment for hooks.
    ///
    /// # Errors
    /// A hook failed, has been reported, and the server is to end with this status.
    fn event(&mut self, event: HookEvent) -> Result<(), i32> {
        let _ = event;
        Ok(())
    }

    /// The sockets that the master listens at, for hooks to look at.
    fn listening(&mut self, listeners: &[Arc<Listener>]) {
        let _ = listeners;
    }

    /// A worker that has been silent for too long is about to get ABRT.
    fn aborting(&mut self, pid: Pid) {
        let _ = pid;
    }

    /// A turn of the loop is over; so many workers live. For metrics.
    fn counted(&mut self, workers: usize) {
        let _ = workers;
    }

    /// The number of workers that a hook has asked for since the last call.
    fn take_wanted(&mut self) -> Option<u32> {
        None
    }
}
