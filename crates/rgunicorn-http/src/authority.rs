//! The host, and perhaps the port, that a request is for: `uri-host [ ":" port ]` (RFC 9110 7.2), with the grammar of
//! RFC 3986 3.2.2, in `Host`, in absolute targets and in those of CONNECT.

use std::net::Ipv6Addr;

use super::chars::{are_name_bytes, hex_digit, is_unreserved_or_colon};

/// A valid authority.
struct Authority<'a> {
    /// The digits behind the colon; `None` without one.
    port: Option<&'a [u8]>,
}

/// Returns whether the value of a `Host` field is valid. The empty one is that of a URI without an authority.
pub(super) fn is_host_value(value: &[u8]) -> bool {
    value.is_empty() || is_host(value)
}

/// Returns whether `bytes` name a host, and perhaps a port. User information has no place in a request (RFC 9110
/// 4.2.4), and no host is empty (4.2.1).
pub(super) fn is_host(bytes: &[u8]) -> bool {
    split(bytes).is_some()
}

/// Returns whether `bytes` are a target of CONNECT: a host, and a port that can be connected to (RFC 9110 9.3.6).
pub(super) fn is_connect_target(bytes: &[u8]) -> bool {
    let port = split(bytes).and_then(|authority| authority.port);
    let port = port.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u16>().ok());
    port.is_some_and(|port| port != 0)
}

/// Splits a valid authority. Every request has one: the port is looked for from the end, where it is short.
fn split(bytes: &[u8]) -> Option<Authority<'_>> {
    let digits = bytes.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, port) = bytes.split_at(bytes.len() - digits);
    let (host, port) = match before {
        [host @ .., b':'] => (host, Some(port)),
        _ => (bytes, None),
    };
    let is_valid = match host {
        [] => false,
        [b'[', literal @ .., b']'] => is_ip_literal(literal),
        _ => is_reg_name(host),
    };
    is_valid.then_some(Authority { port })
}

/// Checks for a `reg-name`, of which an IPv4 address is one. The grammar has a comma in it; here it is what joins two
/// hosts.
fn is_reg_name(host: &[u8]) -> bool {
    are_name_bytes(host) || is_encoded_name(host)
}

/// Checks for a name with bytes that are written as `%` and two digits.
fn is_encoded_name(host: &[u8]) -> bool {
    let mut parts = host.split(|&byte| byte == b'%');
    parts.next().is_some_and(are_name_bytes)
        && parts.all(|part| match part {
            [high, low, rest @ ..] => {
                hex_digit(*high).is_some() && hex_digit(*low).is_some() && are_name_bytes(rest)
            }
            _ => false,
        })
}

/// Checks for what may stand in brackets: an IPv6 address without a zone, or one of a later version.
fn is_ip_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', future @ ..] = literal {
        let Some(point) = memchr::memchr(b'.', future) else { return false };
        let (version, address) = (&future[..point], &future[point + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&byte| is_unreserved_or_colon(byte));
    }
    std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: [&str; 18] = [
        "a",
        "a.test",
        "A-b_c~d.test.",
        "127.0.0.1",
        "a:80",
        "a:",
        "a:65536",
        "[::1]",
        "[::1]:80",
        "[2001:DB8::1]:",
        "[::ffff:1.2.3.4]",
        "[v1.a:b]",
        "[VF.x]:1",
        "%2Frun%2Fa.sock",
        "caf%C3%A9.test",
        "a!$&'()*+;=b",
        "-",
        "1",
    ];

    const NO_HOSTS: [&str; 29] = [
        "a b",
        " a",
        "a/b",
        "a\\b",
        "u@h",
        "u:p@h",
        "[::1",
        "::1",
        "[]",
        "[zz]",
        "[::1]a",
        "[::1%eth0]",
        "[v1]",
        "[v.a]",
        "[v1.]",
        "[1.2.3.4]",
        "a:1:2",
        "a:b",
        "a:-1",
        "a: 80",
        ":80",
        ":",
        "a,b",
        "a, b",
        "a%",
        "a%2",
        "a%zz",
        "a?b",
        "a#b",
    ];

    #[test]
    fn hosts() {
        for text in HOSTS {
            assert!(is_host(text.as_bytes()) && is_host_value(text.as_bytes()), "{text}");
        }
        for text in NO_HOSTS {
            assert!(!is_host(text.as_bytes()) && !is_host_value(text.as_bytes()), "{text}");
        }
        assert!(!is_host(b"caf\xe9") && !is_host(b"a\tb") && !is_host(b"") && is_host_value(b""));
    }

    #[test]
    fn connect_needs_a_port_that_there_is() {
        for text in ["a:443", "[::1]:1", "127.0.0.1:65535", "a:00080"] {
            assert!(is_connect_target(text.as_bytes()), "{text}");
        }
        for text in
            ["a", "a:", "a:0", "a:65536", ":443", "[::1]", "/", "*", "http://a:443", "u@a:443", "a:443/"]
        {
            assert!(!is_connect_target(text.as_bytes()), "{text}");
        }
    }
}
