//! Names in directories: what a privileged process does by a path must not be led elsewhere.
//!
//! root may do anything anywhere, and so whoever may write a directory on the way could lead it: by a symbolic link, or
//! another name of another account's file, in the place of what was there a moment ago. So root's paths are walked here
//! name by name, over open descriptors, and a symbolic link of another account leads to that account's files only. What
//! stands at the end is opened first and looked at afterwards, never the other way round. A process without privileges
//! cannot be misled to more than its own: its paths are the kernel's to resolve.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, geteuid, unlinkat};

/// Symbolic links in one path, the kernel's own bound (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// How often a file is looked for again that came or went between two system calls.
const TRIES_MAX: usize = 16;

/// The user and the group that get a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
}

/// Opens the file behind a descriptor a second time, for writes that never wait. No name is looked up: the kernel's own
/// link leads to the file itself, wherever that is.
///
/// # Errors
/// What openat(2) says: the file may be another account's, a socket cannot be opened.
pub(super) fn open_again(fd: RawFd) -> io::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    Ok(openat(AT_FDCWD, format!("/proc/self/fd/{fd}").as_str(), flags, Mode::empty())?)
}

/// A name in an open directory.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    name: OsString,
    /// The path as it was given, for messages.
    path: PathBuf,
    /// `None` in a process without privileges.
    guard: Option<Guard>,
}

impl Place {
    /// Opens the directory of `path`. `owner`: the account that the server's files are given to; what belongs to it
    /// may be met anywhere.
    ///
    /// # Errors
    /// What openat(2) says of a directory on the way; `PermissionDenied`, with the reason, for a path that another
    /// account could lead elsewhere; EISDIR and ENOENT for a path that ends in no name.
    pub fn find(path: &Path, owner: Option<Owner>) -> io::Result<Self> {
        if path.as_os_str().is_empty() {
            return Err(nix::Error::ENOENT.into());
        }
        let name = path.file_name().ok_or(nix::Error::EISDIR)?.to_owned();
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(nix::Error::EISDIR.into());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !geteuid().is_root() {
            let directory = openat(AT_FDCWD, parent, DIRECTORY, Mode::empty())?;
            return Ok(Self { directory, name, path: path.to_owned(), guard: None });
        }
        let mut walk = Walk::begin(Guard::new(owner))?;
        walk.add(parent);
        walk.run()?;
        Ok(Self { directory: walk.at, name, path: path.to_owned(), guard: Some(walk.guard) })
    }

    /// Opens the file for writing at its end; makes it, with the mode 0666 less the umask, if it is missing. A
    /// symbolic link is followed as far as [`Place::find`] would follow it.
    ///
    /// # Errors
    /// What openat(2) says; `PermissionDenied`, with the reason, for a file that is none of the server's;
    /// `InvalidInput` for what is neither a regular file nor a pipe, a terminal or another character device.
    pub fn append(self) -> io::Result<File> {
        // O_NOCTTY: a log that is sent to a terminal device must not make it the daemon's controlling terminal.
        let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let mode = Mode::from_bits_truncate(0o666);
        let file = if self.guard.is_none() || is_procfs(&self.directory) {
            // The links of /proc lead to what this process has open, whatever their text says.
            openat(&self.directory, &*self.name, flags | OFlag::O_CREAT, mode)?
        } else {
            self.append_guarded(flags, mode)?
        };
        match SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG | SFlag::S_IFIFO | SFlag::S_IFCHR => Ok(File::from(file)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file, a pipe or a terminal")),
        }
    }

    fn append_guarded(mut self, flags: OFlag, mode: Mode) -> io::Result<OwnedFd> {
        for _ in 0..TRIES_MAX {
            let Some(guard) = &self.guard else { break };
            let found = match openat(&self.directory, &*self.name, PINNED, Mode::empty()) {
                Ok(found) => found,
                Err(nix::Error::ENOENT) => {
                    let new = flags | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
                    match openat(&self.directory, &*self.name, new, mode) {
                        Ok(made) => return Ok(made),
                        Err(nix::Error::EEXIST) => continue,
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            };
            let stat = fstat(&found)?;
            if kind(&stat) == SFlag::S_IFLNK {
                self = self.follow(&found, &stat)?;
                continue;
            }
            guard
                .check_file(&fstat(&self.directory)?, &stat)
                .map_err(|reason| refused(&self.path, &reason))?;
            // What is no pipe any more must not keep the server waiting for a reader of one.
            let waits = kind(&stat) == SFlag::S_IFIFO;
            let again = flags | OFlag::O_NOFOLLOW | if waits { OFlag::empty() } else { OFlag::O_NONBLOCK };
            let file = match openat(&self.directory, &*self.name, again, mode) {
                Ok(file) => file,
                Err(nix::Error::ELOOP | nix::Error::ENOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let opened = fstat(&file)?;
            if (opened.st_dev, opened.st_ino) == (stat.st_dev, stat.st_ino) {
                let status = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?) - OFlag::O_NONBLOCK;
                fcntl(&file, FcntlArg::F_SETFL(status))?;
                return Ok(file);
            }
        }
        Err(refused(&self.path, &"it changes all the time"))
    }

    /// Returns the place that a symbolic link at this one leads to.
    fn follow(self, link: &OwnedFd, stat: &FileStat) -> io::Result<Self> {
        let Self { directory, path, guard, .. } = self;
        let mut walk = Walk::resume(directory, guard.unwrap_or_default());
        walk.follow(link, stat).map_err(|error| named(&path, error))?;
        let name = walk.rest.pop_back().filter(|name| name != "..").ok_or(io::ErrorKind::InvalidInput)?;
        walk.run().map_err(|error| named(&path, error))?;
        Ok(Self { directory: walk.at, name, path, guard: Some(walk.guard) })
    }

    /// Opens the regular file for reading; a symbolic link is not followed.
    ///
    /// # Errors
    /// What openat(2) says; `InvalidInput` for what is no regular file.
    pub fn read(&self) -> io::Result<File> {
        let flags =
            OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | self.no_follow();
        let file = openat(&self.directory, &*self.name, flags, Mode::empty())?;
        if kind(&fstat(&file)?) != SFlag::S_IFREG {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(File::from(file))
    }

    fn no_follow(&self) -> OFlag {
        if self.guard.is_some() { OFlag::O_NOFOLLOW } else { OFlag::empty() }
    }

    /// Makes the file called as this one, with `suffix` behind its name, to read and write; there must be none yet.
    ///
    /// # Errors
    /// What openat(2) says: `AlreadyExists`, and others.
    pub fn create_beside(&self, suffix: &str, mode: u32) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(&self.directory, &*self.beside(suffix), flags, Mode::from_bits_truncate(mode))?;
        Ok(File::from(made))
    }

    /// Removes the file called as this one, with `suffix` behind its name. A symbolic link goes, not what it leads to.
    ///
    /// # Errors
    /// What unlinkat(2) says.
    pub fn remove_beside(&self, suffix: &str) -> io::Result<()> {
        Ok(unlinkat(&self.directory, &*self.beside(suffix), UnlinkatFlags::NoRemoveDir)?)
    }

    /// Puts the file called as this one, with `suffix` behind its name, in the place of this one.
    ///
    /// # Errors
    /// What renameat(2) says.
    pub fn replace_by_beside(&self, suffix: &str) -> io::Result<()> {
        Ok(renameat(&self.directory, &*self.beside(suffix), &self.directory, &*self.name)?)
    }

    /// Removes the file. A symbolic link goes, not what it leads to.
    ///
    /// # Errors
    /// What unlinkat(2) says.
    pub fn remove(&self) -> io::Result<()> {
        self.remove_beside("")
    }

    fn beside(&self, suffix: &str) -> OsString {
        let mut name = self.name.clone();
        name.push(suffix);
        name
    }

    /// Opens what is there without any access to it, a symbolic link itself: for fstat(2), and to keep its number from
    /// being given to another.
    ///
    /// # Errors
    /// What openat(2) says.
    pub fn pin(&self) -> io::Result<OwnedFd> {
        Ok(openat(&self.directory, &*self.name, PINNED, Mode::empty())?)
    }

    /// Returns the directory.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }
}

/// Gives an open file to an account. Only a regular file, and only one that has no other name unless it belongs to the
/// account already: a device or a pipe that a log is sent to is not the server's to give, and a second name may be one
/// that another account has made for a file that it cannot write.
///
/// # Errors
/// What fstat(2) and fchown(2) say; `PermissionDenied` for a file with several names.
pub fn give(file: &impl AsFd, owner: Owner) -> io::Result<()> {
    let stat = fstat(file)?;
    if kind(&stat) != SFlag::S_IFREG || (stat.st_uid, stat.st_gid) == (owner.user, owner.group) {
        return Ok(());
    }
    if stat.st_nlink != 1 && stat.st_uid != owner.user {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file has other names, too"));
    }
    Ok(fchown(file, Some(Uid::from_raw(owner.user)), Some(Gid::from_raw(owner.group)))?)
}

/// A directory that is walked through: O_PATH needs no right to read it.
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Whatever has a name, not followed and not touched.
const PINNED: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Bits of a mode by which other accounts than the owner may write: the group, and all.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The rule of what a walk by root may pass.
#[derive(Debug, Default)]
struct Guard {
    /// The account of the server's files.
    heir: Option<u32>,
    /// The owners of the symbolic links that were followed, except root: whatever comes behind must be theirs.
    linkers: Vec<u32>,
}

impl Guard {
    fn new(owner: Option<Owner>) -> Self {
        Self { heir: owner.map(|owner| owner.user), linkers: Vec::new() }
    }

    /// Checks what a name stands for. A directory in its place needs no look: no account can move one that it may not
    /// write, and what root has made inside of its directories was meant.
    fn check(&self, found: &FileStat) -> Result<(), String> {
        match self.linkers.iter().find(|linker| **linker != found.st_uid) {
            Some(linker) if self.heir != Some(found.st_uid) || found.st_uid == ROOT => Err(format!(
                "a symbolic link of user {linker} leads to what belongs to user {}",
                found.st_uid
            )),
            _ => Ok(()),
        }
    }

    /// Checks the file at the end, in `directory`: a second name may be one that another account has made for it.
    fn check_file(&self, directory: &FileStat, found: &FileStat) -> Result<(), String> {
        self.check(found)?;
        let is_roots = directory.st_uid == ROOT && directory.st_mode & WRITABLE_BY_OTHERS == 0;
        let is_safe = is_roots || found.st_uid == directory.st_uid || self.heir == Some(found.st_uid);
        if kind(found) == SFlag::S_IFREG && found.st_nlink > 1 && !is_safe {
            let (user, names) = (found.st_uid, found.st_nlink);
            return Err(format!(
                "a file of user {user} with {names} names, in a directory that others may write"
            ));
        }
        Ok(())
    }
}

const ROOT: u32 = 0;

/// A walk along a path, by root.
struct Walk {
    at: OwnedFd,
    rest: VecDeque<OsString>,
    links: usize,
    guard: Guard,
}

impl Walk {
    fn begin(guard: Guard) -> io::Result<Self> {
        Ok(Self::resume(openat(AT_FDCWD, ".", DIRECTORY, Mode::empty())?, guard))
    }

    fn resume(at: OwnedFd, guard: Guard) -> Self {
        Self { at, rest: VecDeque::new(), links: 0, guard }
    }

    /// Puts a path in front of what is left to walk, from the root directory if it begins there.
    fn add(&mut self, path: &Path) {
        let mut from_root = false;
        for (at, component) in path.components().filter(|part| *part != Component::CurDir).enumerate() {
            match component {
                Component::RootDir => from_root = true,
                part => self.rest.insert(at - usize::from(from_root), part.as_os_str().to_owned()),
            }
        }
        if from_root {
            self.rest.push_front(OsString::from("/"));
        }
    }

    fn run(&mut self) -> io::Result<()> {
        while let Some(name) = self.rest.pop_front() {
            self.step(&name)?;
        }
        Ok(())
    }

    fn step(&mut self, name: &OsStr) -> io::Result<()> {
        // The links of /proc lead to what this process has open, whatever their text says.
        let flags = if is_procfs(&self.at) { DIRECTORY } else { PINNED };
        let found = openat(&self.at, name, flags, Mode::empty())?;
        let stat = fstat(&found)?;
        self.guard.check(&stat).map_err(|reason| refused(Path::new(name), &reason))?;
        if kind(&stat) == SFlag::S_IFLNK {
            return self.follow(&found, &stat);
        }
        self.at = found;
        Ok(())
    }

    fn follow(&mut self, link: &OwnedFd, stat: &FileStat) -> io::Result<()> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(nix::Error::ELOOP.into());
        }
        if stat.st_uid != ROOT {
            self.guard.linkers.push(stat.st_uid);
        }
        let target = readlinkat(link, "")?;
        self.add(Path::new(&target));
        Ok(())
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn is_procfs(directory: &OwnedFd) -> bool {
    fstatfs(directory).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC)
}

fn refused(path: &Path, reason: &dyn fmt::Display) -> io::Error {
    let text = format!("refused for safety at '{}': {reason}", path.display());
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

fn named(path: &Path, error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() { error } else { refused(path, &error) }
}

#[cfg(test)]
#[path = "tests/place.rs"]
mod tests;
