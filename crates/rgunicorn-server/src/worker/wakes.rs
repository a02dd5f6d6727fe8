//! The polls that end a wait for something else than a connection: signals, and tasks of other threads.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rgunicorn_io::driver::{Driver, OpKey, READABLE};
use rgunicorn_io::sys::file;

use super::event_source::EventSource;

/// The pipe that signal handlers write to, and the polls of it and of the mailbox.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    signals: Option<OwnedFd>,
    signals_poll: Option<OpKey>,
    mail_poll: Option<OpKey>,
}

impl Wakes {
    /// Takes the read end of the pipe, if there is one.
    pub(crate) fn new(signals: Option<OwnedFd>) -> Self {
        Self { signals, ..Self::default() }
    }

    /// Arms the poll of the pipe unless it is armed.
    pub(crate) fn arm_signals(&mut self, driver: &mut Driver) {
        if let (Some(fd), None) = (&self.signals, &self.signals_poll) {
            self.signals_poll = driver.poll(fd.as_raw_fd(), READABLE, EventSource::Wake.token()).ok();
        }
    }

    /// Empties the pipe, whose poll has ended.
    pub(crate) fn drain_signals(&mut self) {
        self.signals_poll = None;
        if let Some(fd) = &self.signals {
            file::drain(fd);
        }
    }

    /// Arms the poll of the mailbox's descriptor unless it is armed.
    ///
    /// # Errors
    /// Those of the driver.
    pub(crate) fn arm_mail(&mut self, driver: &mut Driver, fd: RawFd) -> std::io::Result<()> {
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
