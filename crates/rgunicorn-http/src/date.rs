//! The `Date` value, formatted once a second.

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

/// Length of an IMF-fixdate (RFC 9110 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
const DATE_BYTES: usize = 29;
/// The last second of the year 9999, the last that the format can write.
const SECONDS_MAX: u64 = 253_402_300_799;

/// The text of one date, kept until another second is asked for.
#[derive(Debug, Clone)]
pub struct DateCache {
    seconds: u64,
    text: [u8; DATE_BYTES],
}

impl DateCache {
    /// Makes a cache that holds the epoch.
    #[must_use]
    pub fn new() -> Self {
        Self { seconds: 0, text: *b"Thu, 01 Jan 1970 00:00:00 GMT" }
    }

    /// Returns the date of this second since the epoch, formatted only when it is another second than in the
    /// last call.
    pub fn at(&mut self, unix_seconds: u64) -> &[u8; DATE_BYTES] {
        let seconds = unix_seconds.min(SECONDS_MAX);
        if seconds != self.seconds {
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(seconds));
            // Writing 29 bytes into 29 bytes: if it ever failed, an old date would be the lesser evil.
            let mut text = [0; DATE_BYTES];
            if write!(&mut text[..], "{date}").is_ok() {
                self.text = text;
                self.seconds = seconds;
            }
        }
        &self.text
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self::new()
    }
}
