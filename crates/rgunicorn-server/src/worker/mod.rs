//! One worker process. The reactor multiplexes connections on a [`rgunicorn_io::driver::Driver`], turns bytes into
//! requests with [`rgunicorn_http`] and hands them to an [`App`]; it knows neither Python nor the arbiter.
//!
//! Read it in this order: `app` (the contract with the floor above), `reactor` (its parts, and what the application may
//! ask), `run` (the steps of a turn), `source` (the same steps within a loop from outside), then the parts: `conn`
//! (connections and their bytes), `accept` (listeners), `lifecycle`, `turn`, `handling`, `memory`, `wakes`. Parts
//! import what lies below them (`ids`, `jobs`, `timers`, `message`, `setup`) and never the reactor.
//!
//! The stack rule (docs/stack-rule.md): no borrow of the reactor's parts is alive while the [`App`] runs. Every method
//! of [`Reactor`] borrows, changes and releases; the application is called only from `run`, with nothing borrowed.

mod accept;
mod access;
mod app;
mod config;
mod conn;
mod control;
mod core;
mod event_source;
mod failing;
mod handling;
mod handoff;
mod handover;
mod helper;
mod ids;
mod jobs;
mod lifecycle;
mod mailbox;
mod memory;
mod message;
mod queue;
mod reactor;
mod relief;
mod relieve;
mod respond;
mod run;
mod setup;
mod siblings;
mod source;
mod spread;
mod timers;
mod turn;
mod wakes;

pub use access::{AccessFacts, AccessLine};
pub use app::{App, ExitStatus};
pub use config::{HandoffConfig, WorkerConfig};
pub use conn::body::{Body, BodyMemory, MakeBodyMemory};
pub use conn::incoming::{BodyFault, BodyRead};
pub use control::Control;
pub use event_source::{EXTERNAL, is_external};
pub use ids::{RequestHasher, RequestId, RequestMap};
pub use mailbox::{Task, TaskQueue};
pub use message::{Flow, Hijacked, Request};
pub use queue::RequestQueue;
pub use reactor::{Mailbox, Reactor, Snapshot, WakeSources};
pub use respond::{Responded, Whole, is_large_item};
pub use run::CLIENT_CLOSED_REQUEST;
pub use setup::{ListenerSpec, RequestCount, WorkerHandles};
pub use source::{LoopSource, SourceHost, WorkerSource};
