//! The sockets that a child forked by the application must not keep: the clients' and the listeners'. It would hold
//! connections of a parent that has died half open, and a port that no process accepts at. In a child the numbers lead
//! to /dev/null: no other file of the child gets one, so whatever closes them there closes nothing else.
//!
//! Programs that a child executes do not get the sockets either way: they are close-on-exec.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::listener::Listener;

/// Numbers from here on are not known, and stay with a child: more connections than a worker has by far.
const FDS_MAX: usize = 65_536;

/// One bit for each number. Static and without a lock, because the child reads it in the middle of fork(2).
static SOCKETS: [AtomicU64; FDS_MAX / 64] = [const { AtomicU64::new(0) }; FDS_MAX / 64];

/// Keeps a socket from children that are forked from now on, once forks are noticed (`atfork::generation`). Its owner
/// calls [`release`] before it closes it.
pub fn withhold(fd: RawFd) {
    if let Some((word, bit)) = place(fd) {
        word.fetch_or(bit, Relaxed);
    }
}

/// Ends [`withhold`]: the number may become another file's.
pub fn release(fd: RawFd) {
    if let Some((word, bit)) = place(fd) {
        word.fetch_and(!bit, Relaxed);
    }
}

/// The listeners of a worker, withheld: a child that had them would keep a port open, or take its share of the
/// connections (`reuse_port`), and never accept.
#[derive(Debug)]
pub struct WithheldListeners(Vec<Arc<Listener>>);

impl WithheldListeners {
    /// Takes the listeners of a worker that is about to serve.
    pub fn new(listeners: Vec<Arc<Listener>>) -> Self {
        listeners.iter().for_each(|listener| withhold(listener.as_fd().as_raw_fd()));
        Self(listeners)
    }
}

impl Drop for WithheldListeners {
    fn drop(&mut self) {
        self.0.iter().for_each(|listener| release(listener.as_fd().as_raw_fd()));
    }
}

fn place(fd: RawFd) -> Option<(&'static AtomicU64, u64)> {
    let fd = usize::try_from(fd).ok()?;
    Some((SOCKETS.get(fd / 64)?, 1 << (fd % 64)))
}

/// Lets go of the sockets, in a child that has just been forked. Only system calls: another thread of the parent may
/// have held any lock.
pub(super) fn let_go_in_child() {
    let mut null = -1;
    for (index, word) in SOCKETS.iter().enumerate() {
        let mut bits = word.swap(0, Relaxed);
        while bits != 0 {
            let fd = (index * 64) as RawFd + bits.trailing_zeros() as RawFd;
            bits &= bits - 1;
            if null < 0 {
                // SAFETY: the path is a C string; open is async-signal-safe.
                null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
            }
            // SAFETY: no memory is passed, and dup3 and close are async-signal-safe. The number is a socket's whose
            // owner has not released it, and in the child nothing uses it any more. Without a /dev/null (no descriptor
            // is left) it is closed.
            unsafe {
                if null < 0 {
                    libc::close(fd)
                } else {
                    libc::dup3(null, fd, libc::O_CLOEXEC)
                };
            }
        }
    }
    if null >= 0 {
        // SAFETY: `open` above has made it, and nothing else knows it.
        unsafe { libc::close(null) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    /// Forks a child that says whether `fd` is a socket there.
    fn is_socket_in_child(fd: RawFd) -> bool {
        // SAFETY: the child only asks for the kind of a descriptor, and leaves.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: `stat` is plain data and a live place for fstat; _exit ends the child at once.
            unsafe {
                let mut stat: libc::stat = std::mem::zeroed();
                let known = libc::fstat(fd, &raw mut stat) == 0;
                libc::_exit(i32::from(known && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK));
            }
        }
        let mut status = -1;
        // SAFETY: waits for the child made above.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        libc::WEXITSTATUS(status) == 1
    }

    #[test]
    fn a_child_does_not_get_what_is_withheld() {
        let (here, mut there) = UnixStream::pair().unwrap();
        crate::sys::atfork::generation();
        let (kept, _other) = UnixStream::pair().unwrap();
        withhold(here.as_raw_fd());
        assert!(!is_socket_in_child(here.as_raw_fd()));
        assert!(is_socket_in_child(kept.as_raw_fd()));
        release(here.as_raw_fd());
        assert!(is_socket_in_child(here.as_raw_fd()));
        drop(here);
        assert_eq!(there.read(&mut [0]).unwrap(), 0, "and the parent has kept it");
    }

    #[test]
    fn numbers_that_are_none_are_no_problem() {
        withhold(-1);
        release(-1);
        withhold(RawFd::MAX);
        release(RawFd::MAX);
    }
}
