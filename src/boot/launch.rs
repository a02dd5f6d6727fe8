//! How this process was started: what an upgrade in place starts again, and what a master that was started by
//! one has got from the master before it.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::conf::{self, Variable};
use rgunicorn_io::sys::exec::Program;
use rgunicorn_io::sys::file;
use rgunicorn_io::sys::process::{self, Pid};
use rgunicorn_io::sys::systemd::{self, Notifier};
use rgunicorn_server::arbiter::{Launch, OldMaster, PARENT_VARIABLE, SOCKETS_VARIABLE};

/// Tells a new master that a service manager has opened the sockets that it gets, and not the master before
/// it.
const ACTIVATED_VARIABLE: &str = "RGUNICORN_ACTIVATED";

/// Reads the environment. The descriptors belong to the launch alone from here on, and the variables that
/// name them go; that of the parent stays, for workers and hooks to see, until the master is promoted.
///
/// # Errors
/// Descriptors that are none, or an address that is none: the text for stderr.
pub(super) fn of_process(py: Python<'_>, directory: &Path) -> Result<Launch, String> {
    let (old_master, activated) = match old_master(py)? {
        // What a service manager had opened for the first master is still its own.
        Some(OldMaster { pid, sockets }) if variable(ACTIVATED_VARIABLE).is_some() => {
            (Some(OldMaster { pid, sockets: Vec::new() }), sockets)
        }
        Some(old_master) => (Some(old_master), Vec::new()),
        None => (None, activated(py)?),
    };
    set(py, ACTIVATED_VARIABLE, None)?;
    let watchdog = watchdog(py, old_master.as_ref().map(|old_master| old_master.pid))?;
    let notifier = notifier()?;
    let program = program(py, directory, !activated.is_empty()).map_err(|error| error.to_string())?;
    Ok(Launch { program, old_master, activated, notifier, watchdog })
}

/// Returns the master that has started this process; `None`: another program has.
fn old_master(py: Python<'_>) -> Result<Option<OldMaster>, String> {
    // A program that a worker of a new master runs sees the first one alone.
    let (Some(pid), Some(list)) = (variable(PARENT_VARIABLE), variable(SOCKETS_VARIABLE)) else {
        return Ok(None);
    };
    let broken = |what: &dyn std::fmt::Display| format!("{SOCKETS_VARIABLE}={list}: {what}");
    let pid = pid.parse().map_err(|error| format!("{PARENT_VARIABLE}={pid}: {error}"))?;
    let mut sockets: Vec<RawFd> = Vec::new();
    for number in list.split(',').filter(|number| !number.is_empty()) {
        let fd = number.parse().map_err(|error| broken(&error))?;
        file::set_close_on_exec(fd).map_err(|error| broken(&error))?;
        sockets.push(fd);
    }
    set(py, SOCKETS_VARIABLE, None)?;
    Ok(Some(OldMaster { pid, sockets }))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Changes the environment, Python's view of it included; without a value the variable goes.
fn set(py: Python<'_>, name: &str, value: Option<&str>) -> Result<(), String> {
    let value = value.map(|text| PyString::new(py, text).into_any().unbind());
    conf::set_environ(py, Variable { name: name.to_owned(), value })
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Returns the sockets that a service manager has opened for this process, and hides them from programs that
/// it starts.
fn activated(py: Python<'_>) -> Result<Vec<RawFd>, String> {
    let [pid, count] = [systemd::LISTEN_PID, systemd::LISTEN_FDS].map(variable);
    let sockets = systemd::listen_fds(pid.as_deref(), count.as_deref(), process::id())?;
    if !sockets.is_empty() {
        for name in [systemd::LISTEN_PID, systemd::LISTEN_FDS, systemd::LISTEN_FDNAMES] {
            set(py, name, None)?;
        }
    }
    for fd in &sockets {
        file::set_close_on_exec(*fd).map_err(|error| format!("{}: {fd}: {error}", systemd::LISTEN_FDS))?;
    }
    Ok(sockets)
}

fn notifier() -> Result<Option<Notifier>, String> {
    let address = std::env::var_os(systemd::NOTIFY_SOCKET).filter(|address| !address.is_empty());
    let notifier = address.map(|address| {
        Notifier::at(&address).map_err(|error| format!("{}: {error}", systemd::NOTIFY_SOCKET))
    });
    notifier.transpose()
}

/// Returns how often a service manager wants a sign of life. If it wanted them from the master before this
/// one, it wants them from this one, and from the one after it.
fn watchdog(py: Python<'_>, parent: Option<Pid>) -> Result<Option<Duration>, String> {
    let [usec, pid] = [systemd::WATCHDOG_USEC, systemd::WATCHDOG_PID].map(variable);
    let own = [Some(process::id()), parent].into_iter().flatten().collect::<Vec<_>>();
    let watchdog = systemd::watchdog(usec.as_deref(), pid.as_deref(), &own);
    if watchdog.is_some() && pid.is_some() {
        set(py, systemd::WATCHDOG_PID, Some(&process::id().to_string()))?;
    }
    Ok(watchdog)
}

/// Returns the program that an upgrade starts: the same interpreter with the same command line, in the
/// environment and the directory of now. Not `sys.argv`, which has lost the interpreter's own options and
/// `-m`.
fn program(py: Python<'_>, directory: &Path, activated: bool) -> PyResult<Program> {
    let sys = py.import("sys")?;
    let executable: Option<PathBuf> = sys.getattr("executable")?.extract()?;
    let executable = executable.unwrap_or_default();
    let mut arguments: Vec<OsString> = sys.getattr("orig_argv")?.extract()?;
    if let Some(name) = arguments.first_mut() {
        *name = executable.clone().into();
    }
    let inherited = [PARENT_VARIABLE, SOCKETS_VARIABLE];
    let kept = std::env::vars_os().filter(|(name, _)| inherited.iter().all(|one| name != one));
    let marked = activated.then(|| (ACTIVATED_VARIABLE.into(), "1".into()));
    let environment = kept.chain(marked).collect();
    Ok(Program { executable, arguments, environment, directory: directory.to_owned() })
}
