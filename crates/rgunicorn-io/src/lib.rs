//! The kernel as the server sees it: system calls, and the driver that waits for many of them at once.
//!
//! It is the only crate that names `libc`, `nix` or `io_uring` and that reads a clock, and errno becomes `io::Error`
//! here. It may not know HTTP, settings, logs, processes of the server or Python, and it never calls its caller.
//! `rgunicorn-server` is made of it; `rgunicorn` uses it for gevent's loop, greenlets' waits and what boots a server.
//!
//! An import goes down, never up:
//!
//! ```text
//! 2 completions    driver    io_uring, epoll and a simulated network under one interface
//! 1 system calls   sys       and their memory
//! ```
#![deny(unsafe_code)]

pub mod driver;
pub mod sys;
