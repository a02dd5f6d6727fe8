//! Noticing that files have changed: by their modification times, looked at in intervals, and sooner if the kernel
//! says that something happened beside them (inotify).

use super::clock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

/// After an event, the time until its consequences are looked at.
const SETTLE: Duration = Duration::from_millis(50);
/// Reads of one look: as many as the kernel's queue can fill (16,384 events by default, each of 32 bytes if the name is
/// short), so that a process that goes on writing beside the files cannot hold the caller.
const READS_PER_LOOK_MAX: usize = 128;

/// A set of files and how they were when they were first seen.
#[derive(Debug, Default)]
pub struct FileWatch {
    /// `None`: only intervals.
    inotify: Option<Inotify>,
    directories: HashSet<PathBuf>,
    /// Names of the files. What happens to others in their directories does not matter here.
    names: HashSet<OsString>,
    seen: HashMap<PathBuf, SystemTime>,
}

impl FileWatch {
    /// Makes a watch that looks at modification times only.
    pub fn polling() -> Self {
        Self::default()
    }

    /// Makes a watch that also looks as soon as something changes in a file's directory.
    ///
    /// # Errors
    /// Those of inotify_init1(2): EMFILE when this user has too many already.
    pub fn inotify() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Self { inotify: Some(inotify), ..Self::default() })
    }

    /// Returns the first of `files` that has been changed since it was first given here. One that is not there is not
    /// changed: an editor may be about to put the new one into its place.
    pub fn changed(&mut self, files: Vec<PathBuf>) -> Option<PathBuf> {
        for file in files {
            if !self.seen.contains_key(&file) {
                self.watch_directory(&file);
            }
            let Ok(modified) = std::fs::metadata(&file).and_then(|found| found.modified()) else { continue };
            match self.seen.get(&file) {
                Some(before) if *before != modified => return Some(file),
                Some(_) => {}
                None => {
                    self.seen.insert(file, modified);
                }
            }
        }
        None
    }

    /// Sleeps for `time`, or until something has happened to one of the files.
    pub fn wait(&self, time: Duration) {
        let Some(inotify) = &self.inotify else { return thread::sleep(time) };
        let until = clock::now().after(time);
        loop {
            let left = until.since(clock::now());
            // Whole milliseconds, and not fewer than are left.
            let rounded = left.saturating_add(Duration::from_nanos(999_999));
            let timeout = PollTimeout::try_from(rounded).unwrap_or(PollTimeout::MAX);
            let ready = poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], timeout);
            if left.is_zero() || !ready.is_ok_and(|count| count > 0) {
                return;
            }
            // The rest of what an editor does follows at once; and where a log or a database is written beside the
            // files, that must not be looked at for each write.
            thread::sleep(SETTLE.min(left));
            if self.take_events(|| inotify.read_events()) {
                return;
            }
        }
    }

    /// Takes the events that wait, within bounds, and returns whether one was about one of the files. Which file, and
    /// what happened to it, the modification times say. Events that are left are there at the next look.
    fn take_events(&self, mut read: impl FnMut() -> nix::Result<Vec<InotifyEvent>>) -> bool {
        let mut found = false;
        for _ in 0..READS_PER_LOOK_MAX {
            let Ok(events) = read() else { break };
            // Without a name: the directory itself, or events that were lost.
            found |=
                events.iter().any(|event| event.name.as_ref().is_none_or(|name| self.names.contains(name)));
        }
        found
    }

    /// Watches the directory, because editors replace files; that of a symbolic link's target, too.
    fn watch_directory(&mut self, file: &Path) {
        let Some(inotify) = &self.inotify else { return };
        let target = std::fs::canonicalize(file).ok();
        let files = [Some(file), target.as_deref()].into_iter().flatten();
        self.names.extend(files.filter_map(Path::file_name).map(OsString::from));
        for directory in [Some(file), target.as_deref()].into_iter().flatten().filter_map(Path::parent) {
            if self.directories.contains(directory) {
                continue;
            }
            let flags = AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_ATTRIB
                | AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_MOVED_TO;
            // One that cannot be watched is still looked at in intervals.
            let _ = inotify.add_watch(directory, flags);
            self.directories.insert(directory.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn directory(name: &str) -> PathBuf {
        let directory =
            std::env::temp_dir().join(format!("rgunicorn-filewatch-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn touch(file: &Path, seconds: u64) {
        let opened = fs::File::create(file).unwrap();
        opened.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn only_a_change_after_the_first_look_counts() {
        let directory = directory("changes");
        let (first, second) = (directory.join("first"), directory.join("second"));
        let mut watch = FileWatch::polling();
        let both = || vec![first.clone(), second.clone()];
        touch(&first, 1000);
        assert_eq!(watch.changed(both()), None, "the second is not there");
        touch(&second, 1000);
        assert_eq!(watch.changed(both()), None, "the second is new");
        touch(&second, 900);
        assert_eq!(watch.changed(both()), Some(second.clone()), "an older file is another one, too");
        fs::remove_file(&first).unwrap();
        assert_eq!(watch.changed(vec![first.clone()]), None);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_queue_that_never_becomes_empty_is_left() {
        let directory = directory("endless");
        let (file, log) = (directory.join("file"), directory.join("log"));
        touch(&file, 1000);
        let mut watch = FileWatch::inotify().unwrap();
        assert_eq!(watch.changed(vec![file.clone()]), None);
        let inotify = watch.inotify.as_ref().unwrap();
        let mut reads = 0;
        let found = watch.take_events(|| {
            reads += 1;
            assert!(reads <= 10 * READS_PER_LOOK_MAX, "one look has no end");
            fs::write(&log, "a line").unwrap();
            inotify.read_events()
        });
        assert!(!found, "the log is none of the files");
        assert_eq!(reads, READS_PER_LOOK_MAX, "each read found the event of a new write");
        touch(&file, 2000);
        assert!(watch.take_events(|| inotify.read_events()), "a change after it is still found");
        fs::remove_dir_all(directory).unwrap();
    }

    /// Ends the writer of a test, also when an assertion fails.
    struct StopWhenDropped<'a>(&'a AtomicBool);

    impl Drop for StopWhenDropped<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn other_files_do_not_end_the_wait() {
        let directory = directory("others");
        let file = directory.join("file");
        touch(&file, 1000);
        let mut watch = FileWatch::inotify().unwrap();
        assert_eq!(watch.changed(vec![file.clone()]), None);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let busy = scope.spawn(|| {
                let mut writes = 0;
                while !done.load(Ordering::Relaxed) {
                    fs::write(directory.join("log"), "a line").unwrap();
                    writes += 1;
                    // Three events each: without a pause they overflow the kernel's queue of 16,384 while a busy
                    // machine lets the watcher wait, and lost events end the wait, as they must.
                    thread::sleep(Duration::from_millis(1));
                }
                writes
            });
            let stop = StopWhenDropped(&done);
            let (begun, time) = (clock::now(), Duration::from_millis(300));
            watch.wait(time);
            assert!(clock::now().since(begun) >= time);
            touch(&file, 2000);
            watch.wait(Duration::from_secs(30));
            assert!(clock::now().since(begun) < Duration::from_secs(20), "its own does");
            drop(stop);
            assert!(busy.join().unwrap() > 0);
        });
        assert_eq!(watch.changed(vec![file.clone()]), Some(file));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn inotify_ends_the_wait() {
        let directory = directory("inotify");
        let file = directory.join("file");
        touch(&file, 1000);
        let mut watch = FileWatch::inotify().unwrap();
        assert_eq!(watch.changed(vec![file.clone()]), None);
        let replacement = directory.join("new");
        touch(&replacement, 2000);
        fs::rename(&replacement, &file).unwrap();
        let begun = clock::now();
        while watch.changed(vec![file.clone()]).is_none() {
            watch.wait(Duration::from_secs(30));
            let waited = clock::now().since(begun);
            assert!(waited < Duration::from_secs(20), "the wait was not ended");
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
