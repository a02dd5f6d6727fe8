//! What may come before the first request of a connection: a PROXY header.

use std::sync::Arc;

use rgunicorn_http::proxy::{self, ProxyStep};
use rgunicorn_io::driver::PeerAddr;

use super::Tuning;
use super::conn::{Conn, Fed, FeedContext, Phase};

/// Whether a PROXY header may still come. One that has come in part lies in `Extra`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preamble {
    /// No: the next byte is a request's.
    Over,
    /// Yes.
    Allowed,
    /// It will be refused, for this peer may not send one.
    Forbidden,
}

impl Preamble {
    /// Of a new connection.
    pub(super) fn of(tuning: &Tuning, peer: PeerAddr) -> Self {
        if tuning.proxy_protocol == proxy::ProxyMode::Off {
            return Self::Over;
        }
        // Whoever reaches a unix socket is allowed.
        if tuning.proxy_allowed.trusts(peer.ip()) { Self::Allowed } else { Self::Forbidden }
    }
}

impl Conn {
    /// Takes the first bytes of a connection. The clock is the first request's head's: it runs since the accept.
    pub(super) fn feed_preamble(&mut self, ctx: &FeedContext<'_>, index: u32, mut input: &[u8]) -> Fed {
        let mut reader = self.extra.as_mut().and_then(|extra| extra.proxy_header.take()).unwrap_or_default();
        let allowed = self.preamble == Preamble::Allowed;
        match reader.advance(ctx.tuning.proxy_protocol, allowed, &mut input) {
            Ok(ProxyStep::NeedMore) => {
                self.extra().proxy_header = Some(reader);
                self.phase = Phase::Head;
                Fed::Waiting
            }
            Ok(ProxyStep::Absent(held)) => {
                self.preamble = Preamble::Over;
                if held.is_empty() {
                    return self.feed(ctx, index, input);
                }
                self.feed(ctx, index, &[&held, input].concat())
            }
            Ok(ProxyStep::Header(header)) => {
                self.preamble = Preamble::Over;
                if let Some(addresses) = header.addresses {
                    self.peer = PeerAddr::told(addresses.source);
                }
                self.proxied = Some(Arc::new(header));
                self.feed(ctx, index, input)
            }
            Err(error) => Fed::Misled(error),
        }
    }
}
