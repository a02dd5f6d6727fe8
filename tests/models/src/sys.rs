//! `rgunicorn_io::sys`, as far as the included files know it.

pub mod eventfd;
pub(crate) mod models;
pub mod sync;

#[path = "../../../crates/rgunicorn-io/src/sys/signal_ring.rs"]
#[allow(dead_code, reason = "nothing here clears a ring")]
pub(crate) mod signal_ring;

#[path = "../../../crates/rgunicorn-io/src/sys/waker.rs"]
#[allow(dead_code, reason = "the handlers of watched signals come with the file")]
pub mod waker;

/// As the product's.
///
/// # Errors
/// The last operating system error when `result` is -1.
pub fn check(result: i32) -> std::io::Result<i32> {
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
