//! Parity section 4.3 and 4.4: what leaves the server.

use rgunicorn_http::{
    DateCache, Framing, HttpError, PageFacts, ResponseError, ResponseFacts, ResponseHead, Version,
    continue_response, early_hints, error_response, error_response_with,
};

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const KEEP: ResponseFacts =
    ResponseFacts { version: Version::HTTP_11, head_request: false, connect: false, keep_alive: true };
const PAGE: PageFacts = PageFacts { date: *DATE, head_request: false };

fn finish(facts: &ResponseFacts, status: &str, headers: &[(&str, &str)]) -> (String, Framing) {
    let mut head = ResponseHead::new();
    head.status(status.as_bytes()).unwrap();
    for (name, value) in headers {
        head.header(name.as_bytes(), value.as_bytes()).unwrap();
    }
    let mut out = Vec::new();
    let framing = head.finish(facts, b"rgunicorn", DATE, &mut out);
    (String::from_utf8(out).unwrap(), framing)
}

/// Body items as they cross the wire.
fn body(framing: &mut Framing, items: &[&str]) -> String {
    let mut wire = Vec::new();
    for item in items {
        let frame = framing.frame(item.len());
        wire.extend_from_slice(frame.prefix.as_bytes());
        wire.extend_from_slice(&item.as_bytes()[..frame.take]);
        wire.extend_from_slice(frame.suffix);
    }
    wire.extend_from_slice(framing.last());
    String::from_utf8(wire).unwrap()
}

#[test]
fn the_order_of_the_head() {
    let (head, _) = finish(&KEEP, "200 OK", &[("content-TYPE", "text/plain"), ("X-A", " b ")]);
    let expected = "HTTP/1.1 200 OK\r\nServer: rgunicorn\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
        Connection: keep-alive\r\nTransfer-Encoding: chunked\r\ncontent-TYPE: text/plain\r\nX-A: b\r\n\r\n";
    assert_eq!(head, expected);
}

#[test]
fn later_versions_are_answered_with_ours() {
    for (major, minor, expected) in [
        (1, 0, "HTTP/1.0 "),
        (1, 1, "HTTP/1.1 "),
        (1, 2, "HTTP/1.1 "),
        (1, 9, "HTTP/1.1 "),
        (2, 0, "HTTP/1.1 "),
    ] {
        let (mut head, mut out) = (ResponseHead::new(), Vec::new());
        head.status(b"200 OK").unwrap();
        let facts = ResponseFacts { version: Version { major, minor }, ..KEEP };
        let framing = head.finish(&facts, b"s", &[b'd'; 29], &mut out);
        assert!(out.starts_with(expected.as_bytes()), "{major}.{minor}");
        assert_eq!(framing.is_chunked(), (major, minor) > (1, 0), "{major}.{minor}");
    }
}

#[test]
fn framing_by_version_status_and_method() {
    let old = ResponseFacts { version: Version::HTTP_10, ..KEEP };
    let head_request = ResponseFacts { head_request: true, ..KEEP };
    let unwilling = ResponseFacts { keep_alive: false, ..KEEP };
    let length = [("Content-Length", "3")];
    #[rustfmt::skip]
    // facts, status, headers; then: chunked header, length header, keep-alive, wire of "abcd"
    let rows = [
        (KEEP, "200 OK", &length[..], false, true, true, "abc"),
        (KEEP, "200 OK", &[], true, false, true, "4\r\nabcd\r\n0\r\n\r\n"),
        (old, "200 OK", &length, false, true, true, "abc"),
        (old, "200 OK", &[], false, false, false, "abcd"),
        (head_request, "200 OK", &length, false, true, true, ""),
        (head_request, "200 OK", &[], false, false, true, ""),
        (KEEP, "204 No Content", &length, false, false, true, ""),
        (KEEP, "304 Not Modified", &length, false, true, true, ""),
        (KEEP, "304 Not Modified", &[], false, false, true, ""),
        (KEEP, "102 Processing", &length, false, false, true, ""),
        (unwilling, "200 OK", &length, false, true, false, "abc"),
        (ResponseFacts { connect: true, ..KEEP }, "200 OK", &length, false, true, false, "abc"),
    ];
    for (facts, status, headers, chunked, with_length, keep, wire) in rows {
        let (head, mut framing) = finish(&facts, status, headers);
        let label = format!("{facts:?} {status} {headers:?}");
        assert_eq!(head.contains("Transfer-Encoding: chunked\r\n"), chunked, "{label}");
        assert_eq!(head.contains("Content-Length: 3\r\n"), with_length, "{label}");
        assert_eq!(head.contains("Connection: keep-alive\r\n"), keep, "{label}");
        assert_eq!(head.contains("Connection: close\r\n"), !keep, "{label}");
        assert!(head.starts_with(&format!("HTTP/1.{} {status}\r\n", facts.version.minor)), "{label}");
        assert_eq!(framing.keep_alive(), keep, "{label}");
        assert_eq!(framing.body_allowed(), !wire.is_empty(), "{label}");
        assert_eq!(body(&mut framing, &["", "abcd"]), wire, "{label}");
        assert!(framing.complete(), "{label}");
    }
}

#[test]
fn a_short_body_is_not_complete_and_a_surplus_is_dropped() {
    let (_, mut framing) = finish(&KEEP, "200 OK", &[("Content-Length", "5")]);
    assert_eq!(framing.frame(3).take, 3);
    assert!(!framing.complete());
    assert_eq!(framing.left(), Some(2));
    assert_eq!(framing.frame(3).take, 2);
    assert!(framing.complete());
    assert_eq!(framing.frame(3).take, 0);
}

#[test]
fn chunk_sizes_are_hex() {
    for (size, line) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (usize::MAX, "ffffffffffffffff\r\n")] {
        let (_, mut framing) = finish(&KEEP, "200 OK", &[]);
        assert_eq!(framing.frame(size).prefix.as_bytes(), line.as_bytes());
    }
}

#[test]
fn hop_by_hop_headers_are_the_servers_business() {
    let dropped = [
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "TE",
        "Trailers",
        "Transfer-Encoding",
        "Upgrade",
        "Server",
        "Date",
    ];
    for name in dropped {
        let (head, _) = finish(&KEEP, "200 OK", &[(&name.to_lowercase(), "h2c-or-so")]);
        assert!(!head.contains("h2c-or-so"), "{name}");
    }
    for name in ["Trailer", "Via", "X-Server", "Proxy-Connection"] {
        let (head, _) = finish(&KEEP, "200 OK", &[(name, "h2c-or-so")]);
        assert!(head.contains("h2c-or-so"), "{name}");
    }
}

#[test]
fn an_upgrade_is_passed_on_for_websockets() {
    let (head, framing) = finish(
        &KEEP,
        "101 Switching Protocols",
        &[("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket")],
    );
    assert!(
        head.contains("Connection: upgrade\r\n") && head.ends_with("Upgrade: WebSocket\r\n\r\n"),
        "{head}"
    );
    assert!(!framing.keep_alive(), "the connection speaks another protocol now");
}

#[test]
fn statuses() {
    for (status, code) in
        [("200 OK", 200), ("200", 200), ("404 ", 404), ("999 \u{e9}", 999), ("200 a\tb", 200)]
    {
        let mut head = ResponseHead::new();
        assert_eq!(head.status(status.as_bytes()), Ok(()), "{status}");
        assert_eq!(head.status_code(), code);
    }
    for status in
        ["", "20", "20 OK", "200OK", "2000 OK", "abc", " 200 OK", "200 O\r\nX: y", "200 \0", "099 X"]
    {
        let error = ResponseError::Status(status.as_bytes().to_vec());
        assert_eq!(ResponseHead::new().status(status.as_bytes()), Err(error), "{status}");
    }
    assert!(finish(&KEEP, "200", &[]).0.starts_with("HTTP/1.1 200 \r\n"));
}

#[test]
fn bad_headers_do_not_reach_the_wire() {
    let mut head = ResponseHead::new();
    for name in ["", "A B", "A:", "A\r\n", "\u{e9}"] {
        assert_eq!(head.header(name.as_bytes(), b"v"), Err(ResponseError::HeaderName(name.into())), "{name}");
    }
    for value in ["a\r\nB: c", "a\nb", "a\0", "\x7f", "\x0b"] {
        assert_eq!(
            head.header(b"A", value.as_bytes()),
            Err(ResponseError::HeaderValue(b"A".to_vec())),
            "{value}"
        );
    }
    for value in ["", "x", "-1", "+1", "1, 1", "18446744073709551616"] {
        let error = ResponseError::ContentLength(value.into());
        assert_eq!(head.header(b"Content-Length", value.as_bytes()), Err(error), "{value}");
    }
    assert_eq!(head.header(b"A", b"\xe9\tb"), Ok(()));
    let message = ResponseError::HeaderName(b"a\n".to_vec()).to_string();
    assert_eq!(message, "Invalid response header name: 'a\\n'");
}

#[test]
fn content_length_may_be_repeated_but_not_contradicted() {
    let mut head = ResponseHead::new();
    head.status(b"200 OK").unwrap();
    head.header(b"Content-Length", b"3").unwrap();
    head.header(b"content-length", b"3").unwrap();
    assert!(head.header(b"Content-Length", b"4").is_err());
    assert_eq!(head.content_length(), Some(3));
    let mut out = Vec::new();
    head.finish(&KEEP, b"s", DATE, &mut out);
    assert_eq!(String::from_utf8(out).unwrap().to_lowercase().matches("content-length").count(), 1);
}

#[test]
fn a_cleared_builder_forgets_everything() {
    let mut head = ResponseHead::new();
    head.status(b"404 Not Found").unwrap();
    head.header(b"Content-Length", b"3").unwrap();
    head.header(b"Connection", b"upgrade").unwrap();
    head.clear();
    assert_eq!((head.status_code(), head.content_length()), (0, None));
    head.status(b"200 OK").unwrap();
    let mut out = Vec::new();
    head.finish(&KEEP, b"rgunicorn", DATE, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), finish(&KEEP, "200 OK", &[]).0);
}

#[test]
fn error_pages() {
    let mut out = Vec::new();
    error_response_with(400, "Bad Request", "<a href=\"'x'\">&", &PAGE, &mut out);
    let text = String::from_utf8(out).unwrap();
    let (head, page) = text.split_once("\r\n\r\n").unwrap();
    let length = format!("Content-Length: {}", page.len());
    assert_eq!(
        head,
        format!(
            "HTTP/1.1 400 Bad Request\r\nDate: {}\r\nConnection: close\r\nContent-Type: text/html\r\n{length}",
            str::from_utf8(DATE).unwrap()
        )
    );
    assert!(page.contains("<title>Bad Request</title>") && page.contains("<h1><p>Bad Request</p></h1>"));
    assert!(page.contains("&lt;a href=&quot;&#x27;x&#x27;&quot;&gt;&amp;"), "{page}");
    let mut bare = Vec::new();
    let facts = PageFacts { head_request: true, ..PAGE };
    error_response_with(400, "Bad Request", "<a href=\"'x'\">&", &facts, &mut bare);
    assert_eq!(String::from_utf8(bare).unwrap(), format!("{head}\r\n\r\n"));
}

#[test]
fn each_fault_has_its_answer() {
    for (error, line) in [
        (HttpError::Method, "HTTP/1.1 400 Bad Request\r\n"),
        (HttpError::RequestLineTooLong, "HTTP/1.1 414 URI Too Long\r\n"),
        (HttpError::Expectation, "HTTP/1.1 417 Expectation Failed\r\n"),
        (HttpError::TooManyFields, "HTTP/1.1 431 Request Header Fields Too Large\r\n"),
        (HttpError::FieldTooLarge, "HTTP/1.1 431 Request Header Fields Too Large\r\n"),
        (HttpError::ScriptName, "HTTP/1.1 500 Internal Server Error\r\n"),
        (HttpError::TransferCoding, "HTTP/1.1 501 Not Implemented\r\n"),
    ] {
        let mut out = Vec::new();
        error_response(&error, &PAGE, &mut out);
        assert!(out.starts_with(line.as_bytes()), "{error:?}");
    }
    let mut out = Vec::new();
    error_response(&HttpError::PrematureEnd, &PAGE, &mut out);
    assert!(out.is_empty(), "the peer has gone");
}

#[test]
fn interim_responses() {
    assert_eq!(continue_response(Version::HTTP_11), b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(continue_response(Version::HTTP_10), b"");
    let link = || [(&b"Link"[..], &b"</s.css>; rel=preload"[..])];
    let hints = early_hints(Version::HTTP_11, link()).unwrap();
    assert_eq!(hints, b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\n\r\n");
    assert_eq!(early_hints(Version::HTTP_10, link()), Ok(Vec::new()));
    assert!(early_hints(Version::HTTP_11, [(&b"Li nk"[..], &b"x"[..])]).is_err());
    assert!(early_hints(Version::HTTP_11, [(&b"Link"[..], &b"x\r\n"[..])]).is_err());
}

#[test]
fn dates() {
    let mut cache = DateCache::new();
    for (seconds, text) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        assert_eq!(cache.at(seconds), text.as_bytes(), "{seconds}");
    }
}
