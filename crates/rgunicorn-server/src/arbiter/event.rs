//! The vocabulary of the decision table: what can happen, and what can be done about it.

use super::{HookEvent, Level};
use rgunicorn_io::sys::process::{ChildExit, Pid};
use rgunicorn_io::sys::shared::SlotReading;
use rgunicorn_io::sys::signal::Signal;
use std::time::Duration;

/// What a configuration says about the number of workers and the patience with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerLimits {
    /// Wanted number of workers.
    pub workers: u32,
    /// Silence after which a worker is killed; zero = never.
    pub timeout: Duration,
    /// How long a stopping server waits for its workers.
    pub graceful_timeout: Duration,
    /// Time for a worker to boot, after which it is killed; zero = for ever.
    pub boot_timeout: Duration,
    /// The server is a daemon: WINCH counts.
    pub daemon: bool,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum MasterEvent<'a> {
    /// Everything is open: begin.
    Started,
    /// A signal came.
    Signal(Signal),
    /// A fork that was asked for has happened.
    Forked {
        /// The worker's age.
        age: u64,
        /// Its process id.
        pid: Pid,
    },
    /// A fork that was asked for failed.
    ForkFailed {
        /// The age that was meant for the worker.
        age: u64,
        /// What went wrong.
        error: &'a str,
    },
    /// A new master has been forked, as asked for, and is about to start.
    UpgradeStarted {
        /// Its process id.
        pid: Pid,
    },
    /// No new master could be forked.
    UpgradeFailed(&'a str),
    /// This process's parent now. Comes before all other events of a turn, while the state waits for its end.
    Parent(Pid),
    /// A child has been reaped.
    Ended {
        /// Its process id.
        pid: Pid,
        /// How it ended.
        exit: ChildExit,
        /// Its slot on the score-board says that it had booted.
        booted: bool,
    },
    /// The configuration was read again and everything that it names is open.
    Reloaded(WorkerLimits),
    /// The configuration could not be read again, or what it names not opened.
    ReloadFailed(&'a str),
    /// A hook wants so many workers.
    Wanted(u32),
    /// A turn of the loop, with what the score-board says. Comes after all other events of the turn but `Recycling`.
    Tick(&'a [SlotReading]),
    /// After a tick: the worker of this age has the permit to recycle itself.
    Recycling {
        /// Its age; it may be gone.
        age: u64,
    },
    /// A Python-level signal handler wants to leave with this status.
    Leave(i32),
}

/// What a service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyMessage {
    /// The service serves: so many workers of so many that are wanted.
    Ready(usize, u32),
    /// The number of workers has changed.
    Workers(usize, u32),
    /// A reload begins.
    Reloading,
    /// The service ends.
    Stopping,
    /// This process ends; the service's main process is another one from now on.
    Successor(Pid),
    /// The master does not hang.
    Alive,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a log line.
    Log(Level, String),
    /// Fork the worker of this age; answer with `Forked` or `ForkFailed`.
    Fork {
        /// The worker's age.
        age: u64,
    },
    /// Send a signal to a worker.
    Kill {
        /// Its process id.
        pid: Pid,
        /// The signal.
        signal: Signal,
    },
    /// Give the ended worker's slot on the score-board back.
    Release {
        /// Its former process id.
        pid: Pid,
    },
    /// Take the permit to recycle itself back from the worker of this age: the next one may have it.
    EndRecycling {
        /// Its age.
        age: u64,
    },
    /// Tell the workers how many of them are wanted, and who else is there.
    ShareWorkers {
        /// How many are wanted; 0: the server stops.
        workers: u32,
        /// Another master's workers accept at the same sockets.
        other_master: bool,
    },
    /// Read the configuration again; answer with `Reloaded` or `ReloadFailed`.
    Reload,
    /// The configuration on trial is in force from now on. `unlink`: remove the socket files that it does not use.
    Commit {
        /// No other master serves on them.
        unlink: bool,
    },
    /// Go back to the configuration before the trial.
    Rollback,
    /// Open the log files again.
    ReopenLogs,
    /// Run the hooks of this moment.
    Hook(HookEvent),
    /// Start a new master beside this one; answer with `UpgradeStarted` or `UpgradeFailed`.
    Upgrade,
    /// The master before this one has gone: take its names.
    Promote {
        /// Its former process id.
        old_master: Pid,
    },
    /// A new master has ended: remove its pid file if it has left it.
    RemoveNewMasterPidFile {
        /// Its former process id.
        pid: Pid,
    },
    /// Tell the service manager.
    Notify(NotifyMessage),
    /// Close the listening sockets. `unlink`: and remove their files.
    CloseListeners {
        /// No other master serves on them.
        unlink: bool,
    },
    /// Remove the pid file.
    RemovePidFile,
    /// Leave with this status.
    Exit(i32),
}
