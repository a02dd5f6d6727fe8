//! The worker that a `worker_class` text stands for, and the reasons for which some are refused.

use super::raw::python_repr;

/// The workers that exist in this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerKind {
    /// `sync`: the uring engine under Gunicorn's sync contract, every answer closes its connection.
    Sync,
    /// `gthread`: as `uring`, with the application in threads and the loop apart; also `sync` with more than
    /// one thread.
    Gthread,
    /// `uring`: keep-alive connections multiplexed on one ring (or epoll).
    Uring,
    /// `gevent`: as `uring`, with everything patched by gevent before the application is imported; requests run in
    /// greenlets.
    Gevent,
    /// A class that others have written for Gunicorn, with a loop of its own: it runs under this master.
    Foreign,
}

/// The dotted paths of Gunicorn's own classes, and Python's texts of those that stand for them, each with its alias.
const GUNICORN_CLASSES: [(&str, &str); 8] = [
    ("gunicorn.workers.sync.SyncWorker", "sync"),
    ("gunicorn.workers.gthread.ThreadWorker", "gthread"),
    ("gunicorn.workers.ggevent.GeventWorker", "gevent"),
    ("<class 'rgunicorn.workers.SyncWorker'>", "sync"),
    ("<class 'rgunicorn.workers.ThreadWorker'>", "gthread"),
    ("<class 'rgunicorn.workers.GeventWorker'>", "gevent"),
    ("<class 'rgunicorn.workers.UringWorker'>", "uring"),
    ("<class 'rgunicorn.workers.Worker'>", ""),
];

const AVAILABLE: &str = "available: sync, gthread, gevent, uring, and the dotted path of another class";

/// Returns the worker that `name` (alias, `egg:gunicorn#ALIAS` or dotted path) stands for.
///
/// # Errors
/// No such worker can run: the text names the class, the reason and the available ones. The server prints it
/// after `Error: ` and exits with 1.
pub fn worker_class_check(name: &str) -> Result<WorkerKind, String> {
    let alias = name.strip_prefix("egg:gunicorn#").unwrap_or(name);
    let alias = GUNICORN_CLASSES.iter().find(|(path, _)| *path == alias).map_or(alias, |(_, alias)| alias);
    let shown = python_repr(name);
    match alias {
        "sync" => Ok(WorkerKind::Sync),
        "uring" => Ok(WorkerKind::Uring),
        "gevent" | "gevent_wsgi" => Ok(WorkerKind::Gevent),
        "gthread" => Ok(WorkerKind::Gthread),
        "eventlet" => Err(format!(
            "worker class {shown} is not supported: eventlet is retired, use gevent ({AVAILABLE})"
        )),
        // Gunicorn's own code for them.
        "gevent_pywsgi" | "asgi" | "tornado" => Ok(WorkerKind::Foreign),
        _ if alias.contains(['.', '<', '#']) => Ok(WorkerKind::Foreign),
        _ => Err(format!("worker class {shown} is unknown ({AVAILABLE})")),
    }
}

/// Returns the worker of [`worker_class_check`], with the effect of `threads`: Gunicorn turns `sync` into
/// `gthread` when they are more than one.
///
/// # Errors
/// As [`worker_class_check`].
pub(super) fn worker_kind(class: &str, threads: u32) -> Result<WorkerKind, String> {
    Ok(match worker_class_check(class)? {
        WorkerKind::Sync if threads > 1 => WorkerKind::Gthread,
        kind => kind,
    })
}
