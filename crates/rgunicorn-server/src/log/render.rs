//! Atoms to bytes: one access record, as Python's `format % atoms` would write it in UTF-8.

use std::io::Write;
use std::time::Duration;

use super::atoms::{Atom, AtomSource, AtomText};
use super::base64::basic_user;
use super::escape::{push_latin1, push_utf8};
use super::format::{AccessFormat, Conversion, Piece, RecordFormat, Spec};
use super::json;
use super::timestamp::{ClfTime, RfcTime};

/// Times wrap at a day: Gunicorn reads the seconds of a `timedelta`, which leave whole days out.
const DAY_SECONDS: u64 = 86_400;

/// The state that rendering keeps from one record to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Renderer {
    time: ClfTime,
    rfc_time: RfcTime,
    /// The unpadded value of a field that is padded or cut.
    scratch: Vec<u8>,
}

impl Renderer {
    /// Appends the record of `source` and a newline to `out`: nothing if the format excludes it.
    pub(super) fn render(&mut self, format: &AccessFormat, source: &impl AtomSource, out: &mut Vec<u8>) {
        if format.exclude.matches(source) {
            return;
        }
        match &format.record {
            RecordFormat::Json => json::push_record(out, source, &mut self.rfc_time),
            RecordFormat::Fields(pieces) => self.render_fields(pieces, source, out),
        }
        out.push(b'\n');
    }

    fn render_fields(&mut self, pieces: &[Piece], source: &impl AtomSource, out: &mut Vec<u8>) {
        for piece in pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Field(atom, spec) if spec.conversion != Conversion::Text => {
                    push_number(out, source, atom, *spec);
                }
                Piece::Field(atom, spec) if spec.width == 0 && spec.precision.is_none() => {
                    self.push_text(out, source, atom);
                }
                Piece::Field(atom, spec) => {
                    let mut bare = std::mem::take(&mut self.scratch);
                    bare.clear();
                    self.push_text(&mut bare, source, atom);
                    push_padded(out, &bare, *spec);
                    self.scratch = bare;
                }
            }
        }
    }

    /// Appends the value as `str()` gives it, escaped.
    fn push_text(&mut self, out: &mut Vec<u8>, source: &impl AtomSource, atom: &Atom) {
        match atom {
            Atom::Dash => out.push(b'-'),
            Atom::RemoteAddr => push_latin1(out, source.remote_addr()),
            Atom::User => match user(source) {
                Some(user) => push_utf8(out, &user),
                None => out.push(b'-'),
            },
            Atom::Time => {
                let seconds = i64::try_from(source.unix_time().as_secs()).unwrap_or(i64::MAX);
                out.extend_from_slice(self.time.at(seconds));
            }
            Atom::RequestLine => {
                push_latin1(out, source.method());
                out.push(b' ');
                push_latin1(out, source.raw_uri());
                out.push(b' ');
                push_latin1(out, source.protocol());
            }
            Atom::Status => push_integer(out, u64::from(source.status())),
            Atom::Method => push_latin1(out, source.method()),
            Atom::Path => push_latin1(out, source.path_info()),
            Atom::Query => push_latin1(out, source.query()),
            Atom::Protocol => push_latin1(out, source.protocol()),
            Atom::BytesText if source.bytes_sent().is_none() => out.push(b'-'),
            Atom::Bytes if source.bytes_sent().is_none() => out.extend_from_slice(b"None"),
            Atom::Referer => push_header(out, source.joined_request_header("referer").as_deref()),
            Atom::UserAgent => push_header(out, source.joined_request_header("user-agent").as_deref()),
            Atom::SecondsText => push_seconds(out, source.elapsed()),
            Atom::Pid => push_bracketed(out, u64::from(source.pid())),
            Atom::RequestHeader(name) => push_header(out, source.request_header(name)),
            Atom::ResponseHeader(name) => push_header(out, source.response_header(name)),
            Atom::Environ(name) => match source.environ(name) {
                Some(AtomText::Latin1(bytes)) => push_latin1(out, &bytes),
                Some(AtomText::Utf8(text)) => push_utf8(out, &text),
                None => out.push(b'-'),
            },
            Atom::BytesText | Atom::Bytes | Atom::Seconds | Atom::Milliseconds | Atom::Microseconds => {
                push_integer(out, number_of(source, atom));
            }
        }
    }
}

fn user(source: &impl AtomSource) -> Option<String> {
    basic_user(&source.joined_request_header("authorization")?)
}

/// Returns the value of a numeric atom.
fn number_of(source: &impl AtomSource, atom: &Atom) -> u64 {
    let elapsed = source.elapsed();
    let seconds = elapsed.as_secs() % DAY_SECONDS;
    match atom {
        Atom::Seconds => seconds,
        Atom::Milliseconds => seconds * 1000 + u64::from(elapsed.subsec_millis()),
        Atom::Microseconds => seconds * 1_000_000 + u64::from(elapsed.subsec_micros()),
        _ => source.bytes_sent().unwrap_or(0),
    }
}

fn push_seconds(out: &mut Vec<u8>, elapsed: Duration) {
    // Writing to a Vec cannot fail, here and below.
    let _ = write!(out, "{}.{:06}", elapsed.as_secs() % DAY_SECONDS, elapsed.subsec_micros());
}

fn push_integer(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn push_bracketed(out: &mut Vec<u8>, number: u64) {
    out.push(b'<');
    push_integer(out, number);
    out.push(b'>');
}

fn push_header(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => push_latin1(out, value),
        None => out.push(b'-'),
    }
}

/// Appends a text by a form such as `%20.10s`: the precision cuts, the width fills with blanks, both count
/// characters.
fn push_padded(out: &mut Vec<u8>, bare: &[u8], spec: Spec) {
    let starts_character = |byte: &u8| byte & 0xC0 != 0x80;
    let mut cut = bare;
    if let Some(precision) = spec.precision {
        let starts = bare.iter().enumerate().filter(|(_, byte)| starts_character(byte));
        cut = starts.map(|(at, _)| at).nth(precision).map_or(bare, |end| &bare[..end]);
    }
    let characters = cut.iter().filter(|byte| starts_character(byte)).count();
    let fill = spec.width.saturating_sub(characters);
    if !spec.left {
        push_repeated(out, b' ', fill);
    }
    out.extend_from_slice(cut);
    if spec.left {
        push_repeated(out, b' ', fill);
    }
}

fn push_repeated(out: &mut Vec<u8>, byte: u8, count: usize) {
    out.resize(out.len() + count, byte);
}

/// Appends a number by a form such as `%+05d`: sign, prefix, zeros, digits. Values are never negative.
fn push_number(out: &mut Vec<u8>, source: &impl AtomSource, atom: &Atom, spec: Spec) {
    let number = number_of(source, atom);
    let (prefix, digits) = match spec.conversion {
        Conversion::Hex => ("0x", format!("{number:x}")),
        Conversion::UpperHex => ("0X", format!("{number:X}")),
        Conversion::Octal => ("0o", format!("{number:o}")),
        Conversion::Fixed => ("", fixed(number, spec)),
        Conversion::Decimal | Conversion::Text => ("", number.to_string()),
    };
    let prefix = if spec.alternate { prefix } else { "" };
    let sign = match spec {
        Spec { plus: true, .. } => "+",
        Spec { blank: true, .. } => " ",
        _ => "",
    };
    let digits_min = if spec.conversion == Conversion::Fixed { 0 } else { spec.precision.unwrap_or(0) };
    let mut zeros = digits_min.saturating_sub(digits.len());
    let mut fill = spec.width.saturating_sub(sign.len() + prefix.len() + zeros + digits.len());
    if spec.zero && !spec.left {
        zeros += std::mem::take(&mut fill);
    }
    if !spec.left {
        push_repeated(out, b' ', fill);
    }
    out.extend_from_slice(sign.as_bytes());
    out.extend_from_slice(prefix.as_bytes());
    push_repeated(out, b'0', zeros);
    out.extend_from_slice(digits.as_bytes());
    if spec.left {
        push_repeated(out, b' ', fill);
    }
}

/// Renders an integer under `%f`: six decimals unless the precision says otherwise, all zero.
fn fixed(number: u64, spec: Spec) -> String {
    let decimals = spec.precision.unwrap_or(6);
    let point = if decimals > 0 || spec.alternate { "." } else { "" };
    // Through f64, as in Python: beyond 2^53 the digits are those of the nearest float.
    format!("{:.0}{point}{:0<decimals$}", number as f64, "")
}
