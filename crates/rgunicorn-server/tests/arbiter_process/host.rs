//! The server that the tests start: a `Host` whose fork is fork(2) and whose workers only beat and say what
//! signals they get. Its configuration is a file of lines `KEY VALUE`.

use rgunicorn_io::sys::clock;
use rgunicorn_io::sys::exec::Program;
use rgunicorn_io::sys::listener::ListenAddress;
use rgunicorn_io::sys::process::{id, parent_id};
use rgunicorn_io::sys::signal::{self, Signal, SignalQueue};
use rgunicorn_server::arbiter::{
    ArbiterConfig, ForkSide, HookEvent, Host, Launch, OldMaster, PARENT_VARIABLE, SOCKETS_VARIABLE,
    WorkerContext, run,
};
use rgunicorn_server::log::Level;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs the server to its end, in the master and in each worker.
pub(crate) fn serve(path: &Path) -> ! {
    let (config, mode) = read(path).expect("a good first configuration");
    let mut host = TestHost { path: path.to_owned(), old_mode: mode.clone(), mode };
    let status = run(&mut host, config, launch());
    std::process::exit(status)
}

/// The test binary once more, with the same arguments and environment.
fn launch() -> Launch {
    let inherited = [PARENT_VARIABLE, SOCKETS_VARIABLE];
    let program = Program {
        executable: std::env::current_exe().unwrap(),
        arguments: std::env::args_os().collect(),
        environment: std::env::vars_os()
            .filter(|(name, _)| inherited.iter().all(|one| name != one))
            .collect(),
        directory: std::env::current_dir().unwrap(),
    };
    let old_master = std::env::var(PARENT_VARIABLE).ok().map(|pid| OldMaster {
        pid: pid.parse().unwrap(),
        sockets: std::env::var(SOCKETS_VARIABLE)
            .unwrap()
            .split(',')
            .filter_map(|fd| fd.parse().ok())
            .collect(),
    });
    Launch { program, old_master, ..Launch::default() }
}

struct TestHost {
    path: PathBuf,
    mode: String,
    old_mode: String,
}

/// One write per line: lines of several processes do not mix.
fn say(text: &str) {
    use std::io::Write;
    let _ = io::stderr().write_all(format!("[{}] {text}\n", id()).as_bytes());
}

fn read(path: &Path) -> Result<(ArbiterConfig, String), String> {
    let mut mode = "serve".to_owned();
    let mut config = ArbiterConfig {
        workers: 1,
        timeout_s: 30,
        graceful_timeout_s: 30,
        boot_timeout_s: 0,
        daemon: false,
        reuse_port: false,
        binds: Vec::new(),
        backlog: 64,
        pidfile: None,
        umask: 0,
        socket_owner: None,
        proc_name: "test".to_owned(),
        version: "9.9".to_owned(),
        worker_name: "test".to_owned(),
    };
    for line in std::fs::read_to_string(path).map_err(|error| error.to_string())?.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["workers", number] => config.workers = number.parse().unwrap(),
            ["timeout", seconds] => config.timeout_s = seconds.parse().unwrap(),
            ["graceful_timeout", seconds] => config.graceful_timeout_s = seconds.parse().unwrap(),
            ["boot_timeout", seconds] => config.boot_timeout_s = seconds.parse().unwrap(),
            ["daemon"] => config.daemon = true,
            ["reuse_port"] => config.reuse_port = true,
            ["unix", path] => config.binds.push(ListenAddress::Unix(path.into())),
            ["tcp", host, port] => {
                config.binds.push(ListenAddress::Tcp { host: host.to_owned(), port: port.parse().unwrap() });
            }
            ["pidfile", path] => config.pidfile = Some(path.into()),
            ["mode", name] => mode = name.to_owned(),
            _ => return Err(format!("a {line} configuration")),
        }
    }
    Ok((config, mode))
}

impl Host for TestHost {
    fn fork(&mut self) -> io::Result<ForkSide> {
        // SAFETY: this process has no threads besides the test harness's idle main thread, and the child uses only what
        // fork leaves usable (glibc's allocator is).
        match unsafe { nix::unistd::fork()? } {
            nix::unistd::ForkResult::Parent { child } => Ok(ForkSide::Parent(child.as_raw())),
            nix::unistd::ForkResult::Child => Ok(ForkSide::Child),
        }
    }

    fn run_worker(&mut self, worker: WorkerContext) -> i32 {
        match self.mode.as_str() {
            "exit3" => return 3,
            "exit4" => return 4,
            "late" => {
                let go = self.path.with_file_name("go");
                while !go.exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            _ => {}
        }
        let deaf = matches!(self.mode.as_str(), "deaf" | "hang");
        let taken = [Signal::TERM, Signal::QUIT, Signal::INT, Signal::USR1];
        // A deaf worker keeps the master's signals blocked, and ABRT with them.
        let _unheard = deaf.then(|| signal::block(&[Signal::ABRT]));
        let mut signals = SignalQueue::install(if deaf { &[] } else { &taken }).unwrap();
        let _blocked = deaf.then_some(worker.blocked);
        worker.listeners.iter().for_each(|listener| listener.listen().unwrap());
        worker.slot.set_booted();
        say("worker booted");
        loop {
            worker.slot.beat(clock::now());
            say("beat");
            if self.mode == "hang" {
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            signals.wait(Duration::from_millis(200)).unwrap();
            while let Some(signal) = signals.take() {
                say(&format!("worker got {signal}"));
                let others = worker.slot.is_replaced() && worker.slot.board().workers() > 0;
                say(&format!("the queue is for others: {others}"));
                if signal != Signal::USR1 {
                    return 0;
                }
            }
            if parent_id() != worker.ppid {
                return 0;
            }
        }
    }

    fn reload(&mut self) -> Result<ArbiterConfig, String> {
        let (config, mode) = read(&self.path)?;
        self.old_mode = std::mem::replace(&mut self.mode, mode);
        Ok(config)
    }

    fn reload_done(&mut self, accepted: bool) {
        if !accepted {
            self.mode.clone_from(&self.old_mode);
        }
        say(&format!("reload done: {accepted}"));
    }

    fn became_master(&mut self) {
        say("promoted");
    }

    fn event(&mut self, event: HookEvent) -> Result<(), i32> {
        if event == HookEvent::PreExec {
            say("pre_exec");
        }
        Ok(())
    }

    fn reopen_logs(&mut self) {
        say("reopened");
    }

    fn blocking(&mut self, wait: &mut dyn FnMut()) {
        wait();
    }

    fn check_signals(&mut self) -> Result<(), i32> {
        Ok(())
    }

    fn log(&mut self, level: Level, message: std::fmt::Arguments<'_>) {
        say(&format!("{} {message}", format!("{level:?}").to_uppercase()));
    }
}
