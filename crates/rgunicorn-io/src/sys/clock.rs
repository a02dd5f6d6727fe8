//! The only clock of the program. Everything above takes `now` as a parameter.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point on the monotonic clock, in nanoseconds since an arbitrary start. It does not advance while the machine is
/// suspended (CLOCK_MONOTONIC), so a resume never looks like a hung worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// Returns the time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
    /// Returns `self` plus `d`, saturating.
    pub fn after(self, d: Duration) -> Self {
        let nanos = d.as_secs().saturating_mul(1_000_000_000).saturating_add(d.subsec_nanos().into());
        Self(self.0.saturating_add(nanos))
    }
}

/// Reads the monotonic clock.
pub fn now() -> Instant {
    read(libc::CLOCK_MONOTONIC)
}

/// Reads the monotonic clock as of the kernel's last tick: a few milliseconds old at most, and much cheaper to read.
pub fn coarse_now() -> Instant {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

fn read(clock: libc::clockid_t) -> Instant {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for one timespec; both monotonic clocks always exist on Linux.
    unsafe { libc::clock_gettime(clock, &raw mut ts) };
    Instant((ts.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(ts.tv_nsec as u64))
}

/// Reads the wall clock: the time since the Unix epoch.
pub fn unix_now() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
