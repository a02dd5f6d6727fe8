//! The environment and the datagrams by which a service manager in systemd's way and a service talk: sd_listen_fds(3),
//! sd_notify(3), sd_watchdog_enabled(3). Nothing of it needs systemd's library.

use std::ffi::OsStr;
use std::io;
use std::os::fd::RawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::process::Pid;

/// The variable with the process id that the sockets are for.
pub const LISTEN_PID: &str = "LISTEN_PID";
/// The variable with their number.
pub const LISTEN_FDS: &str = "LISTEN_FDS";
/// The variable with their names, which are not used here.
pub const LISTEN_FDNAMES: &str = "LISTEN_FDNAMES";
/// The variable with the address to send notices to.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// The variable with the time in microseconds within which signs of life are expected.
pub const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
/// The variable with the process id that they are expected from.
pub const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST_FD: RawFd = 3;
/// A manager that does not read its socket must not stop the server.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns the descriptors that are handed over to the process `own`, by the values of [`LISTEN_PID`] and
/// [`LISTEN_FDS`].
///
/// # Errors
/// They are for this process, but their number is none.
pub fn listen_fds(pid: Option<&str>, count: Option<&str>, own: Pid) -> Result<Vec<RawFd>, String> {
    // Variables that another process has inherited and passed on are not for this one.
    if pid.and_then(|pid| pid.parse().ok()) != Some(own) {
        return Ok(Vec::new());
    }
    let count = count.unwrap_or("0");
    let beyond =
        count.parse::<RawFd>().ok().filter(|count| *count >= 0).and_then(|count| FIRST_FD.checked_add(count));
    beyond
        .map(|beyond| (FIRST_FD..beyond).collect())
        .ok_or_else(|| format!("{LISTEN_FDS}={count}: not a number of sockets"))
}

/// Returns how long the process may be silent, by the values of [`WATCHDOG_USEC`] and [`WATCHDOG_PID`]. `own`: the
/// process ids that are this service's.
pub fn watchdog(usec: Option<&str>, pid: Option<&str>, own: &[Pid]) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse().is_ok_and(|pid: Pid| !own.contains(&pid))) {
        return None;
    }
    usec?.parse().ok().filter(|usec| *usec > 0).map(Duration::from_micros)
}

/// The destination of notices.
#[derive(Clone, Debug)]
pub struct Notifier {
    address: SocketAddr,
}

impl Notifier {
    /// Makes a notifier by the value of [`NOTIFY_SOCKET`]: an absolute path, or `@` and an abstract name.
    ///
    /// # Errors
    /// `InvalidInput`: neither, or too long.
    pub fn at(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "neither a path nor an abstract name",
                ));
            }
        };
        Ok(Self { address })
    }

    /// Sends one notice.
    ///
    /// # Errors
    /// No manager listens there (any more), or it does not read.
    pub fn send(&self, text: &str) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        socket.send_to_addr(text.as_bytes(), &self.address).map(drop)
    }
}

#[cfg(test)]
#[path = "tests/systemd.rs"]
mod tests;
