//! Is a JSON record one line of JSON with the right values, whatever bytes a request has?

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::Request;
use crate::log::AccessFormat;
use crate::log::render::Renderer;

/// The record, parsed by a library.
fn record(source: &Request) -> Map<String, Value> {
    let mut out = Vec::new();
    Renderer::default().render(&AccessFormat::json(), source, &mut out);
    let text = String::from_utf8(out).unwrap();
    let line = text.strip_suffix('\n').unwrap();
    // Nothing that any reader takes for the end of a line.
    assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}'), "{line:?}");
    let Value::Object(record) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
    record
}

#[test]
fn every_key_has_its_value() {
    let mut record = record(&Request::default());
    record.remove("time").unwrap();
    let expected = json!({
        "remote_addr": "192.0.2.7", "method": "GET", "path": "/a b\u{e9}", "query": "x=\"1\"",
        "protocol": "HTTP/1.1", "status": 200, "bytes": 1234, "duration_us": 90_125_045_678u64,
        "referer": "r1,r2", "user_agent": "Mozilla \"5.0\" \u{fc}", "pid": 77,
        "request_line": "GET /a%20b?x=\"1\" HTTP/1.1",
    });
    assert_eq!(Value::Object(record), expected);
}

#[test]
fn what_is_not_known_is_null() {
    let record = record(&Request { bytes_sent: None, user_agent: None, ..Request::default() });
    assert_eq!((&record["bytes"], &record["user_agent"]), (&Value::Null, &Value::Null));
}

#[test]
fn the_time_has_milliseconds_and_an_offset() {
    let unix_time = Duration::from_millis(1_795_334_501_007);
    let record = record(&Request { unix_time, ..Request::default() });
    let time = record["time"].as_str().unwrap();
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    // The zone is the one where the test runs.
    assert!(["9999-99-99T99:99:99.999+99:99", "9999-99-99T99:99:99.999-99:99"].contains(&&*shape), "{time}");
    assert!(time.starts_with("2026-11-2") && time[16..].starts_with(":41.007"), "{time}");
}

#[test]
fn the_second_changes_with_the_time() {
    let (mut renderer, mut out) = (Renderer::default(), Vec::new());
    for seconds in [1_795_334_501, 1_795_334_501, 1_795_334_502] {
        let source = Request { unix_time: Duration::from_secs(seconds), ..Request::default() };
        renderer.render(&AccessFormat::json(), &source, &mut out);
    }
    let text = String::from_utf8(out).unwrap();
    let seconds: Vec<&str> = text.lines().map(|line| &line[26..28]).collect();
    assert_eq!(seconds, ["41", "41", "42"]);
}

#[test]
fn valid_utf_8_is_text_and_other_bytes_are_latin_1() {
    for (path, text) in [
        (&b"/caf\xc3\xa9"[..], "/caf\u{e9}"),
        (b"/caf\xe9", "/caf\u{e9}"),
        ("/\u{1f40d}".as_bytes(), "/\u{1f40d}"),
        (b"/\0\x1b[31m\x7f\\\r\n\t", "/\0\u{1b}[31m\u{7f}\\\r\n\t"),
        ("/\u{85}\u{2028}\u{2029}".as_bytes(), "/\u{85}\u{2028}\u{2029}"),
    ] {
        assert_eq!(record(&Request { path: path.to_vec(), ..Request::default() })["path"], text);
    }
}

fn as_logged(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| bytes.iter().copied().map(char::from).collect())
}

/// Any bytes, and any text, which random bytes rarely are.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let text =
        proptest::collection::vec(any::<char>(), 0..20).prop_map(|text| String::from_iter(text).into_bytes());
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..60), text]
}

proptest! {
    #[test]
    fn any_bytes_come_back(
        path in bytes(), query in bytes(), raw_uri in bytes(), agent in proptest::option::of(bytes()),
        status in any::<u16>(), bytes_sent in proptest::option::of(any::<u64>()), micros in any::<u64>(),
    ) {
        let elapsed = Duration::from_micros(micros);
        let source = Request {
            path, query, raw_uri, user_agent: agent, status, bytes_sent, elapsed, ..Request::default()
        };
        let record = record(&source);
        prop_assert_eq!(record.len(), 13);
        prop_assert_eq!(&record["path"], &as_logged(&source.path));
        prop_assert_eq!(&record["query"], &as_logged(&source.query));
        let line = format!("GET {} HTTP/1.1", as_logged(&source.raw_uri));
        prop_assert_eq!(&record["request_line"], &line);
        prop_assert_eq!(&record["user_agent"], &json!(source.user_agent.as_deref().map(as_logged)));
        prop_assert_eq!(&record["status"], &json!(status));
        prop_assert_eq!(&record["bytes"], &json!(bytes_sent));
        prop_assert_eq!(&record["duration_us"], &json!(micros));
    }
}
