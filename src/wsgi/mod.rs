//! WSGI (PEP 3333). In direct mode the application runs on the loop's frame, one request at a time: a request
//! body is complete before the call, and a response iterator is pulled only as fast as its client reads. In cooperative
//! mode each request runs in a greenlet of its own, which waits where its client is slow.
//!
//! Read it in this order: `load` (from `module:expr` to a callable), `environ`, `response` (start_response, write and
//! the bytes they make), `calls` (the call), `respond` (what came back, pulled as fast as it leaves), `finish` (how a call
//! ends), `cooperative` (greenlets), `threads` with `desk` (threads; `link` hides the difference), then the small objects an application meets: `input`, `errors`, `file_wrapper`, `hints`, `socket`.

mod app;
mod client;
mod cooperative;
mod current;
mod environ;
mod errors;
mod file_wrapper;
mod finish;
mod hints;
mod hooks;
mod input;
mod link;
mod load;
mod log_line;
mod remote;
mod respond;
mod response;
mod running;
mod socket;
mod threads;

pub use app::WsgiApp;
pub use client::ClientDisconnected;
pub use current::{clear_current, set_calls, set_current};
pub use environ::{ListenerName, ServerFacts};
pub use errors::ErrorStream;
pub use file_wrapper::FileWrapper;
pub use hints::EarlyHints;
pub use hooks::RequestHooks;
pub use input::{Input, RequestBodyError};
pub use load::{LoadError, load};
pub use remote::ThreadContext;
pub use response::{StartResponse, Write, set_server};
pub use socket::take_socket;
pub use threads::{Threads, WsgiConfig, leave_process};
