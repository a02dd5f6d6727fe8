//! Errors that do not pass: the worker leaves at once, says so once, and does not pretend to live.

use rgunicorn_io::driver::sim::SimCall;

use crate::stage::Stage;

fn lines(stage: &Stage) -> usize {
    stage.errors().matches("failed for good, the worker leaves").count()
}

#[test]
fn a_wait_that_fails_for_good_ends_the_worker_without_another_beat() {
    for errno in [libc::EBADF, libc::EPERM, libc::ENOSYS, libc::ENXIO, libc::EINVAL] {
        let stage = Stage::calm();
        let client = stage.connect();
        client.get("/a");
        stage.until("the answer", || client.contains("/a|"));
        stage.net.fail(SimCall::Wait, errno, 1);
        let beat = || stage.board.readings().next().and_then(|reading| reading.beat);
        let before = beat();
        let turns = stage.turns.get();
        assert_eq!(stage.run_to_end(), 1);
        assert_eq!((lines(&stage), beat()), (1, before));
        assert!(stage.turns.get() <= turns + 2, "at once");
        assert!(stage.reactor.is_broken());
    }
}

#[test]
fn a_listener_that_is_none_any_more_ends_the_worker() {
    for errno in [libc::EBADF, libc::ENOTSOCK, libc::EINVAL] {
        let stage = Stage::calm();
        stage.settle();
        stage.net.fail(SimCall::Accept, errno, 1);
        let _waiting = stage.connect();
        assert_eq!(stage.run_to_end(), 1);
        assert_eq!(lines(&stage), 1);
    }
}
