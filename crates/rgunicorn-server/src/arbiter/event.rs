//! The vocabulary of the decision table: the events that it decides on, and the actions that it decides for.

use super::{HookEvent, Level};
use rgunicorn_io::sys::process::{ChildExit, Pid};
use rgunicorn_io::sys::shared::SlotReading;
use rgunicorn_io::sys::signal::Signal;
use std::time::Duration;

/// The part of a configuration that decisions rest on: the number of workers and the time-outs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerLimits {
    /// The wanted number of workers.
    pub workers: u32,
    /// Silence after which a worker is killed; zero = never.
    pub timeout: Duration,
    /// The time for which a stopping server waits for its workers.
    pub graceful_timeout: Duration,
    /// Time for a worker to boot, after which it is killed; zero = for ever.
    pub boot_timeout: Duration,
    /// The server is a daemon, so WINCH stops the workers.
    pub daemon: bool,
}

/// An event that the master decides on.
#[derive(Clone, Copy, Debug)]
pub enum MasterEvent<'a> {
    /// Everything is open, and the master begins.
    Started,
    /// A signal came.
    Signal(Signal),
    /// A fork has succeeded that [`Action::Fork`] asked for.
    Forked {
        /// The worker's age.
        age: u64,
        /// Its process id.
        pid: Pid,
    },
    /// A fork has failed that [`Action::Fork`] asked for.
    ForkFailed {
        /// The age that the worker would have had.
        age: u64,
        /// The reason.
        error: &'a str,
    },
    /// The hook before a fork that [`Action::Fork`] asked for has failed, or the worker's object could not be made.
    PreForkFailed {
        /// The age that the worker would have had.
        age: u64,
        /// The status that the master is to leave with.
        status: i32,
    },
    /// A new master has been forked, as [`Action::Upgrade`] asked for, and is about to start.
    UpgradeStarted {
        /// Its process id.
        pid: Pid,
    },
    /// No new master could be forked.
    UpgradeFailed(&'a str),
    /// The parent of this process. Comes before all other events of a turn, while the state waits for its
    /// end.
    Parent(Pid),
    /// A child has been reaped.
    Ended {
        /// Its process id.
        pid: Pid,
        /// How it ended.
        exit: ChildExit,
        /// The last reading of its slot on the scoreboard, if the child was a worker.
        reading: Option<SlotReading>,
    },
    /// The configuration was read again and everything that it names is open.
    Reloaded(WorkerLimits),
    /// The configuration could not be read again, or an address in it not be opened.
    ReloadFailed(&'a str),
    /// A hook wants so many workers.
    Wanted(u32),
    /// A turn of the loop, with the readings of the scoreboard. Comes after all other events of the turn but
    /// `Recycling`.
    Tick(&'a [SlotReading]),
    /// After a tick: the worker of this age has the permit to recycle itself.
    Recycling {
        /// Its age. The worker may have ended.
        age: u64,
    },
    /// A Python-level signal handler wants to leave with this status.
    Leave(i32),
}

/// A message to the service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyMessage {
    /// The service serves, with so many workers of so many that are wanted.
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

/// An action that the executor is to perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a log line.
    Log(Level, String),
    /// Fork the worker of this age, and answer with `Forked` or `ForkFailed`.
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
    /// Give back the ended worker's slot on the scoreboard.
    Release {
        /// The process id that it had.
        pid: Pid,
    },
    /// Take back the permit to recycle itself from the worker of this age, so that the next one may have it.
    EndRecycling {
        /// Its age.
        age: u64,
    },
    /// Tell the workers how many of them are wanted, and whether they share their sockets.
    ShareWorkers {
        /// The wanted number; 0 when the server stops.
        workers: u32,
        /// The workers of another master accept at these sockets too.
        other_master: bool,
    },
    /// Read the configuration again, and answer with `Reloaded` or `ReloadFailed`.
    Reload,
    /// Put the configuration on trial in force, and remove the socket files that it does not use if `unlink`.
    Commit {
        /// Whether to remove files: no other master serves on the sockets.
        unlink: bool,
    },
    /// Go back to the configuration before the one on trial.
    Rollback,
    /// Open the log files again.
    ReopenLogs,
    /// Run the hooks of this moment.
    Hook(HookEvent),
    /// Start a new master beside this one, and answer with `UpgradeStarted` or `UpgradeFailed`.
    Upgrade,
    /// Take the names of the old master, which has gone: its pid file and its process title.
    Promote {
        /// The process id that it had.
        old_master: Pid,
    },
    /// Remove the pid file of a new master that has ended, if it has left it behind.
    RemoveNewMasterPidFile {
        /// The process id that it had.
        pid: Pid,
    },
    /// Send this message to the service manager.
    Notify(NotifyMessage),
    /// Close the listening sockets, and remove their files if `unlink`.
    CloseListeners {
        /// Whether to remove files: no other master serves on the sockets.
        unlink: bool,
    },
    /// Remove the pid file.
    RemovePidFile,
    /// End the master with this exit status.
    Exit(i32),
}
