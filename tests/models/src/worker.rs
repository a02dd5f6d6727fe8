//! `rgunicorn_server::worker`, as far as its mailbox knows it.

pub(crate) mod models;

#[path = "../../../crates/rgunicorn-server/src/worker/mailbox.rs"]
#[allow(dead_code, reason = "a model needs neither the descriptor nor Debug")]
pub(crate) mod mailbox;

/// What a task gets. The tasks of the models do not look at it.
pub(crate) struct Reactor;
