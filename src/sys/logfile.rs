//! The file behind a log: a descriptor whose number never changes, so that a reopen needs no lock and disturbs no
//! writer, thread or Python object that knows the number.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use super::check;

/// Where log records go.
#[derive(Debug)]
pub struct LogFile {
    fd: RawFd,
    /// Closes `fd` at the end; `None` for a standard stream, which is not ours to close.
    _owner: Option<OwnedFd>,
}

impl LogFile {
    /// The standard stream `fd` (1 or 2). If it is closed, the records go nowhere: a socket opened later may get its
    /// number, and must not receive them.
    ///
    /// # Errors
    /// The stream is closed and /dev/null cannot be opened.
    pub fn stream(fd: RawFd) -> io::Result<Self> {
        // SAFETY: F_GETFD takes no pointer.
        if check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).is_ok() {
            return Ok(Self { fd, _owner: None });
        }
        Self::append("/dev/null")
    }

    /// The file at `path`, made if it is missing, written at its end; closed on exec.
    ///
    /// # Errors
    /// It cannot be opened for writing.
    pub fn append(path: &str) -> io::Result<Self> {
        let owner = open(path)?;
        Ok(Self {
            fd: owner.as_raw_fd(),
            _owner: Some(owner),
        })
    }

    /// Puts the file that is at `path` now behind the same descriptor number. A write of another thread goes to the
    /// old file or to the new one, whole.
    ///
    /// # Errors
    /// It cannot be opened: the old file stays.
    pub fn reopen(&self, path: &str) -> io::Result<()> {
        let new = open(path)?;
        // SAFETY: dup3 takes no pointer; `fd` is ours (a path is only ever reopened over a file opened by path).
        check(unsafe { libc::dup3(new.as_raw_fd(), self.fd, libc::O_CLOEXEC) }).map(drop)
    }

    /// One write(2), repeated only when a signal came before any byte.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            // SAFETY: the pointer and the length are of one live slice.
            let written = unsafe { libc::write(self.fd, bytes.as_ptr().cast(), bytes.len()) };
            match usize::try_from(written) {
                Ok(written) => return Ok(written),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The most bytes that one write puts down without those of other processes in between: all for a regular file
    /// opened for appending, PIPE_BUF for pipes (pipe(7)) and, to be on the safe side, for everything else.
    pub fn atomic_bytes_max(&self) -> usize {
        // SAFETY: `stat` is plain data, for which all bits zero is a value.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `stat` is a live place for one `stat`.
        let known = check(unsafe { libc::fstat(self.fd, &raw mut stat) }).is_ok();
        let regular = known && stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        if regular { usize::MAX } else { libc::PIPE_BUF }
    }
}

impl AsRawFd for LogFile {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

fn open(path: &str) -> io::Result<OwnedFd> {
    // O_NOCTTY: a log that is sent to a terminal device must not make it the daemon's controlling terminal.
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)?;
    Ok(OwnedFd::from(file))
}
