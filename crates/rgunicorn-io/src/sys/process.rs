//! Processes: their ids, the ends of children, and the sending of signals. Forking is Python's (`os.fork()`), so that
//! its own fork handlers run; it comes to the arbiter through its `Host`.

use super::check;
use super::signal::Signal;
use std::ffi::CString;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

/// A process id.
pub type Pid = i32;

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildExit {
    /// Left by itself with this status, 0 to 255.
    Code(i32),
    /// Ended by this signal.
    Signal(Signal),
}

/// Returns the id of the calling process.
pub fn id() -> Pid {
    // SAFETY: getpid cannot fail and touches no memory.
    unsafe { libc::getpid() }
}

/// Returns the id of the parent of the calling process; it changes when the parent dies.
pub fn parent_id() -> Pid {
    // SAFETY: getppid cannot fail and touches no memory.
    unsafe { libc::getppid() }
}

/// Reaps one child that has ended: its id and its end. `None` if no child has ended, or there is none.
///
/// # Errors
/// None that is known on Linux for these arguments; EINTR is retried and ECHILD is `None`.
pub fn reap() -> io::Result<Option<(Pid, ChildExit)>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a place for one int.
        match check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }) {
            Ok(0) => return Ok(None),
            Ok(pid) if libc::WIFSIGNALED(status) => {
                return Ok(Some((pid, ChildExit::Signal(Signal(libc::WTERMSIG(status))))));
            }
            Ok(pid) if libc::WIFEXITED(status) => {
                return Ok(Some((pid, ChildExit::Code(libc::WEXITSTATUS(status)))));
            }
            // Stopped or continued: not asked for, so it does not come; not an end in any case.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Sends `signal` to one process. `Ok(false)` if there is no such process any more.
///
/// # Errors
/// EPERM, and `InvalidInput` for ids below 1, which kill(2) takes for process groups.
pub fn kill(pid: Pid, signal: Signal) -> io::Result<bool> {
    if pid < 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the id of one process"));
    }
    // SAFETY: kill touches no memory.
    match check(unsafe { libc::kill(pid, signal.0) }) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells whether there is such a process. One that belongs to another user counts (EPERM), as in Gunicorn.
pub fn exists(pid: Pid) -> bool {
    kill(pid, Signal(0)).unwrap_or(pid > 0)
}

/// Names the process for `ps` and `top`: the arguments that the kernel shows become `title`, cut to the room that they
/// had, and the main thread's name the first 15 bytes of `name`. Best effort: where the kernel refuses, nothing that
/// matters changes.
pub fn set_title(name: &str, title: &str) {
    set_name(name);
    if let Some((start, length)) = arguments() {
        let mut bytes: Vec<u8> =
            title.bytes().filter(|byte| *byte != 0).take(length.saturating_sub(1)).collect();
        // To the last byte: one that is not NUL would make the kernel show the environment as well (proc(5), cmdline).
        bytes.resize(length, 0);
        // Through the kernel rather than a pointer: no Rust reference to this memory exists, and a wrong address is an
        // error.
        if let Ok(memory) = std::fs::OpenOptions::new().write(true).open("/proc/self/mem") {
            let _ = memory.write_all_at(&bytes, start);
        }
    }
}

/// Finds where the kernel keeps this process's arguments: address and length; fields 48 and 49 of proc(5), stat.
fn arguments() -> Option<(u64, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the name, may hold anything, but ends with the last parenthesis; the third follows it.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().skip(48 - 3);
    let start: u64 = fields.next()?.parse().ok()?;
    let end: u64 = fields.next()?.parse().ok()?;
    Some((start, usize::try_from(end.checked_sub(start)?).ok()?))
        .filter(|(start, length)| *start > 0 && *length > 0)
}

/// Names the calling thread, the first 15 bytes of `name` (PR_SET_NAME): what `top` and `pgrep` show for a main thread.
pub fn set_name(name: &str) {
    let bytes: Vec<u8> = name.bytes().filter(|byte| *byte != 0).collect();
    if let Ok(text) = CString::new(bytes) {
        // SAFETY: PR_SET_NAME reads a string up to its NUL or 16 bytes.
        unsafe { libc::prctl(libc::PR_SET_NAME, text.as_ptr()) };
    }
}

/// Ends the calling process at once: no destructors, no atexit handlers. For a child that must not run its parent's.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit does not return and runs none of the program's code.
    unsafe { libc::_exit(status) }
}

/// Looks until the kernel has taken a thread off its list that has been joined, and the pause between them.
const THREAD_LOOKS_MAX: u32 = 100;
const THREAD_LOOK_PAUSE: Duration = Duration::from_micros(100);

/// Counts the threads of this process; `None` without /proc.
pub fn thread_count() -> Option<u64> {
    // A directory has two links and one for each directory in it.
    std::fs::metadata("/proc/self/task").ok().map(|tasks| tasks.nlink().saturating_sub(2))
}

/// Waits, within bounds, until this process has fewer threads than `count`: one that has been joined is still counted
/// for a moment.
pub fn await_thread_count_below(count: Option<u64>) {
    let Some(count) = count else { return };
    for _ in 0..THREAD_LOOKS_MAX {
        if thread_count().is_none_or(|now| now < count) {
            return;
        }
        std::thread::sleep(THREAD_LOOK_PAUSE);
    }
}

/// Returns the calling process's soft limit of open descriptors (RLIMIT_NOFILE).
///
/// # Errors
/// What getrlimit(2) answers.
pub fn descriptors_max() -> io::Result<u64> {
    Ok(nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?.0)
}

/// Sets the process's umask and returns the former one.
pub fn set_umask(umask: u32) -> u32 {
    // SAFETY: umask cannot fail and touches no memory.
    unsafe { libc::umask(umask as libc::mode_t) }
}

#[cfg(test)]
#[path = "tests/process.rs"]
mod tests;
