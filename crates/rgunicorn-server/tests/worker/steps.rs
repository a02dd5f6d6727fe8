//! The turn in steps, taken by a loop from outside that shares the driver.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use rgunicorn_io::driver::{Completion, READABLE, SendBuf, Token, WRITABLE};
use rgunicorn_server::worker::{
    EXTERNAL, ExitStatus, LoopSource, SourceHost, WorkerConfig, WorkerSource, is_external,
};

use crate::app::TestApp;
use crate::owner::{self, owned};
use crate::stage::{Stage, calm, worker_config};

/// One turn; what is not the reactor's comes back.
fn turn(stage: &Stage, foreign: &mut Vec<Completion>) -> Option<i32> {
    let reactor = &stage.reactor;
    let wait = match reactor.begin_turn(&stage.app) {
        Ok(wait) => wait,
        Err(ExitStatus(status)) => return Some(status),
    };
    assert!(reactor.wait(&stage.app, wait, foreign));
    reactor.after_wait(foreign);
    reactor.run_jobs(&stage.app, false);
    reactor.end_turn();
    None
}

/// The loop's side of a source: counts what it is asked for.
#[derive(Clone, Default)]
struct Counts {
    turns: Rc<Cell<u32>>,
    ends: Rc<Cell<u32>>,
}

impl SourceHost for Counts {
    fn begin_turn(&self) {
        self.turns.set(self.turns.get() + 1);
    }
    fn leave(&self) {
        self.ends.set(self.ends.get() + 1);
    }
}

/// One turn of a loop that knows only the source.
fn source_turn(source: &dyn LoopSource, foreign: &mut Vec<Completion>) {
    let wait = source.prepare();
    source.driver().wait(Some(wait), foreign).unwrap();
    source.check(foreign);
    source.dispatch();
}

fn tokens(completions: &[Completion]) -> Vec<u64> {
    let token = |completion: &Completion| match completion {
        Completion::Poll { token, result: Ok(_) } => token.0,
        other => panic!("{other:?}"),
    };
    completions.iter().map(token).collect()
}

#[test]
fn a_loop_from_outside_serves_requests_and_gets_its_own_completions() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.get("/inside");
    let (one, _) = stage.net.pair();
    let (other, other_peer) = stage.net.pair();
    let mut foreign = Vec::new();
    let (one, other) = (std::os::fd::AsRawFd::as_raw_fd(&one), std::os::fd::AsRawFd::as_raw_fd(&other));
    stage.reactor.driver().poll(one, WRITABLE, Token(EXTERNAL | 1)).unwrap();
    // As low bits, tokens of the reactor's own are as good as any.
    stage.reactor.driver().poll(other, READABLE, Token(EXTERNAL | 2 << 56 | 1 << 32)).unwrap();
    stage.net.send(other_peer, b"x");
    for _ in 0..50 {
        assert_eq!(turn(&stage, &mut foreign), None);
    }
    assert!(client.contains("/inside|"));
    assert_eq!(foreign.len(), 2);
    assert!(foreign.iter().all(is_external));
    let mut tokens = tokens(&foreign);
    tokens.sort_unstable();
    assert_eq!(tokens, [EXTERNAL | 1, EXTERNAL | 2 << 56 | 1 << 32]);
}

#[test]
fn a_loop_from_outside_is_told_of_the_end() {
    let stage = Stage::calm();
    stage.connect().get("/last");
    stage.control.stop();
    let mut foreign = Vec::new();
    let end = (0..5_000).find_map(|_| turn(&stage, &mut foreign));
    assert_eq!(end, Some(0));
    assert_eq!(stage.app.count("call /last"), 1);
}

#[test]
fn completions_of_others_keep_their_order() {
    let stage = Stage::calm();
    let foreign = |number| Completion::Poll { token: Token(EXTERNAL | number), result: Ok(0) };
    let orphan = || Completion::Orphan { buf: SendBuf { head: Vec::new(), body: owned(vec![1]) } };
    let mut completions = vec![foreign(3), orphan(), foreign(1), foreign(2), orphan()];
    stage.reactor.after_wait(&mut completions);
    assert_eq!(tokens(&completions), [3, 1, 2].map(|number| EXTERNAL | number));
    assert_eq!(owner::alive(), 2);
    stage.reactor.end_turn();
    assert_eq!(owner::alive(), 0);
}

#[test]
fn work_of_the_loop_from_outside_counts_as_time() {
    let long = WorkerConfig { idle_wait_max: Duration::from_secs(100), ..worker_config() };
    let stage = Stage::new(1, &calm(), WorkerConfig { keepalive: Duration::from_secs(2), ..long });
    let client = stage.connect();
    client.get("/1");
    let mut none = Vec::new();
    while !client.contains("/1|") {
        turn(&stage, &mut none);
    }
    stage.net.advance(Duration::from_millis(1900));
    stage.reactor.after_work();
    assert!(stage.reactor.before_wait() <= Duration::from_millis(100));
}

#[test]
fn a_source_serves_until_its_host_ends_it() {
    let stage = Stage::calm();
    let (app, counts) = (Rc::new(TestApp::new(stage.net.clone())), Counts::default());
    let source = WorkerSource::new(stage.reactor.clone(), app.clone(), counts.clone());
    let client = stage.connect();
    client.get("/1");
    let mut foreign = Vec::new();
    while !client.contains("/1|") {
        source_turn(&source, &mut foreign);
    }
    assert_eq!((source.status(), counts.ends.get()), (None, 0));
    stage.control.stop();
    while source.status().is_none() {
        source_turn(&source, &mut foreign);
    }
    // The host came back: it is not asked to leave a second time.
    for _ in 0..3 {
        source_turn(&source, &mut foreign);
    }
    assert_eq!((source.status(), counts.ends.get()), (Some(0), 1));
    assert!(counts.turns.get() > 4 && source.is_serving());
    source.end();
    assert!(!source.is_serving());
    assert_eq!(source.prepare(), Duration::ZERO, "nothing of the reactor is touched any more");
}

#[test]
fn a_source_may_be_told_to_leave_for_another_reason() {
    let stage = Stage::calm();
    let (app, counts) = (Rc::new(TestApp::new(stage.net.clone())), Counts::default());
    let source = WorkerSource::new(stage.reactor.clone(), app, counts.clone());
    source.set_status(3);
    stage.control.stop();
    source_turn(&source, &mut Vec::new());
    assert_eq!((source.status(), counts.ends.get()), (Some(3), 0));
}
