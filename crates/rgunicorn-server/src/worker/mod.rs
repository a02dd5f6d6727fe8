//! One worker process. The reactor multiplexes connections on a [`rgunicorn_io::driver::Driver`], turns bytes into
//! requests with [`rgunicorn_http`] and hands them to an [`App`]; it knows neither Python nor the arbiter.
//!
//! Read it in this order: `app` (the contract with the floor above), `conn` (one connection's life), `reactor` (the
//! state of all of them and the events that change it), `preamble`, `accept`, `incoming`, `output`, `drain` (parts of the reactor),
//! `run` (the loop).
//!
//! The stack rule (docs/architecture.md): no borrow of the reactor's state is alive while the [`App`] runs. Every
//! method of [`Reactor`] borrows, changes and releases; the application is called only from `run`, with nothing
//! borrowed.

mod accept;
mod access;
mod app;
mod body;
mod conn;
mod control;
mod drain;
mod fair;
mod incoming;
mod input;
mod mailbox;
mod output;
mod pool;
mod preamble;
mod reactor;
mod run;
mod spool;
mod tuning;
mod wakeups;

pub use access::{AccessFacts, AccessLine};
pub use app::{App, ConnId, Exit, Flow, Handover, Outgoing, Request};
pub use body::Body;
pub use control::Control;
pub use incoming::{BodyFault, BodyRead};
pub use mailbox::{Mailbox, Task};
pub use output::CLIENT_CLOSED_REQUEST;
pub use pool::Pool;
pub use reactor::{Census, FOREIGN, ListenerSpec, Reactor, RequestCount, Shared, is_foreign};
pub use tuning::Tuning;
