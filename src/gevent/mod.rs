//! gevent's event loop on our driver. gevent's hub is a greenlet that runs `Loop.run`; everything that a gevent
//! program waits for is a watcher of this loop.
//!
//! libev is the reference: where gevent's own loops differ, this one does what libev's does. It works alone
//! (`GEVENT_LOOP=rgunicorn.gevent.Loop`), with a driver of its own, and in a worker, where it shares the driver and the
//! turns of the worker's reactor ([`rgunicorn_server::worker::LoopSource`]).
//!
//! Read it in this order: `types` (the two classes), `watcher_state` and `state` (what they hold), `watcher` and
//! `callback`, `hub_loop` (the loop), `methods` (gevent's calls of it), `vectorcall` (the most frequent of those),
//! `turn` (one turn), `events` (the end of a wait), `watchers` (the kinds of watchers), `serve` (a worker in
//! greenlets), `sockets` (gevent's, on this loop). Beside them stand `driver_ref` (whose driver it is), `convert`, and
//! `monkey` (what a program does with gevent).
//!
//! The stack rule (`py/stack.rs`) is kept so: every field that changes is in a `GilCell`, every call into Python goes
//! behind `assert_no_borrow`, and nothing is held over it. Descriptors are touched only just before the wait
//! (`Loop::sync_polls`), and by `closing_fd`, so starting and stopping a watcher is a matter of memory alone.

mod callback;
mod convert;
mod driver_ref;
mod events;
mod hub_loop;
mod methods;
mod monkey;
mod serve;
mod sockets;
mod state;
mod turn;
mod types;
mod vectorcall;
mod watcher;
mod watcher_state;
mod watchers;

pub use callback::Callback;
pub use monkey::{
    Patched, Version, after_fork, check_compat, current_loop, import_objection, install_loop, original,
    patch_all, patched, uninstall_loop,
};
pub use serve::{RequestGreenlets, serve};
pub use sockets::set_sockets;
pub use types::{Loop, Watcher};
pub use vectorcall::install_vectorcall;
pub use watchers::{Async, Check, Child, Fork, Idle, Io, Prepare, Signal, Stat, Timer};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// `READ` of gevent: bytes can be read, or the peer has closed.
pub const READ: u32 = 1;
/// `WRITE` of gevent.
pub const WRITE: u32 = 2;
/// libev's internal mark of a descriptor that was set anew; gevent's tests know its name.
const IOFDSET: u32 = 0x80;

/// Returns an exception class of gevent (`gevent.exceptions.NAME`), looked up once.
fn exception<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let class =
        cell.get_or_try_init(py, || Ok::<_, PyErr>(py.import("gevent.exceptions")?.getattr(name)?.unbind()))?;
    Ok(class.bind(py).clone())
}
