//! Parity section 4.2: how the end of a body is found, and every way to make two readers disagree about it.

use rgunicorn_http::{BodyKind, HttpError, ParseEvent, Policy, RequestParser};

use super::support::{head, whole};

fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

#[test]
fn framing() {
    let rows = [
        ("", Ok(BodyKind::None)),
        ("Content-Length: 0\r\n", Ok(BodyKind::None)),
        ("Content-Length: 1\r\n", Ok(BodyKind::Length(1))),
        ("content-length: 18446744073709551615\r\n", Ok(BodyKind::Length(u64::MAX))),
        ("Content-Length: 18446744073709551616\r\n", Err(HttpError::ContentLength)),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", Err(HttpError::ContentLength)),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Err(HttpError::ContentLength)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", Err(HttpError::ContentLength)),
        ("Transfer-Encoding: chunked\r\n", Ok(BodyKind::Chunked)),
        ("Transfer-Encoding: gzip, chunked\r\n", Ok(BodyKind::Chunked)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(HttpError::TransferEncoding)),
        ("Transfer-Encoding: chunked, gzip\r\n", Err(HttpError::TransferEncoding)),
        ("Transfer-Encoding: deflate\r\n", Err(HttpError::TransferEncoding)),
        ("Transfer-Encoding: cow\r\n", Err(HttpError::TransferCoding)),
        ("Transfer-Encoding: chunked,\r\n", Err(HttpError::TransferCoding)),
        // Dropped before framing: it would frame only for a reader that takes `_` for `-`.
        ("Content_Length: 5\r\n", Ok(BodyKind::None)),
        ("Transfer_Encoding: chunked\r\n", Ok(BodyKind::None)),
    ];
    for (fields, expected) in rows {
        assert_eq!(head(post(fields, "")).map(|head| head.body()), expected, "{fields}");
    }
}

#[test]
fn http_1_0_has_no_chunks() {
    let bytes = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(head(bytes).map(|head| head.body()), Err(HttpError::TransferEncoding));
}

#[test]
fn a_body_with_another_coding_closes() {
    for coding in ["gzip", "compress", "deflate", "GZIP"] {
        assert!(head(post(&format!("Transfer-Encoding: {coding}, chunked\r\n"), "")).unwrap().close_after());
    }
    for coding in ["chunked", "identity, chunked"] {
        assert!(!head(post(&format!("Transfer-Encoding: {coding}\r\n"), "")).unwrap().close_after());
    }
}

#[test]
fn the_status_of_each_fault() {
    assert_eq!(HttpError::TransferCoding.status(), 501);
    assert_eq!(HttpError::TransferCoding.reason(), "Not Implemented");
    assert_eq!(HttpError::TransferEncoding.status(), 400);
    assert_eq!(HttpError::ContentLength.status(), 400);
    assert_eq!(HttpError::ChunkSize.status(), 400);
}

#[test]
fn the_chunk_line_has_the_limit_of_a_field() {
    for (bytes, expected) in [(8190, None), (8191, Some(HttpError::ChunkSize))] {
        let zeros = "0".repeat(bytes - 1);
        assert_eq!(whole(chunked(&format!("{zeros}1\r\na\r\n0\r\n\r\n"))).error, expected, "{bytes}");
        let extension = "x".repeat(bytes - 2);
        assert_eq!(whole(chunked(&format!("1;{extension}\r\na\r\n0\r\n\r\n"))).error, expected, "{bytes}");
    }
}

#[test]
fn chunk_sizes_up_to_the_cap() {
    let mut parser = RequestParser::new();
    let bytes = chunked("0004000000000000\r\nab");
    let mut input = &bytes[..];
    assert!(matches!(parser.advance(&Policy::default(), false, &mut input), Ok(ParseEvent::Head(_))));
    assert_eq!(parser.advance(&Policy::default(), false, &mut input), Ok(ParseEvent::Data(b"ab")));
    for size in ["4000000000001", "7fffffffffffffff", "ffffffffffffffff", "10000000000000000"] {
        assert_eq!(whole(chunked(&format!("{size}\r\n"))).error, Some(HttpError::BodyTooLarge), "{size}");
    }
}

#[test]
fn body_bytes_are_borrowed_from_the_input() {
    let bytes = post("Content-Length: 5\r\n", "hello");
    let (mut parser, mut input) = (RequestParser::new(), &bytes[..]);
    parser.advance(&Policy::default(), false, &mut input).unwrap();
    let position = input.as_ptr();
    let Ok(ParseEvent::Data(data)) = parser.advance(&Policy::default(), false, &mut input) else { panic!() };
    assert_eq!((data.as_ptr(), data), (position, &b"hello"[..]));
}

#[test]
fn trailers_obey_the_rules_of_fields() {
    for (trailer, expected) in [
        ("", None),
        ("X-Sum: 1\r\n", None),
        ("X_Sum: 1\r\n", None),
        ("Cookie: 1\r\n", None),
        ("te: 1\r\n", Some(HttpError::TrailerField)),
        ("AUTHORIZATION: 1\r\n", Some(HttpError::TrailerField)),
        ("X Sum: 1\r\n", Some(HttpError::Field)),
        ("X-Sum : 1\r\n", Some(HttpError::Field)),
        ("X: 1\r\n 2\r\n", Some(HttpError::Folding)),
        ("X: 1\n", Some(HttpError::BareLineFeed)),
    ] {
        assert_eq!(whole(chunked(&format!("0\r\n{trailer}\r\n"))).error, expected, "{trailer}");
    }
    assert_eq!(whole(chunked(&format!("0\r\n{}\r\n", "X: 1\r\n".repeat(100)))).error, None);
    assert_eq!(
        whole(chunked(&format!("0\r\n{}\r\n", "X: 1\r\n".repeat(101)))).error,
        Some(HttpError::TooManyFields)
    );
}

/// A second request hidden in the body must stay body; a body that ends early must not swallow the next request.
#[test]
fn smuggled_requests_are_not_seen() {
    let hidden = "GET /admin HTTP/1.1\r\n\r\n";
    for bytes in [
        post(&format!("Content-Length: {}\r\n", hidden.len()), hidden),
        chunked(&format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len())),
        chunked(&format!("{:x};a=\"{}\"\r\n{hidden}\r\n0\r\n\r\n", hidden.len(), "0;")),
    ] {
        let outcome = whole(bytes);
        assert_eq!(outcome.error, None);
        assert_eq!(outcome.transcript.matches("head ").count(), 1, "{}", outcome.transcript);
    }
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5\r\nContent-length: 0\r\n",
    ] {
        assert!(head(post(fields, hidden)).is_err(), "{fields:?}");
    }
}
