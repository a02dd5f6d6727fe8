//! No input panics.
#![no_main]
use rgunicorn_http::{ParseEvent, Policy, RequestParser};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (policy, mut parser, mut input) = (Policy::default(), RequestParser::new(), bytes);
    while !matches!(parser.advance(&policy, true, &mut input), Ok(ParseEvent::NeedMore) | Err(_)) {}
});
