//! The outcome of `Driver::open`, for the one log line.

use std::fmt;
use std::io;

/// The driver that was taken, and if it is not io_uring, the reason. `Display` is the text of the log line.
#[derive(Debug)]
pub struct Report {
    pub(crate) driver: &'static str,
    /// The abilities of the ring, in words; empty for the others.
    pub(crate) features: String,
    pub(crate) fallback: Option<io::Error>,
}

impl Report {
    /// Makes the report of a driver that was asked for by name and cannot be had.
    pub fn refused(driver: &'static str, error: io::Error) -> Self {
        Self { driver, features: String::new(), fallback: Some(error) }
    }

    /// Returns `"uring"`, `"epoll"` or `"sim"`.
    pub fn driver_name(&self) -> &'static str {
        self.driver
    }

    /// Returns why io_uring was not taken although it was allowed.
    pub fn fallback(&self) -> Option<&io::Error> {
        self.fallback.as_ref()
    }
}

/// The alternate form (`{:#}`) is short: it leaves the features out.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.driver)?;
        if !f.alternate() && !self.features.is_empty() {
            write!(f, " ({})", self.features)?;
        }
        if let Some(error) = &self.fallback {
            write!(f, " (io_uring is not available: {}; {})", errno_name(error), likely_cause(error))?;
        }
        Ok(())
    }
}

fn errno_name(error: &io::Error) -> String {
    let name = match error.raw_os_error() {
        Some(libc::EPERM) => "EPERM",
        Some(libc::ENOSYS) => "ENOSYS",
        Some(libc::EOPNOTSUPP) => "EOPNOTSUPP",
        Some(libc::ENOMEM) => "ENOMEM",
        Some(libc::EINVAL) => "EINVAL",
        Some(libc::EACCES) => "EACCES",
        Some(libc::EMFILE) => "EMFILE",
        Some(libc::ENFILE) => "ENFILE",
        _ => return error.to_string(),
    };
    name.to_owned()
}

/// Names the usual cause of such an answer.
fn likely_cause(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match sysctl_disabled() {
            Some(level) if level > 0 => format!("sysctl kernel.io_uring_disabled is {level}"),
            _ => "likely denied by a seccomp profile (the default of Docker, containerd and Kubernetes)"
                .to_owned(),
        },
        Some(libc::ENOSYS) => "the kernel has none, or a sandbox hides it".to_owned(),
        Some(libc::EOPNOTSUPP) => "likely a sandbox".to_owned(),
        Some(libc::ENOMEM) => {
            "likely RLIMIT_MEMLOCK (ulimit -l), which all processes of this user share".to_owned()
        }
        Some(libc::EINVAL) => "the kernel is older than 6.1".to_owned(),
        Some(libc::EMFILE | libc::ENFILE) => "no file descriptor left".to_owned(),
        _ => "unknown cause".to_owned(),
    }
}

/// Reads kernel.io_uring_disabled (since 6.6): 1 is "only for io_uring_group", 2 is "for all".
fn sysctl_disabled() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}
