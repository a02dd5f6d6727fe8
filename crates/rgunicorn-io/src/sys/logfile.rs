//! The file behind a log: a descriptor whose number never changes, so that a reopen needs no lock and disturbs no
//! writer, thread or Python object that knows the number.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use super::check;
use super::place::{self, Owner, Place};

/// The destination of log records.
#[derive(Debug)]
pub struct LogFile {
    fd: RawFd,
    /// Closes `fd` at the end; `None` for a standard stream, which this value does not own.
    _owner: Option<OwnedFd>,
    /// Where to open it again, and the account that gets it; `None` for a standard stream.
    target: Option<Target>,
}

#[derive(Debug)]
struct Target {
    path: PathBuf,
    owner: Option<Owner>,
}

/// Opens the file at `path`, made if it is missing, for writing at its end. If it is a regular file, `owner` gets it:
/// what was opened, whatever stands at the path by then.
///
/// # Errors
/// It cannot be opened for writing or given away; see [`Place::append`].
pub fn open(path: &Path, owner: Option<Owner>) -> io::Result<File> {
    let file = Place::find(path, owner)?.append()?;
    if let Some(owner) = owner {
        place::give(&file, owner)?;
    }
    Ok(file)
}

impl LogFile {
    /// Writes to the standard stream `fd` (1 or 2). If it is closed, the records go nowhere: a socket opened later may
    /// get its number, and must not receive them.
    ///
    /// # Errors
    /// The stream is closed and /dev/null cannot be opened.
    pub fn stream(fd: RawFd) -> io::Result<Self> {
        // SAFETY: F_GETFD takes no pointer.
        if check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).is_ok() {
            return Ok(Self { fd, _owner: None, target: None });
        }
        Ok(Self { target: None, ..Self::append("/dev/null", None)? })
    }

    /// Opens the file at `path`, made if it is missing, written at its end; closed on exec. If it is a regular file,
    /// `owner` gets it: workers, which have changed to that account, must be able to open it again.
    ///
    /// # Errors
    /// It cannot be opened for writing or given away; see [`Place::append`].
    pub fn append(path: &str, owner: Option<Owner>) -> io::Result<Self> {
        let target = Target { path: Path::new(path).to_owned(), owner };
        let file = OwnedFd::from(open(&target.path, owner)?);
        Ok(Self { fd: file.as_raw_fd(), _owner: Some(file), target: Some(target) })
    }

    /// Puts the file that is at the path now behind the same descriptor number. A write of another thread goes to the
    /// old file or to the new one, whole. A standard stream stays what it is.
    ///
    /// # Errors
    /// As [`Self::append`]: the old file stays.
    pub fn reopen(&self) -> io::Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        let new = open(&target.path, target.owner)?;
        // SAFETY: dup3 takes no pointer; `_owner` owns `fd` (only a file opened by path has a target).
        check(unsafe { libc::dup3(new.as_raw_fd(), self.fd, libc::O_CLOEXEC) }).map(drop)
    }

    /// Writes by one write(2), repeated only when a signal came before any byte.
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

    /// Returns the most bytes that one write puts down without those of other processes in between: all for a regular
    /// file opened for appending, PIPE_BUF for pipes (pipe(7)) and, to be on the safe side, for everything else.
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

/// Makes the open file behind `fd` non-blocking, as another program that shares it may do. For tests.
///
/// # Panics
/// If the descriptor is not open.
#[cfg(feature = "sim")]
pub fn set_nonblocking(fd: RawFd) {
    // SAFETY: neither call takes a pointer.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK) })
        .expect("the descriptor is open");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_stream_takes_records_and_keeps_them_from_its_next_owner() {
        // A number beyond any limit of open files stands for a closed stream.
        let file = LogFile::stream(1 << 30).unwrap();
        assert_ne!(file.as_raw_fd(), 1 << 30);
        assert_eq!(file.write(b"gone").unwrap(), 4);
    }

    #[test]
    fn an_open_stream_is_used_as_it_is_and_left_open() {
        let (_reader, writer) = io::pipe().unwrap();
        let file = LogFile::stream(writer.as_raw_fd()).unwrap();
        assert_eq!(file.as_raw_fd(), writer.as_raw_fd());
        drop(file);
        assert!(LogFile::stream(writer.as_raw_fd()).unwrap().as_raw_fd() == writer.as_raw_fd());
    }

    #[test]
    fn descriptors_are_closed_on_exec_also_after_a_reopen() {
        let file = LogFile::append("/dev/null", None).unwrap();
        file.reopen().unwrap();
        // SAFETY: F_GETFD takes no pointer.
        let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC);
    }

    #[test]
    fn only_regular_files_take_any_length_whole() {
        let (_reader, writer) = io::pipe().unwrap();
        assert_eq!(LogFile::stream(writer.as_raw_fd()).unwrap().atomic_bytes_max(), libc::PIPE_BUF);
        let path = std::env::temp_dir().join(format!("rgunicorn-logfile-{}", std::process::id()));
        let file = LogFile::append(path.to_str().unwrap(), None).unwrap();
        assert_eq!(file.atomic_bytes_max(), usize::MAX);
        std::fs::remove_file(path).unwrap();
    }
}
