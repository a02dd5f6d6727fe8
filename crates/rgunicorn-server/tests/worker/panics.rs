//! A failure in one request ends that connection and nothing else.

use crate::app::answer;
use crate::stage::Stage;

#[test]
fn a_panicking_application_loses_one_connection() {
    for path in ["/panic", "/panic-late"] {
        let stage = Stage::calm();
        let (bad, good) = (stage.connect(), stage.connect());
        good.get("/before");
        bad.get(path);
        stage.until("the good answer", || good.contains("/before|"));
        stage.until("the bad connection's end", || bad.sees_end());
        good.get("/after");
        stage.until("the others go on", || good.read().ends_with(&answer(b"/after|", true)));
        assert_eq!(stage.reactor.snapshot().connections, 1);
        assert_eq!(stage.errors().matches("Internal error while handling a request").count(), 1);
        assert!(stage.errors().contains("the application fails"));
        good.close();
        stage.assert_nothing_left();
    }
}

#[test]
fn a_panic_behind_queued_output_leaves_nothing() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.send([crate::client::get("/big/50000"), crate::client::get("/panic")].concat());
    stage.until("the end", || client.sees_end());
    stage.assert_nothing_left();
}
