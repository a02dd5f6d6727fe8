//! Starts servers, reads their log, and cleans up after them.

use rgunicorn_io::sys::process::{self, Pid};
use rgunicorn_io::sys::signal::Signal;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Names the configuration file, and makes the test binary a server.
pub(crate) const CONFIG_VARIABLE: &str = "RGUNICORN_TEST_ARBITER_CONFIG";
/// Longer than anything here takes on a busy machine; reached only by failing tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// The arguments of a process as `ps` shows them.
pub(crate) fn title(pid: Pid) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    String::from_utf8(bytes).unwrap().trim_end_matches('\0').to_owned()
}

/// A directory that goes with the test.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rgunicorn-arbiter-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

pub(crate) struct Server {
    child: Child,
    config: PathBuf,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(directory: &Directory, config: &str) -> Self {
        let path = directory.path("config");
        std::fs::write(&path, config).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server_process", "--nocapture", "--test-threads=1"])
            .env(CONFIG_VARIABLE, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let writer = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                writer.lines.lock().unwrap().push(line);
                writer.grown.notify_all();
            }
        });
        Self { child, config: path, log, reader: Some(reader) }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn kill(pid: Pid, signal: Signal) {
        assert!(process::kill(pid, signal).unwrap(), "{pid} has gone before {signal}");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        Self::kill(self.pid(), signal);
    }

    /// Writes another configuration.
    pub(crate) fn configure(&self, config: &str) {
        let fresh = self.config.with_extension("new");
        std::fs::write(&fresh, config).unwrap();
        std::fs::rename(fresh, &self.config).unwrap();
    }

    /// Writes another configuration and hangs up.
    pub(crate) fn reconfigure(&self, config: &str) {
        self.reconfigure_at(self.pid(), config);
    }

    /// The same for another master than the first one.
    pub(crate) fn reconfigure_at(&self, master: Pid, config: &str) {
        self.configure(config);
        Self::kill(master, Signal::HUP);
    }

    /// Waits until the log fulfils a condition.
    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn(&[String]) -> bool) {
        let lines = self.lines();
        let (lines, timeout) =
            self.log.grown.wait_timeout_while(lines, PATIENCE, |lines| !condition(lines)).unwrap();
        assert!(!timeout.timed_out(), "waited for {what} in vain:\n{}", lines.join("\n"));
    }

    pub(crate) fn wait_for(&self, text: &str) {
        self.wait_until(text, |lines| lines.iter().any(|line| line.contains(text)));
    }

    pub(crate) fn count(&self, text: &str) -> usize {
        self.log.lines.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.count(text) > 0
    }

    /// The pids of the first `number` workers that have booted, in the order of booting, once there are so many.
    pub(crate) fn booted(&self, number: usize) -> Vec<Pid> {
        self.pids(number, "worker booted")
    }

    /// The pids of the first `number` workers that exist, booted or not.
    pub(crate) fn worker_pids(&self, number: usize) -> Vec<Pid> {
        self.pids(number, "Booting worker")
    }

    /// The whole log.
    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }

    fn pids(&self, number: usize, text: &str) -> Vec<Pid> {
        let of = |line: &String| {
            line.contains(text).then(|| line[1..line.find(']').unwrap()].parse::<Pid>().unwrap())
        };
        self.wait_until(text, |lines| lines.iter().filter_map(of).count() >= number);
        self.log.lines.lock().unwrap().iter().filter_map(of).take(number).collect()
    }

    /// What the master itself has said at info or above, and its own debug lines about workers; without
    /// children's ends.
    pub(crate) fn log_of_master(&self) -> Vec<String> {
        let own = format!("[{}] ", self.pid());
        let lines = self.lines();
        let said = lines.iter().filter_map(|line| line.strip_prefix(&own));
        said.filter(|line| !line.contains("signal: cld")).map(str::to_owned).collect()
    }

    /// Waits for the end and for the last line.
    pub(crate) fn exit_status(&mut self) -> Option<i32> {
        // A pipe ends when the last process that holds it has gone: workers too.
        self.reader.take().unwrap().join().unwrap();
        self.child.wait().unwrap().code()
    }

    /// User and system time of the master so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat =
            std::fs::read_to_string(Path::new("/proc").join(self.pid().to_string()).join("stat")).unwrap();
        let after_name = stat.rsplit(')').next().unwrap();
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        // utime and stime, fields 14 and 15 of proc(5), in ticks of 1/100 s (USER_HZ on every Linux we build for).
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Workers see that their parent has changed and leave; the deaf ones of a failed test are ended by their pids.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in self.unended().into_iter().chain(self.new_masters()) {
            let _ = process::kill(pid, Signal::KILL);
        }
    }
}

impl Server {
    /// Masters that an upgrade has started and that did not say that they leave.
    fn new_masters(&self) -> Vec<Pid> {
        let lines = self.lines();
        let pids = lines
            .iter()
            .filter_map(|line| line.split_once("a new master (pid:")?.1.strip_suffix(')')?.parse().ok());
        let left = |pid: Pid| {
            let (leaving, reaped) =
                (format!("[{pid}] INFO Shutting down"), format!("New master (pid:{pid}) "));
            lines.iter().any(|line| line.contains(&leaving) || line.contains(&reaped))
        };
        pids.filter(|pid| !left(*pid)).collect()
    }

    /// Workers that booted and did not say that they exit.
    fn unended(&self) -> Vec<Pid> {
        let lines = self.lines();
        let pids =
            lines.iter().filter_map(|line| line.split_once("Booting worker with pid: ")?.1.parse().ok());
        let ended = |pid: Pid| {
            let (exit, kill) = (format!("Worker exiting (pid: {pid})"), format!("Worker (pid:{pid}) "));
            lines.iter().any(|line| line.contains(&exit) || line.contains(&kill))
        };
        pids.filter(|pid| !ended(*pid)).collect()
    }
}
