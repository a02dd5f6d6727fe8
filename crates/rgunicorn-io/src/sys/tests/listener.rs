//! Listeners: opening, adopting, addresses as text, and the removal of socket files.

use super::*;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

const OPTIONS: Options = Options { backlog: 16, umask: 0, owner: None, reuse_port: false };

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rgunicorn-listener-{}-{name}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> (PathBuf, ListenAddress) {
        let path = self.0.join("socket");
        (path.clone(), ListenAddress::Unix(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tcp(host: &str) -> ListenAddress {
    ListenAddress::Tcp { host: host.to_owned(), port: 0 }
}

fn accept(listener: &Listener) -> io::Result<OwnedFd> {
    let fd = socket::accept4(listener.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: accept4 has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[test]
fn a_tcp_listener_is_what_workers_need() {
    let listener = Listener::open(&tcp("127.0.0.1"), &OPTIONS).unwrap();
    let Local::Tcp(address) = listener.local().clone() else { panic!("not TCP") };
    assert_ne!(address.port(), 0);
    assert_eq!(listener.local().to_string(), format!("http://127.0.0.1:{}", address.port()));
    assert_eq!(accept(&listener).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let flags = fcntl(&listener, FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    assert!(socket::getsockopt(&listener, sockopt::ReuseAddr).unwrap());

    let _client = TcpStream::connect(address).unwrap();
    let accepted = accept(&listener).unwrap();
    assert!(socket::getsockopt(&accepted, sockopt::TcpNoDelay).unwrap(), "inherited");
}

#[test]
fn hosts() {
    assert!(matches!(resolve("", 80).unwrap(), SocketAddr::V4(address) if address.ip().is_unspecified()));
    assert!(resolve("localhost", 80).unwrap().ip().is_loopback());
    assert!(resolve("::1", 80).unwrap().is_ipv6());
    assert!(Listener::open(&tcp("no such host."), &OPTIONS).is_err());
}

#[test]
fn ipv6_is_shown_in_brackets() {
    match Listener::open(&tcp("::1"), &OPTIONS) {
        Ok(listener) => assert!(listener.local().to_string().starts_with("http://[::1]:")),
        Err(error) => assert!(TcpListener::bind("[::1]:0").is_err(), "{error}"),
    }
}

#[test]
fn a_taken_port_and_a_foreign_address_are_told_apart() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address =
        ListenAddress::Tcp { host: "127.0.0.1".to_owned(), port: taken.local_addr().unwrap().port() };
    assert_eq!(Listener::open(&address, &OPTIONS).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let foreign = Listener::open(&tcp("192.0.2.1"), &OPTIONS).unwrap_err();
    assert_eq!(foreign.kind(), io::ErrorKind::AddrNotAvailable);
}

#[test]
fn a_unix_socket_obeys_the_umask_and_goes_with_its_maker() {
    let directory = Directory::new("umask");
    let (path, address) = directory.socket();
    for (umask, mode) in [(0o007, 0o770), (0, 0o777), (0o177, 0o600)] {
        // The second and third replace the file of the one before.
        let listener = Listener::open(&address, &Options { umask, ..OPTIONS }).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{umask:o}");
        assert_eq!(listener.local().to_string(), format!("unix:{}", path.display()));
        let _client = UnixStream::connect(&path).unwrap();
        accept(&listener).unwrap();
    }
    assert!(path.exists(), "dropping removes nothing");
    Listener::open(&address, &OPTIONS).unwrap().unlink();
    assert!(!path.exists());
}

#[test]
fn a_successor_s_socket_file_is_left_alone() {
    let directory = Directory::new("successor");
    let (path, address) = directory.socket();
    let old = Listener::open(&address, &OPTIONS).unwrap();
    fs::remove_file(&path).unwrap();
    let new = Listener::open(&address, &OPTIONS).unwrap();
    old.unlink();
    assert!(path.exists());
    new.unlink();
    assert!(!path.exists());
}

#[test]
fn the_socket_of_a_server_that_lives_is_not_taken() {
    let directory = Directory::new("alive");
    let (path, address) = directory.socket();
    let full = Options { backlog: 0, ..OPTIONS };
    let alive = Listener::open(&address, &full).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        // With its queue empty, and with no more room in it.
        assert_eq!(Listener::open(&address, &OPTIONS).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let probe = stream_socket(AddressFamily::Unix).unwrap();
        let _ = socket::connect(probe.as_raw_fd(), &UnixAddr::new(&path).unwrap());
        waiting.push(probe);
    }
    drop(alive);
    Listener::open(&address, &OPTIONS).unwrap();
}

#[test]
fn a_socket_file_is_its_owner_s_from_its_first_moment() {
    use std::os::unix::fs::{MetadataExt, chown};
    if !nix::unistd::geteuid().is_root() {
        return; // Files cannot be made for others.
    }
    let owner = Owner { user: 65_533, group: 65_532 };
    let directory = Directory::new("owner");
    let (path, address) = directory.socket();
    let options = Options { owner: Some(owner), umask: 0o077, ..OPTIONS };
    // Where only root may write, where the account may, and where files get the directory's group.
    for (user, group, mode) in [(0, 0, 0o700), (owner.user, owner.group, 0o700), (0, 0, 0o2777)] {
        chown(&directory.0, Some(user), Some(group)).unwrap();
        fs::set_permissions(&directory.0, fs::Permissions::from_mode(mode)).unwrap();
        let listener = Listener::open(&address, &options).unwrap();
        let made = fs::metadata(&path).unwrap();
        assert_eq!(
            (made.uid(), made.gid(), made.mode() & 0o777),
            (owner.user, owner.group, 0o700),
            "{mode:o}"
        );
        // This process is root again, in all that it does with files.
        fs::write(directory.0.join("of-root"), "").unwrap();
        assert_eq!(fs::metadata(directory.0.join("of-root")).unwrap().uid(), 0);
        fs::remove_file(directory.0.join("of-root")).unwrap();
        listener.unlink();
        assert!(!path.exists());
    }
}

#[test]
fn other_files_are_no_sockets() {
    let directory = Directory::new("others");
    let (path, address) = directory.socket();
    fs::write(&path, "precious").unwrap();
    let error = Listener::open(&address, &OPTIONS).unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::InvalidInput, None));
    assert_eq!(error.to_string(), format!("'{}' is not a socket", path.display()));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let long = ListenAddress::Unix(directory.0.join("x".repeat(200)));
    assert!(Listener::open(&long, &OPTIONS).is_err(), "longer than sun_path");
}

#[test]
fn abstract_names() {
    let name = format!("rgunicorn-test-{}", process::id()).into_bytes();
    let listener = Listener::open(&ListenAddress::Abstract(name.clone()), &OPTIONS).unwrap();
    assert_eq!(*listener.local(), Local::Abstract(name.clone()));
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _client = UnixStream::connect_addr(&address).unwrap();
    accept(&listener).unwrap();
}

#[test]
fn a_descriptor_is_taken_over() {
    let made = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = made.local_addr().unwrap();
    let listener = Listener::open(&ListenAddress::Fd(made.into_raw_fd()), &OPTIONS).unwrap();
    assert_eq!(*listener.local(), Local::Tcp(address));
    assert_eq!(accept(&listener).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let mut client = TcpStream::connect(address).unwrap();
    drop(accept(&listener).unwrap());
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(listener);
    assert!(TcpStream::connect(address).is_err(), "the original is closed as well");
}

#[test]
fn a_bound_descriptor_begins_to_listen() {
    let bound = open_tcp(resolve("127.0.0.1", 0).unwrap(), false).unwrap();
    let listener = Listener::open(&ListenAddress::Fd(bound.into_raw_fd()), &OPTIONS).unwrap();
    assert!(socket::getsockopt(&listener, sockopt::AcceptConn).unwrap());
}

#[test]
fn descriptors_that_are_no_sockets_are_refused() {
    let file = fs::File::open("/dev/null").unwrap();
    let error = Listener::open(&ListenAddress::Fd(file.as_raw_fd()), &OPTIONS).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    let error = Listener::open(&ListenAddress::Fd(1_000_000_000), &OPTIONS).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

#[test]
fn addresses_as_errors_name_them() {
    let table = [
        (ListenAddress::Tcp { host: "127.0.0.1".to_owned(), port: 80 }, "('127.0.0.1', 80)"),
        (ListenAddress::Unix("/run/a".into()), "/run/a"),
        (ListenAddress::Abstract(b"a\xff".to_vec()), "@a\\xff"),
        (ListenAddress::Fd(3), "fd://3"),
    ];
    for (address, text) in table {
        assert_eq!(address.to_string(), text);
    }
}
