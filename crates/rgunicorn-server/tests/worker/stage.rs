//! One worker, its network and its application.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rgunicorn_http::Policy;
use rgunicorn_io::driver::Driver;
use rgunicorn_io::driver::sim::{SimConfig, SimNet};
use rgunicorn_io::sys::handoff::HandoffEnds;
use rgunicorn_io::sys::process;
use rgunicorn_io::sys::shared::Scoreboard;
use rgunicorn_server::log::{ErrorLog, Level};
use rgunicorn_server::worker::{
    App, Control, ExitStatus, ListenerSpec, Reactor, Request, RequestId, Snapshot, WakeSources, WorkerConfig,
    WorkerHandles,
};
use rgunicorn_settings::Networks;

use crate::app::TestApp;
use crate::client::Client;
use crate::owner;

/// Turns of the loop after which a condition is taken for lost.
const TURNS_MAX: u64 = 20_000;
/// The status by which the worker returns when the condition holds.
const REACHED: i32 = 99;

pub(crate) struct Stage {
    pub(crate) reactor: Rc<Reactor>,
    pub(crate) app: TestApp,
    pub(crate) net: SimNet,
    pub(crate) listener: RawFd,
    pub(crate) handoff: Option<HandoffEnds>,
    pub(crate) control: Arc<Control>,
    pub(crate) board: Scoreboard,
    /// The number of its driver in the simulation.
    pub(crate) number: u32,
    /// Turns of the loop so far.
    pub(crate) turns: Cell<u64>,
    log: PathBuf,
    seed: u64,
}

/// What the workers of a server share.
pub(crate) struct Company {
    pub(crate) board: Scoreboard,
    pub(crate) listener: RawFd,
    pub(crate) handoff: Option<HandoffEnds>,
}

/// A network without whims: what a test asserts about order and time does not depend on dice.
pub(crate) fn calm() -> SimConfig {
    SimConfig { short_per_mille: 0, late_per_mille: 0, ended_per_mille: 0, ..SimConfig::default() }
}

/// Short sleeps, so that clients act at the virtual time at which they want to.
pub(crate) fn worker_config() -> WorkerConfig {
    WorkerConfig { idle_wait_max: Duration::from_millis(5), ..WorkerConfig::default() }
}

impl Stage {
    pub(crate) fn calm() -> Self {
        Self::new(1, &calm(), worker_config())
    }

    pub(crate) fn new(seed: u64, config: &SimConfig, worker_config: WorkerConfig) -> Self {
        let (driver, net) = Driver::sim(seed, config);
        let listener = net.listener();
        Self::on(driver, net, listener, seed, worker_config)
    }

    /// On any driver; `net` serves only simulated ones.
    pub(crate) fn on(
        driver: Driver,
        net: SimNet,
        listener: RawFd,
        seed: u64,
        worker_config: WorkerConfig,
    ) -> Self {
        let board = Scoreboard::new().unwrap();
        board.set_workers(1);
        Self::in_company(driver, net, seed, worker_config, Company { board, listener, handoff: None })
    }

    /// Another worker of the same server.
    pub(crate) fn sibling(&self, worker_config: WorkerConfig) -> Self {
        let company = Company { board: self.board.clone(), listener: self.listener, handoff: self.handoff };
        let driver = Driver::sim_sibling(&self.net);
        Self::in_company(driver, self.net.clone(), self.seed, worker_config, company)
    }

    /// One of several workers.
    pub(crate) fn in_company(
        driver: Driver,
        net: SimNet,
        seed: u64,
        worker_config: WorkerConfig,
        company: Company,
    ) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Company { board, listener, handoff } = company;
        let number = net.last_driver();
        let name = format!("rgunicorn-worker-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let log = std::env::temp_dir().join(name);
        let slot = board.claim(board.readings().map(|reading| reading.age).max().unwrap_or(0) + 1).unwrap();
        let control =
            Arc::new(if handoff.is_some() { Control::of(slot.clone()) } else { Control::default() });
        let handles = WorkerHandles {
            errors: Arc::new(ErrorLog::open(log.to_str().unwrap(), Level::Debug).unwrap()),
            access: RefCell::new(None),
            slot,
            control: Arc::clone(&control),
            trusted: Networks::default(),
            parent: process::parent_id(),
            listener_guard: RefCell::new(None),
            handoff,
            make_body_memory: None,
        };
        let listeners = [ListenerSpec { fd: listener, unix: false, shared: true, key: 1 }];
        let reactor = Rc::new(Reactor::new(
            driver,
            &listeners,
            WakeSources::default(),
            handles,
            worker_config,
            Policy::default(),
        ));
        // One of several is watched with the others.
        if handoff.is_some() {
            owner::watch_too(&reactor)
        } else {
            owner::watch(&reactor)
        }
        let app = TestApp::new(net.clone());
        let turns = Cell::new(0);
        Self { reactor, app, net, listener, handoff, control, board, number, turns, log, seed }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(&self.net, self.net.connect(self.listener).unwrap())
    }

    /// Lets the worker run until `holds` does. `Some`: the worker left by itself before, with this status.
    pub(crate) fn run_until(&self, what: &str, holds: impl Fn() -> bool) -> Option<i32> {
        let begun = self.turns.get();
        let step = || {
            let turns = self.turns.get() + 1;
            self.turns.set(turns);
            self.check_bytes();
            assert!(
                turns - begun < TURNS_MAX,
                "seed {}: not reached: {what}; {:?}\n{}",
                self.seed,
                self.snapshot(),
                self.errors()
            );
            holds()
        };
        let status = self.reactor.run(&Driven { app: &self.app, step: &step });
        (status != REACHED).then_some(status)
    }

    /// The same, for a worker that must not leave.
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let left = self.run_until(what, holds);
        assert_eq!(left, None, "seed {}: the worker left before: {what}\n{}", self.seed, self.errors());
    }

    /// Lets the worker run until it has nothing to do at once.
    pub(crate) fn settle(&self) {
        let start = self.net.now();
        self.until("time passes", || self.net.now().since(start) >= Duration::from_millis(20));
    }

    /// Lets this much virtual time pass.
    pub(crate) fn pass(&self, time: Duration) {
        let start = self.net.now();
        self.until("time passes", || self.net.now().since(start) >= time);
    }

    /// Lets this much virtual time pass, with a look in each turn, however many turns there are; `Some`: the worker
    /// left by itself before, with this status.
    pub(crate) fn run_for(&self, time: Duration, look: impl Fn()) -> Option<i32> {
        let (start, begun) = (self.net.now(), self.turns.get());
        let step = || {
            self.turns.set(self.turns.get() + 1);
            self.check_bytes();
            look();
            self.net.now().since(start) >= time || self.turns.get() - begun > 10 * TURNS_MAX
        };
        let status = self.reactor.run(&Driven { app: &self.app, step: &step });
        (status != REACHED).then_some(status)
    }

    /// Runs the worker to its own end.
    pub(crate) fn run_to_end(&self) -> i32 {
        self.run_until("the worker's end", || false).unwrap()
    }

    /// The memory of requests is counted right.
    fn check_bytes(&self) {
        let [counted, found] = self.reactor.held_bytes();
        assert_eq!(counted, found, "seed {}", self.seed);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.reactor.snapshot()
    }

    /// All connections are closed and nothing of them is left, in the worker or in the driver.
    pub(crate) fn assert_nothing_left(&self) {
        self.until("all connections are closed", || self.reactor.snapshot().connections == 0);
        self.settle();
        let idle = Snapshot { connections: 0, timers: 0, jobs: 0, operations: 1 };
        assert_eq!(self.snapshot(), idle, "seed {}", self.seed);
        assert_eq!(self.reactor.held_bytes(), [0, 0], "seed {}", self.seed);
        assert_eq!(owner::alive(), 0, "seed {}: a body is held", self.seed);
        assert_eq!(self.app.held(), 0, "seed {}: the application holds a response", self.seed);
    }

    /// The error log.
    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.log);
        if !std::thread::panicking() {
            assert!(!owner::dropped_while_borrowed(), "a body was dropped while the reactor was borrowed");
        }
    }
}

/// The application with the test looking in once per turn.
struct Driven<'a> {
    app: &'a TestApp,
    step: &'a dyn Fn() -> bool,
}

impl App for Driven<'_> {
    fn blocking(&self, wait: &mut dyn FnMut()) {
        self.app.blocking(wait);
    }
    fn check_signals(&self, _: bool) -> Result<(), ExitStatus> {
        if (self.step)() { Err(ExitStatus(REACHED)) } else { Ok(()) }
    }
    fn call(&self, reactor: &Reactor, request: Box<Request>) {
        self.app.call(reactor, request);
    }
    fn resume(&self, reactor: &Reactor, conn: RequestId) {
        self.app.resume(reactor, conn);
    }
    fn abandon(&self, reactor: &Reactor, conn: RequestId) {
        self.app.abandon(reactor, conn);
    }
    fn refused(&self, reactor: &Reactor, request: Box<Request>, status: u16) {
        self.app.refused(reactor, request, status);
    }
}
