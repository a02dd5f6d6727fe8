//! `rgunicorn_server::log`, as far as its queue of records knows it.

pub(crate) mod models;

#[path = "../../../crates/rgunicorn-server/src/log/record_queue.rs"]
#[allow(dead_code, reason = "whether the queue is in use is not the models' business")]
pub(crate) mod record_queue;

#[path = "../../../crates/rgunicorn-server/src/log/level.rs"]
#[allow(dead_code, reason = "names of levels")]
pub(crate) mod level;
