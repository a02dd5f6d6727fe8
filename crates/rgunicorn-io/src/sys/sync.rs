//! The locks and atomics of what several threads, or a thread and a signal handler, share: the standard library's.
//!
//! Files that import them from here, and not from `std`, are also compiled into `tests/models`, where a module of this
//! name holds the ones of a model checker.

pub use std::sync::{Mutex, MutexGuard, atomic};
pub use std::thread::yield_now;
