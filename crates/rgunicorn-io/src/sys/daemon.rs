//! The parts of a daemon besides the forks: a session of its own, and standard streams that lead to no terminal.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::check;

/// Makes the calling process the leader of a new session without a terminal.
///
/// # Errors
/// EPERM if it leads a process group already: it has to be a forked child.
pub fn new_session() -> io::Result<()> {
    // SAFETY: setsid takes nothing.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Sends the standard streams to `/dev/null`. With `keep_outputs`, stdout and stderr stay where they are unless that
/// is a terminal.
///
/// # Errors
/// Those of open(2) and dup2(2).
pub fn detach_standard_streams(keep_outputs: bool) -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let detached = |fd: RawFd| {
        // SAFETY: isatty takes a number and touches no memory of this process.
        fd == libc::STDIN_FILENO || !keep_outputs || unsafe { libc::isatty(fd) } == 1
    };
    for fd in
        [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO].into_iter().filter(|fd| detached(*fd))
    {
        // SAFETY: dup2 takes no pointer; no Rust value owns the standard streams, and the copy is inherited by
        // programs that the application runs, as streams have to be.
        check(unsafe { libc::dup2(null.as_raw_fd(), fd) })?;
    }
    if null.as_raw_fd() <= libc::STDERR_FILENO {
        // One of the streams was closed and got the file's own number: it stays open as that.
        std::mem::forget(null);
    }
    Ok(())
}
