//! HTTP/1.1 and the PROXY protocol as pure functions of bytes: bytes come in, events and bytes go out.
//!
//! The crate is no server: it holds no socket, reads no clock, and knows neither Python nor settings nor
//! logs. Limits and switches arrive in a [`Policy`], the time as whole seconds, the peer's standing as one
//! `trusted` flag. `rgunicorn-server` feeds it the bytes that sockets receive, `rgunicorn` reads its heads
//! and fills its responses.
//!
//! How to read it, in the order in which a request passes:
//!
//! ```text
//! policy    the limits and switches, normalised once
//! parser    the state machine of one connection: head, body, end, next head
//!   scan      lines of an unfinished head or trailer section: limits and line ends, checked at once
//!   line      request line -> method, target, version      target   target -> path, query, fragment
//!   authority host and port, wherever a request names them
//!   block     field section -> owned bytes with spans      rules    the meaning of each field for framing
//!   head      the finished request head with its getters   chunk    the chunk-size line, byte by byte
//!   repeat    heads that come again (section: their fields)
//! response  the application's status and headers -> head   framing  the body behind the head
//! answer    error pages and interim responses              date     the Date value, made once a second
//! error     the party at fault, and the answer             chars    byte classes under their grammar
//! version   the version of HTTP                            tight    buffers that grow with what a client sends
//! proxy     the header that names a connection's client
//! ```
//!
//! An import inside of the crate follows an arrow, and `proxy` has none: it and the rest never know each other.
//!
//! ```text
//! 2 crate       this file
//! 1 connection  parser -> head, repeat, scan, chunk, block, rules, policy, error, tight
//! 1 repeats     repeat -> head, section, policy
//! 1 head        head -> section, line, block, rules, target, policy, error, version
//! 1 sections    section -> block, rules
//! 1 framing     rules -> block
//! 1 lines       scan -> line
//! 1 hosts       line, rules, target -> authority
//! 1 parts       line, block, rules, scan, chunk, target, authority -> chars, policy, error, version
//! 1 server      answer -> response
//! 1 response    answer, response -> framing, chars, error, version
//! 1 dates       date
//! 1 proxies     proxy
//! ```
//!
//! Two promises hold everywhere and are property-tested: any split of the input gives the same events or the same
//! error, and no input panics. Sources: RFC 9110, RFC 9112 and the observed behaviour of Gunicorn 27.
#![forbid(unsafe_code)]

mod answer;
mod authority;
mod block;
mod chars;
mod chunk;
mod date;
mod error;
mod framing;
mod head;
mod line;
mod parser;
mod policy;
pub mod proxy;
mod repeat;
mod response;
mod rules;
mod scan;
mod section;
mod target;
mod tight;
mod version;

pub use answer::{PageFacts, continue_response, early_hints, error_response, error_response_with};
pub use block::{Field, Fields, Trailers};
pub use date::DateCache;
pub use error::{HttpError, ResponseError};
pub use framing::{Frame, Framing, Prefix};
pub use head::{RequestHead, trim_script_name};
pub use parser::{ParseEvent, RequestParser};
pub use policy::{BODY_BYTES_CAP, HeadLimits, HeaderMap, Policy};
pub use repeat::{Repeat, Repeats};
pub use response::{PreparedField, PreparedStatus, ResponseFacts, ResponseHead};
pub use rules::{BodyKind, Scheme};
pub use target::percent_decode_path;
pub use tight::append_tight;
pub use version::Version;
