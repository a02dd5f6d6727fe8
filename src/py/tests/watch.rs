//! Reports of a real thread in a real log, and the search for objects.

use std::ffi::CStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use super::{Watch, Watchdog};
use rgunicorn_io::sys::clock;
use rgunicorn_server::log::{ErrorLog, Level};

/// A watch whose stacks are what `stacks` evaluates to, and its log.
fn watch(name: &str, stacks: &CStr) -> (Arc<Watch>, PathBuf) {
    let path = std::env::temp_dir().join(format!("rgunicorn-watch-{name}.{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let errors = Arc::new(ErrorLog::open(&path.to_string_lossy(), Level::Info).unwrap());
    Python::initialize();
    let stacks = Python::attach(|py| py.eval(stacks, None, None).unwrap().unbind());
    (Arc::new(Watch::with(errors, stacks)), path)
}

fn logged(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn wait_logged(path: &PathBuf, text: &str) {
    for _ in 0..1000 {
        if logged(path).contains(text) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no {text:?} in {:?}", logged(path));
}

#[test]
fn a_long_piece_is_reported_and_a_watchdog_that_is_told_to_leave_still_tells_its_end() {
    let (watch, path) = watch("long", c"lambda: 'the stacks'");
    watch.describe_by(Box::new(|_| vec!["GET /slow".to_owned(), "GET /other".to_owned()]));
    let watchdog = Watchdog::start(&watch, Duration::from_millis(50)).unwrap();
    watch.begin(clock::now());
    wait_logged(&path, "[WARNING] Loop blocked for 0.");
    wait_logged(&path, " s so far by GET /slow\nGET /other\nthe stacks\n");
    watch.idle();
    drop(watchdog);
    let log = logged(&path);
    assert!(log.contains("[INFO] Loop no longer blocked, after 0."), "{log}");
    assert!(log.ends_with(" s in all by GET /slow\n"), "{log}");
    assert_eq!(log.matches("Loop blocked").count(), 1, "{log}");
}

#[test]
fn short_pieces_leave_no_trace() {
    let (watch, path) = watch("short", c"lambda: 'the stacks'");
    let watchdog = Watchdog::start(&watch, Duration::from_secs(60)).unwrap();
    for _ in 0..1000 {
        watch.begin(clock::now());
        watch.idle();
    }
    drop(watchdog);
    assert_eq!(logged(&path), "");
}

#[test]
fn stacks_that_cannot_be_had_cost_nothing_but_the_stacks() {
    let (watch, path) = watch("odd", c"lambda: 1 / 0");
    Python::attach(|py| watch.report_abort(py));
    let log = logged(&path);
    assert!(
        log.contains("[ERROR] Worker aborted while its loop was not blocked\n(the stacks cannot"),
        "{log}"
    );
    watch.begin(clock::now());
    Python::attach(|py| watch.report_abort(py));
    let log = logged(&path);
    assert!(
        log.contains("Worker aborted, its loop was blocked for 0.00 s by no request\n(the stacks"),
        "{log}"
    );
}

#[test]
fn instances_are_found_without_asking_them() {
    Python::initialize();
    Python::attach(|py| {
        let code = c"
class Wanted: pass
class Below(Wanted): pass
class Proxy:
    @property
    def __class__(self): raise SystemError('asked')
kept = [Wanted(), Below(), Proxy(), type('Other', (), {})()]
for one in kept: one.tracked = []
";
        let space = pyo3::types::PyDict::new(py);
        py.run(code, Some(&space), None).unwrap();
        let class = space.get_item("Wanted").unwrap().unwrap();
        assert_eq!(super::instances(class.cast().unwrap()).unwrap().len(), 2);
    });
}
