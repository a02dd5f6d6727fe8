//! Tables of headers, each at every split, and arbitrary bytes.

use proptest::prelude::*;

use super::{Protocol, ProxyError, ProxyHeader, ProxyMode, ProxyReader, ProxyStep};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const IPV4: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 0x03, 0xe8, 0x07, 0xd0];

fn v2(version_command: u8, family_transport: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[version_command, family_transport], &length, block].concat()
}

/// What the pieces come to, and what is left behind the header.
fn read(
    mode: ProxyMode,
    allowed: bool,
    pieces: &[&[u8]],
) -> Result<(Option<ProxyStep>, Vec<u8>), ProxyError> {
    let mut reader = ProxyReader::default();
    let mut left = Vec::new();
    let mut found = None;
    for piece in pieces {
        let mut input = *piece;
        if found.is_none() {
            match reader.advance(mode, allowed, &mut input)? {
                ProxyStep::NeedMore => assert!(input.is_empty(), "a reader that needs more has taken all"),
                ProxyStep::Absent(held) => {
                    left = held;
                    found = Some(ProxyStep::Absent(Vec::new()));
                }
                header @ ProxyStep::Header(_) => found = Some(header),
            }
        }
        left.extend_from_slice(input);
    }
    Ok((found, left))
}

/// As [`read`], whole, at every split into two, and byte by byte.
fn at_every_split(mode: ProxyMode, bytes: &[u8]) -> Result<(Option<ProxyStep>, Vec<u8>), ProxyError> {
    let whole = read(mode, true, &[bytes]);
    for at in 0..=bytes.len() {
        let (front, back) = bytes.split_at(at);
        assert_eq!(read(mode, true, &[front, back]), whole, "split at {at} of {}", bytes.escape_ascii());
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(mode, true, &single), whole, "{}", bytes.escape_ascii());
    whole
}

fn header(mode: ProxyMode, bytes: &[u8]) -> ProxyHeader {
    let all = [bytes, REQUEST].concat();
    let (found, left) = at_every_split(mode, &all).unwrap();
    assert_eq!(left, REQUEST, "{}", bytes.escape_ascii());
    match found {
        Some(ProxyStep::Header(header)) => header,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

fn ends(header: ProxyHeader) -> (&'static str, String, String) {
    let addresses = header.addresses.unwrap();
    (header.protocol.name(), addresses.source.to_string(), addresses.destination.to_string())
}

fn owned(name: &'static str, source: &str, destination: &str) -> (&'static str, String, String) {
    (name, source.to_owned(), destination.to_owned())
}

#[test]
fn lines_of_version_1() {
    let line = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 2000\r\n";
    let expected = owned("TCP4", "1.2.3.4:1000", "5.6.7.8:2000");
    assert_eq!(ends(header(ProxyMode::V1, line)), expected);
    assert_eq!(ends(header(ProxyMode::Auto, line)), expected);
    let line = b"PROXY TCP6 2001:DB8::1 ::1 65535 0\r\n";
    assert_eq!(ends(header(ProxyMode::Auto, line)), owned("TCP6", "[2001:db8::1]:65535", "[::1]:0"));
}

#[test]
fn the_longest_line() {
    let address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let line = format!("PROXY TCP6 {address} {address} 65535 65535\r\n");
    assert!(header(ProxyMode::V1, line.as_bytes()).addresses.is_some());
    let line = format!("PROXY UNKNOWN {address} {address} 65535 65535\r\n");
    assert_eq!(line.len(), 107);
    header(ProxyMode::V1, line.as_bytes());
    let long = line.replace("UNKNOWN", "UNKNOWN ");
    assert_eq!(at_every_split(ProxyMode::V1, long.as_bytes()), Err(ProxyError::LineTooLong));
}

#[test]
fn a_proxy_that_does_not_know() {
    let none = |protocol| ProxyHeader { protocol, addresses: None };
    assert_eq!(header(ProxyMode::V1, b"PROXY UNKNOWN\r\n"), none(Protocol::Unknown));
    assert_eq!(header(ProxyMode::V1, b"PROXY UNKNOWN what ever\r\n"), none(Protocol::Unknown));
    assert_eq!(header(ProxyMode::V2, &v2(0x20, 0, b"")), none(Protocol::Local));
    assert_eq!(header(ProxyMode::V2, &v2(0x20, 0x31, b"abc")), none(Protocol::Local));
    assert_eq!(header(ProxyMode::V2, &v2(0x21, 0x00, b"")), none(Protocol::Unspec));
    assert_eq!(header(ProxyMode::V2, &v2(0x21, 0x01, b"extension")), none(Protocol::Unspec));
    // UDP over IPv4 and IPv6, unix sockets of both kinds; with and without all of their addresses.
    for (family, block) in
        [(0x12, 12), (0x22, 36), (0x31, 216), (0x32, 216), (0x31, 0), (0x12, 3), (0x32, 300)]
    {
        assert_eq!(header(ProxyMode::V2, &v2(0x21, family, &vec![7; block])), none(Protocol::Unspec));
    }
}

#[test]
fn lines_that_are_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1000\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1000 2000 \r\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1000 2000\r\n",
        "PROXY TCP4 1.2.3.4  5.6.7.8 1000 2000\r\n",
        "PROXY tcp4 1.2.3.4 5.6.7.8 1000 2000\r\n",
        "PROXY TCP4 1.2.3 5.6.7.8 1000 2000\r\n",
        "PROXY TCP4 01.2.3.4 5.6.7.8 1000 2000\r\n",
        "PROXY TCP4 ::1 ::1 1000 2000\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1000 2000\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1000 2000\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1000 65536\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2000\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2000\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1000 \r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1000 2000\nGET / HTTP/1.1\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1000 2000\r\n",
    ] {
        assert_eq!(at_every_split(ProxyMode::V1, line.as_bytes()), Err(ProxyError::Line), "{line:?}");
    }
    assert_eq!(
        at_every_split(ProxyMode::V1, b"PROXY TCP4 \xff.2.3.4 1.1.1.1 1 1\r\n"),
        Err(ProxyError::Line)
    );
}

#[test]
fn headers_of_version_2() {
    let expected = owned("TCP4", "1.2.3.4:1000", "5.6.7.8:2000");
    assert_eq!(ends(header(ProxyMode::V2, &v2(0x21, 0x11, &IPV4))), expected);
    assert_eq!(ends(header(ProxyMode::Auto, &v2(0x21, 0x11, &[&IPV4[..], &[7; 600]].concat()))), expected);
    let mut block = [0_u8; 36];
    (block[15], block[16], block[33], block[35]) = (1, 0xfe, 80, 81);
    assert_eq!(
        ends(header(ProxyMode::V2, &v2(0x21, 0x21, &block))),
        owned("TCP6", "[::1]:80", "[fe00::]:81")
    );
}

#[test]
fn the_longest_header_is_not_kept() {
    let bytes = v2(0x21, 0x11, &[&IPV4[..], &[7; 65_535 - 12]].concat());
    let mut reader = ProxyReader::default();
    let mut steps = Vec::new();
    for mut piece in bytes.chunks(1000) {
        steps.push(reader.advance(ProxyMode::V2, true, &mut piece).unwrap());
        assert!(reader.held.len() <= 107);
    }
    assert!(matches!(steps.pop(), Some(ProxyStep::Header(_))));
    assert!(steps.iter().all(|step| *step == ProxyStep::NeedMore));
}

#[test]
fn headers_that_are_refused() {
    for (bytes, error) in [
        (v2(0x31, 0x11, &IPV4), ProxyError::Version(3)),
        (v2(0x11, 0x11, &IPV4), ProxyError::Version(1)),
        (v2(0x22, 0x11, &IPV4), ProxyError::Command(2)),
        (v2(0x21, 0x13, &IPV4), ProxyError::Transport(3)),
        (v2(0x21, 0x10, &IPV4), ProxyError::Transport(0)),
        (v2(0x21, 0x02, &IPV4), ProxyError::Transport(2)),
        (v2(0x21, 0x30, &[0; 216]), ProxyError::Transport(0)),
        (v2(0x21, 0x41, &[0; 216]), ProxyError::Family(4)),
        (v2(0x21, 0xf2, &[0; 216]), ProxyError::Family(15)),
        (v2(0x21, 0x11, &IPV4[..11]), ProxyError::Length(11)),
        (v2(0x21, 0x21, &[0; 35]), ProxyError::Length(35)),
    ] {
        assert_eq!(at_every_split(ProxyMode::V2, &bytes), Err(error));
        assert_eq!((error.status(), error.reason()), (400, "Bad Request"));
    }
}

#[test]
fn what_is_no_header_is_given_back() {
    for bytes in [
        REQUEST,
        b"\r\nGET / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"PROXY\r\n\r\n\r\n\r\n",
        b"PROXY/1 / HTTP/1.1\r\n",
    ] {
        assert_eq!(
            at_every_split(ProxyMode::Auto, bytes),
            Ok((Some(ProxyStep::Absent(Vec::new())), bytes.to_vec()))
        );
    }
    let (one, two) = (b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, 0, b""));
    for (mode, bytes) in
        [(ProxyMode::V2, &one), (ProxyMode::V1, &two), (ProxyMode::Off, &one), (ProxyMode::Off, &two)]
    {
        assert_eq!(at_every_split(mode, bytes), Ok((Some(ProxyStep::Absent(Vec::new())), bytes.clone())));
    }
}

#[test]
fn others_may_send_requests_but_no_header() {
    let refused = Err(ProxyError::Forbidden);
    assert_eq!(read(ProxyMode::Auto, false, &[b"PROXY "]), refused);
    assert_eq!(read(ProxyMode::Auto, false, &[&SIGNATURE[..5], &SIGNATURE[5..]]), refused);
    assert_eq!(read(ProxyMode::Auto, false, &[&SIGNATURE[..11]]), Ok((None, Vec::new())));
    let (found, left) = read(ProxyMode::Auto, false, &[REQUEST]).unwrap();
    assert_eq!((found, left.as_slice()), (Some(ProxyStep::Absent(Vec::new())), REQUEST));
    assert_eq!((ProxyError::Forbidden.status(), ProxyError::Forbidden.reason()), (403, "Forbidden"));
}

/// Bytes that are nearly a header, for more interesting histories than noise.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let two = (any::<u8>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..80))
        .prop_map(|(command, family, block)| v2(command & 0x33, family & 0x33, &block));
    let word = proptest::sample::select(vec![
        "PROXY", "TCP4", "TCP6", "UNKNOWN", "1.2.3.4", "::1", "80", "65536", "", "\r", "\r\n", "\n",
    ]);
    let one = proptest::collection::vec(word, 0..9).prop_map(|words| words.join(" ").into_bytes());
    let noise = proptest::collection::vec(any::<u8>(), 0..40);
    let front = proptest::prop_oneof![two, one, noise.clone()];
    (front, noise).prop_map(|(front, back)| [front, back].concat())
}

proptest! {
    #[test]
    fn pieces_do_not_matter_and_nothing_is_lost(bytes in nearly(), cuts in proptest::collection::vec(0_usize..150, 0..5)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        for mode in [ProxyMode::Off, ProxyMode::V1, ProxyMode::V2, ProxyMode::Auto] {
            let whole = read(mode, true, &[&bytes]);
            prop_assert_eq!(&read(mode, true, &pieces), &whole);
            if let Ok((Some(step), left)) = whole {
                prop_assert!(bytes.ends_with(&left));
                prop_assert_eq!(left.len() == bytes.len(), matches!(step, ProxyStep::Absent(_)));
            }
        }
    }
}
