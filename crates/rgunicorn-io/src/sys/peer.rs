//! Peer addresses as text and numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::net::PeerAddr;

impl PeerAddr {
    /// Returns the IP address; `None` for a unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match *self {
            Self::V4 { addr, .. } => Some(Ipv4Addr::from(addr).into()),
            Self::V6 { addr, .. } => Some(Ipv6Addr::from(addr).into()),
            Self::Unix => None,
        }
    }

    /// Returns REMOTE_ADDR: the address without port or brackets, empty for a unix socket.
    pub fn ip_text(&self) -> String {
        self.ip().map(|ip| ip.to_string()).unwrap_or_default()
    }

    /// Returns REMOTE_PORT; `None` for a unix socket.
    pub fn port(&self) -> Option<u16> {
        match *self {
            Self::V4 { port, .. } | Self::V6 { port, .. } => Some(port),
            Self::Unix => None,
        }
    }

    /// Returns the address with port 0: equal for all connections of one client.
    pub fn without_port(self) -> Self {
        match self {
            Self::V4 { addr, .. } => Self::V4 { addr, port: 0 },
            Self::V6 { addr, .. } => Self::V6 { addr, port: 0 },
            Self::Unix => Self::Unix,
        }
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self::V4 { addr: v4.ip().octets(), port: v4.port() },
            SocketAddr::V6(v6) => Self::V6 { addr: v6.ip().octets(), port: v6.port() },
        }
    }
}
