//! The server's processes: the arbiter that keeps workers alive, the worker that serves connections, and their logs.
//!
//! It is no WSGI server yet: it knows no Python, and reads neither a command line nor a configuration file. System
//! calls are made by `rgunicorn-io` only, which also keeps the clock; requests are read by `rgunicorn-http`.
//! `rgunicorn` implements the traits by which it asks for the rest: [`arbiter::Host`] and [`worker::App`].
//!
//! An import goes down, never up and never sideways: arbiter and worker talk through a fork, signals and shared memory.
//!
//! ```text
//! 3 processes   worker | arbiter
//! 2 responses   response
//! 1 logs        log
//! ```
#![forbid(unsafe_code)]

pub mod arbiter;
pub mod log;
pub mod response;
pub mod worker;
