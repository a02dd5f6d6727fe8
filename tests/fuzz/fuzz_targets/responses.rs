//! No application writes a line of its own into a response head.
#![no_main]
use rgunicorn_http::{ResponseFacts, ResponseHead, Version};

libfuzzer_sys::fuzz_target!(|input: (&[u8], &[u8], &[u8])| {
    let (mut head, mut out) = (ResponseHead::new(), Vec::new());
    let accepted = head.status(input.0).is_ok() && head.header(input.1, input.2).is_ok();
    let facts =
        ResponseFacts { version: Version::HTTP_11, head_request: false, connect: false, keep_alive: true };
    head.finish(&facts, b"s", &[b'd'; 29], &mut out);
    assert!(!accepted || out.iter().filter(|&&byte| byte == b'\n').count() <= 7);
});
