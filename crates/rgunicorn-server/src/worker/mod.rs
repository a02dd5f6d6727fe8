//! One worker process. The reactor multiplexes connections on a [`rgunicorn_io::driver::Driver`], turns bytes into
//! requests with [`rgunicorn_http`] and hands them to an [`App`]; it knows neither Python nor the arbiter.
//!
//! Read it in this order: `app` (the contract with the floor above), `conn` (one connection's life), `reactor` (the
//! state of all of them and the events that change it), `preamble`, `accept`, `incoming`, `output`, `drain` (parts of the reactor),
//! `run` (the loop), `source` (its steps within a loop from outside).
//!
//! The stack rule (docs/architecture.md): no borrow of the reactor's state is alive while the [`App`] runs. Every
//! method of [`Reactor`] borrows, changes and releases; the application is called only from `run`, with nothing
//! borrowed.

mod accept;
mod access;
mod app;
mod balance;
mod body;
mod config;
mod conn;
mod control;
mod drain;
mod incoming;
mod input;
mod mailbox;
mod output;
mod proxy_header;
mod queue;
mod reactor;
mod respond;
mod run;
mod source;
mod spool;
mod wakeup;

pub use access::{AccessFacts, AccessLine};
pub use app::{App, ExitStatus, Flow, Hijacked, Request, RequestHasher, RequestId, RequestMap};
pub use body::Body;
pub use config::WorkerConfig;
pub use control::Control;
pub use incoming::{BodyFault, BodyRead};
pub use mailbox::{Mailbox, Task};
pub use output::CLIENT_CLOSED_REQUEST;
pub use queue::RequestQueue;
pub use reactor::{EXTERNAL, ListenerSpec, Reactor, RequestCount, Snapshot, WorkerHandles, is_external};
pub use respond::{Responded, Whole};
pub use source::{LoopSource, SourceHost, WorkerSource};
