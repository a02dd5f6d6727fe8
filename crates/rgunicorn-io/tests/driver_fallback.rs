//! Where io_uring is forbidden or short of memory: the driver falls back to epoll, says why, and works.
//!
//! Each case re-runs this test binary as a child that was restricted before `exec` (a seccomp filter, as containers
//! have; a locked-memory limit without privileges, as after Gunicorn's setuid), and reads its report.
#![allow(unsafe_code, reason = "restricts child processes")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code, though outside of test functions")]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rgunicorn_io::driver::{Choice, Completion, Config, Driver, Received, Token};

/// Marks the child's line in the output of the test harness.
const MARK: &str = "REPORT:";

/// The child: opens drivers, shows that they work, prints what they say. Does nothing in a normal test run.
#[test]
fn child() {
    let Ok(want) = std::env::var("DRIVER_FALLBACK_CHILD") else {
        return;
    };
    let count: usize = want.parse().unwrap();
    let mut drivers = Vec::new();
    for _ in 0..count {
        let (mut driver, report) = Driver::open(&Config::default()).unwrap();
        let fallback = report.fallback().and_then(std::io::Error::raw_os_error);
        println!("\n{MARK}{}|{}|{report}", report.driver_name(), fallback.unwrap_or(0));
        assert_eq!(driver.name(), report.driver_name());
        receive_one(&mut driver);
        drivers.push(driver);
    }
    let forced = Driver::open(&Config { choice: Choice::Uring, ..Config::default() });
    let errno = forced.err().and_then(|error| error.raw_os_error());
    println!("\n{MARK}forced|{}|", errno.unwrap_or(0));
}

fn receive_one(driver: &mut Driver) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    driver.recv(ours.as_raw_fd(), Token(1)).unwrap();
    theirs.write_all(b"works").unwrap();
    let mut out = Vec::new();
    driver.wait(Some(Duration::from_secs(10)), &mut out).unwrap();
    let Some(Completion::Recv { outcome: Received::Data(buf), .. }) = out.pop() else { panic!("{out:?}") };
    assert_eq!(driver.buffer(&buf), b"works");
    driver.release(buf);
    driver.close(std::os::fd::OwnedFd::from(ours).into());
}

/// Runs the child, `count` drivers, restricted by `restrict`; returns (driver, errno, text) of each line.
fn reports(
    count: usize,
    restrict: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static,
) -> Vec<(String, i32, String)> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env("DRIVER_FALLBACK_CHILD", count.to_string());
    // SAFETY: the closures only make system calls and read memory that exists before the fork.
    unsafe { command.pre_exec(restrict) };
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let lines = text.lines().filter_map(|line| line.strip_prefix(MARK));
    lines
        .map(|line| {
            let mut parts = line.splitn(3, '|').map(str::to_owned);
            let (driver, errno) = (parts.next().unwrap(), parts.next().unwrap().parse().unwrap());
            (driver, errno, parts.next().unwrap())
        })
        .collect()
}

fn check(result: libc::c_int) -> std::io::Result<()> {
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Lets io_uring_setup fail with `errno` from now on, in this process and what it executes.
fn forbid_io_uring(errno: i32) -> std::io::Result<()> {
    const NUMBER_OFFSET: u32 = 0;
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER_OFFSET, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_setup as u32, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` names a valid filter during the call; the other call passes no memory.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))
    }
}

#[test]
fn a_seccomp_filter_means_epoll_and_the_log_line_says_so() {
    let cases = [
        (libc::EPERM, "EPERM", "seccomp"),
        (libc::ENOSYS, "ENOSYS", "the kernel has none"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP", "sandbox"),
        (libc::ENOMEM, "ENOMEM", "RLIMIT_MEMLOCK"),
        (libc::EINVAL, "EINVAL", "older than 6.1"),
        (libc::EMFILE, "EMFILE", "file descriptor"),
    ];
    for (errno, name, cause) in cases {
        let reports = reports(1, move || forbid_io_uring(errno));
        let (driver, got, text) = &reports[0];
        assert_eq!((driver.as_str(), *got), ("epoll", errno), "{text}");
        let by_sysctl = errno == libc::EPERM && text.contains("io_uring_disabled");
        assert!(text.contains(name) && (text.contains(cause) || by_sysctl), "{text}");
        assert_eq!(reports[1].0, "forced");
        assert_eq!(reports[1].1, errno, "without a choice the error comes out");
    }
}

/// uid 65534 without CAP_IPC_LOCK: ring memory counts.
fn limited(bytes: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `limit` is readable during the call; the others pass no memory.
    unsafe {
        check(libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit))?;
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setgid(65_534))?;
        check(libc::setuid(65_534))
    }
}

/// Where the unprivileged child can execute this binary, and io_uring works at all.
fn can_limit() -> bool {
    // SAFETY: no memory is passed.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: becoming another user needs root");
        return false;
    }
    let mut probe = Command::new(std::env::current_exe().unwrap());
    // SAFETY: only system calls.
    unsafe { probe.arg("--list").pre_exec(|| limited(8 << 20)) };
    if !probe.output().is_ok_and(|output| output.status.success()) {
        println!("skipped: uid 65534 cannot execute the test binary");
        return false;
    }
    let works = Driver::open(&Config { choice: Choice::Uring, ..Config::default() }).is_ok();
    if !works {
        println!("skipped: io_uring does not work here");
    }
    works
}

#[test]
fn the_usual_memlock_limit_is_enough_for_many_workers() {
    if !can_limit() {
        return;
    }
    let reports = reports(16, || limited(8 << 20));
    for (driver, _, text) in &reports[..16] {
        assert_eq!(driver, "uring", "{text}");
        assert!(text.contains("multishot"), "{text}");
    }
}

#[test]
fn a_small_memlock_limit_means_smaller_rings_and_then_epoll() {
    if !can_limit() {
        return;
    }
    let reports = reports(4, || limited(64 << 10));
    let drivers: Vec<_> = reports.iter().map(|(driver, ..)| driver.as_str()).collect();
    let (_, errno, text) = &reports[3];
    assert_eq!(drivers[3], "epoll", "64 KiB cannot hold four rings: {reports:?}");
    assert_eq!(*errno, libc::ENOMEM);
    assert!(text.contains("RLIMIT_MEMLOCK"), "{text}");
    if let Some((.., text)) = reports.iter().find(|(driver, ..)| driver == "uring") {
        assert!(!text.contains("cq 4096"), "a full-sized ring does not fit: {text}");
    }
    assert_eq!(reports[4], ("forced".to_owned(), libc::ENOMEM, String::new()));
}
