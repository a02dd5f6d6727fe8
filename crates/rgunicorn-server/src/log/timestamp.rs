//! The forms of time in the logs.

use std::fmt::Write;

use rgunicorn_io::sys::localtime::{LocalTime, local};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Appends the error log's form, `[2026-11-22 08:01:41 +0000]`.
pub(super) fn push_iso(out: &mut String, unix_seconds: i64) {
    let time = local(unix_seconds);
    let LocalTime { year, month, day, hour, minute, second, .. } = time;
    // Writing to a String cannot fail.
    let _ = write!(out, "[{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} {}]", time.offset());
}

/// The JSON form, `2026-11-22T08:01:41` and `+00:00` (RFC 3339), with room for a fraction between. Made once
/// a second.
#[derive(Clone, Debug, Default)]
pub(super) struct RfcTime {
    second: Option<i64>,
    date: String,
    offset: String,
}

impl RfcTime {
    pub(super) fn at(&mut self, unix_seconds: i64) -> (&str, &str) {
        if self.second != Some(unix_seconds) {
            self.second = Some(unix_seconds);
            self.date.clear();
            self.offset.clear();
            let time = local(unix_seconds);
            let LocalTime { year, month, day, hour, minute, second, offset_minutes } = time;
            let _ = write!(self.date, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
            let (sign, minutes) = (if offset_minutes < 0 { '-' } else { '+' }, offset_minutes.unsigned_abs());
            let _ = write!(self.offset, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
        }
        (&self.date, &self.offset)
    }
}

/// The form of the access log's `t`, `[22/Nov/2026:08:01:41 +0000]`. Made once a second.
#[derive(Clone, Debug, Default)]
pub(super) struct ClfTime {
    second: Option<i64>,
    text: String,
}

impl ClfTime {
    pub(super) fn at(&mut self, unix_seconds: i64) -> &[u8] {
        if self.second != Some(unix_seconds) {
            self.second = Some(unix_seconds);
            self.text.clear();
            let time = local(unix_seconds);
            let LocalTime { year, day, hour, minute, second, .. } = time;
            let month = MONTHS.get(usize::from(time.month).wrapping_sub(1)).unwrap_or(&"???");
            let _ = write!(
                self.text,
                "[{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} {}]",
                time.offset()
            );
        }
        self.text.as_bytes()
    }
}
