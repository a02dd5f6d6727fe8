//! No format and no record makes an access log that cannot be read: each record is one line of UTF-8, whose only
//! control characters are the format's own; and what two formats give one after the other, their joint one gives.
//!
//! The input is a row of texts with a byte 0xFF between two: the first two are formats, the others the record.
#![no_main]
use std::borrow::Cow;
use std::time::Duration;

use rgunicorn_server::log::{AccessFormat, AccessLog, AtomSource, AtomText, LineRenderer};

const SEPARATOR: u8 = 0xff;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut texts = input.split(|byte| *byte == SEPARATOR);
    let mut next = || texts.next().unwrap_or_default();
    let formats = (str::from_utf8(next()), str::from_utf8(next()));
    let record = Record {
        method: next(),
        uri: next(),
        path: next(),
        query: next(),
        header: next(),
        environ: next(),
        number: next().iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    json(&record);
    if let (Ok(one), Ok(two)) = formats {
        let (first, second) = (text(one, &record), text(two, &record));
        if let (Some(first), Some(second)) = (first, second) {
            let both = text(&format!("{one}{two}"), &record);
            assert_eq!(both, Some(first + &second), "{one:?} and {two:?}");
        }
    }
});

/// Renders one record, without its newline, by a format that can be used.
fn text(format: &str, record: &Record<'_>) -> Option<String> {
    let line = render(AccessFormat::compile(format).ok()?, record);
    let own = |c: &char| format.contains(*c);
    let strange = line.chars().filter(|c| c.is_control()).find(|c| !own(c));
    assert_eq!(strange, None, "{format:?} gave {line:?}");
    Some(line)
}

fn json(record: &Record<'_>) {
    let line = render(AccessFormat::json(), record);
    assert!(!line.contains(char::is_control));
    let value: serde_json::Value = serde_json::from_str(&line).expect("an object");
    for (key, bytes) in [("method", record.method), ("path", record.path), ("user_agent", record.header)] {
        let latin1 = || bytes.iter().map(|byte| char::from(*byte)).collect();
        let expected = String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| latin1());
        assert_eq!(value[key], expected, "{line}");
    }
}

fn render(format: AccessFormat, record: &Record<'_>) -> String {
    let log = AccessLog::open("/dev/null", format).expect("it is there");
    let mut renderer: LineRenderer = log.line_renderer();
    let mut out = Vec::new();
    renderer.render(record, &mut out);
    let line = String::from_utf8(out).expect("UTF-8");
    line.strip_suffix('\n').expect("a newline at the end").to_owned()
}

/// A request with these values.
struct Record<'a> {
    method: &'a [u8],
    uri: &'a [u8],
    path: &'a [u8],
    query: &'a [u8],
    header: &'a [u8],
    environ: &'a [u8],
    number: u64,
}

impl AtomSource for Record<'_> {
    fn remote_addr(&self) -> &[u8] {
        b"192.0.2.7"
    }
    fn method(&self) -> &[u8] {
        self.method
    }
    fn raw_uri(&self) -> &[u8] {
        self.uri
    }
    fn protocol(&self) -> &[u8] {
        b"HTTP/1.1"
    }
    fn path_info(&self) -> &[u8] {
        self.path
    }
    fn query(&self) -> &[u8] {
        self.query
    }
    fn status(&self) -> u16 {
        self.number as u16
    }
    fn bytes_sent(&self) -> Option<u64> {
        (self.number != 0).then_some(self.number)
    }
    /// Any name is there: of `authorization` the user is read, too.
    fn request_header(&self, _name: &str) -> Option<&[u8]> {
        Some(self.header)
    }
    fn response_header(&self, _name: &str) -> Option<&[u8]> {
        Some(self.header)
    }
    fn environ(&self, _name: &str) -> Option<AtomText<'_>> {
        Some(match str::from_utf8(self.environ) {
            Ok(text) => AtomText::Utf8(Cow::Borrowed(text)),
            Err(_) => AtomText::Latin1(Cow::Borrowed(self.environ)),
        })
    }
    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.number)
    }
    fn unix_time(&self) -> Duration {
        Duration::from_secs(self.number)
    }
    fn pid(&self) -> u32 {
        77
    }
}
