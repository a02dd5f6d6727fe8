//! Version 2: a signature, four bytes that describe the rest, addresses, and extensions, which are skipped.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::error::ProxyError;
use super::header::{Addresses, Detect, Protocol, ProxyHeader};

/// The beginning of a header: no request line of any HTTP version has it.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The length of signature, version and command, family and transport, length.
const FIXED_BYTES: usize = 16;
const IPV4_BYTES: usize = 2 * (4 + 2);
const IPV6_BYTES: usize = 2 * (16 + 2);
/// The most of a header that has to be kept until it is understood.
pub(super) const KEPT_BYTES_MAX: usize = FIXED_BYTES + IPV6_BYTES;

/// Reads a header from `bytes`, which begin with [`SIGNATURE`].
pub(super) fn detect(bytes: &[u8]) -> Result<Detect, ProxyError> {
    let Some(fixed) = bytes.get(SIGNATURE.len()..FIXED_BYTES) else {
        return Ok(Detect::NeedMore);
    };
    let (version, command) = (fixed[0] >> 4, fixed[0] & 0x0f);
    let (family, transport) = (fixed[1] >> 4, fixed[1] & 0x0f);
    let length = u16::from_be_bytes([fixed[2], fixed[3]]);
    let total_bytes = FIXED_BYTES + usize::from(length);
    if version != 2 {
        return Err(ProxyError::Version(version));
    }
    let without = |protocol| Ok(Detect::Header(ProxyHeader { protocol, addresses: None }, total_bytes));
    match (command, family, transport) {
        // LOCAL is taken whatever family it names.
        (0, _, _) => return without(Protocol::Local),
        (1, 1 | 2, 1) => {}
        // A client of the proxy's that has no TCP address is one whose address is not known: by UDP (also what carries
        // QUIC), or over a unix socket (section 2.2 leaves it to the receiver).
        (1, 0, 0 | 1) | (1, 1 | 2, 2) | (1, 3, 1 | 2) => return without(Protocol::Unspec),
        (1, 0..=3, _) => return Err(ProxyError::Transport(transport)),
        (1, _, _) => return Err(ProxyError::Family(family)),
        _ => return Err(ProxyError::Command(command)),
    }
    let address_bytes = if family == 1 { IPV4_BYTES } else { IPV6_BYTES };
    if usize::from(length) < address_bytes {
        return Err(ProxyError::Length(length));
    }
    Ok(match bytes.get(FIXED_BYTES..FIXED_BYTES + address_bytes) {
        Some(block) => Detect::Header(header(block), total_bytes),
        None => Detect::NeedMore,
    })
}

/// Reads the block of addresses; its length tells the family.
fn header(block: &[u8]) -> ProxyHeader {
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    if block.len() == IPV4_BYTES {
        let address = |at: usize| Ipv4Addr::new(block[at], block[at + 1], block[at + 2], block[at + 3]);
        let source = SocketAddr::new(address(0).into(), port(8));
        let destination = SocketAddr::new(address(4).into(), port(10));
        return ProxyHeader { protocol: Protocol::Tcp4, addresses: Some(Addresses { source, destination }) };
    }
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&block[at..at + 16]);
        Ipv6Addr::from(octets)
    };
    let source = SocketAddr::new(address(0).into(), port(32));
    let destination = SocketAddr::new(address(16).into(), port(34));
    ProxyHeader { protocol: Protocol::Tcp6, addresses: Some(Addresses { source, destination }) }
}
