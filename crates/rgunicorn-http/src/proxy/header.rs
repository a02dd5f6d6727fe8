//! A header as both versions give it.

use std::net::SocketAddr;

/// The contents of a header.
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
    /// The address that the client has connected to.
    pub destination: SocketAddr,
}

/// The protocol as the header names it; `PROXY_PROTOCOL` in the environ.
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
    /// Version 1: a connection whose ends are not given.
    Unknown,
}

impl Protocol {
    /// Returns its word in the header.
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

/// The finding about the first bytes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Detect {
    /// Too few to tell, or not all of the header.
    NeedMore,
    /// No header.
    Absent,
    /// A header of so many bytes, of which the last ones may be still to come: they are only skipped.
    Header(ProxyHeader, usize),
}
