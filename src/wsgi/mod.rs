//! WSGI (PEP 3333): from a request to a call of the application, and from what it returns to a response.
//!
//! An application runs in one of three ways, each an implementation of [`rgunicorn_server::worker::App`]: on
//! the loop's frame, one request at a time ([`DirectApp`]); each request in a greenlet ([`GreenletApp`]); in
//! threads ([`Threads`]). What they have in common is `WsgiApp` (`app`); what differs for a response
//! is behind the trait `Responder` (`responder`).
//!
//! Read it in this order: `load` (from `module:expr` to a callable), `environ` (with `known_environs`: heads that come
//! again), `exchange` (a request's state and objects), `app` (the call), `response` (start_response and write, with
//! `field_cache`: fields that come again), `respond` (what came back, pulled as fast as it leaves), `finish` (how a
//! request ends), `responder` with `direct`, `greenlets` (and `request_greenlet`), `remote` and `threads`, then the
//! small objects that an application meets: `input`, `errors`, `file_wrapper`, `hints`, `client`, `socket`.

mod app;
mod client;
mod current;
mod direct;
mod environ;
mod errors;
mod exchange;
mod field_cache;
mod file_wrapper;
mod finish;
mod greenlets;
mod hints;
mod hooks;
mod in_progress;
mod input;
mod known_environs;
mod load;
mod log_line;
mod remote;
mod request_greenlet;
mod respond;
mod responder;
mod response;
mod running;
mod shared;
mod socket;
mod threads;

pub use app::{ServedApp, WsgiConfig};
pub use client::ClientDisconnected;
pub use direct::DirectApp;
pub use environ::{ListenerName, ServerFacts};
pub use errors::ErrorStream;
pub use file_wrapper::FileWrapper;
pub use greenlets::GreenletApp;
pub use hints::EarlyHints;
pub use hooks::RequestHooks;
pub use input::{Input, RequestBodyError, make_body_memory};
pub use load::{LoadError, load};
pub use remote::ThreadContext;
pub use response::{StartResponse, Write};
pub use socket::{RequestHandle, take_socket};
pub use threads::{Threads, leave_process};
