//! Sizes, and which back end to take.

use std::time::Duration;

/// Which back end the user asked for.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// io_uring if it works here completely, epoll otherwise.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll.
    Epoll,
}

/// Sizes of a driver.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Which back end.
    pub choice: Choice,
    /// Submission queue entries (io_uring).
    pub sq_entries: u32,
    /// Completion queue entries (io_uring); halved on `ENOMEM`.
    pub cq_entries: u32,
    /// Receive buffers in the shared pool; rounded up to a power of two (the kernel's rule for a buffer ring).
    pub recv_buffers: u16,
    /// Bytes per receive buffer.
    pub recv_buffer_bytes: u32,
}

impl Default for Config {
    /// Returns the sizes of a worker's driver.
    ///
    /// A turn handles about 20 requests (the bound of deferred task work), so the queues stay short: 84 kB of ring, of
    /// which 97 fit the usual 8 MiB `RLIMIT_MEMLOCK`. 256 buffers of 16 KiB are 4 MiB of address space, touched on
    /// demand; 10,000 busy connections never ran out of them, and 4 KiB ones cost 40% more CPU on uploads.
    fn default() -> Self {
        Self {
            choice: Choice::Auto,
            sq_entries: 256,
            cq_entries: 4096,
            recv_buffers: 256,
            recv_buffer_bytes: 16_384,
        }
    }
}

impl Config {
    /// Returns the sizes for a loop that only polls (a gevent loop of its own): nothing is ever received into the
    /// pool. Many threads may each have one.
    pub fn polls_only() -> Self {
        Self { sq_entries: 64, cq_entries: 512, recv_buffers: 1, recv_buffer_bytes: 4096, ..Self::default() }
    }

    /// Returns the sizes for the loop of a worker, the default ones. In a build with the feature `torture`,
    /// `RGUNICORN_TORTURE=1` in the environment makes them the smallest ones.
    pub fn worker() -> Self {
        #[cfg(feature = "torture")]
        if std::env::var_os("RGUNICORN_TORTURE").is_some_and(|value| value == "1") {
            return Self::torture();
        }
        Self::default()
    }

    /// Returns the smallest queues that can work, so that tests meet overflow and buffer exhaustion all the time.
    #[cfg(feature = "torture")]
    pub fn torture() -> Self {
        Self { sq_entries: 4, cq_entries: 64, recv_buffers: 2, ..Self::default() }
    }
}

/// Queued sends that trigger a submission of their own: 16 bring 97% of the gain of a whole turn's batch.
pub const BATCHED_SENDS_MAX: usize = 16;

/// Age of the oldest queued send that triggers a submission: the first answer of a turn waits no longer than this for
/// the application's other answers.
pub const BATCHED_AGE_MAX: Duration = Duration::from_micros(200);
