//! The version of HTTP in a message.

/// Major and minor version (RFC 9110 2.5), ordered from the oldest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The digit before the point.
    pub major: u8,
    /// The digit after it.
    pub minor: u8,
}

impl Version {
    /// HTTP/1.0: no chunked bodies, no interim responses, no persistent connection unless asked for.
    pub const HTTP_10: Self = Self { major: 1, minor: 0 };
    /// HTTP/1.1.
    pub const HTTP_11: Self = Self { major: 1, minor: 1 };
}
