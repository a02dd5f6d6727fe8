//! What may come before the first request of a connection: a PROXY header.

use std::sync::Arc;

use rgunicorn_http::proxy::{self, ProxyStep};
use rgunicorn_io::driver::PeerAddr;

use super::WorkerConfig;
use super::conn::{Conn, ConnPhase, FeedContext, FeedOutcome};

/// Whether a PROXY header may still come. One that has come in part lies in `ConnExt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyHeaderState {
    /// No: the next byte is a request's.
    Over,
    /// Yes.
    Allowed,
    /// It will be refused, for this peer may not send one.
    Forbidden,
}

impl ProxyHeaderState {
    /// Of a new connection.
    pub(super) fn of(config: &WorkerConfig, peer: PeerAddr) -> Self {
        if config.proxy_protocol == proxy::ProxyMode::Off {
            return Self::Over;
        }
        // Whoever reaches a unix socket is allowed.
        if config.proxy_allowed.trusts(peer.ip()) { Self::Allowed } else { Self::Forbidden }
    }
}

impl Conn {
    /// Takes the first bytes of a connection. The clock is the first request's head's: it runs since the accept.
    pub(super) fn feed_proxy_header(
        &mut self,
        ctx: &FeedContext<'_>,
        index: u32,
        mut input: &[u8],
    ) -> FeedOutcome {
        let mut reader = self.ext.as_mut().and_then(|ext| ext.proxy_header.take()).unwrap_or_default();
        let allowed = self.proxy_state == ProxyHeaderState::Allowed;
        match reader.advance(ctx.config.proxy_protocol, allowed, &mut input) {
            Ok(ProxyStep::NeedMore) => {
                self.ext().proxy_header = Some(reader);
                self.phase = ConnPhase::Head;
                FeedOutcome::Waiting
            }
            Ok(ProxyStep::Absent(held)) => {
                self.proxy_state = ProxyHeaderState::Over;
                if held.is_empty() {
                    return self.feed(ctx, index, input);
                }
                self.feed(ctx, index, &[&held, input].concat())
            }
            Ok(ProxyStep::Header(header)) => {
                self.proxy_state = ProxyHeaderState::Over;
                if let Some(addresses) = header.addresses {
                    self.peer = addresses.source.into();
                }
                self.proxied = Some(Arc::new(header));
                self.feed(ctx, index, input)
            }
            Err(error) => FeedOutcome::BadProxyHeader(error),
        }
    }
}
