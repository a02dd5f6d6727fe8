//! HAProxy's PROXY protocol, versions 1 and 2, by which a proxy names the client of a connection before it
//! passes its bytes on. Bytes in, a header out; no I/O, no clock.
//!
//! Source: "The PROXY protocol, versions 1 & 2" (HAProxy, 2020). What is accepted is Gunicorn's choice where the
//! specification leaves one, but for `UNKNOWN` and `UNSPEC`, which only mean that the proxy does not know.

mod error;
mod header;
mod reader;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use header::Detect;

pub use error::ProxyError;
pub use header::{Addresses, Protocol, ProxyHeader};
pub use reader::{ProxyReader, ProxyStep};

/// The versions of headers that are looked for (`proxy_protocol`). Bytes that are no such header are taken
/// for the first request.
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

/// Reads the first bytes of a connection.
///
/// # Errors
/// A header that the peer may not send, or that is not valid.
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
