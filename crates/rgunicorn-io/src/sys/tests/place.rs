//! Paths through directories of other accounts. What only root can be misled to is tried as root.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

/// An account that needs no entry anywhere, and the one that the server's files are given to.
const STRANGER: u32 = 65_533;
const HEIR: Owner = Owner { user: 65_534, group: 65_534 };

/// A directory of root's that goes with the test, and in it one that belongs to `user`.
struct Scene {
    top: PathBuf,
    theirs: PathBuf,
}

impl Scene {
    fn new(name: &str, user: u32) -> Self {
        let top = std::env::temp_dir().join(format!("rgunicorn-place-{}-{name}", std::process::id()));
        let theirs = top.join("theirs");
        fs::create_dir_all(&theirs).unwrap();
        fs::write(top.join("secret"), "precious").unwrap();
        if geteuid().is_root() {
            chown(&theirs, Some(user), Some(user)).unwrap();
        }
        Self { top, theirs }
    }

    fn secret(&self) -> PathBuf {
        self.top.join("secret")
    }

    fn link(&self, target: &Path, name: &str, user: u32) -> PathBuf {
        let link = self.theirs.join(name);
        symlink(target, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(user), Some(user)).unwrap();
        link
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}

fn append(path: &Path, owner: Option<Owner>) -> io::Result<File> {
    Place::find(path, owner)?.append()
}

fn refusal(path: &Path) -> String {
    let error = append(path, Some(HEIR)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    error.to_string()
}

/// Whether this process may play both sides.
fn is_root() -> bool {
    geteuid().is_root()
}

#[test]
fn files_are_made_and_opened_where_the_path_says() {
    let scene = Scene::new("plain", STRANGER);
    for path in [scene.theirs.join("new"), scene.theirs.join("../theirs/./new"), scene.secret()] {
        use std::io::Write;
        append(&path, None).unwrap().write_all(b"+").unwrap();
        append(&path, Some(HEIR)).unwrap().write_all(b"-").unwrap();
    }
    assert_eq!(fs::read_to_string(scene.theirs.join("new")).unwrap(), "+-+-");
    assert_eq!(fs::read_to_string(scene.secret()).unwrap(), "precious+-");
}

#[test]
fn paths_that_name_no_file() {
    let scene = Scene::new("none", STRANGER);
    for path in ["", "/", "..", "."] {
        assert!(append(Path::new(path), None).is_err(), "{path}");
    }
    assert!(append(&scene.theirs.join("no/such"), None).is_err());
    assert!(append(&scene.theirs.join("x/"), None).is_err());
    assert!(append(&scene.theirs, None).is_err());
    assert!(append(&scene.secret().join("below"), None).is_err());
}

#[test]
fn a_symbolic_link_leads_to_its_owner_s_files_only() {
    if !is_root() {
        return; // The kernel resolves the paths of others.
    }
    let scene = Scene::new("links", STRANGER);
    let theirs = scene.theirs.join("file");
    fs::write(&theirs, "").unwrap();
    chown(&theirs, Some(STRANGER), Some(STRANGER)).unwrap();
    append(&scene.link(Path::new("file"), "to-own", STRANGER), Some(HEIR)).unwrap();
    append(&scene.link(Path::new("not-there-yet"), "dangling", STRANGER), Some(HEIR)).unwrap();
    let secret = scene.secret();
    for (name, target) in [("absolute", secret.as_path()), ("relative", Path::new("../secret"))] {
        let text = refusal(&scene.link(target, name, STRANGER));
        assert!(text.contains("user 65533") && text.contains("user 0"), "{text}");
    }
    // A link on the way, and one that leads through another.
    scene.link(&scene.top, "up", STRANGER);
    refusal(&scene.theirs.join("up/secret"));
    refusal(&scene.theirs.join("up/new"));
    refusal(&scene.link(Path::new("absolute"), "twice", STRANGER));
    refusal(&scene.link(Path::new("/etc/rgunicorn-not-there"), "new-in-etc", STRANGER));
    // What root has linked, root has meant.
    append(&scene.link(&secret, "of-root", 0), Some(HEIR)).unwrap();
    // The heir's links lead to the heir's files, and no further either.
    refusal(&scene.link(&secret, "of-heir", HEIR.user));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "precious");
    assert!(fs::read_dir(&scene.top).unwrap().count() == 2, "nothing was made in the directory of root's");
}

#[test]
fn a_circle_of_links_ends() {
    let scene = Scene::new("circle", STRANGER);
    symlink("b", scene.top.join("a")).unwrap();
    symlink("a", scene.top.join("b")).unwrap();
    assert!(append(&scene.top.join("a"), None).is_err());
    assert!(append(&scene.top.join("a/x"), None).is_err());
}

#[test]
fn another_account_s_second_name_of_a_file_is_refused() {
    if !is_root() {
        return;
    }
    let scene = Scene::new("names", STRANGER);
    let second = scene.theirs.join("second");
    fs::hard_link(scene.secret(), &second).unwrap();
    assert!(refusal(&second).contains("2 names"), "{}", refusal(&second));
    // In a directory of root's alone, root has made it.
    fs::hard_link(scene.secret(), scene.top.join("backup")).unwrap();
    append(&scene.top.join("backup"), Some(HEIR)).unwrap();
    fs::set_permissions(&scene.top, fs::Permissions::from_mode(0o777)).unwrap();
    let file = append(&scene.top.join("backup"), Some(HEIR)).unwrap();
    assert_eq!(give(&file, HEIR).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn what_is_given_is_what_was_opened() {
    if !is_root() {
        return;
    }
    let scene = Scene::new("give", STRANGER);
    let path = scene.theirs.join("log");
    let file = append(&path, Some(HEIR)).unwrap();
    fs::rename(&path, scene.theirs.join("log.1")).unwrap();
    symlink(scene.secret(), &path).unwrap();
    give(&file, HEIR).unwrap();
    let moved = fs::metadata(scene.theirs.join("log.1")).unwrap();
    assert_eq!((moved.uid(), moved.gid()), (HEIR.user, HEIR.group));
    assert_eq!(fs::metadata(scene.secret()).unwrap().uid(), 0);
    give(&File::open("/dev/null").unwrap(), HEIR).unwrap();
    assert_eq!(fs::metadata("/dev/null").unwrap().uid(), 0);
}

#[test]
fn only_what_takes_lines_is_a_log() {
    let scene = Scene::new("kinds", STRANGER);
    append(Path::new("/dev/null"), Some(HEIR)).unwrap();
    let socket = scene.theirs.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(append(&socket, None).is_err());
    let pipe = scene.theirs.join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::from_bits_truncate(0o600)).unwrap();
    let reader = openat(AT_FDCWD, &pipe, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()).unwrap();
    append(&pipe, Some(HEIR)).unwrap();
    drop(reader);
}

#[test]
fn the_streams_of_this_process_have_paths() {
    let (reader, writer) = io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
    use std::io::{Read, Write};
    append(Path::new(&path), Some(HEIR)).unwrap().write_all(b"line").unwrap();
    drop(writer);
    let mut text = String::new();
    reader.take(4).read_to_string(&mut text).unwrap();
    assert_eq!(text, "line");
}

#[test]
fn a_file_is_replaced_beside_its_name() {
    let scene = Scene::new("beside", STRANGER);
    let path = scene.theirs.join("pid");
    let place = Place::find(&path, None).unwrap();
    drop(place.create_beside(".tmp", 0o600).unwrap());
    assert_eq!(place.create_beside(".tmp", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    place.replace_by_beside(".tmp").unwrap();
    assert!(path.exists() && place.remove_beside(".tmp").is_err());
    place.remove().unwrap();
    assert!(!path.exists());
}
