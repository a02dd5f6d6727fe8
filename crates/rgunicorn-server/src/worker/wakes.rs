//! The polls that end a wait for something else than a connection: signals, and tasks of other threads.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use std::time::Duration;

use rgunicorn_io::driver::{Driver, OpKey, READABLE};
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::file;

use super::event_source::EventSource;
use super::failing::Failing;

/// Pause after a poll of the worker's own has failed: it would fail in each turn, which never sleeps then.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// The pipe that signal handlers write to, and the polls of it and of the mailbox.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    signals: Option<OwnedFd>,
    signals_poll: Option<OpKey>,
    mail_poll: Option<OpKey>,
    /// For how long polls have failed.
    failing: Failing,
    paused_until: Option<Instant>,
}

impl Wakes {
    /// Takes the read end of the pipe, if there is one.
    pub(crate) fn new(signals: Option<OwnedFd>) -> Self {
        Self { signals, ..Self::default() }
    }

    /// Returns when polls are armed again that have failed.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Tells whether polls may be armed.
    pub(crate) fn begin_wait(&mut self, now: Instant) -> bool {
        if self.paused_until.is_some_and(|until| now >= until) {
            self.paused_until = None;
        }
        self.paused_until.is_none()
    }

    /// Notes that a poll of the worker's own has done what it is for.
    pub(crate) fn end_failures(&mut self) {
        self.failing.end();
    }

    /// Notes that a poll of the worker's own has failed; polls pause. True: that has lasted too long.
    pub(crate) fn note_failure(&mut self, now: Instant) -> bool {
        self.paused_until = Some(now.after(POLL_PAUSE));
        self.failing.note(now)
    }

    /// Arms the poll of the pipe unless it is armed.
    pub(crate) fn arm_signals(&mut self, driver: &mut Driver) {
        if let (Some(fd), None) = (&self.signals, &self.signals_poll) {
            self.signals_poll = driver.poll(fd.as_raw_fd(), READABLE, EventSource::Wake.token()).ok();
        }
    }

    /// Empties the pipe, whose poll has ended.
    ///
    /// # Errors
    /// It is not empty, and stays so.
    pub(crate) fn drain_signals(&mut self) -> io::Result<()> {
        self.signals_poll = None;
        self.signals.as_ref().map_or(Ok(()), file::drain)
    }

    /// Arms the poll of the mailbox's descriptor unless it is armed.
    ///
    /// # Errors
    /// Those of the driver.
    pub(crate) fn arm_mail(&mut self, driver: &mut Driver, fd: RawFd) -> io::Result<()> {
        if self.mail_poll.is_none() {
            self.mail_poll = Some(driver.poll(fd, READABLE, EventSource::Mail.token())?);
        }
        Ok(())
    }

    /// Notes that the poll of the mailbox has ended.
    pub(crate) fn end_mail_poll(&mut self) {
        self.mail_poll = None;
    }
}
