//! The access log: records are rendered into a buffer and leave it in few writes, whole lines at a time.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::atoms::AtomSource;
use super::backlog::whole_lines;
use super::format::AccessFormat;
use super::render::Renderer;
use rgunicorn_io::sys::logfile::LogFile;
use rgunicorn_io::sys::place::Owner;

/// The most bytes that wait for a write. About 500 records of the default format: enough for one turn of a
/// busy loop, and little to lose when the file system stalls and memory is short.
pub const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// The descriptor of the standard output, fixed by POSIX.
const STDOUT: RawFd = 1;

/// One process's access log. Several processes may share the file: each line stays whole.
#[derive(Debug)]
pub struct AccessLog {
    file: LogFile,
    format: AccessFormat,
    renderer: Renderer,
    /// Rendered records; after a write that took a part, the first one may lack its beginning.
    buffer: Vec<u8>,
    buffer_bytes_max: usize,
    /// See [`LogFile::atomic_bytes_max`].
    write_bytes_max: usize,
    dropped: u64,
    /// See [`Self::take_lost`].
    told: u64,
    /// The last write has moved something.
    flows: bool,
}

impl AccessLog {
    /// Opens `target`: a path, or `-` for the standard output.
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub fn open(target: &str, format: AccessFormat) -> io::Result<Self> {
        Self::open_for(target, format, None)
    }

    /// Opens `target` as [`Self::open`] does, and gives a regular file to `owner`, now and at each reopen.
    ///
    /// # Errors
    /// The file cannot be opened for writing or given away.
    pub fn open_for(target: &str, format: AccessFormat, owner: Option<Owner>) -> io::Result<Self> {
        let file = match target {
            "-" => LogFile::stream(STDOUT)?,
            path => LogFile::append(path, owner)?,
        };
        let write_bytes_max = file.atomic_bytes_max();
        let (renderer, buffer) = (Renderer::default(), Vec::new());
        let buffer_bytes_max = BUFFER_BYTES_MAX;
        let (dropped, told, flows) = (0, 0, true);
        Ok(Self { file, format, renderer, buffer, buffer_bytes_max, write_bytes_max, dropped, told, flows })
    }

    /// Opens `target` as [`Self::open`] does, with another bound for waiting bytes than [`BUFFER_BYTES_MAX`].
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub fn with_buffer(target: &str, format: AccessFormat, buffer_bytes_max: usize) -> io::Result<Self> {
        let mut log = Self::open(target, format)?;
        log.buffer_bytes_max = buffer_bytes_max;
        Ok(log)
    }

    /// Returns a renderer of this log's records for another thread.
    pub fn line_renderer(&self) -> LineRenderer {
        LineRenderer { format: self.format.clone(), renderer: Renderer::default() }
    }

    /// Takes records that were rendered elsewhere: whole lines.
    pub fn push_lines(&mut self, lines: &[u8]) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(lines);
        self.limit(start);
    }

    /// Renders the record of one request, unless the format excludes it. It is written by the next
    /// [`Self::flush`], or now if the buffer is full; if there is still no room, it is dropped and counted.
    pub fn push(&mut self, source: &impl AtomSource) {
        let start = self.buffer.len();
        self.renderer.render(&self.format, source, &mut self.buffer);
        self.limit(start);
    }

    /// Keeps the buffer within its bound, after bytes from `start` on were added to it; none are if the
    /// format excludes the request.
    fn limit(&mut self, start: usize) {
        if self.buffer.len() <= self.buffer_bytes_max || self.buffer.len() == start {
            return;
        }
        let record_bytes = self.buffer.len() - start;
        self.flush();
        // A record that is larger than the whole buffer gets its chance too, and then goes.
        if self.buffer.len() > self.buffer_bytes_max {
            self.drop_newest(record_bytes);
        }
    }

    /// Returns how many bytes wait for a write.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Returns how many records were lost, for want of room or because a write failed.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns how many records were lost since the last time that this returned some, once the log flows again.
    pub fn take_lost(&mut self) -> u64 {
        if !self.flows || !self.buffer.is_empty() {
            return 0;
        }
        let lost = self.dropped - self.told;
        self.told = self.dropped;
        lost
    }

    /// Writes the buffer, in one write to a file and in pieces of PIPE_BUF to a pipe, where larger ones could
    /// be mixed with other processes' lines. Never fails: a reader that is slow (EAGAIN) leaves the rest for
    /// the next time; any other failure drops it.
    pub fn flush(&mut self) {
        let mut done = 0;
        while done < self.buffer.len() {
            // Never more than there is.
            let piece = done + whole_lines(&self.buffer[done..], self.write_bytes_max);
            match self.file.write(&self.buffer[done..piece]) {
                Ok(written @ 1..) => {
                    done += written;
                    self.flows = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => {
                    self.flows = false;
                    self.dropped += records(&self.buffer[done..]);
                    done = self.buffer.len();
                }
            }
        }
        self.buffer.drain(..done);
    }

    /// Writes the buffer to the old file, then opens the path again, for log rotation. The standard output
    /// stays as it is.
    ///
    /// # Errors
    /// The file cannot be opened; records go on into the old one.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.flush();
        self.file.reopen()?;
        self.write_bytes_max = self.file.atomic_bytes_max();
        Ok(())
    }

    /// Takes the last record back out, unless a part of it is already in the file.
    fn drop_newest(&mut self, record_bytes: usize) {
        if let Some(start) = self.buffer.len().checked_sub(record_bytes) {
            self.buffer.truncate(start);
            self.dropped += 1;
        }
    }
}

/// A renderer of records for a log that another thread writes.
#[derive(Clone, Debug)]
pub struct LineRenderer {
    format: AccessFormat,
    renderer: Renderer,
}

impl LineRenderer {
    /// Appends the record of one request, with its newline; nothing if the format excludes it.
    pub fn render(&mut self, source: &impl AtomSource, out: &mut Vec<u8>) {
        self.renderer.render(&self.format, source, out);
    }
}

/// Counts the records in `bytes`, a beginning or an end of one counting as one.
fn records(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The descriptor stays the same across [`AccessLog::reopen`].
impl AsRawFd for AccessLog {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
