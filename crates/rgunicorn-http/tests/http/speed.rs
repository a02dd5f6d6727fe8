//! How long a head takes, in nanoseconds. Not a test of truth: run it by hand, on a quiet machine, with
//! `cargo test --release -p rgunicorn-http --test http -- --ignored --nocapture speed`.

use std::time::Instant;

use rgunicorn_http::{DateCache, ParseEvent, Policy, RequestParser, ResponseFacts, ResponseHead, Version};

const ROUNDS: u32 = 400_000;

#[expect(clippy::disallowed_methods, reason = "the crate has no clock to read it through")]
fn nanoseconds_each(label: &str, mut work: impl FnMut()) {
    (0..ROUNDS / 10).for_each(|_| work());
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| work());
    println!("{label}: {} ns", start.elapsed().as_nanos() / u128::from(ROUNDS));
}

fn parse(label: &str, bytes: &[u8]) {
    let policy = Policy::default();
    let mut parser = RequestParser::new();
    nanoseconds_each(label, || {
        let mut input = bytes;
        while parser.advance(&policy, true, &mut input) != Ok(ParseEvent::NeedMore) {}
    });
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let small = b"GET /api/items?page=2 HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";
    parse("request of 96 bytes", small);
    let browser =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/valid/browser.http")).unwrap();
    parse(&format!("request of {} bytes", browser.len()), &browser);
    let facts =
        ResponseFacts { version: Version::HTTP_11, head_request: false, connect: false, keep_alive: true };
    let (mut head, mut date, mut out) = (ResponseHead::new(), DateCache::new(), Vec::new());
    nanoseconds_each("response head", || {
        head.clear();
        out.clear();
        head.status(b"200 OK").unwrap();
        head.header(b"Content-Type", b"text/plain; charset=utf-8").unwrap();
        head.header(b"Content-Length", b"13").unwrap();
        head.header(b"X-Request-Id", b"0123456789abcdef").unwrap();
        let framing = head.finish(&facts, b"rgunicorn", date.at(1), &mut out);
        std::hint::black_box((&out, framing));
    });
}
