//! The state of a PROXY header, which may come before the first request of a connection.

use rgunicorn_http::proxy;
use rgunicorn_io::driver::PeerAddr;

use crate::worker::config::WorkerConfig;

/// The expectation of a PROXY header. One that has come in part lies in `ConnExt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyHeaderState {
    /// None: the next byte is a request's.
    Over,
    /// One may come.
    Allowed,
    /// One will be refused, for this peer may not send any.
    Forbidden,
}

impl ProxyHeaderState {
    /// Tells what a new connection may begin with.
    pub(crate) fn of(config: &WorkerConfig, peer: PeerAddr) -> Self {
        if config.proxy_protocol == proxy::ProxyMode::Off {
            return Self::Over;
        }
        // A peer that reaches a unix socket is allowed.
        if config.proxy_allowed.trusts(peer.ip()) { Self::Allowed } else { Self::Forbidden }
    }
}
