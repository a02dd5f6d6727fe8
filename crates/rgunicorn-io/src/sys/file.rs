//! Files, pipes and duplicates of descriptors.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use super::check;
use super::net::{self, is_shortage};
use super::place::Place;

/// Most bytes of a file that are read to be sent, at once: what a socket takes, as a rule.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Makes an unlinked temporary file in the directory `dir`, readable and writable.
///
/// # Errors
/// Those of open(2) with O_TMPFILE; where the file system has none (EOPNOTSUPP, EISDIR), those of making and unlinking
/// a named one.
pub fn temporary_file_in(dir: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    match options.custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC).open(dir) {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)) => {}
        result => return result,
    }
    let name = format!("rgunicorn-body-{}-{}", std::process::id(), super::clock::now().0);
    let place = Place::find(&dir.join(name), None)?;
    let file = place.create_beside("", 0o600)?;
    place.remove()?;
    Ok(file)
}

/// Makes a pipe whose ends never block and are closed on exec: (read end, write end).
///
/// # Errors
/// Those of pipe2(2): no descriptors left.
pub fn nonblocking_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors that pipe2 writes.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: pipe2 has just made both, and nothing else knows them.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Reads away whatever is in a non-blocking pipe.
///
/// # Errors
/// It cannot be read, and stays readable.
pub fn drain(pipe: &OwnedFd) -> io::Result<()> {
    let mut buf = [0_u8; 256];
    loop {
        // SAFETY: `buf` is writable for its whole length.
        let got = unsafe { libc::read(pipe.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
        match check(i32::try_from(got).unwrap_or(0)) {
            Ok(read) if read as usize == buf.len() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => return Ok(()),
        }
    }
}

/// Opens `/dev/null` for each standard stream (0, 1, 2) that is closed. Otherwise the next pipe or socket would get
/// its number, and what is written to stderr would go there.
///
/// # Errors
/// Those of open(2) on `/dev/null`.
pub fn open_missing_standard_streams() -> io::Result<()> {
    loop {
        // SAFETY: the path is a C string. Without O_CLOEXEC, as programs that the application runs have streams too.
        let fd = check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) })?;
        // The kernel gives the lowest number that is free.
        if fd > libc::STDERR_FILENO {
            // SAFETY: open has just made it, and nothing else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            return Ok(());
        }
    }
}

/// Keeps a descriptor that this process has inherited from programs that it runs.
///
/// # Errors
/// EBADF: there is no such descriptor.
pub fn set_close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes no pointer.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// Makes a second descriptor of the same open file, closed on exec.
///
/// # Errors
/// Those of fcntl(2): bad descriptor, none left.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes a number, no pointer.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })?;
    // SAFETY: fcntl has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Makes a second descriptor for the regular file behind `fd`.
///
/// # Errors
/// As [`duplicate`]; `InvalidInput` when it is not a regular file.
pub fn duplicate_regular_file(fd: RawFd) -> io::Result<File> {
    let file = File::from(duplicate(fd)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Tells whether a descriptor is of a kind that epoll may refuse (`EPERM`) because it is always ready: a regular file,
/// a directory, a device. The refusal of any other one is an error.
pub fn is_always_ready(fd: RawFd) -> bool {
    let copy = match duplicate(fd) {
        Ok(copy) => copy,
        // Then it cannot be known, and to say no would end what waits for a file.
        Err(error) => return is_shortage(&error),
    };
    let kind = File::from(copy).metadata().map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_file() || kind.is_dir() || kind.is_char_device() || kind.is_block_device())
}

/// Sends at most `len` bytes of `file` from `offset` to `socket` without waiting, by sendfile(2). Returns how many
/// went; zero at the end of the file.
///
/// The sockets of the worker are in blocking mode (io_uring wants them so) and sendfile has no flag for a single call,
/// so the mode is changed around it. Nothing else of this thread runs in between.
///
/// Where the file cannot be sent so (some file systems cannot, and a sandbox may forbid the call), it is read and sent.
///
/// # Errors
/// `WouldBlock` when the socket takes nothing now; otherwise those of sendfile(2), or of reading and sending.
pub fn sendfile(socket: RawFd, file: &File, offset: u64, len: u64) -> io::Result<u64> {
    match sendfile_only(socket, file, offset, len) {
        Err(error) if is_unsuited(&error) => send_read(socket, file, offset, len),
        result => result,
    }
}

/// Tells whether an error of sendfile(2) is about the call, and neither about the file's content nor the socket.
fn is_unsuited(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::EPERM | libc::EACCES)
    )
}

/// Reads at most [`READ_BYTES_MAX`] from `offset` on, and sends as much of that as the socket takes.
fn send_read(socket: RawFd, file: &File, offset: u64, len: u64) -> io::Result<u64> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(READ_BYTES_MAX)];
    let read = file.read_at(&mut bytes, offset)?;
    match bytes.get(..read) {
        Some(bytes) if read > 0 => net::send_now(socket, bytes, &[]).map(|sent| sent as u64),
        _ => Ok(0),
    }
}

fn sendfile_only(socket: RawFd, file: &File, offset: u64, len: u64) -> io::Result<u64> {
    let mut at = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    // SAFETY: F_GETFL takes no pointer.
    let flags = check(unsafe { libc::fcntl(socket, libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes a number, no pointer.
    check(unsafe { libc::fcntl(socket, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    // SAFETY: `at` is a valid place for the offset; the descriptors stay open for the call.
    let sent = unsafe { libc::sendfile(socket, file.as_raw_fd(), &raw mut at, len) };
    let result = if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as u64) };
    // SAFETY: F_SETFL takes a number, no pointer.
    check(unsafe { libc::fcntl(socket, libc::F_SETFL, flags) })?;
    result
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn a_temporary_file_has_no_name() {
        use std::os::unix::fs::MetadataExt;
        let mut file = temporary_file_in(&std::env::temp_dir()).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        file.write_all(b"kept").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept");
    }

    #[test]
    fn a_pipe_is_drained_without_blocking() {
        let (read, write) = nonblocking_pipe().unwrap();
        File::from(write.try_clone().unwrap()).write_all(&[1; 1000]).unwrap();
        drain(&read).unwrap();
        let error = File::from(read).read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_pipe_that_cannot_be_read_says_so() {
        let (_read, write) = nonblocking_pipe().unwrap();
        assert_eq!(drain(&write).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn what_sendfile_is_not_suited_for_is_read_and_sent() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let directory = File::open(std::env::temp_dir()).unwrap();
        let error = sendfile(ours.as_raw_fd(), &directory, 0, 10).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EISDIR), "it is reading that fails");
        let mut file = temporary_file_in(&std::env::temp_dir()).unwrap();
        file.write_all(b"0123456789").unwrap();
        assert_eq!(send_read(ours.as_raw_fd(), &file, 3, 5).unwrap(), 5);
        let mut got = [0; 5];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"34567");
        assert_eq!(send_read(ours.as_raw_fd(), &file, 10, 5).unwrap(), 0, "the end");
    }

    #[test]
    fn only_files_are_always_ready() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let (pipe, _end) = nonblocking_pipe().unwrap();
        let ready = [temporary_file_in(&std::env::temp_dir()).unwrap(), File::open("/dev/null").unwrap()];
        assert!(ready.iter().all(|file| is_always_ready(file.as_raw_fd())));
        assert!(
            !is_always_ready(socket.as_raw_fd())
                && !is_always_ready(pipe.as_raw_fd())
                && !is_always_ready(-1)
        );
    }

    #[test]
    fn sendfile_stops_where_the_socket_is_full_and_leaves_the_mode_alone() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut file = temporary_file_in(&std::env::temp_dir()).unwrap();
        file.write_all(&vec![7; 4 << 20]).unwrap();
        let mut sent = 0;
        let blocked = loop {
            match sendfile(ours.as_raw_fd(), &file, sent, 1 << 20) {
                Ok(n) => sent += n,
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(blocked, io::ErrorKind::WouldBlock);
        assert!(sent > 0 && sent < 4 << 20);
        let mut got = vec![0; usize::try_from(sent).unwrap()];
        theirs.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|byte| *byte == 7));
        // SAFETY: F_GETFL takes no pointer.
        let flags = unsafe { libc::fcntl(ours.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }
}
