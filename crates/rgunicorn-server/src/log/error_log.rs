//! The error log: `[2026-11-22 08:01:41 +0000] [PID] [INFO] message`, one write(2) per record. Or, where
//! records have to pass through a logger of the application's, a queue of them.

use std::fmt::{self, Write};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};

use super::backlog::Backlog;
use super::level::Level;
use super::record_queue::{Record, RecordQueue};
use super::repeated::{RepeatedLine, RepeatedLines};
use super::timestamp::push_iso;
use rgunicorn_io::sys::clock::{self, Instant};
use rgunicorn_io::sys::logfile::LogFile;
use rgunicorn_io::sys::place::Owner;

/// The server's log. Share it in an `Arc`: it needs no lock, because each record is one write at the end of the file,
/// and a reopen exchanges the file behind the descriptor in one step.
#[derive(Debug)]
pub struct ErrorLog {
    file: LogFile,
    level: AtomicU8,
    queue: RecordQueue,
    repeated: RepeatedLines,
    backlog: Backlog,
}

impl ErrorLog {
    /// Opens `target`: a path, or `-` for the standard error.
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub fn open(target: &str, level: Level) -> io::Result<Self> {
        Self::open_for(target, level, None)
    }

    /// Opens `target` as [`Self::open`] does, and gives a regular file to `owner`, now and at each reopen.
    ///
    /// # Errors
    /// The file cannot be opened for writing or given away.
    pub fn open_for(target: &str, level: Level, owner: Option<Owner>) -> io::Result<Self> {
        let file = match target {
            "-" => LogFile::stream(STDERR)?,
            path => LogFile::append(path, owner)?,
        };
        let (queue, repeated, backlog) = Default::default();
        Ok(Self { file, level: AtomicU8::new(level as u8), queue, repeated, backlog })
    }

    /// Returns whether records of `level` are written: ask before an argument is costly to make.
    pub fn enabled(&self, level: Level) -> bool {
        level as u8 >= self.level.load(Ordering::Relaxed)
    }

    /// Changes the least severe level that is written.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Writes one record, or queues it after [`Self::queue_records`], if `level` is severe enough. The
    /// message may have several lines and is written as it is. Never fails: a record that cannot be written
    /// is gone.
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        if !self.enabled(level) {
            return;
        }
        if self.queue.is_on() {
            let mut text = String::new();
            let _ = text.write_fmt(message);
            self.queue.push(Record { level, text });
            return;
        }
        self.write_record(level, message);
    }

    /// Logs a line that a loop or a client can cause without end, unless enough of its kind were written within this
    /// second. The next one that is written tells how many were left out.
    pub fn repeated(&self, line: RepeatedLine, level: Level, now: Instant, message: fmt::Arguments<'_>) {
        if !self.enabled(level) {
            return;
        }
        let Some(left_out) = self.repeated.admit(line, now) else { return };
        if left_out > 0 {
            let lines = if left_out == 1 { "line" } else { "lines" };
            self.log(level, format_args!("{left_out} {lines} like the next one were left out"));
        }
        self.log(level, message);
    }

    /// Lets records wait for [`Self::take_queued`] from now on instead of writing them, at most
    /// [`super::QUEUED_RECORDS_MAX`] of them and [`super::QUEUED_BYTES_MAX`] bytes of text; further ones are
    /// dropped and counted. [`Self::write`] goes on to the file. Holds in children that are forked later,
    /// each of which begins with an empty queue.
    pub fn queue_records(&self) {
        self.queue.set_on(true);
    }

    /// Takes the queued records, oldest first. Nothing is locked or borrowed afterwards, so that their
    /// receiver may run Python. If some were dropped, a warning at the end says how many.
    pub fn take_queued(&self) -> Vec<Record> {
        self.queue.take()
    }

    /// Returns how many records were dropped because too many waited.
    pub fn queued_dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Writes the queued records to the file: where no logger can be called any more, as at a hard end of the
    /// process, or because records are written here again.
    pub fn write_queued(&self) {
        for Record { level, text } in self.take_queued() {
            self.write_record(level, format_args!("{text}"));
        }
    }

    /// Ends [`Self::queue_records`] and writes the queued records.
    pub fn stop_queueing(&self) {
        self.queue.set_on(false);
        self.write_queued();
    }

    fn write_record(&self, level: Level, message: fmt::Arguments<'_>) {
        self.write(Self::record(level, message).as_bytes());
    }

    /// Returns a record: time, process, level, message.
    fn record(level: Level, message: fmt::Arguments<'_>) -> String {
        let mut record = String::with_capacity(RECORD_BYTES_USUAL);
        push_iso(&mut record, i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX));
        // The process id is asked for each time: a worker inherits this object through fork. Writing to a
        // String fails only when a Display in the message does; the text up to there is the record.
        let _ = write!(record, " [{}] [{}] {message}", std::process::id(), level.name());
        record.push('\n');
        record
    }

    /// Logs at [`Level::Debug`].
    pub fn debug(&self, message: fmt::Arguments<'_>) {
        self.log(Level::Debug, message);
    }

    /// Logs at [`Level::Info`].
    pub fn info(&self, message: fmt::Arguments<'_>) {
        self.log(Level::Info, message);
    }

    /// Logs at [`Level::Warning`].
    pub fn warning(&self, message: fmt::Arguments<'_>) {
        self.log(Level::Warning, message);
    }

    /// Logs at [`Level::Error`].
    pub fn error(&self, message: fmt::Arguments<'_>) {
        self.log(Level::Error, message);
    }

    /// Logs at [`Level::Critical`].
    pub fn critical(&self, message: fmt::Arguments<'_>) {
        self.log(Level::Critical, message);
    }

    /// Writes bytes that are no record (`wsgi.errors`), as they are. Never fails and never waits: what the reader of a
    /// pipe does not take waits for [`Self::flush`], up to [`super::BACKLOG_BYTES_MAX`]; the rest is dropped and
    /// counted.
    pub fn write(&self, bytes: &[u8]) {
        self.flush();
        self.backlog.write(&self.file, bytes);
    }

    /// Tries to write what the reader has not taken before. Costs nothing while nothing waits. When the log flows again
    /// a record tells how many others were lost.
    pub fn flush(&self) {
        if !self.backlog.waits() {
            return;
        }
        let lost = self.backlog.flush(&self.file);
        if lost > 0 {
            let told = Self::record(
                Level::Warning,
                format_args!("{lost} records of this log were dropped: it was not read"),
            );
            self.backlog.write(&self.file, told.as_bytes());
        }
    }

    /// Opens the path again, for log rotation. The standard error stays as it is.
    ///
    /// # Errors
    /// The file cannot be opened; records go on into the old one.
    pub fn reopen(&self) -> io::Result<()> {
        self.file.reopen()
    }
}

/// Records that no logger has taken are better in the file than lost.
impl Drop for ErrorLog {
    fn drop(&mut self) {
        if self.queue.is_on() {
            self.write_queued();
        }
        self.flush();
    }
}

/// The descriptor stays the same across [`ErrorLog::reopen`].
impl AsRawFd for ErrorLog {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Room for a usual record without a second allocation.
const RECORD_BYTES_USUAL: usize = 256;

/// The descriptor of the standard error, fixed by POSIX.
const STDERR: RawFd = 2;
