//! Which worker a `worker_class` text stands for, and why some are refused.

use super::raw::python_repr;

/// The workers that exist in this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerKind {
    /// `sync`: the uring engine under Gunicorn's sync contract, every answer closes its connection.
    Sync,
    /// `gthread`: as `uring`, with the application in threads and the loop apart; also `sync` with more than one thread.
    Gthread,
    /// `uring`: keep-alive connections multiplexed on one ring (or epoll).
    Uring,
    /// `gevent`: as `uring`, with everything patched by gevent before the application is imported; requests run in
    /// greenlets.
    Gevent,
}

/// Names that end in a known worker: Gunicorn's own classes may be named by their dotted path.
const GUNICORN_CLASSES: [(&str, &str); 4] = [
    ("gunicorn.workers.sync.SyncWorker", "sync"),
    ("gunicorn.workers.gthread.ThreadWorker", "gthread"),
    ("gunicorn.workers.ggevent.GeventWorker", "gevent"),
    ("gunicorn.workers.ggevent.GeventPyWSGIWorker", "gevent_pywsgi"),
];

const AVAILABLE: &str = "available: sync, gthread, gevent, uring";

/// The worker that `name` (alias, `egg:gunicorn#ALIAS` or dotted path) stands for.
///
/// # Errors
/// A text that names the class, says why it cannot run and what can; the server prints it after `Error: ` and exits 1.
pub fn worker_class_check(name: &str) -> Result<WorkerKind, String> {
    let alias = name.strip_prefix("egg:gunicorn#").unwrap_or(name);
    let alias = GUNICORN_CLASSES.iter().find(|(path, _)| *path == alias).map_or(alias, |(_, alias)| alias);
    let shown = python_repr(name);
    match alias {
        "sync" => Ok(WorkerKind::Sync),
        "uring" => Ok(WorkerKind::Uring),
        "gevent" | "gevent_wsgi" => Ok(WorkerKind::Gevent),
        "gthread" => Ok(WorkerKind::Gthread),
        "gevent_pywsgi" => Err(format!(
            "worker class {shown} is not supported: rgunicorn has its own HTTP server, use gevent, which patches the same way \
             ({AVAILABLE})"
        )),
        "eventlet" => Err(format!(
            "worker class {shown} is not supported: eventlet is retired, use gevent ({AVAILABLE})"
        )),
        "asgi" | "tornado" => Err(format!(
            "worker class {shown} is not supported: rgunicorn serves WSGI applications ({AVAILABLE})"
        )),
        _ if alias.contains(['.', '<', '#']) => Err(format!(
            "worker class {shown} cannot run on rgunicorn's engine, which replaces Gunicorn's worker classes ({AVAILABLE})"
        )),
        _ => Err(format!("worker class {shown} is unknown ({AVAILABLE})")),
    }
}

/// [`worker_class_check`], and what `threads` makes of the class: Gunicorn turns `sync` into `gthread` when it is
/// above 1.
pub(super) fn worker_kind(class: &str, threads: u32) -> Result<WorkerKind, String> {
    Ok(match worker_class_check(class)? {
        WorkerKind::Sync if threads > 1 => WorkerKind::Gthread,
        kind => kind,
    })
}
