//! Daemon mode: the server in the background, in Gunicorn's way.

use pyo3::prelude::*;

use crate::gevent;
use rgunicorn_io::sys::{daemon, process};
use rgunicorn_settings::Settings;

use super::console::write_stderr;

/// The umask of a daemon. Gunicorn's.
const UMASK: u32 = 0o022;

/// Leaves the terminal, unless the process `is_detached`: the process that returns is another one, without
/// terminal, in a session without a leader, and its standard streams are `/dev/null`. To be called before
/// there is anything that a fork takes away or duplicates: threads, sockets, the pid file, log files.
///
/// # Errors
/// The text for stderr.
pub(super) fn detach(py: Python<'_>, settings: &Settings, is_detached: bool) -> Result<(), String> {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        let text = "Warning: with daemon = True the server leaves the process that systemd waits for (Type=notify)\n";
        write_stderr(py, text);
    }
    if is_detached {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| format!("Error: cannot become a daemon: {error}");
    go_on_in_child(py).map_err(|error| failed(&error))?;
    daemon::new_session().map_err(|error| failed(&error))?;
    // Once more: only the leader of a session can get a terminal by opening one.
    go_on_in_child(py).map_err(|error| failed(&error))?;
    process::set_umask(UMASK);
    daemon::detach_standard_streams(settings.enable_stdio_inheritance()).map_err(|error| failed(&error))
}

/// Forks; the parent ends here, with status 0.
fn go_on_in_child(py: Python<'_>) -> PyResult<()> {
    if fork(py)? != 0 {
        process::exit_now(0);
    }
    Ok(())
}

/// Forks by Python's own function: gevent's makes the parent watch the child through the hub, and takes
/// SIGCHLD for that.
///
/// # Errors
/// The exceptions of `os.fork`.
pub(super) fn fork(py: Python<'_>) -> PyResult<i32> {
    let pid: i32 = gevent::original(py, "os", "fork")?.call0()?.extract()?;
    if pid == 0
        && let Err(error) = gevent::after_fork(py)
    {
        error.write_unraisable(py, None);
    }
    Ok(pid)
}
