//! Floor 2: the driver. What the worker asks of the kernel, in completion style, over three back ends with the same method
//! names: io_uring, epoll and a simulation for tests.
//!
//! It knows descriptors, bytes and time-outs. It may not know HTTP, Python or settings, and it never calls anybody: all it
//! has to say comes out of `Driver::wait` as [`Completion`]s, which the caller handles when no borrow of it is alive.
//!
//! To read: `types.rs` (the words), `driver.rs` (the contract), `optable.rs` (the life of an operation), then one back end.
//! `timers.rs` and `heap.rs` stand alone: deadlines of the worker's connections, and those of gevent's timers.
#![expect(unsafe_code, reason = "this floor shares memory with the kernel")]

mod buffers;
mod config;
mod driver;
mod epoll;
mod heap;
mod optable;
mod probe;
mod report;
mod sendop;
pub mod sim;
pub mod timers;
mod types;
mod uring;

pub use crate::sys::net::PeerAddr;
pub use config::{BATCHED_AGE_MAX, BATCHED_SENDS_MAX, Choice, Config};
pub use driver::Driver;
pub use heap::TimerHeap;
pub use report::Report;
/// Poll mask: bytes can be read, or the peer has closed.
pub const READABLE: u32 = libc::POLLIN as u32;
/// Poll mask: bytes can be written.
pub const WRITABLE: u32 = libc::POLLOUT as u32;

pub use types::{BufId, Completion, Fd, OpKey, Received, SendBuf, Sent, Stats, Token, Urgency};
