//! How this process was started: what an upgrade in place starts again, and what a master that was started by one has got
//! from the master before it.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use pyo3::prelude::*;

use crate::arbiter::{Launch, PARENT_VARIABLE, Predecessor, SOCKETS_VARIABLE};
use crate::conf;
use crate::sys::exec::Program;
use crate::sys::file;

/// Takes what the environment says. The descriptors are nobody else's from here on, and the variable that names them goes;
/// the other one stays, for workers and hooks to see, until the master is promoted.
///
/// # Errors
/// Descriptors that are none: the text for stderr.
pub(super) fn of_process(py: Python<'_>, directory: &Path) -> Result<Launch, String> {
    let program = program(py, directory).map_err(|error| error.to_string())?;
    let variable = |name| std::env::var(name).ok();
    // A program that a worker of a heir runs sees the first one alone.
    let (Some(pid), Some(list)) = (variable(PARENT_VARIABLE), variable(SOCKETS_VARIABLE)) else {
        return Ok(Launch { program, predecessor: None });
    };
    let broken = |what: &dyn std::fmt::Display| format!("{SOCKETS_VARIABLE}={list}: {what}");
    let pid = pid.parse().map_err(|error| format!("{PARENT_VARIABLE}={pid}: {error}"))?;
    let mut sockets: Vec<RawFd> = Vec::new();
    for number in list.split(',').filter(|number| !number.is_empty()) {
        let fd = number.parse().map_err(|error| broken(&error))?;
        file::set_close_on_exec(fd).map_err(|error| broken(&error))?;
        sockets.push(fd);
    }
    conf::set_environ(py, (SOCKETS_VARIABLE.to_owned(), None)).map_err(|error| error.to_string())?;
    Ok(Launch { program, predecessor: Some(Predecessor { pid, sockets }) })
}

/// The same interpreter with the same command line, in the environment and the directory of now. Not `sys.argv`, which
/// has lost the interpreter's own options and `-m`.
fn program(py: Python<'_>, directory: &Path) -> PyResult<Program> {
    let sys = py.import("sys")?;
    let executable: Option<PathBuf> = sys.getattr("executable")?.extract()?;
    let executable = executable.unwrap_or_default();
    let mut arguments: Vec<OsString> = sys.getattr("orig_argv")?.extract()?;
    if let Some(name) = arguments.first_mut() {
        *name = executable.clone().into();
    }
    let inherited = [PARENT_VARIABLE, SOCKETS_VARIABLE];
    let environment = std::env::vars_os().filter(|(name, _)| inherited.iter().all(|one| name != one));
    Ok(Program { executable, arguments, environment: environment.collect(), directory: directory.to_owned() })
}
