//! The arbiter with real processes: each test starts this test binary again as a server ([`host`]) whose
//! workers are real forks, sends signals and reads its log. Every wait is for a line of the log, a file or an
//! exit.
#![expect(clippy::unwrap_used, reason = "tests; clippy knows only #[test] functions as such")]

#[path = "arbiter_process/host.rs"]
mod host;
#[path = "arbiter_process/server.rs"]
mod server;

use rgunicorn_io::sys::process::exists;
use rgunicorn_io::sys::signal::Signal;
use server::{Directory, Server};
use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;

/// Not a test: the server that the others start. Without its environment variable it does nothing.
#[test]
fn server_process() {
    if let Ok(path) = std::env::var(server::CONFIG_VARIABLE) {
        host::serve(path.as_ref());
    }
}

#[test]
fn start_and_graceful_stop() {
    let directory = Directory::new();
    let (socket, pidfile) = (directory.path("app.sock"), directory.path("app.pid"));
    let config = format!("workers 2\nunix {}\npidfile {}", socket.display(), pidfile.display());
    let mut server = Server::start(&directory, &config);
    let workers = server.booted(2);
    assert_eq!(server::title(server.pid()), "rgunicorn: master [test]");
    for pid in &workers {
        assert_eq!(server::title(*pid), "rgunicorn: worker [test]");
    }
    assert!(std::fs::metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!(std::fs::read_to_string(&pidfile).unwrap(), format!("{}\n", server.pid()));
    server.signal(Signal::TERM);
    assert_eq!(server.exit_status(), Some(0));
    assert!(!socket.exists() && !pidfile.exists());
    assert!(workers.iter().all(|pid| !exists(*pid)));

    let log = server.log_of_master();
    let expected = [
        "INFO Starting rgunicorn 9.9".to_owned(),
        "DEBUG Arbiter booted".to_owned(),
        format!("INFO Listening at: unix:{} ({})", socket.display(), server.pid()),
        "INFO Using worker: test".to_owned(),
        "DEBUG 2 workers".to_owned(),
        "INFO Handling signal: term".to_owned(),
        "INFO Shutting down: Master".to_owned(),
    ];
    assert_eq!(log, expected);
    for pid in workers {
        assert!(server.has(&format!("[{pid}] INFO Booting worker with pid: {pid}")));
        assert!(server.has(&format!("[{pid}] worker got SIGTERM")));
        assert!(server.has(&format!("[{pid}] INFO Worker exiting (pid: {pid})")));
    }
}

#[test]
fn quick_stop_and_impatience() {
    for signal in [Signal::INT, Signal::QUIT] {
        let directory = Directory::new();
        let mut server = Server::start(&directory, "workers 1");
        let workers = server.booted(1);
        server.signal(signal);
        assert_eq!(server.exit_status(), Some(0));
        assert!(server.has(&format!("[{}] worker got SIGQUIT", workers[0])));
    }
    let directory = Directory::new();
    let mut server = Server::start(&directory, "workers 1\nmode deaf\ngraceful_timeout 60");
    server.booted(1);
    server.signal(Signal::TERM);
    server.wait_for("Handling signal: term");
    server.signal(Signal::INT);
    server.wait_for("Quick shutdown requested");
    assert_eq!(server.exit_status(), Some(0));
    server.wait_for("was sent SIGKILL! It did not stop within graceful_timeout.");
}

#[test]
fn a_killed_worker_is_replaced() {
    let directory = Directory::new();
    let server = Server::start(&directory, "workers 2");
    let workers = server.booted(2);
    Server::kill(workers[0], Signal::KILL);
    server.wait_for(&format!("ERROR Worker (pid:{}) was sent SIGKILL! Perhaps out of memory?", workers[0]));
    let after = server.booted(3);
    assert_eq!(after[..2], workers[..]);
    assert!(exists(after[1]) && exists(after[2]));
}

#[test]
fn more_and_less_workers() {
    let directory = Directory::new();
    let server = Server::start(&directory, "workers 1");
    let first = server.booted(1)[0];
    for number in 2..4 {
        server.signal(Signal::TTIN);
        server.booted(number);
    }
    server.signal(Signal::TTOU);
    server.wait_for(&format!("Worker exiting (pid: {first})"));
    assert_eq!(server.count("the queue is for others: true"), 1);
    server.signal(Signal::USR1);
    server.wait_for("reopened");
    assert_eq!(server.count("worker got SIGTERM"), 1, "only the oldest");
}

#[test]
fn a_worker_that_cannot_boot_ends_the_server() {
    for (status, reason) in [(3, "Worker failed to boot."), (4, "App failed to load.")] {
        let directory = Directory::new();
        let mut server = Server::start(&directory, &format!("workers 2\nmode exit{status}"));
        assert_eq!(server.exit_status(), Some(status));
        let log = server.log_of_master();
        let end = ["ERROR Shutting down: Master".to_owned(), format!("ERROR Reason: {reason}")];
        assert!(log.ends_with(&end), "{log:?}");
        assert!(log.iter().any(|line| line.ends_with(&format!("exited with code {status}."))), "{log:?}");
    }
}

#[test]
fn a_hung_worker_is_aborted_then_killed_and_replaced() {
    let directory = Directory::new();
    let server = Server::start(&directory, "workers 1\nmode hang\ntimeout 1");
    let pid = server.booted(1)[0];
    server.wait_for(&format!("CRITICAL WORKER TIMEOUT (pid:{pid})"));
    server.wait_for(&format!(
        "ERROR Worker (pid:{pid}) was sent SIGKILL! It had been silent for longer than its timeout."
    ));
    server.booted(2);
    assert!(!exists(pid));
}

#[test]
fn a_stopped_and_continued_server_kills_nobody() {
    let directory = Directory::new();
    let mut server = Server::start(&directory, "workers 2\ntimeout 1");
    let workers = server.booted(2);
    let everyone: Vec<i32> = workers.iter().copied().chain([server.pid()]).collect();
    everyone.iter().for_each(|pid| Server::kill(*pid, Signal(19)));
    // The one wait for a time: it is the time in which nothing runs that is tested.
    std::thread::sleep(std::time::Duration::from_millis(3200));
    // The master first, so that it looks at heartbeats that are too old.
    everyone.iter().rev().for_each(|pid| Server::kill(*pid, Signal(18)));
    for _ in 0..3 {
        let beats = server.count("beat");
        server
            .wait_until("a beat", |lines| lines.iter().filter(|line| line.contains("beat")).count() > beats);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.exit_status(), Some(0));
    assert!(!server.has("TIMEOUT"), "{}", server.text());
}

#[test]
fn signals_wait_for_the_worker_s_handlers() {
    let directory = Directory::new();
    let server = Server::start(&directory, "workers 1\nmode late");
    let pid = server.worker_pids(1)[0];
    Server::kill(pid, Signal::TERM);
    std::fs::write(directory.path("go"), "").unwrap();
    server.wait_for(&format!("[{pid}] worker got SIGTERM"));
    server.wait_for(&format!("[{pid}] INFO Worker exiting (pid: {pid})"));
    assert!(!server.has("was sent SIGTERM"), "it left by itself");
    assert!(!server.has("Handling signal: term"), "the master got nothing");
}

#[test]
fn a_good_reload_replaces_everyone() {
    let directory = Directory::new();
    let mut server = Server::start(&directory, "workers 2");
    let old = server.booted(2);
    let pidfile = directory.path("other.pid");
    server.reconfigure(&format!("workers 3\npidfile {}", pidfile.display()));
    let all = server.booted(5);
    for pid in &old {
        server.wait_for(&format!("Worker exiting (pid: {pid})"));
    }
    server.wait_for("reload done: true");
    assert_eq!(std::fs::read_to_string(&pidfile).unwrap(), format!("{}\n", server.pid()));
    assert!(all[2..].iter().all(|pid| exists(*pid)));
    assert_eq!(server.count("the queue is for others: true"), 2);
    server.signal(Signal::TERM);
    assert_eq!(server.exit_status(), Some(0));
    assert_eq!(server.count("the queue is for others: false"), 3, "the server stops");
}

#[test]
fn a_broken_reload_changes_nothing() {
    let directory = Directory::new();
    let mut server = Server::start(&directory, "workers 2");
    let old = server.booted(2);
    server.reconfigure("broken");
    server.wait_for("ERROR Reload failed, nothing has changed: a broken configuration");
    server.reconfigure("workers 1\nmode exit3");
    server.wait_for("exited with code 3.");
    server.wait_for("reload done: false");
    server.reconfigure("workers 1\nunix /nowhere/at/all.sock");
    server.wait_for("connection to /nowhere/at/all.sock failed: [Errno 2] No such file or directory");
    assert!(old.iter().all(|pid| exists(*pid)));
    assert_eq!(server.count("worker got"), 0, "the old workers have noticed nothing");
    Server::kill(old[0], Signal::KILL);
    server.booted(3);
    server.signal(Signal::TERM);
    assert_eq!(server.exit_status(), Some(0));
}

#[test]
fn a_reload_moves_to_other_addresses() {
    let directory = Directory::new();
    let (kept, old, new) = (directory.path("kept"), directory.path("old"), directory.path("new"));
    let config = |paths: [&std::path::Path; 2]| {
        format!("workers 1\nunix {}\nunix {}", paths[0].display(), paths[1].display())
    };
    let inode = |path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let server = Server::start(&directory, &config([&kept, &old]));
    server.booted(1);
    let before = inode(&kept);
    server.reconfigure(&config([&kept, &new]));
    server.wait_for("reload done: true");
    assert_eq!(inode(&kept), before, "an unchanged address keeps its socket");
    assert!(new.exists() && !old.exists());
    server.wait_for(&format!("Listening at: unix:{},unix:{}", kept.display(), new.display()));
    // One of the addresses is nobody else's.
    server.wait_for("the queue is for others: false");
}

#[test]
fn a_busy_address_is_tried_five_times() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let directory = Directory::new();
    let pidfile = directory.path("pid");
    let config = format!("workers 1\ntcp 127.0.0.1 {port}\npidfile {}", pidfile.display());
    let mut server = Server::start(&directory, &config);
    assert_eq!(server.exit_status(), Some(1));
    let address = format!("('127.0.0.1', {port})");
    assert_eq!(server.count(&format!("ERROR Connection in use: {address}")), 5);
    let text = format!("ERROR connection to {address} failed: [Errno 98] Address already in use");
    assert_eq!(server.count(&text), 5);
    assert_eq!(server.count("DEBUG Retrying in 1 second."), 5);
    assert!(server.has(&format!("ERROR Can't connect to {address}")));
    assert!(!pidfile.exists());
}

#[test]
fn starts_that_are_refused_at_once() {
    let directory = Directory::new();
    let own = std::process::id();
    let (running, plain) = (directory.path("running"), directory.path("plain"));
    std::fs::write(&running, format!("{own}\n")).unwrap();
    std::fs::write(&plain, "text").unwrap();
    let table = [
        (
            format!("pidfile {}", running.display()),
            format!("Error: Already running on PID {own} (or pid file '{}' is stale)", running.display()),
        ),
        (
            "pidfile /nowhere/at/all.pid".to_owned(),
            "Error: /nowhere/at doesn't exist. Can't create pidfile.".to_owned(),
        ),
        (format!("unix {}", plain.display()), format!("Error: '{}' is not a socket", plain.display())),
    ];
    for (config, text) in table {
        let mut server = Server::start(&directory, &format!("workers 1\n{config}"));
        assert_eq!(server.exit_status(), Some(1), "{config}");
        assert!(server.has(&text), "{config}: {:?}", server.log_of_master());
    }
    assert_eq!(std::fs::read_to_string(running).unwrap(), format!("{own}\n"));
    assert_eq!(std::fs::read_to_string(plain).unwrap(), "text");
}

#[test]
fn workers_leave_when_the_master_is_gone_and_hold_nothing_of_it() {
    let directory = Directory::new();
    let mut server = Server::start(&directory, "workers 2\ntcp 127.0.0.1 0");
    for pid in server.booted(2) {
        // 0, 1, 2, the listener, both ends of the handoff queue, the eventfds that wake the master and the siblings,
        // and the test worker's own signal queue: no eventfd of the master's queue.
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let links = open.map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap());
        let named: Vec<String> = links.map(|link| link.display().to_string()).collect();
        assert_eq!(named.iter().filter(|name| name.contains("eventfd")).count(), 3, "{named:?}");
        assert_eq!(named.iter().filter(|name| name.contains("socket:")).count(), 3, "{named:?}");
    }
    server.signal(Signal::KILL);
    assert_eq!(server.exit_status(), None);
    assert_eq!(server.count("INFO Worker exiting"), 2);
}

#[test]
fn an_idle_master_hardly_runs() {
    let directory = Directory::new();
    let server = Server::start(&directory, "workers 2");
    server.booted(2);
    let before = server.cpu_seconds();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(server.cpu_seconds() - before < 0.1);
}

/// Sockets of the handoff queue, which all processes of a server have.
const HANDOFF_SOCKETS: usize = 2;

/// The sockets that a process has open.
fn sockets(pid: i32) -> BTreeSet<String> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = open.map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string());
    links.filter(|name| name.contains("socket:")).collect()
}

/// The pid of the `number`-th master that has said where it listens.
fn master(server: &Server, number: usize) -> i32 {
    server.wait_until("a master", |lines| {
        lines.iter().filter(|line| line.contains("Listening at")).count() >= number
    });
    let text = server.text();
    let line = text.lines().filter(|line| line.contains("Listening at")).nth(number - 1).unwrap();
    line[1..line.find(']').unwrap()].parse().unwrap()
}

#[test]
fn an_upgrade_forward() {
    let directory = Directory::new();
    let (socket, pidfile) = (directory.path("app.sock"), directory.path("app.pid"));
    let second = directory.path("app.pid.2");
    let config = format!("workers 1\nunix {}\npidfile {}", socket.display(), pidfile.display());
    let mut server = Server::start(&directory, &config);
    let old = server.booted(1)[0];
    server.signal(Signal::USR2);
    let new_master = master(&server, 2);
    let new = server.booted(2)[1];
    assert!(server.has("] pre_exec"));
    assert_eq!(std::fs::read_to_string(&pidfile).unwrap(), format!("{}\n", server.pid()));
    assert_eq!(std::fs::read_to_string(&second).unwrap(), format!("{new_master}\n"));
    assert_eq!(server::title(new_master), "rgunicorn: master [test.2]");
    assert_eq!(server::title(new), "rgunicorn: worker [test.2]");
    let (first, second_one) = (sockets(server.pid()), sockets(new_master));
    assert_eq!(first.intersection(&second_one).count(), 1, "the listener: {first:?}, {second_one:?}");
    assert_eq!([first.len(), second_one.len()], [1 + HANDOFF_SOCKETS; 2], "once, and a queue of its own");
    assert_eq!(sockets(new), second_one);

    server.signal(Signal::TERM);
    server.wait_for(&format!("[{new_master}] INFO Master has been promoted."));
    server.wait_for(&format!("[{new_master}] promoted"));
    assert!(!exists(old) && exists(new));
    // The title changes before the pid file does, and both after the line.
    server.reconfigure_at(new_master, &config);
    server.booted(3);
    assert_eq!(std::fs::read_to_string(&pidfile).unwrap(), format!("{new_master}\n"));
    assert!(!second.exists() && socket.exists());
    assert_eq!(server::title(new_master), "rgunicorn: master [test]");
    Server::kill(new_master, Signal::TERM);
    assert_eq!(server.exit_status(), Some(0));
    assert!(!socket.exists() && !pidfile.exists());
}

#[test]
fn an_upgrade_that_fails_and_one_that_is_killed() {
    let directory = Directory::new();
    let (socket, pidfile) = (directory.path("app.sock"), directory.path("app.pid"));
    let config = format!("workers 1\nunix {}\npidfile {}", socket.display(), pidfile.display());
    let mut server = Server::start(&directory, &config);
    let old = server.booted(1)[0];
    server.configure(&format!("{config}\nmode exit3"));
    server.signal(Signal::USR2);
    server.wait_for("exited with code 3. This one goes on.");
    server.configure(&config);
    server.signal(Signal::USR2);
    let new_master = master(&server, 3);
    server.booted(2);
    Server::kill(new_master, Signal::KILL);
    server.wait_for(&format!("New master (pid:{new_master}) was sent SIGKILL. This one goes on."));
    assert!(exists(old) && socket.exists());
    server.signal(Signal::TERM);
    assert_eq!(server.exit_status(), Some(0));
    assert!(!socket.exists() && !directory.path("app.pid.2").exists() && !pidfile.exists());
}

#[test]
fn winch_and_back() {
    let directory = Directory::new();
    let config = "workers 2\ndaemon";
    let mut server = Server::start(&directory, config);
    let old = server.booted(2);
    server.signal(Signal::WINCH);
    for pid in &old {
        server.wait_for(&format!("Worker exiting (pid: {pid})"));
    }
    server.signal(Signal::TTIN);
    server.booted(3);
    server.reconfigure(config);
    server.booted(5);
    server.signal(Signal::TERM);
    assert_eq!(server.exit_status(), Some(0));
}

#[test]
fn every_worker_has_a_socket_of_its_own() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let directory = Directory::new();
    let mut server = Server::start(&directory, &format!("workers 2\nreuse_port\ntcp 127.0.0.1 {port}"));
    let workers = server.booted(2);
    assert!(server.has(&format!("INFO Listening at:  ({})", server.pid())), "{}", server.text());
    let [of_master, first, second] = [server.pid(), workers[0], workers[1]].map(sockets);
    assert_eq!(of_master.len(), HANDOFF_SOCKETS);
    assert_eq!([first.len(), second.len()], [1 + HANDOFF_SOCKETS; 2]);
    assert_eq!(first.intersection(&second).count(), HANDOFF_SOCKETS);
    server.signal(Signal::TERM);
    assert_eq!(server.exit_status(), Some(0));
}

#[test]
fn a_worker_that_does_not_boot_in_time_is_killed() {
    let directory = Directory::new();
    let server = Server::start(&directory, "workers 1\nmode late\nboot_timeout 1");
    let pid = server.worker_pids(1)[0];
    server.wait_for(&format!("CRITICAL WORKER BOOT TIMEOUT (pid:{pid}): not booted after 1 s"));
    server.wait_for(&format!("Worker (pid:{pid}) was sent SIGABRT!"));
    server.worker_pids(2);
    std::fs::write(directory.path("go"), "").unwrap();
    server.booted(1);
}
