//! Version 1: `PROXY TCP4 1.2.3.4 5.6.7.8 1000 80` and CRLF.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::error::ProxyError;
use super::header::{Addresses, Detect, Protocol, ProxyHeader};

/// The beginning of a line.
pub(super) const START: &[u8] = b"PROXY ";
/// The longest line, its CRLF included (section 2.1).
pub(super) const LINE_BYTES_MAX: usize = 107;

/// Reads a header from `bytes`, which begin with [`START`].
pub(super) fn detect(bytes: &[u8]) -> Result<Detect, ProxyError> {
    let within = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    match memchr::memmem::find(within, b"\r\n") {
        Some(end) => Ok(Detect::Header(parse(&within[START.len()..end])?, end + 2)),
        None if bytes.len() < LINE_BYTES_MAX => Ok(Detect::NeedMore),
        None => Err(ProxyError::LineTooLong),
    }
}

/// Parses the words behind `PROXY`.
fn parse(words: &[u8]) -> Result<ProxyHeader, ProxyError> {
    // The words behind UNKNOWN are to be ignored.
    if words == b"UNKNOWN" || words.starts_with(b"UNKNOWN ") {
        return Ok(ProxyHeader { protocol: Protocol::Unknown, addresses: None });
    }
    let text = std::str::from_utf8(words).map_err(|_| ProxyError::Line)?;
    let words: Vec<&str> = text.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words[..] else {
        return Err(ProxyError::Line);
    };
    let (protocol, parse): (_, fn(&str) -> Option<IpAddr>) = match family {
        "TCP4" => (Protocol::Tcp4, |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)),
        "TCP6" => (Protocol::Tcp6, |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)),
        _ => return Err(ProxyError::Line),
    };
    let end = |address, digits| Some(SocketAddr::new(parse(address)?, port(digits)?));
    let addresses = end(source, source_port)
        .zip(end(destination, destination_port))
        .map(|(source, destination)| Addresses { source, destination })
        .ok_or(ProxyError::Line)?;
    Ok(ProxyHeader { protocol, addresses: Some(addresses) })
}

/// Parses a port, of digits only: the standard parser would take a sign.
fn port(digits: &str) -> Option<u16> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}
