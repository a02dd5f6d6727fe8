//! The state of a watcher: whether it is started, the event that waits, and the facts of its kind. Plain data.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use rgunicorn_io::driver::OpKey;
use rgunicorn_io::sys::clock::Instant;

use super::IOFDSET;
use super::convert::seconds;

/// libev's interval for a file that is looked at without one being asked for, in seconds.
const STAT_INTERVAL_DEFAULT_S: f64 = 5.007_489_1;
/// libev's shortest interval, in seconds.
const STAT_INTERVAL_MIN_S: f64 = 0.107_489_1;

/// Everything that changes in a watcher.
pub(super) struct WatcherState {
    pub(super) callback: Option<Py<PyAny>>,
    pub(super) args: Option<Py<PyTuple>>,
    /// Its place in the loop while it is started.
    pub(super) slot: Option<u32>,
    /// The loop goes on as long as it is started.
    pub(super) referenced: bool,
    pub(super) priority: i8,
    /// The event that was not handled yet; 0: none.
    pub(super) events: u32,
    pub(super) kind: WatcherKind,
}

/// The kind of a watcher, with the facts of its kind.
pub(super) enum WatcherKind {
    Io(IoFacts),
    Timer(TimerFacts),
    Signal(i32),
    Child(ChildFacts),
    Stat(Box<StatFacts>),
    Async(AsyncFacts),
    Fork,
    Prepare,
    Check,
    Idle,
}

/// A descriptor to be polled.
pub(super) struct IoFacts {
    pub(super) fd: i32,
    /// `READ`, `WRITE` and libev's internal mark.
    pub(super) events: u32,
    /// The poll that the driver has for it.
    pub(super) op: Option<OpKey>,
    /// Its first argument is replaced by what has happened.
    pub(super) pass_events: bool,
    /// The descriptor is about to be closed: not polled again.
    pub(super) closing: bool,
    /// Not polled yet since it got its descriptor, whose number may have been another file's before.
    pub(super) fresh: bool,
}

/// The times of a timer.
pub(super) struct TimerFacts {
    /// The time until it is due, while stopped: at first the delay, then what was left of it. As with libev, one whose
    /// time is over comes at once when it is started again.
    pub(super) left: Duration,
    pub(super) repeat: Duration,
    /// When it is due, while started.
    pub(super) due: Instant,
}

/// A child that is waited for, and the one that has ended.
pub(super) struct ChildFacts {
    pub(super) pid: i32,
    pub(super) rpid: i32,
    pub(super) rstatus: i32,
}

/// An event that any thread may send.
#[derive(Default)]
pub(super) struct AsyncFacts {
    /// Sent, and not collected by a turn yet.
    pub(super) sent: bool,
}

/// A file, and what the last two looks at it saw.
pub(super) struct StatFacts {
    pub(super) path: Py<PyAny>,
    pub(super) interval: f64,
    pub(super) attr: Option<Py<PyAny>>,
    pub(super) prev: Option<Py<PyAny>>,
}

/// Lists of started watchers that are looked at as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatcherList {
    Fork,
    Prepare,
    Check,
    Idle,
    Signal,
}
/// Number of [`WatcherList`]s.
pub(super) const LISTS: usize = 5;

impl WatcherKind {
    /// Returns the list in which its started watchers stand.
    pub(super) fn list(&self) -> Option<WatcherList> {
        match self {
            Self::Fork => Some(WatcherList::Fork),
            Self::Prepare => Some(WatcherList::Prepare),
            Self::Check => Some(WatcherList::Check),
            Self::Idle => Some(WatcherList::Idle),
            Self::Signal(_) => Some(WatcherList::Signal),
            Self::Io(_) | Self::Timer(_) | Self::Stat(_) | Self::Async(_) | Self::Child(_) => None,
        }
    }
}

impl IoFacts {
    /// Begins to watch.
    pub(super) fn begin(&mut self, pass_events: bool) {
        self.pass_events = pass_events;
        self.events &= !IOFDSET;
    }
}

impl StatFacts {
    /// Returns the time between two looks.
    pub(super) fn poll_interval(&self) -> Duration {
        seconds(self.interval)
    }

    /// Replaces an interval that was not given, or is too short, by libev's.
    pub(super) fn fix_interval(&mut self) {
        if self.interval == 0.0 {
            self.interval = STAT_INTERVAL_DEFAULT_S;
        } else {
            self.interval = self.interval.max(STAT_INTERVAL_MIN_S);
        }
    }
}
