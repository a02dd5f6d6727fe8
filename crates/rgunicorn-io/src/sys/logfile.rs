//! The file behind a log: a descriptor whose number never changes, so that a reopen needs no lock and disturbs no
//! writer, thread or Python object that knows the number.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::check;
use super::place::{self, Owner, Place};

/// `RWF_NOWAIT` of linux/fs.h.
const RWF_NOWAIT: libc::c_long = 0x8;

/// The destination of log records.
#[derive(Debug)]
pub struct LogFile {
    fd: RawFd,
    /// Closes `fd` at the end; `None` for a standard stream, which this value does not own.
    _owner: Option<OwnedFd>,
    /// Where to open it again, and the account that gets it; `None` for a standard stream.
    target: Option<Target>,
    /// See [`LogFile::own_description`].
    own: OnceLock<Option<OwnedFd>>,
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
            return Ok(Self { fd, _owner: None, target: None, own: OnceLock::new() });
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
        Ok(Self { fd: file.as_raw_fd(), _owner: Some(file), target: Some(target), own: OnceLock::new() })
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

    /// Writes by one system call, repeated only when a signal came before any byte. Never waits for a reader: a pipe, a
    /// terminal or a socket takes what fits, or nothing.
    ///
    /// The descriptor may be shared with other processes (a shell, a service manager, the application's own output), so
    /// O_NONBLOCK is not set on it: it would be set for all of them.
    ///
    /// # Errors
    /// `WouldBlock` if nothing fits at the moment; otherwise what the call says.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let result = match self.kind() {
                libc::S_IFIFO | libc::S_IFCHR => self.write_unless_full(bytes),
                libc::S_IFSOCK => send_unless_full(self.fd, bytes),
                _ => write(self.fd, bytes),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Writes to a pipe or a terminal.
    fn write_unless_full(&self, bytes: &[u8]) -> io::Result<usize> {
        // The kernel's word for a single write that does not wait: of pipes, from Linux 6.4 on.
        match write_nowait(self.fd, bytes) {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)) => {}
            result => return result,
        }
        if let Some(own) = self.own_description() {
            return write(own, bytes);
        }
        // What is writable takes so many bytes (pipe(7)), unless another process is faster.
        let room = bytes.len().min(libc::PIPE_BUF);
        if !is_writable(self.fd) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        write(self.fd, bytes.get(..room).unwrap_or_default())
    }

    /// Returns a descriptor whose open file description is this process's own and never waits. `None`: the file cannot
    /// be opened again (another account's), or the descriptor leads to another file by now.
    fn own_description(&self) -> Option<RawFd> {
        let own = self.own.get_or_init(|| place::open_again(self.fd).ok());
        let own = own.as_ref()?.as_raw_fd();
        let (here, there) = (stat(own)?, stat(self.fd)?);
        ((here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)).then_some(own)
    }

    /// Returns the kind of file behind the descriptor; asked each time, because the application may have put another
    /// one behind a standard stream.
    fn kind(&self) -> libc::mode_t {
        stat(self.fd).map_or(0, |stat| stat.st_mode & libc::S_IFMT)
    }

    /// Returns the most bytes that one write puts down without those of other processes in between: all for a regular
    /// file opened for appending, PIPE_BUF for pipes (pipe(7)) and, to be on the safe side, for everything else.
    pub fn atomic_bytes_max(&self) -> usize {
        let regular = self.kind() == libc::S_IFREG;
        if regular { usize::MAX } else { libc::PIPE_BUF }
    }
}

impl AsRawFd for LogFile {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

fn stat(fd: RawFd) -> Option<libc::stat> {
    // SAFETY: `stat` is plain data, for which all bits zero is a value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is a live place for one `stat`.
    check(unsafe { libc::fstat(fd, &raw mut stat) }).ok().map(|_| stat)
}

fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are of one live slice.
    counted(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })
}

fn send_unless_full(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are of one live slice.
    counted(unsafe {
        libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    })
}

/// Writes at the present offset by pwritev2(2) with RWF_NOWAIT. By number: the oldest libc that wheels promise to run
/// on has no name for it.
fn write_nowait(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let part = super::net::iovec(bytes);
    let (count, here): (libc::c_ulong, libc::c_long) = (1, -1);
    // SAFETY: one iovec of a live slice, which the kernel only reads; both outlive the call.
    let written = unsafe {
        libc::syscall(
            libc::SYS_pwritev2,
            libc::c_long::from(fd),
            &raw const part,
            count,
            here,
            here,
            RWF_NOWAIT,
        )
    };
    counted(written as libc::ssize_t)
}

fn is_writable(fd: RawFd) -> bool {
    let mut asked = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd, which outlives the call; a time-out of 0 does not wait.
    unsafe { libc::poll(&raw mut asked, 1, 0) > 0 }
}

/// Turns what a write returns into the number of bytes that it has moved.
fn counted(written: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
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

    /// Fills what a file takes; returns how many bytes that were.
    fn fill(file: &LogFile) -> usize {
        let mut taken = 0;
        loop {
            match file.write(&[b'x'; 1000]) {
                Ok(written) => taken += written,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return taken;
                }
            }
        }
    }

    #[test]
    fn a_pipe_or_socket_that_nobody_reads_is_full_and_not_waited_for() {
        let (reader, writer) = io::pipe().unwrap();
        let pipe = LogFile::stream(writer.as_raw_fd()).unwrap();
        assert!(fill(&pipe) > libc::PIPE_BUF);
        // SAFETY: F_GETFL takes no pointer.
        let flags = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0, "others have the same open file");
        drop(reader);
        assert_eq!(pipe.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(fill(&LogFile::stream(here.as_raw_fd()).unwrap()) > 1000);
    }

    #[test]
    fn a_pipe_opened_by_path_is_not_waited_for_either() {
        // The kernel has no single write that does not wait for these, as for all pipes before Linux 6.4.
        let (_reader, writer) = io::pipe().unwrap();
        let file = LogFile::append(&format!("/dev/fd/{}", writer.as_raw_fd()), None).unwrap();
        assert!(fill(&file) > libc::PIPE_BUF);
        assert!(file.own.get().is_some());
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
