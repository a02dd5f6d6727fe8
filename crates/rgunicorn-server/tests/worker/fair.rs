//! A turn gives the application its turn, however much has come.

use std::time::Duration;

use crate::app::answer;
use crate::stage::{Stage, calm, worker_config};
use rgunicorn_server::worker::WorkerConfig;

/// A turn of this stage handles one completion before the application's.
fn impatient() -> Stage {
    Stage::new(1, &calm(), WorkerConfig { handling_time_max: Duration::ZERO, ..worker_config() })
}

#[test]
fn the_application_has_its_turn_before_all_is_handled() {
    let stage = impatient();
    let clients: Vec<_> = (0..20).map(|_| stage.connect()).collect();
    stage.settle();
    clients.iter().for_each(|client| client.get("/a"));
    stage.until("a call", || stage.app.count("call") > 0);
    assert_eq!((stage.app.count("call"), stage.snapshot().jobs), (1, 0));
    stage.until("all answers", || clients.iter().all(|client| client.has(&answer(b"/a|", true))));
    clients.iter().for_each(|client| client.close());
    stage.assert_nothing_left();
}

/// A client that sends without end keeps the turns full: deadlines are met all the same.
#[test]
fn deadlines_are_met_beside_a_flood() {
    let stage = impatient();
    let silent: Vec<_> = (0..50).map(|_| stage.connect()).collect();
    let floods: Vec<_> = (0..4).map(|_| stage.connect()).collect();
    for flood in &floods {
        flood.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    }
    let start = stage.net.now();
    let mut more = 0;
    while stage.net.now().since(start) < Duration::from_millis(10_500) {
        floods.iter().for_each(|flood| flood.send("1\r\nx\r\n"));
        stage.pass(Duration::from_millis(if more < 100 { 105 } else { 5 }));
        more += 1;
    }
    assert!(silent.iter().all(|client| client.sees_end()));
    assert!(floods.iter().all(|client| !client.sees_end()));
}
