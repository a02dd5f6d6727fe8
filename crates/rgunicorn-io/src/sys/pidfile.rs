//! The pid file: written atomically, refused if it names a living process, removed only while it still holds this
//! process's number. The rules are Gunicorn's.

use super::place::Place;
use super::process::{self, Pid};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
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
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !directory.is_dir() {
            return Err(PidFileError::NoDirectory(directory.to_owned()));
        }
        let failed = |error| PidFileError::Io(path.to_owned(), error);
        let place = Place::find(path, None).map_err(failed)?;
        if let Some(other) = read(&place).filter(|other| !ours.contains(other) && process::exists(*other)) {
            return Err(PidFileError::Running(other, path.to_owned()));
        }
        write(&place, pid).map_err(failed)?;
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
        let Ok(place) = Place::find(&self.path, None) else { return };
        if read(&place) == Some(self.pid) {
            // It may have gone in between, or its directory may forbid it: then it stays, and counts as stale later.
            let _ = place.remove();
        }
    }
}

/// The most bytes of a pid file that are read: a number and white space.
const READ_BYTES_MAX: u64 = 64;

/// Reads the pid in a file; `None` if there is no file or no number in it.
fn read(place: &Place) -> Option<Pid> {
    let mut text = String::new();
    place.read().ok()?.take(READ_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|pid| *pid > 0)
}

fn write(place: &Place, pid: Pid) -> io::Result<()> {
    let suffix = format!(".{pid}.tmp");
    // A leftover of an earlier process with the same pid may be replaced; a link there is not followed.
    let _ = place.remove_beside(&suffix);
    let result = place.create_beside(&suffix, 0o644).and_then(|mut file| {
        // The mode is a promise, whatever the umask is.
        file.set_permissions(PermissionsExt::from_mode(0o644))?;
        writeln!(file, "{pid}")
    });
    result.and_then(|()| place.replace_by_beside(&suffix)).inspect_err(|_| {
        let _ = place.remove_beside(&suffix);
    })
}

#[cfg(test)]
#[path = "tests/pidfile.rs"]
mod tests;
