//! The settings that the operator asks for. One table of rows says which settings exist; the command line,
//! `--help`, the defaults, the checks and one typed accessor per setting are derived from it.
//!
//! The crate is pure: it opens no file, reads no environment and no clock, and knows no Python. `rgunicorn`
//! brings the texts (arguments, environment, the names of the configuration file as [`Raw`] values) and gets
//! a [`Settings`] or a message back. `rgunicorn-server` takes the [`Networks`] that it trusts from here.
//!
//! How to read it: `table.rs` and `rows.rs` (the rows) -> `settings.rs` (the resolved values) -> `check.rs`
//! (the values that each kind accepts) -> `resolve.rs` (the source that wins) -> `cli.rs` and `help.rs` (the
//! command line). `address.rs`, `network.rs` and `worker_class.rs` give texts that the checks let through
//! their meaning. A new setting is one row in `rows.rs`, and its effect elsewhere.
#![forbid(unsafe_code)]

mod address;
mod check;
mod cli;
mod help;
mod network;
mod number;
mod raw;
mod resolve;
mod rows;
mod settings;
mod shell;
mod source;
mod suggest;
mod table;
mod worker_class;

pub use address::{BadAddress, BindAddress};
pub use cli::{CommandExit, CommandLine, parse_command_line};
pub use help::help;
pub use network::{Network, Networks};
pub use raw::Raw;
pub use resolve::{Environment, checked_value, defaults, resolve};
pub use rows::{Id, ROWS};
pub use settings::{Invalid, Origin, Settings, UnknownName};
pub use shell::split_cmd_args;
pub use source::{ConfigSource, DEFAULT_CONFIG, config_source};
pub use table::{DefaultValue, Env, IoDriver, Row, SINCE_OWN, Section, Value, ValueKind};
pub use worker_class::{WorkerKind, worker_class_check};

#[cfg(test)]
mod tests;
