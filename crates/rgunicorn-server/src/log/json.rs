//! Access records as JSON objects, one a line. Written by hand: a record is thirteen known keys, and a library would
//! want its text as `str`, which the bytes of a request are not.

use std::borrow::Cow;
use std::io::Write;

use super::atoms::AtomSource;
use super::timestamp::RfcTime;

/// Appends the record of `source`, without a newline.
pub(super) fn push_record(out: &mut Vec<u8>, source: &impl AtomSource, time: &mut RfcTime) {
    let unix_time = source.unix_time();
    let seconds = i64::try_from(unix_time.as_secs()).unwrap_or(i64::MAX);
    let (date, offset) = time.at(seconds);
    // Writing to a Vec cannot fail, here and below.
    let _ = write!(out, "{{\"time\":\"{date}.{:03}{offset}\"", unix_time.subsec_millis());
    push_text(out, "remote_addr", source.remote_addr());
    push_text(out, "method", source.method());
    push_text(out, "path", source.path_info());
    push_text(out, "query", source.query());
    push_text(out, "protocol", source.protocol());
    push_number(out, "status", Some(u64::from(source.status())));
    push_number(out, "bytes", source.bytes_sent());
    push_number(out, "duration_us", Some(u64::try_from(source.elapsed().as_micros()).unwrap_or(u64::MAX)));
    push_optional(out, "referer", source.joined_request_header("referer"));
    push_optional(out, "user_agent", source.joined_request_header("user-agent"));
    push_number(out, "pid", Some(u64::from(source.pid())));
    push_key(out, "request_line");
    out.push(b'"');
    for (index, part) in [source.method(), source.raw_uri(), source.protocol()].into_iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        push_escaped(out, &text(part));
    }
    out.extend_from_slice(b"\"}");
}

/// Appends a comma and the key; the time comes before all of them.
fn push_key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn push_number(out: &mut Vec<u8>, key: &str, number: Option<u64>) {
    push_key(out, key);
    match number {
        Some(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
}

fn push_optional(out: &mut Vec<u8>, key: &str, value: Option<Cow<'_, [u8]>>) {
    match value {
        Some(value) => push_text(out, key, &value),
        None => push_number(out, key, None),
    }
}

fn push_text(out: &mut Vec<u8>, key: &str, bytes: &[u8]) {
    push_key(out, key);
    out.push(b'"');
    push_escaped(out, &text(bytes));
    out.push(b'"');
}

/// Decodes UTF-8, which clients send today, or else Latin-1, in which every byte is a character.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}

/// Appends `text`, with escapes for the characters for which JSON demands them and for those that end a line
/// or command a terminal.
fn push_escaped(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len());
    let mut plain = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| is_special(*c)) {
        // `plain` and `at` are ends of characters.
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + c.len_utf8();
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            c => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
}

/// Appends the escape of a special character. Each has one UTF-16 unit, so that four digits are enough.
fn is_special(c: char) -> bool {
    matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}') || c.is_control()
}
