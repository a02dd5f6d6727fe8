//! The pid file: written atomically, refused if it names a living process, removed only while it still holds this
//! process's number. The rules are Gunicorn's.

use super::process::{self, Pid};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The reason why no pid file could be written. The texts are Gunicorn's.
#[derive(Debug)]
pub enum PidFileError {
    /// The file names a living process that is not this one.
    Running(Pid, PathBuf),
    /// The directory does not exist.
    NoDirectory(PathBuf),
    /// The file could not be written.
    Io(PathBuf, io::Error),
}

impl fmt::Display for PidFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(pid, path) => {
                write!(f, "Already running on PID {pid} (or pid file '{}' is stale)", path.display())
            }
            Self::NoDirectory(directory) => {
                write!(f, "{} doesn't exist. Can't create pidfile.", directory.display())
            }
            Self::Io(path, error) => write!(f, "cannot write the pid file '{}': {error}", path.display()),
        }
    }
}

impl std::error::Error for PidFileError {}

/// A pid file that this process has written. Nothing happens on drop: a forked child must not remove it.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    pid: Pid,
}

impl PidFile {
    /// Writes `PID\n` with mode 0644 to `path`, through a temporary file in the same directory and a rename.
    ///
    /// # Errors
    /// See [`PidFileError`].
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        Self::create_after(path, process::id())
    }

    /// Writes as [`PidFile::create`] does, in the place of `predecessor`, whose number in the file does not count: it
    /// may be a process that has ended and that its parent has not waited for.
    ///
    /// # Errors
    /// See [`PidFileError`].
    pub fn create_after(path: &Path, predecessor: Pid) -> Result<Self, PidFileError> {
        let pid = process::id();
        let ours = [pid, predecessor];
        if let Some(other) = read(path).filter(|other| !ours.contains(other) && process::exists(*other)) {
            return Err(PidFileError::Running(other, path.to_owned()));
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !directory.is_dir() {
            return Err(PidFileError::NoDirectory(directory.to_owned()));
        }
        write(path, directory, pid).map_err(|error| PidFileError::Io(path.to_owned(), error))?;
        Ok(Self { path: path.to_owned(), pid })
    }

    /// Names the file that `pid` has written to `path`, to remove it when that process could not.
    pub fn of(path: PathBuf, pid: Pid) -> Self {
        Self { path, pid }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file if it still holds the pid that was written.
    pub fn remove(&self) {
        if read(&self.path) == Some(self.pid) {
            // It may have gone in between, or its directory may forbid it: then it stays, and counts as stale later.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Reads the pid in a file; `None` if there is no file or no number in it.
fn read(path: &Path) -> Option<Pid> {
    fs::read_to_string(path).ok()?.trim().parse().ok().filter(|pid| *pid > 0)
}

fn write(path: &Path, directory: &Path, pid: Pid) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary_name = name.to_owned();
    temporary_name.push(format!(".{pid}.tmp"));
    let temporary = directory.join(temporary_name);
    // A leftover of an earlier process with the same pid may be replaced; create_new below refuses links.
    let _ = fs::remove_file(&temporary);
    let result = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary).and_then(
        |mut file| {
            // The mode is a promise, whatever the umask is.
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
            writeln!(file, "{pid}")
        },
    );
    result.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
#[path = "tests/pidfile.rs"]
mod tests;
