//! The two logs. The error log is the server's voice (one write per record, at once); the access log is one
//! line per request (rendered in Rust, written in batches).
//!
//! A log never fails after it was opened, and never waits for its reader: whatever a write returns (disk full, reader
//! gone or asleep), the server goes on. It knows nothing of requests and responses: the values of a record come
//! through [`AtomSource`].
//!
//! How to read it: `error_log.rs`, `backlog.rs` (records that its reader does not take), `repeated.rs` (lines that
//! could come without end), `record_queue.rs` (its records for Python's `logging`); then `atoms.rs` (the values that
//! an access record can have), `format.rs` (the operator's format string, compiled once), `exclude.rs` (the requests
//! that are left out), `escape.rs` (clients' text made harmless), `render.rs` and `json.rs` (atoms to bytes),
//! `access_log.rs` (batches).

mod access_log;
mod atoms;
mod backlog;
mod base64;
mod error_log;
mod escape;
mod exclude;
mod format;
mod json;
mod level;
mod record_queue;
mod render;
mod repeated;
mod timestamp;

pub use access_log::{AccessLog, BUFFER_BYTES_MAX, LineRenderer};
pub use atoms::{AtomSource, AtomText};
pub use backlog::BACKLOG_BYTES_MAX;
pub use error_log::ErrorLog;
pub use escape::Escaped;
pub use exclude::{AccessExclude, ExcludeError};
pub use format::{AccessFormat, FormatError};
pub use level::Level;
pub use record_queue::{QUEUED_BYTES_MAX, QUEUED_RECORDS_MAX, Record};
pub use repeated::{REPEATED_LINES_MAX, REPEATED_PERIOD, RepeatedLine};

#[cfg(test)]
mod tests;
