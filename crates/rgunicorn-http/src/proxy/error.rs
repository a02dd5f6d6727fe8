//! The faults of a header.

use std::fmt;

/// A header that cannot be accepted. `Display` is the text of the log line and of the error page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The peer may not send one (`proxy_allow_ips`).
    Forbidden,
    /// Version 1: not six words with two addresses of the family and two ports.
    Line,
    /// Version 1: longer than any line may be.
    LineTooLong,
    /// Version 2: of another version.
    Version(u8),
    /// Version 2: neither LOCAL nor PROXY.
    Command(u8),
    /// Version 2: neither stream nor datagram.
    Transport(u8),
    /// Version 2: none of IPv4, IPv6 and unix sockets.
    Family(u8),
    /// Version 2: too short for its addresses.
    Length(u16),
}

impl ProxyError {
    /// Returns the status code of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        if *self == Self::Forbidden { 403 } else { 400 }
    }

    /// Returns the reason phrase of the answer.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        if *self == Self::Forbidden { "Forbidden" } else { "Bad Request" }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden => f.write_str("This peer may not send a PROXY header (proxy_allow_ips)"),
            Self::Line => f.write_str("Invalid PROXY line"),
            Self::LineTooLong => f.write_str("PROXY line is too long"),
            Self::Version(version) => write!(f, "Invalid PROXY header: version {version}"),
            Self::Command(command) => write!(f, "Invalid PROXY header: command {command}"),
            Self::Transport(transport) => {
                write!(f, "Invalid PROXY header: transport {transport}")
            }
            Self::Family(family) => write!(f, "Invalid PROXY header: address family {family}"),
            Self::Length(length) => write!(f, "Invalid PROXY header: no addresses fit into {length} bytes"),
        }
    }
}

impl std::error::Error for ProxyError {}
