//! HAProxy's PROXY protocol, versions 1 and 2, by which a proxy says whom a connection comes from before it
//! passes its bytes on. Bytes in, a header out; no I/O, no clock.
//!
//! Source: "The PROXY protocol, versions 1 & 2" (HAProxy, 2020). What is accepted is Gunicorn's choice where the
//! specification leaves one, but for `UNKNOWN` and `UNSPEC`, which only mean that the proxy does not know.

mod error;
mod reader;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

pub use error::ProxyError;
pub use reader::{ProxyReader, ProxyStep};

/// Which headers are looked for (`proxy_protocol`). Bytes that are no such header are taken for the first request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyMode {
    /// None.
    #[default]
    Off,
    /// Text lines.
    V1,
    /// Binary headers.
    V2,
    /// Either.
    Auto,
}

impl ProxyMode {
    fn takes_v1(self) -> bool {
        matches!(self, Self::V1 | Self::Auto)
    }

    fn takes_v2(self) -> bool {
        matches!(self, Self::V2 | Self::Auto)
    }
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The kind of connection that the proxy has with its client.
    pub protocol: Protocol,
    /// Its two ends. `None`: the proxy speaks for itself or does not know, so the peer is the client.
    pub addresses: Option<Addresses>,
}

/// The ends of the connection between client and proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where it has connected to.
    pub destination: SocketAddr,
}

/// As the header names it; `PROXY_PROTOCOL` in the environ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// Version 2: the proxy itself, for example a health check.
    Local,
    /// Version 2: a connection whose ends are not given.
    Unspec,
    /// Version 1: the same.
    Unknown,
}

impl Protocol {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp4 => "TCP4",
            Self::Tcp6 => "TCP6",
            Self::Local => "LOCAL",
            Self::Unspec => "UNSPEC",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
enum Detect {
    /// Too few to tell, or not all of the header.
    NeedMore,
    /// No header.
    Absent,
    /// A header of so many bytes, of which the last ones may be still to come: nothing in them is of interest.
    Header(ProxyHeader, usize),
}

/// Reads the first bytes of a connection.
fn detect(mode: ProxyMode, allowed: bool, bytes: &[u8]) -> Result<Detect, ProxyError> {
    let found = |start: &[u8], taken: bool| taken && bytes.starts_with(start);
    let (one, two) = (found(v1::START, mode.takes_v1()), found(v2::SIGNATURE, mode.takes_v2()));
    if (one || two) && !allowed {
        return Err(ProxyError::Forbidden);
    }
    if one {
        return v1::detect(bytes);
    }
    if two {
        return v2::detect(bytes);
    }
    let begun = |start: &[u8], taken: bool| taken && start.starts_with(bytes);
    let more = begun(v1::START, mode.takes_v1()) || begun(v2::SIGNATURE, mode.takes_v2());
    Ok(if more { Detect::NeedMore } else { Detect::Absent })
}
