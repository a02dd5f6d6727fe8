//! Wall-clock time in the zone of the process, for log records.

use std::fmt;

/// A moment in local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// The full year, for example 2026.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60: a leap second is one.
    pub second: u8,
    /// East of UTC, daylight saving included.
    pub offset_minutes: i32,
}

/// Returns the local time `unix_seconds` after 1970-01-01 00:00 UTC. The zone is that of `TZ` or /etc/localtime when
/// the C library first needed it, or later called tzset (Python's `time.tzset()`).
pub fn local(unix_seconds: i64) -> LocalTime {
    // SAFETY: `tm` is plain data (integers and one pointer), for which all bits zero is a value.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right type. On failure (a year that does not fit an int) `tm`
    // stays as it is, which reads as a date that cannot be taken for a real one.
    unsafe { libc::localtime_r(&raw const unix_seconds, &raw mut tm) };
    let small = |field: libc::c_int| u8::try_from(field).unwrap_or(0);
    LocalTime {
        year: i64::from(tm.tm_year) + 1900,
        month: small(tm.tm_mon + 1),
        day: small(tm.tm_mday),
        hour: small(tm.tm_hour),
        minute: small(tm.tm_min),
        second: small(tm.tm_sec),
        offset_minutes: i32::try_from(tm.tm_gmtoff / 60).unwrap_or(0),
    }
}

impl LocalTime {
    /// Returns the offset as `strftime("%z")` writes it: `+0000`, `-0330`.
    pub fn offset(&self) -> Offset {
        Offset(self.offset_minutes)
    }
}

/// An offset from UTC, with the text of [`LocalTime::offset`].
#[derive(Clone, Copy, Debug)]
pub struct Offset(i32);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0.unsigned_abs();
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}{:02}", minutes / 60, minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_moment_minus_its_offset_is_utc() {
        // 2026-11-22 08:01:41 UTC, wherever the test runs: the date can differ from UTC's, the instant cannot.
        let unix_seconds = 1_795_334_501;
        let time = local(unix_seconds);
        assert_eq!((time.year, time.month), (2026, 11));
        let minutes = i64::from(time.hour) * 60 + i64::from(time.minute) - i64::from(time.offset_minutes);
        assert_eq!(minutes.rem_euclid(1440), 8 * 60 + 1);
        assert_eq!(time.second, 41);
    }

    #[test]
    fn offsets_are_written_as_strftime_does() {
        for (offset_minutes, text) in
            [(0, "+0000"), (60, "+0100"), (-210, "-0330"), (345, "+0545"), (-15, "-0015")]
        {
            let time = LocalTime { offset_minutes, ..local(0) };
            assert_eq!(time.offset().to_string(), text);
        }
    }

    #[test]
    fn no_moment_is_too_far() {
        for unix_seconds in [i64::MIN, i64::MAX, -1, 0] {
            let _ = local(unix_seconds);
        }
    }
}
