//! System calls and their memory, with `io::Error` for every failure. Besides the driver this is the only place that
//! names `libc` or `nix`, and it is the only one that reads a clock.
#![expect(unsafe_code, reason = "this floor wraps system calls")]

pub mod account;
pub mod atfork;
pub mod biased;
pub mod clock;
pub mod daemon;
pub mod exec;
pub mod file;
pub mod filewatch;
pub mod handoff;
pub mod inherited;
pub mod listener;
pub mod localtime;
pub mod logfile;
pub mod net;
pub mod peer;
pub mod pidfile;
pub mod place;
pub mod process;
pub mod readiness;
pub mod shared;
pub mod signal;
mod signal_ring;
pub mod sync;
pub mod systemd;
pub mod tempfile;
pub mod waker;

use std::io;

/// Turns the `-1` of a system call into the error that `errno` names.
///
/// # Errors
/// The last operating system error when `result` is -1.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
