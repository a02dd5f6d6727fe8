//! The pid file: written whole, refused beside a living server, removed only by its owner.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rgunicorn-pidfile-{}-{name}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn written_with_mode_0644_and_nothing_else_in_the_directory() {
    let directory = Directory::new("written");
    let path = directory.0.join("pid");
    let file = PidFile::create(&path).unwrap();
    assert_eq!(fs::read_to_string(file.path()).unwrap(), format!("{}\n", process::id()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
    file.remove();
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0);
    file.remove();
}

#[test]
fn what_is_overwritten() {
    let directory = Directory::new("overwritten");
    let path = directory.0.join("pid");
    let own = process::id().to_string();
    for content in ["2147483647\n", "", "no number", "-1", "0", &own] {
        fs::write(&path, content).unwrap();
        PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{own}\n"), "{content:?}");
    }
}

#[test]
fn a_living_process_is_respected() {
    let directory = Directory::new("living");
    let path = directory.0.join("pid");
    let parent = process::parent_id();
    fs::write(&path, parent.to_string()).unwrap();
    let error = PidFile::create(&path).unwrap_err();
    let text = format!("Already running on PID {parent} (or pid file '{}' is stale)", path.display());
    assert_eq!(error.to_string(), text);
    assert_eq!(fs::read_to_string(&path).unwrap(), parent.to_string());
}

#[test]
fn a_missing_directory_is_named() {
    let error = PidFile::create(Path::new("/nowhere/at/all.pid")).unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/at doesn't exist. Can't create pidfile.");
}

#[test]
fn a_file_that_became_somebody_else_s_stays() {
    let directory = Directory::new("stays");
    let path = directory.0.join("pid");
    let file = PidFile::create(&path).unwrap();
    fs::write(&path, "1\n").unwrap();
    file.remove();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
}
